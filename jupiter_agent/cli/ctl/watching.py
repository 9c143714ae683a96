"""Staying with a job until it settles: a line of progress, its changes, or a live tree. Ctrl-C only leaves it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from jupiter_agent.cli.ctl import saving, waiting
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.cli.ctl.waiting import Job
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format
from jupiter_agent.cli.units import count
from jupiter_agent.errors import EXIT_UNREACHABLE, JupiterError


class Watcher(Protocol):
    """Shown the job at every poll. `close` may be called twice."""

    def __call__(self, job: Job) -> None: ...

    def close(self) -> None: ...


class Changes:
    """Prints a job whenever it is not what it was."""

    def __init__(self, session: Session) -> None:
        self._output = session.output
        self._last = ""

    def __call__(self, job: Job) -> None:
        if (now := self._output.shown("jobs", job)) != self._last:
            self._output.stream("jobs", job)
            self._last = now

    def close(self) -> None:
        """Nothing is kept open."""


def draws_live(session: Session) -> bool:
    """Whether stdout is a terminal that can be drawn on, and tables are what is wanted."""
    able = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return able and session.output.form in (Format.TABLE, Format.WIDE)


def _watcher(session: Session, watch: bool) -> Watcher:
    if not watch:
        return waiting.Progress(session)
    if not draws_live(session):
        return Changes(session)
    from jupiter_agent.cli.ctl.tree import LiveTree

    return LiveTree(session)


def follow_to_end(
    session: Session, job: str, timeout_s: float | None, closed: bool, watch: bool = False, folder: Path | None = None
) -> int:
    """Wait, print the job (each change of it with `watch`), write the results; returns the exit code."""
    show = _watcher(session, watch)
    try:
        settled = waiting.settle(session, job, timeout_s, closed, show)
        show.close()
        if folder:
            body = session.ask_patiently("results", {"job": job})
            say(f"{count(len(saving.save(session, body['items'], folder)), 'result')} written to {folder}")
    except KeyboardInterrupt:
        show.close()
        return waiting.detached(job)
    except JupiterError as error:
        show.close()
        if error.exit_code == EXIT_UNREACHABLE:
            say(f"job {job} was accepted and will go on without us: `jupiter ctl wait {job}` waits again")
        raise
    finally:
        show.close()
    if not watch:
        session.output.object("jobs", settled)
    return waiting.outcome(session, settled)
