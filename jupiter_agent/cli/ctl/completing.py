"""What the shell offers after TAB: ids the cluster knows right now. Quick, and silent when nobody answers.

Shells complete while people type: after DEADLINE_S, whatever is missing is not offered, and nothing is ever printed.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from jupiter_agent.cli import reach
from jupiter_agent.cli.kinds import GETTABLE, KINDS, find_kind
from jupiter_agent.cli.reach import Where
from jupiter_agent.cli.units import text
from jupiter_agent.errors import JupiterError

DEADLINE_S = 0.3
"""Of asking; starting Python comes on top."""

Offer = tuple[str, str]
"""what to type, and a remark on it"""


class _TooLateError(Exception):
    """Raised by the timer, wherever the asking has got to."""


def job(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids of jobs, newest first, and `last`."""
    rows = _rows(ctx, {"kind": "jobs"})[::-1]
    offers = [(str(row["id"]), f"{text(row.get('name'))} {text(row.get('state'))}") for row in rows]
    return [*offers, ("last", "the newest")] if offers else []


def node(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Names of nodes."""
    return [(str(row["name"]), text(row.get("state"))) for row in _rows(ctx, {"kind": "nodes"})]


def task(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Tasks of the job named before."""
    rows = _rows(ctx, {"kind": "tasks", "id": str(ctx.params.get("job") or "last")})
    return [(str(row["name"]), f"on {text(row.get('node'))}") for row in rows]


def failed_item(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Failed items of the job named before."""
    rows = _rows(ctx, {"kind": "items", "id": str(ctx.params.get("job") or "last")})
    return [(str(row["name"]), "failed") for row in rows if row.get("state") == "failed"]


def place(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """JOB, and once it has its slash JOB/TASK."""
    ref, slash, _ = incomplete.partition("/")
    if not slash:
        return job(ctx, incomplete)
    rows = _rows(ctx, {"kind": "tasks", "id": ref})
    return [(f"{ref}/{row['name']}", f"on {text(row.get('node'))}") for row in rows]


def kind(ctx: typer.Context, incomplete: str) -> list[str]:
    return list(GETTABLE)


def object_id(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids of the kind named before."""
    try:
        plural = find_kind(str(ctx.params.get("kind") or ""))
    except JupiterError:
        return []
    if plural == "nodes":
        return node(ctx, incomplete)
    if plural in ("tasks", "items") and "/" in incomplete:
        ref = incomplete.partition("/")[0]
        return [(f"{ref}/{row['name']}", text(row.get("state"))) for row in _rows(ctx, {"kind": plural, "id": ref})]
    if plural in ("jobs", "tasks", "items"):
        return job(ctx, incomplete)
    return [(KINDS[plural].key(row), "") for row in _rows(ctx, {"kind": plural})]


def mapper(ctx: typer.Context, incomplete: str) -> list[str]:
    from jupiter_agent.core.submit_args import known_mappers

    with warnings.catch_warnings(action="ignore"):  # of packages that took names of ours
        return known_mappers()


def _rows(ctx: typer.Context, args: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a `get`; none when there is no answer in time, whatever the reason."""
    try:
        with _timer():
            client = reach.open_client(_where(ctx))
            try:
                return list(client.call("get", args, DEADLINE_S)["items"])
            finally:
                client.close()
    except (JupiterError, _TooLateError):
        return []


def _where(ctx: Any) -> Where:
    """What the options of `ctl` say so far; they are parsed, but nothing of it ran."""
    while ctx is not None and "token_file" not in ctx.params:
        ctx = ctx.parent
    given = ctx.params if ctx is not None else {}
    folder, token_file = (Path(given[name]) if given.get(name) else None for name in ("folder", "token_file"))
    return Where(tuple(given.get("peer") or ()), folder, token_file, os.environ)


@contextmanager
def _timer() -> Iterator[None]:
    """_TooLateError after DEADLINE_S; whose timer ran before gets it back."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLateError

    handler = signal.signal(signal.SIGALRM, ring)
    before, _ = signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, before)
