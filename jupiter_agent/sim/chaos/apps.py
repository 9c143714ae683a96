"""Tasks that say in their bytes from which runs they stem, and whether a set of results can be that of one evaluation.

Every object lists the run of each of its ancestors. Inputs that stem from different runs of one task are a mixture:
no function accepts them, and no set of results may hold them. A task that is not deterministic draws a nonce per run;
everything else follows from inputs and nonce, so what an item should give can be worked out without the cluster. A
constant task's bytes say nothing of their origin, or they would not be constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.dag import Dag
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.sim.chaos.answer import answer, merged
from jupiter_agent.sim.chaos.scenario import Scenario, Task
from jupiter_agent.sim.grid import Outputs, SimApp

LARGE_BYTES = 100_000
STEPS = 20_000
"""of the search for an evaluation that explains some results"""

Results = dict[str, bytes]
"""sink -> bytes"""


class ChaosApp:
    """The tasks of a scenario as functions. `item` is set before each run: whose nonces are noted."""

    def __init__(self, scenario: Scenario) -> None:
        self.tasks: dict[str, Task] = scenario.tasks
        self.size = LARGE_BYTES if scenario.large else 0
        self.item: tuple[str, str] = ("", "")
        self.drawn: dict[tuple[str, str, str], list[int]] = {}
        """(job, item, task) -> nonces of its runs"""
        self._nonces = itertools.count(1)
        specs = [TaskSpec(name, script=f"{name}.py", children=list(task.children)) for name, task in self.tasks.items()]
        self.dag = Dag(specs)
        specs = [msgspec.structs.replace(spec, parents=self.dag.parents(spec.name)) for spec in specs]
        name = "chaos-" + _digest(self.tasks, self.size)[:8]
        functions = {name: self._function(name) for name in self.tasks}
        paces = {name: _pace(task.mean_s) for name, task in self.tasks.items()}
        self.sim = SimApp(AppSpec(name, specs, max_open=scenario.max_open), functions, paces)

    def _function(self, name: str) -> Any:
        def run(inputs: dict[str, bytes]) -> Outputs:
            nonce = 0
            if self.tasks[name].chancy:
                nonce = next(self._nonces)
                self.drawn.setdefault((*self.item, name), []).append(nonce)
            return self.answer(name, inputs, nonce)

        return run

    def answer(self, name: str, inputs: dict[str, bytes], nonce: int) -> Outputs:
        """What a task gives. Violation when its inputs stem from two runs of one task."""
        return answer(name, self.tasks[name].kind, self.dag.out_edges(name), inputs, nonce, self.size)

    def explains(self, at: tuple[str, str], data: bytes, results: Results) -> bool:
        """Whether one evaluation of the app on an item, with nonces its runs drew, gives exactly these results."""
        known = merged("results", list(results.values()))
        held: dict[str, dict[str, bytes]] = {task: {} for task in [*self.dag.order, HOME]}
        for entry in self.dag.entries:
            held[entry]["input"] = data
        steps = itertools.count()

        def descend(position: int) -> bool:
            if position == len(self.dag.order) or next(steps) > STEPS:
                return held[HOME] == results
            name = self.dag.order[position]
            if not held[name]:
                return descend(position + 1)
            for outputs in self._answers(at, name, held[name], known):
                given = {child: data for child, data in outputs.items() if data is not None}
                if any(results.get(name) != data for child, data in given.items() if child == HOME):
                    continue
                for child, content in given.items():
                    held[child][name] = content
                if descend(position + 1):
                    return True
                for child in given:
                    del held[child][name]
            return False

        return descend(0)

    def _answers(
        self, at: tuple[str, str], name: str, inputs: dict[str, bytes], known: dict[str, int]
    ) -> Iterator[dict[str, bytes | None]]:
        """The different outputs that a task may have given: of the run that the results name, or of any it had."""
        nonces = [0]
        if self.tasks[name].chancy:
            nonces = [known[name]] if name in known else self.drawn.get((*at, name), [])
        seen = []
        for nonce in nonces:
            out = self.answer(name, inputs, nonce)
            edges = self.dag.out_edges(name)
            outputs = {child: out.get(child) if isinstance(out, dict) else out for child in edges}
            if outputs not in seen:
                seen.append(outputs)
                yield outputs


def _pace(mean_s: float) -> Any:
    return lambda rng: rng.expovariate(1 / mean_s)


def _digest(*parts: Any) -> str:
    return sha256(repr(parts).encode()).hexdigest()
