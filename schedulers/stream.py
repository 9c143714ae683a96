"""A stream of items through a mapping, on nodes and links that change: what it really takes, and what it keeps busy.

`replay` runs one item on what the problem says. Here every task runs once per item; a node takes of its ready tasks
the one of the oldest item, then of the highest priority. Network cards, where they are charged, send one transfer and
receive one at a time: of the waiting transfers whose cards are both free, those of the oldest item, then to the child
of the highest priority, begin first. At given times the speeds and links become those of another problem: a running
task goes on at the new speed with the share that is left, a transfer keeps the pace with which it began.

Differs from `replay`, which reserves cards as plans do, in the order in which data is ready: in a stream that leaves
cards idle behind a receiver that is busy.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schedulers.problem import Floats, Problem
from schedulers.ranks import upward_rank
from schedulers.replay import mapping

_CHANGE, _IDLE, _SENT, _DONE, _READY = range(5)


class Change(NamedTuple):
    """From `at_s` on, times and links are those of `problem`: the same tasks and nodes."""

    at_s: float
    problem: Problem


@dataclass(frozen=True, eq=False)
class Realised:
    """released and finished (items,) seconds; computing, sending and receiving (N,) seconds that each node was busy."""

    released: Floats
    finished: Floats
    computing: Floats
    sending: Floats
    receiving: Floats

    @property
    def makespan(self) -> float:
        """Seconds until the last item is finished."""
        return float(self.finished.max())

    @property
    def latency(self) -> Floats:
        """(items,) seconds from the release of an item to its end."""
        return self.finished - self.released

    @property
    def throughput(self) -> float:
        """Items per second, filling and draining included: never above the rate of the busiest resource."""
        return len(self.finished) / self.makespan if self.makespan > 0 else inf

    def use(self) -> Floats:
        """(3, N) share of the makespan that each node computes, sends, receives."""
        busy = np.stack([self.computing, self.sending, self.receiving])
        return busy / self.makespan if self.makespan > 0 else busy * 0


def stream(
    p: Problem,
    node: npt.ArrayLike,
    *,
    items: int = 1,
    interval_s: float = 0.0,
    changes: Sequence[Change] = (),
    contention: bool = True,
) -> Realised:
    """Run `items` items, one released every `interval_s`, through the mapping `node` (T,). O(items (T + E) log).

    ValueError for what `replay.mapping` refuses, no item, a negative interval or time, or a change of another shape.
    """
    places = mapping(p, node)
    if items < 1 or not 0 <= interval_s < inf:
        raise ValueError(f"{items} items every {interval_s} seconds are no stream")
    for change in changes:
        if not 0 <= change.at_s < inf or change.problem.times.shape != p.times.shape:
            raise ValueError(f"a change at {change.at_s} to {change.problem!r} does not fit {p!r}")
    run = _Run(p, places.tolist(), items, interval_s, contention)
    run.expect(changes)
    while run.events:
        run.step()
    return Realised(
        np.array([k * interval_s for k in range(items)]), np.array(run.finished), *(np.array(busy) for busy in run.busy)
    )


class _Run:
    """Discrete events; a task of an item is the pair (item, task)."""

    def __init__(self, p: Problem, node: list[int], items: int, interval_s: float, contention: bool) -> None:
        self.p, self.node = p, node
        self.priority = upward_rank(p)
        self.contention = contention
        self.waiting: list[tuple[int, float, int, int, float]] = []  # transfers: item, -priority, child, sender, bytes
        self.sending = [False] * p.n_nodes
        self.receiving = [False] * p.n_nodes
        self.missing = [[len(parents) for parents in p.parents] for _ in range(items)]
        self.arrived = [[0.0] * p.n_tasks for _ in range(items)]
        self.finished = [0.0] * items
        self.busy = [[0.0] * p.n_nodes for _ in range(3)]  # computing, sending, receiving
        self.idle = [False] * p.n_nodes
        self.running: dict[int, tuple[float, int, int, float]] = {}  # node -> (finish, item, task, since)
        self.queues: list[list[tuple[int, float, float, int]]] = [[] for _ in range(p.n_nodes)]
        self.problems: list[Problem] = []
        self.events: list[tuple[float, int, int, int]] = [
            (float(p.ready_from[n]), _IDLE, n, 0) for n in range(p.n_nodes)
        ]
        for item in range(items):
            self.events += [(item * interval_s, _READY, item, t) for t in range(p.n_tasks) if not p.parents[t]]
        heapq.heapify(self.events)

    def expect(self, changes: Sequence[Change]) -> None:
        for k, change in enumerate(changes):
            self.problems.append(change.problem)
            heapq.heappush(self.events, (change.at_s, _CHANGE, k, 0))

    def step(self) -> None:
        """All that happens at the next instant; only then do idle nodes choose."""
        now = self.events[0][0]
        touched = set()
        while self.events and self.events[0][0] == now:
            _, kind, a, b = heapq.heappop(self.events)
            if kind == _CHANGE:
                self._change(self.problems[a], now)
            elif kind == _READY:
                n = self.node[b]
                heapq.heappush(self.queues[n], (a, -self.priority[b], now, b))
                touched.add(n)
            elif kind == _SENT:
                self.sending[a] = self.receiving[b] = False
            elif kind == _IDLE:
                self.idle[a] = True
                touched.add(a)
            elif self.running.get(self.node[b], (inf, -1, -1, inf))[:3] == (now, a, b):
                touched.add(self._done(a, b, now))
        for n in sorted(touched):
            if self.idle[n] and self.queues[n]:
                item, _, _, t = heapq.heappop(self.queues[n])
                self.idle[n] = False
                self._expect_done(n, item, t, now, now + float(self.p.times[t, n]))
        self._send(now)

    def _expect_done(self, n: int, item: int, t: int, since: float, finish: float) -> None:
        self.running[n] = (finish, item, t, since)
        heapq.heappush(self.events, (finish, _DONE, item, t))

    def _change(self, new: Problem, now: float) -> None:
        """Running tasks do what is left of them at the new speed; their old ends are void."""
        for n, (finish, item, t, since) in list(self.running.items()):
            was, becomes = float(self.p.times[t, n]), float(new.times[t, n])
            if was > 0 and was != becomes:
                self._expect_done(n, item, t, since, now + (finish - now) * becomes / was)
        self.p = new

    def _done(self, item: int, t: int, now: float) -> int:
        n = self.node[t]
        self.busy[0][n] += now - self.running.pop(n)[3]
        self.idle[n] = True
        self.finished[item] = max(self.finished[item], now)
        for v, data in sorted(self.p.children[t], key=lambda child: -self.priority[child[0]]):
            if self.contention and data and self.node[v] != n:
                insort(self.waiting, (item, -self.priority[v], v, n, data))
            else:
                self._deliver(item, v, n, data, now)
        return n

    def _send(self, now: float) -> None:
        """Begin every transfer whose cards are free, in the order in which they wait."""
        left = []
        for transfer in self.waiting:
            item, _, v, n, data = transfer
            target = self.node[v]
            if self.sending[n] or self.receiving[target]:
                left.append(transfer)
                continue
            self.sending[n] = self.receiving[target] = True
            ends = now + float(self.p.busy_row(n, data)[target])
            heapq.heappush(self.events, (ends, _SENT, n, target))
            self._deliver(item, v, n, data, now)
        self.waiting = left

    def _deliver(self, item: int, v: int, n: int, data: float, now: float) -> None:
        """`data` bytes leave node `n` for task `v`; the last input makes it ready."""
        target = self.node[v]
        if target != n:
            seconds = float(self.p.busy_row(n, data)[target])
            self.busy[1][n] += seconds
            self.busy[2][target] += seconds
        arrival = now + self.p.transfer(n, target, data)
        self.arrived[item][v] = max(self.arrived[item][v], arrival)
        self.missing[item][v] -= 1
        if not self.missing[item][v]:
            heapq.heappush(self.events, (self.arrived[item][v], _READY, item, v))
