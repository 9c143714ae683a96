"""Random problems for tests, benches and simulations: the same seed gives the same problem."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np

from schedulers.problem import Edge, Floats, Problem


def layered(tasks: int, nodes: int, seed: int = 0, ccr: float = 1.0) -> Problem:
    """A layered DAG with one entry and one exit, about sqrt(T) layers deep, on a mixed network.

    Each inner task has one to four parents in the layer before. Speeds and bandwidths differ by up to 4 between
    nodes; `ccr` is the mean transfer time over the mean time of a task. ValueError below one task or node.
    """
    _require(tasks, nodes)
    rng = np.random.default_rng(seed)
    layers = [[0]]
    inner = tasks - 2
    if inner > 0:
        depth = min(inner, max(1, round(math.sqrt(tasks))))
        cuts = sorted(rng.choice(np.arange(1, inner), size=depth - 1, replace=False).tolist()) if depth > 1 else []
        bounds = [0, *cuts, inner]
        layers += [list(range(1 + a, 1 + b)) for a, b in pairwise(bounds)]
    if tasks > 1:
        layers.append([tasks - 1])
    pairs: set[tuple[int, int]] = set()
    for above, below in pairwise(layers):
        for v in below:
            count = min(len(above), int(rng.integers(1, 5)))
            pairs |= {(u, v) for u in rng.choice(above, size=count, replace=False).tolist()}
        for u in above:
            if not any((u, v) in pairs for v in below):
                pairs.add((u, below[int(rng.integers(len(below)))]))
    return _problem(sorted(pairs), tasks, nodes, rng, ccr)


def fork_join(width: int, stages: int, nodes: int, seed: int = 0, ccr: float = 1.0) -> Problem:
    """`stages` times a fork into `width` tasks and a join: T = stages (width + 1) + 1. ValueError below one of each."""
    _require(width, nodes)
    _require(stages, nodes)
    pairs = []
    for stage in range(stages):
        fork = stage * (width + 1)
        for t in range(fork + 1, fork + width + 1):
            pairs += [(fork, t), (t, fork + width + 1)]
    return _problem(pairs, stages * (width + 1) + 1, nodes, np.random.default_rng(seed), ccr)


def dummy(tasks: int, nodes: int, seed: int = 0, ccr: float = 0.5, degree: float = 2.0) -> Problem:
    """A DAG with the distributions of the dummy application generator (`jupiter app generate`) and its defaults.

    One entry, levels of 1 to 1.2 sqrt(T) tasks, one exit. A task has N(`degree`, 0.7) children, at least one, in the
    next level first and beyond it if that is too small. Its seconds are N(1, 0.25) on a node of speed 1, sizes
    N(1, 0.3), both cut off at 0.05. ValueError below one task or node.
    """
    _require(tasks, nodes)
    rng = np.random.default_rng(seed)
    levels, first = [[0]], 1
    while first < tasks - 1:
        width = min(int(rng.integers(1, max(1, round(1.2 * math.sqrt(tasks))) + 1)), tasks - 1 - first)
        levels.append(list(range(first, first + width)))
        first += width
    if tasks > 1:
        levels.append([tasks - 1])
    pairs: set[tuple[int, int]] = set()
    for at, level in enumerate(levels[:-1]):
        later = [t for after in levels[at + 2 :] for t in after]
        for t in level:
            count = max(1, round(rng.normal(degree, 0.7)))
            near = rng.permutation(levels[at + 1])[:count].tolist()
            far = rng.permutation(later)[: count - len(near)].tolist() if later else []
            pairs |= {(t, int(child)) for child in [*near, *far]}
        fed = {v for _, v in pairs}
        pairs |= {(level[int(rng.integers(len(level)))], v) for v in levels[at + 1] if v not in fed}
    seconds = np.maximum(rng.normal(1.0, 0.25, tasks), 0.05)
    sizes = np.round(1e6 * np.maximum(rng.normal(1.0, 0.3, len(pairs)), 0.05))
    times = seconds[:, None] / rng.uniform(0.5, 2.0, nodes)[None, :]
    return _linked(sorted(pairs), times, sizes, rng, ccr)


def pinned(p: Problem, node: int) -> Problem:
    """The same problem with its entry tasks pinned to `node`: where the data comes in."""
    entries = {t: node for t in range(p.n_tasks) if not p.parents[t]}
    return replace(p, pinned={**(p.pinned or {}), **entries})


def drifted(p: Problem, sigma: float, seed: int) -> Problem:
    """The same problem after the speed of every node has changed by a lognormal factor of `sigma`."""
    factors = np.random.default_rng(seed).lognormal(0.0, sigma, p.n_nodes)
    return replace(p, times=p.times * factors)


def _require(*counts: int) -> None:
    if min(counts) < 1:
        raise ValueError("a problem needs at least one task and one node")


def _problem(pairs: list[tuple[int, int]], tasks: int, nodes: int, rng: np.random.Generator, ccr: float) -> Problem:
    """Times and links for the given DAG; sizes around 1 MB, tasks around one second."""
    speed = rng.uniform(0.5, 2.0, nodes)
    times = rng.uniform(0.5, 1.5, tasks)[:, None] / speed[None, :]
    return _linked(pairs, times, np.round(rng.uniform(0.5e6, 1.5e6, len(pairs))), rng, ccr)


def _linked(
    pairs: list[tuple[int, int]], times: Floats, sizes: Floats, rng: np.random.Generator, ccr: float
) -> Problem:
    """The problem with drawn links, a tenth of the mean transfer being latency."""
    nodes = times.shape[1]
    edges: list[Edge] = [(u, v, float(size)) for (u, v), size in zip(pairs, sizes, strict=True)]
    inv_rate = 1 / rng.uniform(0.5, 2.0, (nodes, nodes))
    np.fill_diagonal(inv_rate, 0.0)
    latency = rng.uniform(0.5, 1.5, (nodes, nodes))
    np.fill_diagonal(latency, 0.0)
    if nodes > 1 and edges:
        transfer_s = ccr * float(times.mean())
        inv_rate *= 0.9 * transfer_s / (inv_rate.mean() * nodes / (nodes - 1) * float(np.mean([d for *_, d in edges])))
        latency *= 0.1 * transfer_s / (latency.mean() * nodes / (nodes - 1))
    return Problem(times, edges, latency, inv_rate)
