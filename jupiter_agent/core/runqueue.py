"""Attempts waiting for a place on this node: shared fairly between jobs, inside a job by rank (DESIGN.md 6), arrival.

A place is limited twice: by the task's own `parallel`, and by the node's slots. Slots are more than cores because
tasks also wait for files, sockets and devices. The next place goes to the job that holds the fewest; among equals to
the one served longest ago. An attempt with two strikes runs without any other of its job (core/strikes.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from jupiter_agent.core.effects import Effect, StartRun
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import Parcel
from jupiter_agent.core.strikes import ALONE, LEAD_S, announcement

INJECTED = "input"
"""The key under which a task finds an injected item."""


class Attempt:
    """One run of (task, item) on one agreeing set. `projection` is the value of the stamps its outputs must carry."""

    __slots__ = (
        "beside",
        "came",
        "entered",
        "id",
        "inputs",
        "item",
        "job",
        "load",
        "parcels",
        "projection",
        "stamps",
        "started",
        "strikes",
        "task",
        "tries",
        "watchers",
    )

    def __init__(self, at: tuple[str, str, str], stamps: dict[str, bytes], parcels: list[Parcel]) -> None:
        self.job, self.task, self.item = at
        self.id = 0
        self.stamps = stamps
        self.parcels = parcels
        self.inputs = parcels
        """the same parcels as the task gets them"""
        self.projection: frozenset[tuple[str, bytes]] = frozenset()
        self.tries = 0
        self.strikes = 0
        self.watchers: list[str] = []
        """nodes to be told when it starts, if it has strikes"""
        self.entered = self.started = 0.0
        """when it joined the queue, and when its process got it"""
        self.came: dict[str, tuple[float, float]] = {}
        """parent -> when its bytes began to come, and when all were here"""
        self.load, self.beside = 0.0, 0
        """when it started: length of this node's run queue as measured, and other attempts that ran here"""


class _Lane:
    """The attempts of one (job, task)."""

    __slots__ = ("open", "overlap", "parallel", "rank", "running", "waiting")

    def __init__(self, rank: float, parallel: int, overlap: bool) -> None:
        self.rank, self.parallel, self.overlap = rank, parallel, overlap
        self.running = 0
        self.open = False
        self.waiting: deque[Attempt] = deque()

    @property
    def held(self) -> int:
        """Slots."""
        return min(self.running, 1) if self.overlap else self.running


class RunQueue:
    """`slots`: attempts running at once on this node."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.load = 0.0
        """processes that run or wait for a core on this node, as the sensors last said"""
        self.running: dict[int, Attempt] = {}
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._last_id = 0
        self._served: dict[str, int] = {}
        """job -> id of the attempt that it started last"""

    def lane(self, task: tuple[str, str], rank: float, parallel: int, overlap: bool = False) -> None:
        """Make a place for the attempts of (job, task); they start once it is opened.

        `overlap`: the task takes its attempts one after another itself, so all it has together hold one slot.
        """
        self._lanes.setdefault(task, _Lane(rank, parallel, overlap))

    def open(self, job: str, task: str) -> None:
        self._lanes[job, task].open = True

    def push(self, attempt: Attempt) -> None:
        self._lanes[attempt.job, attempt.task].waiting.append(attempt)

    def start(self) -> Iterator[Attempt]:
        """The attempts that may start now, each with a fresh id; they count as running."""
        while (lane := self._next()) is not None:
            attempt = lane.waiting.popleft()
            self._last_id += 1
            attempt.id = self._last_id
            lane.running += 1
            attempt.load, attempt.beside = self.load, len(self.running)
            self.running[attempt.id] = attempt
            self._served[attempt.job] = attempt.id
            yield attempt

    def _next(self) -> _Lane | None:
        """The lane whose first attempt starts next."""
        held: dict[str, int] = {}
        waiting: dict[str, list[_Lane]] = {}
        for (job, _), lane in self._lanes.items():
            held[job] = held.get(job, 0) + lane.held
            if lane.open and lane.waiting:
                waiting.setdefault(job, []).append(lane)
        full = sum(held.values()) >= self.slots
        for job in sorted(waiting, key=lambda job: (held[job], self._served.get(job, 0))):
            for lane in sorted(waiting[job], key=lambda lane: -lane.rank):
                has_slot = not full or (lane.overlap and lane.running)
                if has_slot and lane.running < lane.parallel and self._may_run(job, lane, waiting[job]):
                    return lane
        return None

    def _may_run(self, job: str, lane: _Lane, lanes: list[_Lane]) -> bool:
        """An attempt that must be alone waits for the others of its job to end, and they for it."""
        if any(each.waiting[0].strikes >= ALONE for each in lanes):
            return lane.waiting[0].strikes >= ALONE and not any(a.job == job for a in self.running.values())
        return not any(a.job == job and a.strikes >= ALONE for a in self.running.values())

    def end(self, run: int) -> Attempt | None:
        """The attempt that ended; None when it was dropped meanwhile (a late answer)."""
        attempt = self.running.pop(run, None)
        if attempt is not None:
            lane = self._lanes.get((attempt.job, attempt.task))
            if lane is not None:
                lane.running -= 1
        return attempt

    def counts(self, job: str, task: str) -> tuple[int, int]:
        """(queued, running)"""
        lane = self._lanes.get((job, task))
        return (len(lane.waiting), lane.running) if lane else (0, 0)

    def under_way(self, job: str) -> dict[str, float]:
        """task -> when the oldest of its runs that are under way began."""
        mine = sorted((attempt for attempt in self.running.values() if attempt.job == job), key=lambda a: -a.started)
        return {attempt.task: attempt.started for attempt in mine}

    def committed(self) -> int:
        """Attempts queued or running here: this node's own load figure."""
        return len(self.running) + sum(len(lane.waiting) for lane in self._lanes.values())

    def drop_item(self, job: str, item: str) -> None:
        """Forget what waits for an item that is over; what runs ends by itself and is ignored by its executor."""
        for (of, _), lane in self._lanes.items():
            if of == job and any(attempt.item == item for attempt in lane.waiting):
                lane.waiting = deque(attempt for attempt in lane.waiting if attempt.item != item)

    def withdraw(self, job: str, task: str, which: Callable[[Attempt], bool]) -> list[Attempt]:
        """Take attempts of a task that have not started out of the queue."""
        lane = self._lanes.get((job, task))
        if lane is None:
            return []
        taken = [attempt for attempt in lane.waiting if which(attempt)]
        lane.waiting = deque(attempt for attempt in lane.waiting if attempt not in taken)
        return taken

    def drop(self, job: str, task: str = "") -> None:
        """Forget a job, or one task of it; answers to its runs find nothing."""
        for key in [key for key in self._lanes if key[0] == job and task in ("", key[1])]:
            del self._lanes[key]
        if not task:
            self._served.pop(job, None)
        for run in [run for run, a in self.running.items() if a.job == job and task in ("", a.task)]:
            del self.running[run]


def start_runs(queue: RunQueue, now: float) -> list[Effect]:
    """Start what the node's queue allows, of whatever job."""
    return [effect for attempt in queue.start() for effect in _start_run(attempt, now)]


def _start_run(attempt: Attempt, now: float) -> list[Effect]:
    """Give an attempt to its process; an injected item's key is `input`. With strikes it is announced first."""
    attempt.started = now
    inputs = [
        (INJECTED if parcel.src == HOME else parcel.src, parcel.objects) for parcel in attempt.inputs if parcel.objects
    ]
    ids = (attempt.job, attempt.task, attempt.item)
    told = announcement(ids, attempt.watchers) if attempt.strikes else []
    return [*told, StartRun(attempt.id, *ids, inputs, LEAD_S if told else 0.0)]
