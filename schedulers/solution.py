"""A schedule: the mapping task -> node with times, and the check that holds every mapper to the rules.

The module is not called `schedule`, or importing it would hide the function of that name in the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedulers.errors import Infeasible
from schedulers.problem import Floats, Ints, Problem

RELATIVE_TOLERANCE = 1e-9  # of the makespan: sums of the same numbers in another order


@dataclass(frozen=True, eq=False)
class Schedule:
    """node (T,) int; start (T,) and finish (T,) seconds from the beginning of the plan."""

    node: Ints
    start: Floats
    finish: Floats

    def __post_init__(self) -> None:
        for name, dtype in (("node", np.int64), ("start", np.float64), ("finish", np.float64)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def makespan(self) -> float:
        """Seconds until the last task finishes."""
        return float(self.finish.max())

    def check(self, p: Problem) -> None:
        """Raise Infeasible unless this schedule obeys every rule of `p`. O(T log T + E).

        Every task on a node it may use, not before the node is available, for exactly its time there, after its
        inputs arrived (without contention), and never two on one node at once.
        """
        self._check_places(p)
        tolerance = RELATIVE_TOLERANCE * abs(self.makespan)
        duration = p.times[np.arange(p.n_tasks), self.node]
        _refuse(np.abs(self.finish - self.start - duration) > tolerance, "does not take its time on its node")
        _refuse(self.start < p.ready_from[self.node] - tolerance, "starts before its node is available")
        self._check_precedence(p, tolerance)
        self._check_overlap(tolerance)

    def _check_places(self, p: Problem) -> None:
        for name in ("node", "start", "finish"):
            shape = getattr(self, name).shape
            if shape != (p.n_tasks,):
                raise Infeasible(f"{name} has shape {shape}, expected ({p.n_tasks},)")
        _refuse((self.node < 0) | (self.node >= p.n_nodes), "is on a node that does not exist")
        _refuse(~(np.isfinite(self.start) & np.isfinite(self.finish)), "has no finite start and finish")
        for task, node in (p.pinned or {}).items():
            if self.node[task] != node:
                raise Infeasible(f"task {task} is on node {self.node[task]} but pinned to node {node}")
        if p.allowed is not None:
            _refuse(~p.allowed[np.arange(p.n_tasks), self.node], "is on a node it is not allowed on")

    def _check_precedence(self, p: Problem, tolerance: float) -> None:
        for u, v, data in p.edges:
            arrival = self.finish[u] + p.transfer(int(self.node[u]), int(self.node[v]), data)
            if self.start[v] < arrival - tolerance:
                raise Infeasible(f"task {v} starts at {self.start[v]}, before its input from {u} arrives at {arrival}")

    def _check_overlap(self, tolerance: float) -> None:
        # Disjoint intervals, instants included, are in the order of their middles.
        order = np.lexsort((self.start + self.finish, self.node))
        first, second = order[:-1], order[1:]
        clash = (self.node[first] == self.node[second]) & (self.finish[first] > self.start[second] + tolerance)
        if clash.any():
            k = int(clash.argmax())
            a, b = int(first[k]), int(second[k])
            raise Infeasible(f"tasks {a} and {b} overlap on node {self.node[a]}")


def _refuse(broken: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], rule: str) -> None:
    if broken.any():
        raise Infeasible(f"task {int(broken.argmax())} {rule}")
