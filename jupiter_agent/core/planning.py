"""A placement that keeps what it asked the solver, and so can say what the answer promises: in `plan` and `explain`."""

from __future__ import annotations

from math import isfinite
from typing import Any

from jupiter_agent.core.considered import EXPLAINED, Considered
from jupiter_agent.core.events import Solved
from jupiter_agent.core.forecast import Forecast
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import clipped
from jupiter_agent.core.needs import per_node, reasons
from jupiter_agent.core.placement import Placement
from jupiter_agent.core.what_if import Network, WhatIf
from jupiter_agent.errors import EXIT_FAILED, EXIT_UNPLACEABLE, JupiterError, UsageError

Row = dict[str, Any]


class Planning(Placement):
    """One centralised mapping, real or only asked for."""

    what_if = WhatIf()
    refused: UsageError | None = None
    """what was asked makes no sense on the nodes that are here"""

    def problem(self) -> dict[str, object]:
        """What is asked changes it; it is kept."""
        self._asked: dict[str, Any] = dict(super().problem())
        name, profile = self._around.name, self._around.profile
        self._names = [name(node) for node in self.nodes]
        if self.what_if:
            network = Network(self._asked, self._names, [profile(node).speed for node in self.nodes])
            try:
                network.apply(self.what_if, name(self._around.me))
                self._asked, self._names = network.problem, network.names
            except UsageError as error:
                self.refused = error
        return self._asked

    def refusal(self, event: Solved) -> JupiterError:
        """Why there is no mapping."""
        if self.refused is not None:
            return self.refused
        if event.task is not None and 0 <= event.task < len(self.job.tasks):
            task = list(self.job.tasks.values())[event.task]
            here = [node for node in self.nodes if self._around.name(node) in self._names]
            found = reasons(task, self._around, here)
            if all(why for _, why in found):  # otherwise the mapper has its own
                what = f"not placeable: no node may run task '{task.name}'"
                return JupiterError(what, per_node(found) or "no node is here", EXIT_UNPLACEABLE)
        error, why = clipped(event.error), clipped("; ".join(event.reasons))
        if event.reasons:
            return JupiterError(f"not placeable: {error}", why, EXIT_UNPLACEABLE)
        return JupiterError(error, "try another --mapper", EXIT_FAILED)

    def planned(self, event: Solved) -> Row | JupiterError:
        """The body of `plan`."""
        if event.error or self.refused is not None:
            return self.refusal(event)
        found = Forecast(self._asked, event.nodes, event.starts, event.finishes)
        tasks, names = list(self.job.tasks), self._names
        loads, rate = found.loads(), found.throughput_hz()
        busiest = max(loads, key=lambda key: (loads[key], key), default=None)
        return {
            "mapper": self.job.spec.mapper,
            "makespan_s": found.makespan_s,
            "throughput_hz": rate if isfinite(rate) else None,
            "busiest": {"what": busiest[0], "node": names[busiest[1]], "seconds": loads[busiest]} if busiest else None,
            "mapping": {task: names[n] for task, n in zip(tasks, event.nodes, strict=False)},
            "tasks": [
                {"task": task, "node": names[event.nodes[t]], "start_s": event.starts[t], "finish_s": event.finishes[t]}
                for t, task in enumerate(tasks)
            ],
            "critical_path": [
                {"task": self._label(step.task), "node": names[event.nodes[step.task]], "start_s": step.start_s,
                 "finish_s": step.finish_s, "waits_for": step.waits_for}
                for step in found.critical_path()
            ],
            "links": [
                {"src": names[src], "dst": names[dst], "bytes": size, "seconds": found.transfer_s(src, dst, size)}
                for (src, dst), size in sorted(found.bytes_by_link().items())
            ],
        }  # fmt: skip

    def _label(self, t: int) -> str:
        """A task's name; `home` for the ends."""
        tasks = list(self.job.tasks)
        return tasks[t] if t < len(tasks) else HOME

    def weighed(self, event: Solved) -> dict[str, list[Considered]]:
        """Every task on the nodes where it would end soonest, the rest as planned, for `explain`."""
        if min(len(event.nodes), len(event.starts), len(event.finishes)) < len(self._asked["times"]):
            return self.considered()  # a solver without times
        found = Forecast(self._asked, event.nodes, event.starts, event.finishes)
        rows = {}
        for t, task in enumerate(self.job.tasks):
            choices = found.elsewhere(t)
            best = [each for each in choices if each.node == event.nodes[t]] + choices
            rows[task] = [
                Considered(
                    self._names[each.node], each.finish_s, [f"{each.finish_s - each.start_s:.3g} s of computing"],
                    each.start_s, each.finish_s, each.transfer_s,
                )
                for each in dict.fromkeys(best[: EXPLAINED + 1])
            ]  # fmt: skip
        return rows
