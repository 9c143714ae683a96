"""Task priorities: the upward and the downward rank (IEEE TPDS 13(3), 2002, equations 6 to 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schedulers.problem import Problem


def mean_links(p: Problem) -> tuple[float, float, float]:
    """Mean latency, inverse rate and quadratic term over the N(N-1) ordered pairs of nodes; zeros for one node.

    The mean of l(p, q, d) over the pairs is exactly l evaluated with these three means: O(N**2) once, O(1) per edge.
    Differs: averages that include the N free self-transfers, or are taken per edge over all pairs, are in use too.
    """
    pairs = max(1, p.n_nodes * (p.n_nodes - 1))
    quadratic = 0.0 if p.quadratic is None else float(p.quadratic.sum())
    return float(p.latency.sum()) / pairs, float(p.inv_rate.sum()) / pairs, quadratic / pairs


def mean_times(p: Problem) -> list[float]:
    """Mean seconds of each task over the nodes that may run it.

    Differs: the paper averages over all nodes, but a pinned task will not run on the others.
    """
    if p.placeable is None:
        return [float(x) for x in p.times.mean(axis=1)]
    usable = p.placeable.sum(axis=1)
    total = np.where(p.placeable, p.times, 0.0).sum(axis=1)
    return [float(x) for x in np.where(usable > 0, total / np.maximum(usable, 1), p.times.mean(axis=1))]


def upward_rank(p: Problem, comm: bool = True, times: Sequence[float] | None = None) -> list[float]:
    """(T,) seconds: rank_u(t) = w(t) + max over children v of (c(t, v) + rank_u(v)). O(T N + N**2 + E).

    `comm=False` leaves the communication out: rank by computation alone. `times` (T,) replace the mean times w(t).
    """
    latency, inv_rate, quadratic = mean_links(p)
    rank = mean_times(p) if times is None else list(times)
    for t in reversed(p.order):
        longest = 0.0
        for v, data in p.children[t]:
            tail = rank[v]
            if comm:
                tail += latency + data * inv_rate + quadratic * data * data
            longest = max(longest, tail)
        rank[t] += longest
    return rank


def downward_rank(p: Problem) -> list[float]:
    """(T,) seconds: rank_d(t) = max over parents u of (rank_d(u) + w(u) + c(u, t)); entries 0. O(T N + N**2 + E)."""
    latency, inv_rate, quadratic = mean_links(p)
    times = mean_times(p)
    rank = [0.0] * p.n_tasks
    for t in p.order:
        for u, data in p.parents[t]:
            rank[t] = max(rank[t], rank[u] + times[u] + latency + data * inv_rate + quadratic * data * data)
    return rank


def by_rank(p: Problem, rank: Sequence[float]) -> list[int]:
    """The tasks by descending rank, ties in topological order: a topological order if `rank` is an upward rank."""
    return sorted(p.order, key=lambda t: -rank[t])
