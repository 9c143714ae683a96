"""Apps for simulated jobs, and the oracle: what an app's own functions give when they are called one after the other.

Every object says from which runs it descends (`lineage`: task -> nonce of the run). Two inputs that descend from
different runs of one task are a mixture; no function accepts them, and no set of results may hold them. A
non-deterministic task draws a new nonce per run; everything else follows from inputs and nonce.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

import msgspec

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.dag import Dag
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.sim.grid import Function, Outputs, SimApp

PLAIN, FILTER, ROUTER, CONSTANT = "plain", "filter", "router", "constant"
Results = dict[tuple[str, str], bytes]

CHAIN = {"a": ["b"], "b": ["c"], "c": []}
DIAMOND = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
WIDE = {"a": ["b", "c", "d", "e"], "b": ["z"], "c": ["z"], "d": ["z"], "e": ["z"], "z": []}
ENTRIES = {"a": ["c"], "b": ["c"], "c": []}
SINKS = {"a": ["b", "c"], "b": [], "c": []}
EXTRA = {"a": ["b", "home"], "b": ["c", "home"], "c": []}
SHAPES = {"chain": CHAIN, "diamond": DIAMOND, "wide": WIDE, "entries": ENTRIES, "sinks": SINKS, "extra": EXTRA}


class MixtureError(AssertionError):
    """Two runs of one task were joined."""


class Recipe:
    """What the tasks of one app do. `kinds`: task -> kind; `chancy`: tasks that answer differently every time."""

    def __init__(self, edges: dict[str, list[str]], kinds: dict[str, str], chancy: set[str], size: int) -> None:
        self.kinds, self.chancy, self.size = kinds, chancy, size
        self.nonces = itertools.count(1)
        self.tasks = [TaskSpec(task, script=f"{task}.py", children=children) for task, children in edges.items()]
        self.dag = Dag(self.tasks)

    def answer(self, task: str, inputs: dict[str, bytes], nonce: int) -> Outputs:
        lineage = {task: nonce}
        for parent, data in sorted(inputs.items()):
            for ancestor, run in ({} if parent == "input" else json.loads(data)["lineage"]).items():
                if lineage.setdefault(ancestor, run) != run:
                    raise MixtureError(f"{task} joins two runs of {ancestor}")
        kind = self.kinds.get(task, PLAIN)
        if kind == CONSTANT:
            lineage = {task: 0}
        value = task if kind == CONSTANT else _digest(task, nonce, sorted(inputs.items()))
        content = json.dumps({"lineage": lineage, "value": value}, sort_keys=True).encode().ljust(self.size)
        choice = int(_digest(task, value), 16)
        if kind == FILTER and choice % 3 == 0:
            return None
        if kind == ROUTER:
            chosen = [child for bit, child in enumerate(self.dag.out_edges(task)) if choice >> bit & 1]
            return dict.fromkeys(chosen, content)
        return content

    def function(self, task: str) -> Function:
        return lambda inputs: self.answer(task, inputs, next(self.nonces) if task in self.chancy else 0)

    def evaluate(self, data: bytes, nonces: dict[str, int]) -> Results:
        """All results of an item, by calling the functions in order. KeyError when a nonce is not known."""
        held: dict[str, dict[str, bytes]] = {task: {} for task in [*self.dag.order, HOME]}
        for entry in self.dag.entries:
            held[entry]["input"] = data
        for task in self.dag.order:
            if held[task]:
                out = self.answer(task, held[task], nonces[task] if task in self.chancy else 0)
                for child in self.dag.out_edges(task):
                    given = out.get(child) if isinstance(out, dict) else out
                    if given is not None:
                        held[child][task] = given
        return {(sink, sink): value for sink, value in held[HOME].items()}


def _digest(*parts: Any) -> str:
    return sha256(repr(parts).encode()).hexdigest()


def make(
    edges: dict[str, list[str]],
    kinds: dict[str, str] | None = None,
    chancy: set[str] | None = None,
    seconds: float | Callable[[Random], float] = 0.02,
    size: int = 0,
    **options: Any,
) -> tuple[SimApp, Recipe]:
    """An app and its oracle. `options` are fields of the AppSpec; `tasks` is a function on every TaskSpec."""
    recipe = Recipe(edges, kinds or {}, chancy or set(), size)
    parents = {task.name: recipe.dag.parents(task.name) for task in recipe.tasks}
    change = options.pop("tasks", lambda task: {})
    tasks = [msgspec.structs.replace(t, parents=parents[t.name], **change(t)) for t in recipe.tasks]
    name = options.pop("name", "app-" + _digest(edges, kinds, sorted(chancy or ()), size)[:8])
    functions = {task.name: recipe.function(task.name) for task in tasks}
    spec = AppSpec(name, tasks, **options)
    return SimApp(spec, functions, {task.name: seconds for task in tasks}), recipe


def random_dag(rng: Random, most: int = 8) -> dict[str, list[str]]:
    """1..most tasks; joins, several entries and sinks, now and then an extra edge to home."""
    count = rng.randrange(1, most + 1)
    names = [f"t{i}" for i in range(count)]
    edges: dict[str, list[str]] = {name: [] for name in names}
    for j in range(1, count):
        for i in rng.sample(range(j), min(j, rng.choice([0, 1, 1, 1, 2, 2, 3]))):
            edges[names[i]].append(names[j])
    for children in edges.values():
        if children and rng.random() < 0.2:
            children.append(HOME)
    return edges


def random_app(rng: Random, chance: float = 0.0, most: int = 8, **options: Any) -> tuple[SimApp, Recipe]:
    edges = random_dag(rng, most)
    kinds = {task: rng.choice([PLAIN, PLAIN, PLAIN, FILTER, ROUTER, CONSTANT]) for task in edges}
    chancy = {task for task in edges if rng.random() < chance}
    pace = options.pop("pace", 0.05)
    return make(edges, kinds, chancy, seconds=lambda r: r.expovariate(1 / pace), **options)


def check_results(recipe: Recipe, data: bytes, results: Results) -> None:
    """AssertionError unless the results are those of one evaluation of the app on this item."""
    nonces: dict[str, int] = {}
    for content in results.values():
        for task, run in json.loads(content)["lineage"].items():
            if nonces.setdefault(task, run) != run:
                raise MixtureError(f"results of two runs of {task}")
    try:
        expected = recipe.evaluate(data, nonces)
    except KeyError:
        return  # a run whose answers all ended in tokens left no trace to compare with
    assert results == expected
