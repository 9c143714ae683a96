"""Arguments that several verbs have, with what the shell offers for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jupiter_agent.cli.ctl import completing
from jupiter_agent.cli.kinds import GETTABLE

JobArgument = Annotated[
    str,
    typer.Argument(metavar="JOB", help="Id, unique prefix of one, name or `last`.", autocompletion=completing.job),
]
PlaceArgument = Annotated[
    str, typer.Argument(metavar="JOB[/TASK]", help="A job, or one task of it.", autocompletion=completing.place)
]
TaskArgument = Annotated[
    str | None, typer.Argument(metavar="[TASK]", help="Only this task.", autocompletion=completing.task)
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name or unique prefix of an id.", autocompletion=completing.node)
]
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help=", ".join(GETTABLE), autocompletion=completing.kind)]
AppArgument = Annotated[Path, typer.Argument(metavar="APP", help="Folder of the app.")]
Mapper = Annotated[
    str | None,
    typer.Option("--mapper", metavar="M", help="wave-auction, heft, ...", autocompletion=completing.mapper),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="S", help="Seed of the mapper.")]
Timeout = Annotated[float | None, typer.Option(metavar="S", min=0, help="Seconds to wait; exit code 6 after them.")]
