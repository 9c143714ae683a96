"""The mappers by name: ours in a table, third parties through the entry point group `jupiter.mappers`.

A mapper is `mapper(p, *, seed, contention, **options) -> Schedule`: a pure function that raises Unplaceable where a
task has no node. Modules are imported when a mapper is first called, so listing the names costs nothing.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from schedulers import rules

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from schedulers.problem import Problem
    from schedulers.solution import Schedule

GROUP = "jupiter.mappers"

BUILT_IN = {
    "cpop": "schedulers.cpop:cpop",
    "heft": "schedulers.heft:heft",
    "heft-balanced": "schedulers.heft:heft_balanced",
    "peft": "schedulers.peft:peft",
    "portfolio": "schedulers.portfolio:portfolio",
    "tp-heft": "schedulers.throughput:tp_heft",
    "wave-auction": "schedulers.auction:wave_auction",
    "wave-greedy": "schedulers.wave:wave_greedy",
    "wave-greedy-v4": "schedulers.wave:wave_greedy_v4",
    "wave-random": "schedulers.wave:wave_random",
}


class Mapper(Protocol):
    """The signature of everything in the registry. `options` belong to the mapper; an unknown one is a TypeError."""

    def __call__(self, p: Problem, *, seed: int, contention: bool, **options: Any) -> Schedule:
        """Map `p`. The same arguments give the same schedule, on any machine."""


def names() -> list[str]:
    """Every registered mapper, sorted; third parties included."""
    return sorted(BUILT_IN.keys() | third_party(GROUP).keys())


def schedule(name: str, p: Problem, seed: int = 0, contention: bool = False, **options: Any) -> Schedule:
    """Map problem `p` with the mapper called `name`.

    `seed` matters to mappers that draw lots. `contention=True` charges one-port NICs: a node sends one transfer and
    receives one transfer at a time. KeyError for an unknown name (it lists the known), Unplaceable where a task has
    no node, Infeasible where a third party's mapper broke a rule (ours are held to it by tests).
    """
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        mapper: Mapper = getattr(import_module(module), function)
        return mapper(p, seed=seed, contention=contention, **options)
    if name.startswith(rules.PREFIX):
        return rules.wave_rule(p, rules.load(name.removeprefix(rules.PREFIX)), seed=seed, contention=contention)
    from schedulers import solution

    found = third_party(GROUP).get(name)
    if found is None:
        raise KeyError(f"no mapper is called {name!r}; known: {', '.join(names())}")
    mapper = found.load()
    result = mapper(p, seed=seed, contention=contention, **options)
    if not isinstance(result, solution.Schedule):
        raise TypeError(f"mapper {name} returned {type(result).__name__}, not a schedulers.Schedule")
    result.check(p)
    return result


def third_party(group: str) -> dict[str, EntryPoint]:
    """Entry points by name. One whose name is taken is left out, with a warning, whatever the group: see `taken`."""
    from importlib.metadata import entry_points  # not at start: it costs an idle agent 10 ms

    found = {point.name: point for point in entry_points(group=group)}
    for name in filter(taken, found):
        what = f"entry point '{name}' of {group} is ignored"
        warnings.warn(f"{what}: names that are built in, or start with wave-, are taken", stacklevel=1)
    return {name: point for name, point in found.items() if not taken(name)}


def taken(name: str) -> bool:
    """Whether third parties cannot have this name: ours, all that begin like ours, and what a mapping by hand shows."""
    return name in BUILT_IN or name.startswith("wave-") or name == "static"
