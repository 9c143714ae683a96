"""What a plan promises, from the problem that was solved and its solution: the critical path, what each node and link
has to carry, the rate of items that follows, and what each task would have cost elsewhere.

Plain Python over the keyword arguments of `schedulers.Problem` (core/placement.py) and lists of nodes, starts and
finishes by task: it runs in agents that load no numpy. Differs from the solver in one thing: a task's other places are
judged one at a time, with everything else where the plan has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

EARLY = 1e-9
"""Times nearer to each other are the same"""


class Step(NamedTuple):
    """One task of the critical path. `waits_for`: what its start waited for: an input, the node, a network card."""

    task: int
    start_s: float
    finish_s: float
    waits_for: str


class Elsewhere(NamedTuple):
    """One task on one node, the rest of the plan unchanged. `transfer_s`: of its slowest input."""

    node: int
    start_s: float
    finish_s: float
    transfer_s: float


class Forecast:
    """`names`: of all tasks of the problem, ends included; `nodes`: of all nodes."""

    def __init__(
        self, problem: dict[str, Any], node: Sequence[int], start: Sequence[float], finish: Sequence[float]
    ) -> None:
        self.problem, self.node, self.start, self.finish = problem, list(node), list(start), list(finish)
        self.parents: dict[int, list[tuple[int, float]]] = {}
        for u, v, data in problem["edges"]:
            self.parents.setdefault(v, []).append((u, float(data)))

    def transfer_s(self, src: int, dst: int, data: float) -> float:
        """Seconds for `data` bytes between two nodes; 0 on one."""
        return 0.0 if src == dst else float(self.problem["latency"][src][dst]) + self._busy_s(src, dst, data)

    def _busy_s(self, src: int, dst: int, data: float) -> float:
        quadratic = self.problem.get("quadratic")
        square = float(quadratic[src][dst]) * data * data if quadratic is not None else 0.0
        return float(self.problem["inv_rate"][src][dst]) * data + square

    @property
    def makespan_s(self) -> float:
        return max(self.finish, default=0.0)

    def critical_path(self) -> list[Step]:
        """From the first task that nothing held up to the last one that ends; each waited for the one before it."""
        if not self.finish:
            return []
        before_on_node = {}
        order = sorted(range(len(self.node)), key=lambda t: (self.start[t], self.finish[t]))
        last: dict[int, int] = {}
        for t in order:
            if self.finish[t] > self.start[t]:
                before_on_node[t] = last.get(self.node[t])
                last[self.node[t]] = t
        steps: list[Step] = []
        at: int | None = max(range(len(self.finish)), key=lambda t: (self.finish[t], self.start[t]))
        while at is not None and len(steps) <= len(self.node):
            found, why = self._held_up(at, before_on_node.get(at))
            steps.append(Step(at, self.start[at], self.finish[at], why))
            at = found
        return steps[::-1]

    def _held_up(self, t: int, before: int | None) -> tuple[int | None, str]:
        """The task that `t` waited for, and what of it."""
        arrivals = [
            (self.finish[u] + self.transfer_s(self.node[u], self.node[t], data), u)
            for u, data in self.parents.get(t, [])
        ]
        arrived, slowest = max(arrivals, default=(0.0, None))
        freed = self.finish[before] if before is not None else 0.0
        if before is not None and freed > arrived + EARLY:
            return before, "node"
        if slowest is None:
            return None, ""
        return slowest, "network card" if self.start[t] > max(arrived, freed) + EARLY + 1e-6 * arrived else "input"

    def bytes_by_link(self) -> dict[tuple[int, int], float]:
        """(from, to) -> bytes of one item between different nodes."""
        carried: dict[tuple[int, int], float] = {}
        for u, v, data in self.problem["edges"]:
            src, dst = self.node[u], self.node[v]
            if src != dst:
                carried[src, dst] = carried.get((src, dst), 0.0) + float(data)
        return carried

    def loads(self) -> dict[tuple[str, int], float]:
        """(computing, sending or receiving; node) -> seconds that one item keeps it busy."""
        busy: dict[tuple[str, int], float] = {}
        for t, n in enumerate(self.node):
            busy["computing", n] = busy.get(("computing", n), 0.0) + float(self.problem["times"][t][n])
        for u, v, data in self.problem["edges"]:
            src, dst = self.node[u], self.node[v]
            if src != dst:
                for what, n in (("sending", src), ("receiving", dst)):
                    busy[what, n] = busy.get((what, n), 0.0) + self._busy_s(src, dst, float(data))
        return {key: seconds for key, seconds in busy.items() if seconds > 0}

    def throughput_hz(self) -> float:
        """Items a second when many follow each other: what the busiest node or network card lets through."""
        busiest = max(self.loads().values(), default=0.0)
        return 1.0 / busiest if busiest > 0 else inf

    def elsewhere(self, t: int) -> list[Elsewhere]:
        """The task on every node that may run it, soonest finish first."""
        allowed, pinned = self.problem["allowed"][t], self.problem["pinned"].get(t)
        others = [
            (self.start[u], self.finish[u], self.node[u])
            for u in range(len(self.node))
            if u != t and self.finish[u] > self.start[u]
        ]
        found = []
        for n in range(len(allowed)):
            if not allowed[n] or pinned not in (None, n):
                continue
            ways = [(self.finish[u], self.transfer_s(self.node[u], n, data)) for u, data in self.parents.get(t, [])]
            arrived = max((done + way for done, way in ways), default=0.0)
            seconds = float(self.problem["times"][t][n])
            start = _gap(sorted((s, f) for s, f, of in others if of == n), arrived, seconds)
            found.append(Elsewhere(n, start, start + seconds, max((way for _, way in ways), default=0.0)))
        return sorted(found, key=lambda e: (e.finish_s, e.node))


def _gap(busy: Sequence[tuple[float, float]], ready: float, seconds: float) -> float:
    """The earliest start from `ready` on in between."""
    spans = [(0.0, 0.0), *busy, (inf, inf)]
    for (_, until), (next_start, _) in pairwise(spans):
        begin = max(ready, until)
        if begin + seconds <= next_start + EARLY:
            return begin
    return ready
