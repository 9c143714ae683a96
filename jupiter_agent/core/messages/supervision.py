"""Supervision messages: how a job's tasks get on where they are, and what a task that moved leaves done behind it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from jupiter_agent.core.messages import Boot, Count, Message, Seconds

Factor: TypeAlias = Annotated[float, Meta(ge=1e-3, le=1e3)]
ROWS = 10_000
SPARED = 1000
"""Runs named in one `Moved`; of further ones some are done twice."""


class TaskPace(Struct, frozen=True, array_like=True):
    """How one task gets on here: attempts, and seconds that a run usually takes on this node."""

    task: str
    queued: Count
    running: Count
    done: Count
    usual_s: Seconds


class Pace(Message, frozen=True, tag=56):
    """A host to those who supervise its tasks, while something goes on there; home to all who supervise any.

    `slow`: the runs of this node take at least so many times what they usually take here (1: as usual).
    """

    job: str
    sequence: Count
    slow: Factor
    tasks: Annotated[list[TaskPace], Meta(max_length=ROWS)] = []
    accepted: Count = 0
    """from home: items taken in so far"""
    more: bool = False
    """from home: more may come"""


class Spared(Struct, frozen=True, array_like=True):
    """A run that is done, or under way, on another node: of this item, on inputs with these stamps."""

    item: str
    stamps: dict[str, bytes]
    node: str
    boot: Boot


class Moved(Message, frozen=True, tag=57):
    """The old host of a task to the new one: these need not run there as long as I live."""

    job: str
    task: str
    runs: Annotated[list[Spared], Meta(max_length=SPARED)]
