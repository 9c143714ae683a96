"""Centralised mapping at home: pull the link matrix, state the problem, have it solved off the loop.

The matrix is pulled on demand with a deadline (DESIGN.md 3 and 6): what does not arrive in time, or was never
measured, is estimated from what is known, never taken as zero. The ends of the problem are pinned tasks: a source on
each node where inputs are put (home where nothing else is known), a sink at home.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from jupiter_agent.core.considered import EXPLAINED, Considered
from jupiter_agent.core.effects import Effect, Send, Solve
from jupiter_agent.core.estimate import Net
from jupiter_agent.core.events import Solved
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.messages.links import Links, LinksWanted, Shape
from jupiter_agent.core.needs import candidates
from jupiter_agent.core.profiling.matrix import LinkMatrix
from jupiter_agent.core.surroundings import Surroundings

PULL_S = 0.5

Row = dict[str, tuple[float, float, int]]


class KnownLinks(Protocol):
    """What this node knows of links (core/estimate.py)."""

    nets: Callable[[str], Net]

    def inbound(self) -> dict[str, Shape]: ...


class Placement:
    """One centralised mapping in progress."""

    def __init__(
        self, job: Job, around: Surroundings, own_links: Row, seq: int, known: KnownLinks | None = None
    ) -> None:
        self.job = job
        self.nodes: list[str] = []
        self.error = ""
        self._around = around
        self._seq = seq
        self._rows: dict[str, Row] = {around.me: own_links}
        self._inbound: dict[str, dict[str, Shape]] = {around.me: known.inbound()} if known else {}
        self._nets = known.nets if known else lambda node: Net()
        self._waiting: set[str] = set()
        self._due = inf

    def begin(self, now: float) -> list[Effect]:
        """Ask every node for its links, or solve at once when there is nobody to ask."""
        me = self._around.me
        self.nodes = [n for n in self._around.alive() if self._around.profile(n).takes_tasks] or [me]
        self._waiting = set(self.nodes) - {me}
        self._due = now + PULL_S
        if not self._waiting:
            return self._solve()
        return [Send(node, LinksWanted(self._seq)) for node in sorted(self._waiting)]

    def on_links(self, src: str, message: Links, now: float) -> list[Effect]:
        if message.seq != self._seq or src not in self._waiting:
            return []
        self._waiting.discard(src)
        self._rows[src], self._inbound[src] = message.links, message.inbound
        return [] if self._waiting else self._solve()

    def next_deadline(self) -> float:
        return self._due

    def on_deadline(self, now: float) -> list[Effect]:
        """Go on with what arrived."""
        return self._solve() if self._due <= now else []

    def on_solved(self, event: Solved) -> dict[str, str]:
        """The mapping task -> node id."""
        names = list(self.job.tasks)
        return {name: self.nodes[index] for name, index in zip(names, event.nodes, strict=False)}

    def _solve(self) -> list[Effect]:
        self._due = inf
        self._waiting.clear()
        return [
            Solve(self.job.id, self.job.spec.mapper, self.problem(), self.job.spec.seed, self.job.spec.mapper_options)
        ]

    def problem(self) -> dict[str, object]:
        """Keyword arguments of schedulers.Problem: the app's tasks in file order, then sources, then the sink."""
        spec, nodes = self.job.spec, self.nodes
        names = list(self.job.tasks)
        index = {name: i for i, name in enumerate(names)}
        me, inputs = self._around.me, self.job.input_from
        entries = {name: inputs(name) for name in names if name in self.job.dag.entries}
        entries = {name: (node if node in nodes else me, size) for name, (node, size) in entries.items()}
        sources = list(dict.fromkeys(node for node, _ in entries.values())) or [me]
        sink = len(names) + len(sources)
        times = [[self._around.task_time(self.job, name, node).seconds for node in nodes] for name in names]
        edges = []
        for name in names:
            if name in entries:
                node, input_bytes = entries[name]
                edges.append((len(names) + sources.index(node), index[name], input_bytes))
            for child in self.job.dag.out_edges(name):
                edges.append((index[name], sink if child == HOME else index[child], self.job.bytes_on(name, child)))
        links = LinkMatrix(self._rows, self._inbound, self._nets, list(spec.edge_bytes.values()))
        latency, inv_rate, quadratic = links.between(nodes)
        allowed = [self._allowed(task) for task in spec.tasks]
        ends = dict(enumerate([*sources, me], len(names)))
        return {
            "times": times + [[0.0] * len(nodes)] * len(ends), "edges": edges, "latency": latency,
            "inv_rate": inv_rate, **({"quadratic": quadratic} if quadratic else {}),
            "pinned": {end: nodes.index(node) for end, node in ends.items() if node in nodes},
            "allowed": allowed + [[True] * len(nodes)] * len(ends),
        }  # fmt: skip

    def considered(self) -> dict[str, list[Considered]]:
        """What the solver knew of every task on every node, for `explain`; fastest first."""
        rows = {}
        for name in self.job.tasks:
            times = sorted((self._around.task_time(self.job, name, node), node) for node in self.nodes)
            rows[name] = [
                Considered(self._around.name(node), found.seconds, [found.reason]) for found, node in times[:EXPLAINED]
            ]
        return rows

    def _allowed(self, task: TaskSpec) -> list[bool]:
        """By node. In a WAVE home stays free of tasks that it must not host, unless it is the only one that can."""
        able = set(candidates(task, self._around, self.nodes))
        others = able - {self._around.me}
        if others and not task.node and self._away_from_home(task.name):
            able = others
        return [node in able for node in self.nodes]

    def _away_from_home(self, task: str) -> bool:
        """In a simulated WAVE, as in the live one, home hosts no entry task and none that controls others."""
        controllers = self.job.controllers
        controls = controllers[task] is None or task in controllers.values()
        return self.job.spec.mapper.startswith("wave-") and len(self.nodes) > 1 and controls
