"""One item of a job as its home keeps it, journals it and copies it."""

from __future__ import annotations

from typing import Any

import msgspec

from jupiter_agent.core.intervals import Number
from jupiter_agent.core.messages.jobs import HomeVersion, Obj

Parts = dict[str, list[Obj]]


class Item(msgspec.Struct):
    """One input on its way. `parts`: entry task -> its objects. `error`: what `describe` shows of a failed one."""

    name: str
    number: Number
    parts: Parts
    submitted_at: float
    state: str = "queued"
    """queued, running, done, failed, cancelled"""
    attempts: int = 0
    finished_at: float | None = None
    results: list[tuple[str, Obj]] = []
    """(sink task, object)"""
    error: dict[str, Any] = {}
    produced: bool = False
    """by a home script or non-DAG task: its parts leave as they come"""
    sealed: bool = False
    """no more parts will come"""
    inside: list[tuple[str, int, str]] = []
    """(node, its boot, task) of runs with strikes that began and did not end (core/strikes.py)"""
    strikes: int = 0
    others: list[Number] = []
    """numbers that other homes gave it: it is over under all of them"""
    decided: HomeVersion | None = None
    """the home version under which it was over"""
    conflicts: list[dict[str, Any]] = []
    """results or inputs of the same name that another home had and that gave way"""
    ended: list[tuple[str, int]] = []
    """(node, its boot) of agents that were lost inside such a run"""
    void: list[Number] = []
    """of `others`: under them it ran with other bytes, or may have"""

    @property
    def pending(self) -> bool:
        return self.state in ("queued", "running")

    def objects(self) -> list[Obj]:
        return [obj for parts in self.parts.values() for obj in parts]
