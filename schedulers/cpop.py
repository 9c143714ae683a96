"""CPOP: the critical path on one processor (IEEE TPDS 13(3), 2002, section 4.3).

    priority(t) = rank_u(t) + rank_d(t)          the longest path through t
    path        from the entry of highest priority, at each step the child of highest priority
    node        argmin over n of the sum of w(t, n) over the path

Tasks leave a ready list by priority; those on the path go to its node, the others where they finish first.

Differs: a node that must not run some task of the path is taken only if no other runs more of it (such tasks go where
they finish first), and the time until which a node is busy counts. The paper knows no constraints.
"""

from __future__ import annotations

import numpy as np

from schedulers.listing import Rule, place, ready_order
from schedulers.problem import Problem
from schedulers.ranks import downward_rank, upward_rank
from schedulers.solution import Schedule


def cpop(p: Problem, *, seed: int = 0, contention: bool = False, insertion: bool = True) -> Schedule:
    """Critical path on a processor. O(T (N + gaps) + E N); nothing is drawn, so `seed` changes nothing."""
    priority = [up + down for up, down in zip(upward_rank(p), downward_rank(p), strict=True)]
    path = critical_path(p, priority)
    places = dict.fromkeys(path, _fastest(p, path))
    return place(p, ready_order(p, priority), Rule(insertion=insertion, contention=contention, places=places))


def critical_path(p: Problem, priority: list[float]) -> list[int]:
    """The tasks on the path of highest priorities, from an entry to an exit; ties by index."""
    t = max((t for t in range(p.n_tasks) if not p.parents[t]), key=lambda t: (priority[t], -t))
    path = [t]
    while p.children[t]:
        t = max((v for v, _ in p.children[t]), key=lambda v: (priority[v], -v))
        path.append(t)
    return path


def _fastest(p: Problem, path: list[int]) -> int:
    """The node that runs most of `path`, among those the one that is through with it first."""
    usable = np.ones((len(path), p.n_nodes), dtype=np.bool_) if p.placeable is None else p.placeable[path]
    seconds = np.where(usable, p.times[path], 0.0).sum(axis=0) + p.ready_from
    return int(np.lexsort((seconds, -usable.sum(axis=0)))[0])
