"""Where the tasks of a job have been, as one node saw it: for `explain`, and to count moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jupiter_agent.core.job import Job

PLACES = 32
"""Remembered per task, the last ones"""


class Place(NamedTuple):
    """From `at` (wall time) on a task was meant to run on `node`."""

    at: float
    node: str
    writer: str
    why: str


class Moves:
    """task -> its places, in order."""

    def __init__(self) -> None:
        self._places: dict[str, list[Place]] = {}

    def look(self, job: Job, wall: float) -> None:
        """Registers may have changed; what came and went since the last look is not noticed."""
        for task, register in job.registers.items():
            places = self._places.setdefault(task, [])
            if not places or places[-1].node != register.node:
                places.append(Place(wall, register.node, register.writer, register.why))
                del places[:-PLACES]

    def rows(self, task: str, name: Callable[[str], str]) -> list[dict[str, Any]]:
        """As `explain` shows them."""
        return [
            {"moved_at": place.at, "node": name(place.node), "decided_by": name(place.writer), "why": place.why}
            for place in self._places.get(task, [])
        ]
