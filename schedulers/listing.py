"""List scheduling: tasks one by one, in a given order, each on the node where it finishes first.

The arrival of the inputs is one numpy expression over all nodes per parent. The gap search on a timeline runs only
for nodes whose bound (inputs there + time there) does not lose against the best append, usually none to five; the
result is exactly that of trying every node. Ties go to the lower node.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schedulers.nics import Nics
from schedulers.problem import Bools, Floats, Problem
from schedulers.solution import Schedule
from schedulers.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Rule:
    """How a task finds its node.

    insertion: gaps between placed tasks are used, not only the end of a timeline; contention: network cards are
    charged; cap: the most tasks of a node, soft; places {task: node}: decided already, where the problem allows it;
    outlook (T, N) seconds: what is expected to follow on that node, added to the finish time when nodes are compared.
    """

    insertion: bool = True
    contention: bool = False
    cap: int | None = None
    places: Mapping[int, int] | None = None
    outlook: Floats | None = None


def place(p: Problem, order: Sequence[int], rule: Rule) -> Schedule:
    """The schedule of the tasks placed in `order`, which must be topological. O(T (N + gaps) + E N).

    Unplaceable where a task has no node.
    """
    p.require_placeable()
    plan = _Plan(p, rule)
    for t in order:
        plan.put(t, _closed(p, t, plan.count, rule))
    return Schedule(np.array(plan.node), np.array(plan.start), np.array(plan.finish))


def ready_order(p: Problem, priority: Sequence[float]) -> list[int]:
    """The tasks as a ready list gives them out: of those whose parents are out, the highest priority. O((T + E) log T).

    Ties by index. Always topological, whatever the priorities are.
    """
    waiting = [len(parents) for parents in p.parents]
    ready = [(-priority[t], t) for t in range(p.n_tasks) if not waiting[t]]
    heapq.heapify(ready)
    order = []
    while ready:
        t = heapq.heappop(ready)[1]
        order.append(t)
        for v, _ in p.children[t]:
            waiting[v] -= 1
            if not waiting[v]:
                heapq.heappush(ready, (-priority[v], v))
    return order


def _closed(p: Problem, t: int, count: list[int], rule: Rule) -> Bools | None:
    """(N,) nodes that task `t` must not go to, None if it may go anywhere."""
    closed = None if p.placeable is None else ~p.placeable[t]
    wanted = None if rule.places is None else rule.places.get(t)
    if wanted is not None and (closed is None or not closed[wanted]):
        closed = np.ones(p.n_nodes, dtype=np.bool_)
        closed[wanted] = False
        return closed
    if rule.cap is None:
        return closed
    counts = np.array(count)
    fewest = int(counts.min() if closed is None else counts[~closed].min())
    full = counts >= max(rule.cap, fewest + 1)
    return full if closed is None else closed | full


class _Plan:
    """The tasks placed so far and the timelines they occupy."""

    def __init__(self, p: Problem, rule: Rule) -> None:
        self.p = p
        self.rule = rule
        self.nics = Nics(p) if rule.contention else None
        self.node = [-1] * p.n_tasks
        self.start = [0.0] * p.n_tasks
        self.finish = [0.0] * p.n_tasks
        self.count = [0] * p.n_nodes
        self.free = p.ready_from.copy()  # (N,) end of the last task of each node
        self.timelines = [Timeline() for _ in range(p.n_nodes)]

    def put(self, t: int, closed: Bools | None) -> None:
        """Place `t` on the node, not `closed` to it, where it finishes first. O(N (1 + parents) + gaps)."""
        ready = np.maximum(self._arrivals(t), self.p.ready_from)
        w = self.p.times[t]
        outlook = None if self.rule.outlook is None else self.rule.outlook[t]
        node = self._first_to_finish(ready, w, closed, outlook)
        duration = float(w[node])
        start = float(ready[node])
        if self.rule.insertion:
            start = self.timelines[node].earliest(start, duration)
        else:
            start = max(start, float(self.free[node]))
        finish = start + duration
        self.timelines[node].insert(start, finish)
        self.node[t], self.start[t], self.finish[t] = node, start, finish
        self.count[node] += 1
        self.free[node] = max(float(self.free[node]), finish)
        if self.nics is not None:
            self.nics.reserve(node)

    def _arrivals(self, t: int) -> Floats:
        """(N,) seconds when the last input of `t` is at each node."""
        if self.nics is not None:
            return self.nics.arrivals(self.p.parents[t], self.node, self.finish)
        arrived = np.zeros(self.p.n_nodes)
        for u, data in self.p.parents[t]:
            row = self.p.transfer_row(self.node[u], data)
            row += self.finish[u]
            np.maximum(arrived, row, out=arrived)
        return arrived

    def _first_to_finish(self, ready: Floats, w: Floats, closed: Bools | None, outlook: Floats | None) -> int:
        """The node of least finish time plus outlook."""
        cost = w if outlook is None else w + outlook
        append = np.maximum(ready, self.free)
        append += cost
        if closed is not None:
            append[closed] = np.inf
        node = int(append.argmin())
        if not self.rule.insertion:
            return node
        best = float(append[node])
        bound = ready + cost  # no gap of a node gives less
        hopeful = (bound <= best) & (ready < self.free)
        if closed is not None:
            hopeful &= ~closed
        gaps = np.flatnonzero(hopeful)
        if len(gaps) > 1:
            gaps = gaps[bound[gaps].argsort(kind="stable")]
        for n in gaps.tolist():
            if bound[n] > best:
                break
            start = self.timelines[n].earliest(float(ready[n]), float(w[n]))
            best, node = min((best, node), (start + float(cost[n]), n))
        return node
