"""Schedulers: which task of a DAG runs on which node, and when. Pure functions, no I/O.

    from schedulers import Problem, schedule
    p = Problem(times, edges, latency, inv_rate)
    s = schedule("heft", p)
    s.node, s.start, s.finish, s.makespan

    problem, solution, errors     Problem, Schedule with its `check`, what is refused
    registry, rules               mappers by name, entry points included; WAVE rules of third parties
    heft, cpop, peft              list scheduling, from `listing`, `ranks`, `nics` and `timeline`
    portfolio, search             the best of many list schedules, improved by local search
    throughput                    mapping for a stream of items, and the `period` of a mapping
    wave, auction                 what nodes decide among themselves, simulated; `local` and `bidding`: their decisions
    exhaustive                    the `optimum` of tiny problems
    replay, stream                one item, or many, through a given mapping
    graphs, generate              problems from and to networkx; random problems

`import schedulers` and `import schedulers.local` load neither numpy nor networkx: an idle agent decides with plain
Python. Array code is loaded on the first use of `Problem`, `Schedule` or `schedule(...)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from schedulers.errors import Unplaceable
from schedulers.registry import names, schedule

if TYPE_CHECKING:
    from schedulers.problem import Problem
    from schedulers.solution import Schedule

__all__ = ["Problem", "Schedule", "Unplaceable", "names", "schedule"]

_LAZY = {"Problem": "schedulers.problem", "Schedule": "schedulers.solution"}


def __getattr__(name: str) -> object:
    """Load the array classes when they are first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
