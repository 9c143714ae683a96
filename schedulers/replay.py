"""What a mapping really takes: run it as the executor does, each node its ready tasks by priority.

A node starts a task as soon as it is idle and the inputs of one are there; among several it takes the one of highest
priority (the upward rank by default; first in, first out is `priority=[0] * T`). No plan of start times is followed, so
this also gives times to mappers that only choose places.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schedulers.nics import Nics
from schedulers.problem import Ints, Problem
from schedulers.ranks import upward_rank
from schedulers.solution import Schedule

_IDLE, _DONE, _READY = range(3)  # a node has become available, a task is done, the inputs of a task are there


def replay(
    p: Problem, node: npt.ArrayLike, priority: Sequence[float] | None = None, contention: bool = False
) -> Schedule:
    """The schedule that follows from the mapping `node` (T,) int. O((T + E) log T).

    `priority` (T,): higher runs first, ties by arrival and then by index. With `contention` a node sends one transfer
    and receives one transfer at a time, the most urgent child first. ValueError for what `mapping` refuses, and for
    priorities of another shape or NaN.
    """
    places = mapping(p, node)
    run = _Run(p, places.tolist(), upward_rank(p) if priority is None else _priorities(p, priority), contention)
    while run.events:
        run.step()
    return Schedule(places, np.array(run.start), np.array(run.finish))


def mapping(p: Problem, node: npt.ArrayLike) -> Ints:
    """(T,) a copy of `node`; ValueError unless it is a whole number per task, of a node that the task may use."""
    places = np.array(node)
    shaped = places.shape == (p.n_tasks,) and np.issubdtype(places.dtype, np.integer)
    if not shaped or (places < 0).any() or (places >= p.n_nodes).any():
        raise ValueError(f"node must be ({p.n_tasks},) numbers of nodes below {p.n_nodes}")
    if p.placeable is not None:
        wrong = ~p.placeable[np.arange(p.n_tasks), places]
        if wrong.any():
            task = int(wrong.argmax())
            raise ValueError(f"task {task} is on node {places[task]}, which it must not use")
    return places.astype(np.int64)


def _priorities(p: Problem, value: Sequence[float]) -> list[float]:
    try:
        ranks = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"priority must be numbers: {error}") from None
    if ranks.shape != (p.n_tasks,) or np.isnan(ranks).any():
        raise ValueError(f"priority must be ({p.n_tasks},) numbers, none of them NaN")
    return [float(rank) for rank in ranks]


class _Run:
    """Discrete events: tasks become ready, nodes become idle, and idle nodes take from their queues."""

    def __init__(self, p: Problem, node: list[int], priority: Sequence[float], contention: bool) -> None:
        self.p = p
        self.node = node
        self.priority = priority
        self.nics = Nics(p) if contention else None
        self.missing = [len(parents) for parents in p.parents]
        self.arrived = [0.0] * p.n_tasks
        self.start = [0.0] * p.n_tasks
        self.finish = [0.0] * p.n_tasks
        self.idle = [False] * p.n_nodes
        self.queues: list[list[tuple[float, float, int]]] = [[] for _ in range(p.n_nodes)]
        self.events = [(float(p.ready_from[n]), _IDLE, n) for n in range(p.n_nodes)]
        self.events += [(0.0, _READY, t) for t in range(p.n_tasks) if not p.parents[t]]
        heapq.heapify(self.events)

    def step(self) -> None:
        """All that happens at the next instant; only then do idle nodes choose."""
        now = self.events[0][0]
        touched = set()
        while self.events and self.events[0][0] == now:
            _, kind, which = heapq.heappop(self.events)
            n = which if kind == _IDLE else self.node[which]
            touched.add(n)
            if kind == _READY:
                heapq.heappush(self.queues[n], (-self.priority[which], now, which))
            else:
                self.idle[n] = True
            if kind == _DONE:
                self._deliver(which, now)
        for n in sorted(touched):
            if self.idle[n] and self.queues[n]:
                self._run(heapq.heappop(self.queues[n])[2], n, now)

    def _run(self, t: int, n: int, now: float) -> None:
        self.start[t] = now
        self.finish[t] = now + float(self.p.times[t, n])
        self.idle[n] = False
        heapq.heappush(self.events, (self.finish[t], _DONE, t))

    def _deliver(self, u: int, now: float) -> None:
        """Send what `u` made to its children; the last input of a child makes it ready."""
        n = self.node[u]
        for v, data in sorted(self.p.children[u], key=lambda child: -self.priority[child[0]]):
            if self.nics is None:
                arrival = now + self.p.transfer(n, self.node[v], data)
            else:
                arrival = self.nics.send(n, self.node[v], data, now)
            self.arrived[v] = max(self.arrived[v], arrival)
            self.missing[v] -= 1
            if not self.missing[v]:
                heapq.heappush(self.events, (self.arrived[v], _READY, v))
