"""What a node counts of one job's tasks here, and the records of their runs (the run-time profiler, DESIGN.md 5)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from math import inf

from msgspec import Struct

from jupiter_agent.core.messages.jobs import TaskReport

REPORT_S = 0.2
BOOT_SHIFT = 32
"""A report's sequence is the node's boot, shifted so, plus a count"""

MAX_RUNS = 4000
"""Runs remembered per job and node; older ones are forgotten."""


class Run(Struct, frozen=True, array_like=True):
    """One run that gave outputs. Loop times in seconds: entered the queue, given to the process, finished."""

    item: str
    task: str
    enter: float
    execute: float
    finish: float
    bytes_in: int
    bytes_out: int


class Counters:
    """Per task hosted here: runs done and failed, restarts, seconds; a report is due `REPORT_S` after a change."""

    def __init__(self, boot: int) -> None:
        self.tasks: dict[str, Counter[str]] = {}
        self.runs: deque[Run] = deque(maxlen=MAX_RUNS)
        self.due = inf
        self._seconds: dict[str, float] = {}
        self._up: set[str] = set()
        self._sequence = boot << BOOT_SHIFT

    def touch(self, now: float) -> None:
        self.due = min(self.due, now + REPORT_S)

    def host(self, task: str, now: float) -> None:
        """The task came here."""
        self.tasks.setdefault(task, Counter())
        self.touch(now)

    def up(self, task: str, now: float) -> None:
        """Its process is ready."""
        self._up.add(task)
        self.touch(now)

    def down(self, task: str, now: float) -> None:
        """Its process ended by itself."""
        self._up.discard(task)
        if task in self.tasks:
            self.tasks[task]["restarts"] += 1
            self.touch(now)

    def done(self, run: Run, seconds: float, now: float) -> None:
        self.tasks[run.task]["done"] += 1
        self._seconds[run.task] = self._seconds.get(run.task, 0.0) + seconds
        self.runs.append(run)
        self.touch(now)

    def failed(self, task: str, now: float) -> None:
        """An item was given up."""
        self.tasks[task]["failed"] += 1
        self.touch(now)

    def report(self, ids: tuple[str, str], queued: Callable[[str], tuple[int, int]], moved_bytes: int) -> TaskReport:
        """The counters for home. `ids`: job and node; `queued`: task -> (queued, running)."""
        self.due = inf
        self._sequence += 1
        rows = [self._row(task, *queued(task)) for task in self.tasks]
        return TaskReport(ids[0], ids[1], self._sequence, rows, moved_bytes)

    def _row(self, task: str, queued: int, running: int) -> tuple[str, str, int, int, int, int, int, float]:
        counts = self.tasks[task]
        state = "running" if running else "idle" if task in self._up else "starting"
        done, failed, restarts = counts["done"], counts["failed"], counts["restarts"]
        return (task, state, queued, running, done, failed, restarts, self._seconds.get(task, 0.0))
