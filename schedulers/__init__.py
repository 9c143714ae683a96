"""Schedulers: which task of a DAG runs on which node, and when. Pure functions, no I/O.

    from schedulers import Problem, schedule
    p = Problem(times, edges, latency, inv_rate)
    s = schedule("heft", p)
    s.node, s.start, s.finish, s.makespan

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
