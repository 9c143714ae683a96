"""PEFT: earliest finish time with an optimistic look at what follows (IEEE TPDS 25(3), 2014).

    OCT(t, n) = max over children v of min over m of (OCT(v, m) + w(v, m) + [m != n] c(t, v))      equation 3
    rank(t)   = mean over n of OCT(t, n)                                                           equation 4
    node      argmin over n of EFT(t, n) + OCT(t, n)                                               equation 5

c is the transfer over the mean link. Tasks leave a ready list by rank.

Differs: the minimum and the mean are over the nodes that may run the task; the paper knows no constraints.
"""

from __future__ import annotations

import numpy as np

from schedulers.listing import Rule, place, ready_order
from schedulers.problem import Floats, Problem
from schedulers.ranks import mean_links
from schedulers.solution import Schedule


def peft(p: Problem, *, seed: int = 0, contention: bool = False, insertion: bool = True) -> Schedule:
    """Predict earliest finish time. O(T (N + gaps) + E N); nothing is drawn, so `seed` changes nothing."""
    p.require_placeable()
    table = optimistic_costs(p)
    rule = Rule(insertion=insertion, contention=contention, outlook=table)
    return place(p, ready_order(p, mean_costs(p, table)), rule)


def optimistic_costs(p: Problem) -> Floats:
    """(T, N) seconds: the table OCT. O(E N): the least over m is that on n itself, or the least of all plus c."""
    latency, inv_rate, quadratic = mean_links(p)
    table = np.zeros(p.times.shape)
    for t in reversed(p.order):
        for v, data in p.children[t]:
            after = table[v] + p.times[v]
            if p.placeable is not None:
                after[~p.placeable[v]] = np.inf
            away = float(after.min()) + latency + data * inv_rate + quadratic * data * data
            np.maximum(table[t], np.minimum(after, away), out=table[t])
    return table


def mean_costs(p: Problem, table: Floats) -> list[float]:
    """(T,) the mean of each row of `table` over the nodes that may run the task."""
    if p.placeable is None:
        return [float(x) for x in table.mean(axis=1)]
    total = np.where(p.placeable, table, 0.0).sum(axis=1)
    return [float(x) for x in total / p.placeable.sum(axis=1)]
