"""What if this node were not there, that one twice as fast, the link between them 5 Mbit/s? A changed problem to plan.

It works on the keyword arguments of `schedulers.Problem` that `Placement` states, so what is asked runs through the
same mapper as the real thing.
"""

from __future__ import annotations

from statistics import median
from typing import Annotated, Any

from msgspec import Meta, Struct

from jupiter_agent.errors import UsageError

Name = Annotated[str, Meta(max_length=255)]
SPEEDS = 1e-3, 1e3
"""The range of a speed"""


class LinkIf(Struct, frozen=True):
    """Between two nodes, both ways; None: as it is."""

    a: Name
    b: Name
    bytes_per_s: Annotated[float, Meta(ge=1, le=1e15)] | None = None
    latency_s: Annotated[float, Meta(ge=0, le=1e6)] | None = None


class WhatIf(Struct, frozen=True):
    """`without`: nodes that are not there; `speeds`: of nodes by name; `added`: those of them that are
    new."""

    without: Annotated[list[Name], Meta(max_length=1000)] = []
    speeds: Annotated[dict[Name, float], Meta(max_length=1000)] = {}
    added: Annotated[list[Name], Meta(max_length=1000)] = []
    links: Annotated[list[LinkIf], Meta(max_length=10_000)] = []

    def __post_init__(self) -> None:
        """ValueError, as msgspec wants it, that says which speed is out of range and what the range is."""
        for name, speed in self.speeds.items():
            if not SPEEDS[0] <= speed <= SPEEDS[1]:
                raise ValueError(f"speed of {name}: {speed:g}: from {SPEEDS[0]:g} to {SPEEDS[1]:g} is allowed")

    def __bool__(self) -> bool:
        return bool(self.without or self.speeds or self.added or self.links)


class Network:
    """The nodes of a problem, by name, and its arrays as lists that may be changed."""

    def __init__(self, problem: dict[str, Any], names: list[str], speeds: list[float]) -> None:
        self.problem = {**problem}
        for key in ("times", "allowed", "latency", "inv_rate", "quadratic"):
            if self.problem.get(key) is not None:
                self.problem[key] = [list(row) for row in problem[key]]
        self.names, self.speeds = list(names), list(speeds)

    def apply(self, change: WhatIf, me: str) -> None:
        """UsageError for a node that is not there, or was to be added and is.

        Inputs that are put at a node taken away come from `me`.
        """
        for name in change.added:
            if name in self.names:
                raise UsageError(f"what if: {name} is there already", f"{name}:speed=X changes it")
        for name, speed in {**dict.fromkeys(change.added, 1.0), **change.speeds}.items():
            if name in change.added:
                self._add(name, speed)
            else:
                self._scale(self._index(name), speed)
        for link in change.links:
            self._link(link)
        for name in change.without:
            self._remove(self._index(name), me)

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise UsageError(f"what if: there is no node '{name}'", f"nodes: {', '.join(self.names)}; +NAME adds one")
        return self.names.index(name)

    def _scale(self, n: int, speed: float) -> None:
        for row in self.problem["times"]:
            row[n] *= self.speeds[n] / speed
        self.speeds[n] = speed

    def _add(self, name: str, speed: float) -> None:
        """A node that may run everything, with usual links."""
        for row in self.problem["times"]:
            row.append(row[0] * self.speeds[0] / speed)
        for row in self.problem["allowed"]:
            row.append(True)
        for key in ("latency", "inv_rate", "quadratic"):
            matrix = self.problem.get(key)
            if matrix is None:
                continue
            known = [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]
            usual = median(known) if known else {"latency": 0.001, "inv_rate": 8e-8}.get(key, 0.0)
            for row in matrix:
                row.append(usual)
            matrix.append([usual] * len(self.names) + [0.0])
        self.names.append(name)
        self.speeds.append(speed)

    def _link(self, link: LinkIf) -> None:
        a, b = self._index(link.a), self._index(link.b)
        if a == b:
            raise UsageError(f"what if: a link from '{link.a}' to itself")
        for i, j in ((a, b), (b, a)):
            if link.bytes_per_s is not None:
                self.problem["inv_rate"][i][j] = 1.0 / link.bytes_per_s
                if self.problem.get("quadratic") is not None:
                    self.problem["quadratic"][i][j] = 0.0
            if link.latency_s is not None:
                self.problem["latency"][i][j] = link.latency_s

    def _remove(self, n: int, me: str) -> None:
        if len(self.names) == 1 or self.names[n] == me:
            why = "it is asked" if self.names[n] == me else "it is the only one"
            raise UsageError(f"what if: node '{self.names[n]}' cannot be taken away: {why}", "ask another: --peer")
        home = self.names.index(me) if me in self.names else 0
        pinned = {task: home if node == n else node for task, node in self.problem["pinned"].items()}
        self.problem["pinned"] = {task: node - (node > n) for task, node in pinned.items()}
        for key in ("times", "allowed"):
            for row in self.problem[key]:
                del row[n]
        for key in ("latency", "inv_rate", "quadratic"):
            if self.problem.get(key) is not None:
                del self.problem[key][n]
                for row in self.problem[key]:
                    del row[n]
        del self.names[n], self.speeds[n]
