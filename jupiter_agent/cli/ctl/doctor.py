"""`doctor`: is anything wrong? What it takes to find out is imported only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from jupiter_agent.cli.ctl.session import session_of


def doctor(ctx: typer.Context) -> int:
    """Look for what is wrong, on this machine and in the cluster, and say how to mend it; 0 if nothing is."""
    from jupiter_agent.cli.ctl.diagnosis import examine

    return examine(session_of(ctx))


VERBS: dict[str, Callable[..., Any]] = {"doctor": doctor}
