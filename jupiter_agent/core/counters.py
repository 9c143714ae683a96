"""What a node counts of one job's tasks here, and the records of their runs (the run-time profiler, DESIGN.md 5)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from math import inf

from msgspec import Struct

from jupiter_agent.core.events import RunDone
from jupiter_agent.core.messages.jobs import Obj, Parcel, TaskReport
from jupiter_agent.core.runqueue import Attempt

REPORT_S = 0.2
BOOT_SHIFT = 32
"""A report's sequence is the node's boot, shifted so, plus a count"""

MAX_RUNS = 4000
"""Runs remembered per job and node; older ones are forgotten."""


class Run(Struct, frozen=True, array_like=True):
    """One run that gave outputs. Loop times in seconds: entered the queue (its inputs are all here), given to the
    process, finished."""

    item: str
    task: str
    enter: float
    execute: float
    finish: float
    bytes_in: int
    bytes_out: int
    seconds: float = 0.0
    """inside the task, by its own clock"""
    cpu_s: float = 0.0
    peak_bytes: int = 0
    load: float = 0.0
    """processes that wanted a core of this node meanwhile, this run not counted"""
    edges_in: dict[str, tuple[int, float, float]] = {}
    """parent -> bytes, when it was known that they come, when all were here"""
    edges_out: dict[str, int] = {}
    """child -> bytes"""


QUEUE_S = 4.0
"""what the length of the run queue is smoothed over, about: shorter runs are hardly in it"""


def run_of(attempt: Attempt, done: RunDone, children: list[str], now: float, queue_length: float) -> Run:
    """The record of a run that ended now. `queue_length`: as the sensors have it."""
    edges_in = {p.src: (sum(o.size for o in p.objects), *attempt.came.get(p.src, (now, now))) for p in attempt.parcels}
    edges_out = dict.fromkeys(children, 0)
    for named, obj in done.outputs:
        for child in named or children:
            edges_out[child] = edges_out.get(child, 0) + obj.size
    took = max(now - attempt.started, 1e-6)
    own = min(1.0, done.cpu_s / took) * min(1.0, took / QUEUE_S)
    return Run(
        attempt.item, attempt.task, attempt.entered, attempt.started, now,
        bytes_in=sum(size for size, _, _ in edges_in.values()), bytes_out=sum(obj.size for _, obj in done.outputs),
        seconds=done.seconds, cpu_s=done.cpu_s, peak_bytes=done.peak_bytes,
        load=max(0.0, (attempt.load + queue_length) / 2 - own, float(attempt.beside)),
        edges_in=edges_in, edges_out=edges_out,
    )  # fmt: skip


class Counters:
    """Per task hosted here: runs done and failed, restarts, seconds; a report is due `REPORT_S` after a change."""

    def __init__(self, boot: int) -> None:
        self.tasks: dict[str, Counter[str]] = {}
        self.runs: deque[Run] = deque(maxlen=MAX_RUNS)
        self.due = inf
        self._fresh: deque[Run] = deque(maxlen=MAX_RUNS)
        self._seconds: dict[str, float] = {}
        self._up: set[str] = set()
        self._sequence = boot << BOOT_SHIFT
        self._came: dict[str, dict[tuple[str, str], float]] = {}
        """item -> (dst, src) -> when its parcel came"""

    def came(self, parcel: Parcel, now: float) -> None:
        """Its bytes are here, or begin to be fetched."""
        self._came.setdefault(parcel.item, {}).setdefault((parcel.dst, parcel.src), now)

    def arrived(self, attempt: Attempt, here: Callable[[Obj], bool], now: float) -> bool:
        """Whether all inputs of an attempt are here; notes since when each is."""
        came = self._came.get(attempt.item, {})
        for parcel in attempt.parcels:
            if parcel.src not in attempt.came and all(map(here, parcel.objects)):
                attempt.came[parcel.src] = (came.get((attempt.task, parcel.src), now), now)
        return len(attempt.came) == len(attempt.parcels)

    def free(self, item: str) -> None:
        """It is over."""
        self._came.pop(item, None)

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
        self._fresh.append(run)
        self.touch(now)

    def take_fresh(self) -> list[Run]:
        """Those that ended since this was asked last."""
        fresh = list(self._fresh)
        self._fresh.clear()
        return fresh

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
