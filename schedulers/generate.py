"""Random problems for tests, benches and simulations: the same seed gives the same problem."""

from __future__ import annotations

import math
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


def _require(*counts: int) -> None:
    if min(counts) < 1:
        raise ValueError("a problem needs at least one task and one node")


def _problem(pairs: list[tuple[int, int]], tasks: int, nodes: int, rng: np.random.Generator, ccr: float) -> Problem:
    """Times and links for the given DAG; sizes around 1 MB, tasks around one second."""
    speed = rng.uniform(0.5, 2.0, nodes)
    times = rng.uniform(0.5, 1.5, tasks)[:, None] / speed[None, :]
    edges: list[Edge] = [(u, v, float(size)) for (u, v), size in zip(pairs, _sizes(len(pairs), rng), strict=True)]
    inv_rate = 1 / rng.uniform(0.5, 2.0, (nodes, nodes))
    np.fill_diagonal(inv_rate, 0.0)
    latency = rng.uniform(0.5, 1.5, (nodes, nodes))
    np.fill_diagonal(latency, 0.0)
    if nodes > 1 and edges:
        transfer_s = ccr * float(times.mean())
        inv_rate *= 0.9 * transfer_s / (inv_rate.mean() * nodes / (nodes - 1) * float(np.mean([d for *_, d in edges])))
        latency *= 0.1 * transfer_s / (latency.mean() * nodes / (nodes - 1))
    return Problem(times, edges, latency, inv_rate)


def _sizes(count: int, rng: np.random.Generator) -> Floats:
    return np.round(rng.uniform(0.5e6, 1.5e6, count))
