"""What calls and answers must look like: plain data from outside, checked once, before any verb reads it.

`check_args` is for calls (from clients, and passed on by peers): UsageError, the caller's fault. `check_body` is for
answers of peers: PeerError. Both only look: what is not named here is left as it is, for later versions to add to.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from jupiter_agent.core.messages import Size
from jupiter_agent.errors import PeerError, UsageError

Text = Annotated[str, Meta(max_length=4096)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}\Z")]
Place = Annotated[int, Meta(ge=0, lt=1 << 62)]
"""an offset, a length, a size, a number of events"""


class Input(Struct, frozen=True):
    """One entry of `inputs`. `data`: the bytes themselves when they are few."""

    name: Text
    sha256: Digest
    size: Size
    task: Text | None = None
    data: bytes | None = None


class Arguments(Struct, frozen=True):
    """The arguments of all verbs, each with one meaning wherever it is used. Those of `submit` alone: SubmitArgs."""

    kind: Text | None = None
    id: Text | None = None
    job: Text | None = None
    task: Text | None = None
    tasks: list[Text] = []
    since: Place = 0
    offset: Place = 0
    length: Place = 0
    limit: Place = 0
    at: Text | None = None
    inputs: list[Input] = []
    rename: bool = False
    node: Text | None = None
    item: Text | None = None


class ResultRow(Struct, frozen=True):
    sha256: Digest
    size: Size


class ResultItem(Struct, frozen=True):
    results: list[ResultRow]


class Results(Struct, frozen=True):
    """Body of `results`."""

    items: list[ResultItem]
    next: Place | None = None


class JobRow(Struct, frozen=True):
    id: Text
    name: Text
    app: Text
    home: Text
    submitted_at: float


class JobRows(Struct, frozen=True):
    """Body of `get jobs`."""

    items: list[JobRow]
    next: Place | None = None


class TaskChoice(Struct, frozen=True):
    task: Text
    candidates: list[dict[str, Any]]


class RunRow(Struct, frozen=True):
    item: Text
    task: Text
    node: Text
    enter: float
    execute: float
    finish: float
    bytes_in: Place
    bytes_out: Place
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: Place = 0
    load: float = 0.0
    edges_in: dict[Text, tuple[Place, float, float]] = {}
    edges_out: dict[Text, Place] = {}


class Runs(Struct, frozen=True):
    """Body of `runs`."""

    runs: list[RunRow]
    next: Place | None = None


class Considered(Struct, frozen=True):
    """Body of `considered`."""

    tasks: list[TaskChoice]


class Forgotten(Struct, frozen=True):
    """Body of `forget`."""

    forgotten: Text


BODIES: dict[str, type[Struct]] = {
    "forget": Forgotten,
    "forget-profiles": Forgotten,
    "results": Results,
    "get": JobRows,
    "considered": Considered,
    "runs": Runs,
}
"""Answers that an agent reads itself; others are only passed on."""


def check_args(verb: str, args: dict[str, Any]) -> None:
    """UsageError that names the argument when one is not of its type."""
    try:
        msgspec.convert(args, Arguments)
    except msgspec.ValidationError as error:
        raise UsageError(f"{verb}: {error}", "is this agent older than your command line?") from None


def check_body(verb: str, body: Any) -> None:
    """PeerError when a peer's answer to a call of ours is not what it should be."""
    try:
        msgspec.convert(body, BODIES[verb])
    except msgspec.ValidationError as error:
        raise PeerError(f"answer to {verb}: {error}") from None
