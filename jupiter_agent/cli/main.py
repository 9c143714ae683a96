"""`jupiter`: the command of people and scripts. What is heavy is imported by the verb that needs it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from jupiter_agent import __version__
from jupiter_agent.cli import app as app_verbs
from jupiter_agent.cli import bench, ctl, k8s, local, simulate
from jupiter_agent.cli.groups import Group
from jupiter_agent.cli.guard import guarded

app = typer.Typer(
    name="jupiter",
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Dispersed computing without a head node: run DAG applications over the agents of a network.",
)
app.add_typer(ctl.app, name="ctl")
app.add_typer(local.app, name="local")
app.add_typer(k8s.app, name="k8s", cls=Group)
app.add_typer(app_verbs.app, name="app", cls=Group)
app.command("bench")(bench.bench)
app.command("simulate")(simulate.simulate)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"jupiter {__version__}")
        raise typer.Exit


@app.callback()
def jupiter(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_print_version)] = False,
) -> None:
    """Options of `jupiter` itself."""


@functools.cache
def command() -> Any:
    """The parser made of all commands: 20 ms, so once a process."""
    return typer.main.get_command(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: command().main(args=arguments, prog_name="jupiter", standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
