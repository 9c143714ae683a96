"""The records of runs on this node, in the journal: `stats` has them after a restart, too.

What ran since the start is with the counters of its job (loop times); here is what an earlier run of the agent left, in
wall time, and what is about to be written. Records are written in batches and not synced: the last half second may be
lost, which costs a statistic.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace

from jupiter_agent.core.counters import MAX_RUNS, Run
from jupiter_agent.core.effects import Append, Effect
from jupiter_agent.core.records import Record, plain

MACHINE = "runs"
WRITE_S = 0.5
BATCH = 256
"""runs in one record"""
MOST_AT_ONCE = 200
"""runs of a job written at a time: of thousands a second those at the end of each half second are left out"""
MAX_JOBS = 64
OLDEST_S = 30 * 86400.0

Wall = Callable[[float], float]


class RunLog:
    """Of one node. `wall`: loop time as wall time."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._earlier: OrderedDict[str, deque[Run]] = OrderedDict()
        self._unwritten: dict[str, list[Run]] = {}
        self.due = inf

    def note(self, job: str, runs: list[Run], now: float) -> None:
        """They ended just now."""
        waiting = self._unwritten.setdefault(job, [])
        waiting += runs[: max(0, MOST_AT_ONCE - len(waiting))]
        self.due = min(self.due, now + WRITE_S)

    def write(self) -> list[Effect]:
        """What has not been written yet."""
        self.due, unwritten, self._unwritten = inf, self._unwritten, {}
        return [Append(record) for job, runs in unwritten.items() for record in self.records(job, runs)]

    def records(self, job: str, runs: Iterable[Run]) -> Iterator[Record]:
        """Of runs of this life, for the journal."""
        yield from _batches(job, [in_wall_time(run, self._wall) for run in runs])

    def earlier_records(self) -> Iterator[Record]:
        """Of runs of earlier lives."""
        for job, runs in self._earlier.items():
            yield from _batches(job, list(runs))

    def earlier(self, job: str) -> list[Run]:
        """In wall time."""
        return list(self._earlier.get(job, ()))

    def without(self, journal: Iterable[Any], wall: float) -> Iterator[Any]:
        """Take from a journal what is ours; the rest."""
        for record in journal:
            if record[0] == MACHINE:
                self._restore(str(record[1]), record[3], wall)
            else:
                yield record

    def _restore(self, job: str, value: Any, wall: float) -> None:
        try:
            runs = msgspec.convert(value, list[Run])
        except msgspec.ValidationError:
            return
        kept = self._earlier.setdefault(job, deque(maxlen=MAX_RUNS))
        kept.extend(run for run in runs if run.finish > wall - OLDEST_S)
        self._earlier.move_to_end(job)
        if not kept or len(self._earlier) > MAX_JOBS:
            self._earlier.popitem(last=not kept)


def in_wall_time(run: Run, wall: Wall) -> Run:
    """The same run, whatever clock comes after it."""
    edges = {src: (size, wall(began), wall(ended)) for src, (size, began, ended) in run.edges_in.items()}
    times = (wall(run.enter), wall(run.execute), wall(run.finish))
    return replace(run, enter=times[0], execute=times[1], finish=times[2], edges_in=edges)


def _batches(job: str, runs: list[Run]) -> Iterator[Record]:
    for at in range(0, len(runs), BATCH):
        yield (MACHINE, job, MACHINE, plain(runs[at : at + BATCH]))
