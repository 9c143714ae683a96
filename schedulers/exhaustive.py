"""The optimum of tiny problems by trying everything: the slow twin that clever mappers are tested against."""

from __future__ import annotations

import numpy as np

from schedulers.problem import Problem
from schedulers.solution import Schedule

MOST_TASKS, MOST_NODES = 7, 4


def optimum(p: Problem) -> Schedule:
    """A schedule of least makespan, links being private to each transfer. O(T! N**T) before pruning.

    Placing the tasks of any schedule in the order of their start times, each at the end of its node's queue, delays
    none of them; so trying all orders and all nodes with appends alone meets an optimum. ValueError above 7 tasks or
    4 nodes, Unplaceable for a task without a node.
    """
    if p.n_tasks > MOST_TASKS or p.n_nodes > MOST_NODES:
        raise ValueError(f"{p.n_tasks} tasks on {p.n_nodes} nodes are too many: {MOST_TASKS} on {MOST_NODES} at most")
    p.require_placeable()
    search = _Search(p)
    search.extend([], p.ready_from.tolist(), 0.0)
    node, start, finish = search.best
    return Schedule(np.array(node), np.array(start), np.array(finish))


class _Search:
    """Depth first over (next task, its node); gives up a branch that cannot beat the best schedule so far."""

    def __init__(self, p: Problem) -> None:
        self.p = p
        self.node = [0] * p.n_tasks
        self.start = [0.0] * p.n_tasks
        self.finish = [0.0] * p.n_tasks
        self.least = float("inf")
        self.best: tuple[list[int], list[float], list[float]] = ([], [], [])
        self.tail = self._tails()

    def _tails(self) -> list[float]:
        """Seconds that must pass from the start of each task to the end: fastest nodes, free transfers."""
        tail = [min(float(self.p.times[t, n]) for n in self.p.nodes_for(t)) for t in range(self.p.n_tasks)]
        for t in reversed(self.p.order):
            tail[t] += max((tail[v] for v, _ in self.p.children[t]), default=0.0)
        return tail

    def extend(self, placed: list[int], free: list[float], makespan: float) -> None:
        """Try every continuation of the tasks in `placed`; `free` (N,) seconds is when each node is free again."""
        if len(placed) == self.p.n_tasks:
            if makespan < self.least:
                self.least = makespan
                self.best = (self.node.copy(), self.start.copy(), self.finish.copy())
            return
        for t in range(self.p.n_tasks):
            if t in placed or any(u not in placed for u, _ in self.p.parents[t]):
                continue
            for n in self.p.nodes_for(t):
                inputs = [self.finish[u] + self.p.transfer(self.node[u], n, data) for u, data in self.p.parents[t]]
                start = max([free[n], *inputs])
                if start + self.tail[t] >= self.least:
                    continue
                finish = start + float(self.p.times[t, n])
                self.node[t], self.start[t], self.finish[t] = n, start, finish
                self.extend([*placed, t], [finish if m == n else f for m, f in enumerate(free)], max(makespan, finish))
