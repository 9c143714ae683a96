"""Local search: change one decision of a schedule at a time, keep what is not worse.

A plan is a topological order and a node per task; its times follow by appending the tasks in that order, each at the
end of its node's queue. Every schedule is such a plan (its tasks in the order of their start times), so the search can
begin anywhere and never loses by it. Under contention the network cards are reserved in the same order.

A move takes a task, more often than not one of the chain that the makespan hangs on, to another node, to another
place in the order, or both. It is evaluated from the first changed place on, and given up once a task is so late that
the rest on its fastest nodes, without transfers, would break the threshold. Threshold accepting (Dueck and
Scheuer, Journal of Computational Physics 90(1), 1990): at first moves that lose a little are taken, at the end none.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np

from schedulers.listing import ready_order
from schedulers.problem import Problem
from schedulers.solution import Schedule

STRIDE = 16  # places of the order between two snapshots of the state of all nodes
LOOSE = 0.03  # of the makespan: what a move may lose at first
CRITICAL = 0.6  # share of the moves that take a task of the critical chain
CLOSE = 0.4  # share of the moves that go to the node of a parent or a child


class _State(NamedTuple):
    """Until when each node computes, sends and receives."""

    free: list[float]
    sends: list[float]
    receives: list[float]

    def copy(self) -> _State:
        return _State(self.free.copy(), self.sends.copy(), self.receives.copy())


class Plan:
    """An order and a mapping with the times that follow."""

    def __init__(self, p: Problem, contention: bool, node: list[int], order: list[int]) -> None:
        self.p, self.contention = p, contention
        self.times: list[list[float]] = p.times.tolist()
        self.latency: list[list[float]] = p.latency.tolist()
        self.inv_rate: list[list[float]] = p.inv_rate.tolist()
        self.quadratic: list[list[float]] | None = None if p.quadratic is None else p.quadratic.tolist()
        self.tail = self._tails()
        self.node, self.order = node, order
        self.start = [0.0] * p.n_tasks
        self.finish = [0.0] * p.n_tasks
        self.snapshots = [_State(p.ready_from.tolist(), [0.0] * p.n_nodes, [0.0] * p.n_nodes)]
        self.makespan = float("inf")
        self.try_from(0, float("inf"))

    def _tails(self) -> list[float]:
        """(T,) seconds that must follow the finish of each task: fastest nodes, free transfers."""
        mask = self.p.placeable
        least = self.p.times.min(axis=1) if mask is None else np.where(mask, self.p.times, np.inf).min(axis=1)
        tail = [0.0] * self.p.n_tasks
        for t in reversed(self.p.order):
            tail[t] = max((float(least[v]) + tail[v] for v, _ in self.p.children[t]), default=0.0)
        return tail

    def schedule(self) -> Schedule:
        return Schedule(np.array(self.node), np.array(self.start), np.array(self.finish))

    def try_from(self, place: int, most: float) -> bool:
        """Times of the tasks from that place of the order on; False, and nothing changed, if `most` would be broken."""
        base = place // STRIDE
        state = self.snapshots[base].copy()
        snapshots = self.snapshots[: base + 1]
        start, finish, tail = self.start.copy(), self.finish.copy(), self.tail
        for k in range(base * STRIDE, len(self.order)):
            if k % STRIDE == 0 and k > base * STRIDE:
                snapshots.append(state.copy())
            t = self.order[k]
            n = self.node[t]
            begin = max(state.free[n], self._arrival(t, n, finish, state))
            start[t] = begin
            end = finish[t] = state.free[n] = begin + self.times[t][n]
            if end + tail[t] > most:
                return False
        self.start, self.finish, self.snapshots = start, finish, snapshots
        self.makespan = max(finish)
        return True

    def _arrival(self, t: int, n: int, finish: list[float], state: _State) -> float:
        """When the last input of `t` is at node `n`; reserves network cards under contention."""
        parents = self.p.parents[t]
        if self.contention and len(parents) > 1:
            parents = sorted(parents, key=lambda parent: finish[parent[0]])
        arrived = 0.0
        for u, data in parents:
            at = finish[u]
            a = self.node[u]
            if a != n:
                busy = self.inv_rate[a][n] * data
                if self.quadratic is not None:
                    busy += self.quadratic[a][n] * data * data
                if self.contention and data:
                    at = max(at, state.sends[a], state.receives[n])
                    state.sends[a] = state.receives[n] = at + busy
                at += busy + self.latency[a][n]
            arrived = max(arrived, at)
        return arrived

    def critical(self) -> list[int]:
        """The chain that the makespan hangs on: from the last task back over what each waited for last."""
        before: dict[int, int] = {}
        last: dict[int, int] = {}
        for t in self.order:
            before[t] = last.get(self.node[t], -1)
            last[self.node[t]] = t
        t = max(range(len(self.finish)), key=self.finish.__getitem__)
        chain = [t]
        while True:
            queue = before[t]
            if queue >= 0 and self.finish[queue] >= self.start[t]:
                t = queue
            elif self.p.parents[t]:
                n = self.node[t]
                arrivals = [(self.finish[u] + self.p.transfer(self.node[u], n, d), u) for u, d in self.p.parents[t]]
                t = max(arrivals)[1]
            else:
                return chain
            chain.append(t)


def improve(p: Problem, found: Schedule, contention: bool, rng: Random, progress: Callable[[int], float]) -> Schedule:
    """The best schedule met from `found` on. `progress(moves made)` goes from 0 to 1, where the search ends.

    O(T + E) per move at most. What comes back is never worse than `found`.
    """
    rank = {t: k for k, t in enumerate(p.order)}
    start, middle = found.start.tolist(), (found.start + found.finish).tolist()
    order = sorted(range(p.n_tasks), key=lambda t: (middle[t], start[t], rank[t]))
    plan = Plan(p, contention, found.node.tolist(), _topological(p, order))
    best, least = found, found.makespan
    if plan.makespan < least:
        best, least = plan.schedule(), plan.makespan
    walk = _Walk(plan, rng)
    moves = 0
    while (done := progress(moves)) < 1 and len(walk.movable) > 0:
        moves += 1
        if walk.move(least * (1 + LOOSE * max(0.0, 1 - 1.25 * done))) and plan.makespan < least:
            best, least = plan.schedule(), plan.makespan
    return best


def _topological(p: Problem, order: list[int]) -> list[int]:
    """`order` with parents first, where instants of no length put them wrong."""
    place = {t: k for k, t in enumerate(order)}
    if all(place[u] < place[v] for u, v, _ in p.edges):
        return order
    return ready_order(p, [-float(place[t]) for t in range(p.n_tasks)])


class _Walk:
    """Draws moves and undoes those that do not hold."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self.plan, self.rng, self.p = plan, rng, plan.p
        self.nodes = [self.p.nodes_for(t) for t in range(self.p.n_tasks)]
        self.movable = [] if self.p.n_nodes == 1 else list(range(self.p.n_tasks))
        self.chain = plan.critical()

    def move(self, most: float) -> bool:
        """Try one move; whether it was taken."""
        plan, rng = self.plan, self.rng
        t = rng.choice(self.chain if rng.random() < CRITICAL else self.movable)
        old_node, old_place = plan.node[t], plan.order.index(t)
        node = self._node(t) if rng.random() < 0.85 else old_node
        place = old_place if node != old_node and rng.random() < 0.6 else self._place(t, old_place)
        if node == old_node and place == old_place:
            return False
        plan.node[t] = node
        plan.order.insert(place, plan.order.pop(old_place))
        if plan.try_from(min(place, old_place), most):
            self.chain = plan.critical()
            return True
        plan.node[t] = old_node
        plan.order.insert(old_place, plan.order.pop(place))
        return False

    def _node(self, t: int) -> int:
        around = [*self.p.parents[t], *self.p.children[t]]
        if around and self.rng.random() < CLOSE:
            node = self.plan.node[self.rng.choice(around)[0]]
            if self.p.placeable is None or self.p.placeable[t, node]:
                return node
        return self.rng.choice(self.nodes[t])

    def _place(self, t: int, now: int) -> int:
        """A place after its parents and before its children, the task itself taken out."""
        order = self.plan.order
        above, below = {u for u, _ in self.p.parents[t]}, {v for v, _ in self.p.children[t]}
        low, high = now, now
        while low > 0 and order[low - 1] not in above:
            low -= 1
        while high < len(order) - 1 and order[high + 1] not in below:
            high += 1
        return self.rng.randint(low, high)
