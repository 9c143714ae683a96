"""`doctor`: is anything wrong? What it takes to find out is imported only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from jupiter_agent.cli.ctl.session import session_of


def doctor(ctx: typer.Context) -> int:
    """Find what is wrong, and say how to mend it.

    On this machine, and in the cluster if an agent answers. Exit code 0 if nothing is wrong, else 1.
    """
    from jupiter_agent.cli.ctl.diagnosis import examine

    return examine(session_of(ctx))


VERBS: dict[str, Callable[..., Any]] = {"doctor": doctor}
