"""Many list schedules, the best of them, and a local search from there.

The rules differ in what they rank by (mean, best or worst times, with or without communication), in how far they look
ahead (none, PEFT, half of PEFT's optimistic costs), in what they keep together (the critical path, everything). None
is best everywhere; all together take about ten times as long as HEFT. The search (`search`) goes on from the best.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import Random

import numpy as np

from schedulers.cpop import cpop
from schedulers.listing import Rule, place
from schedulers.peft import optimistic_costs, peft
from schedulers.problem import Problem
from schedulers.ranks import by_rank, upward_rank
from schedulers.search import improve
from schedulers.solution import Schedule

MOVES = 500


def portfolio(
    p: Problem,
    *,
    seed: int = 0,
    contention: bool = False,
    moves: int | None = None,
    budget_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Schedule:
    """The best of all list schedules, improved by local search. Never worse than HEFT.

    The search ends after `moves` moves or after `budget_s` seconds of `clock`, all of the portfolio included,
    whichever comes first; 500 moves if neither is given. Without `budget_s` the same seed and moves give the same
    schedule on any machine; with it the machine's speed counts. ValueError for a budget below 0.
    """
    if (moves is not None and moves < 0) or (budget_s is not None and not budget_s >= 0):
        raise ValueError(f"a budget of {moves} moves or {budget_s} seconds is none")
    most = MOVES if moves is None and budget_s is None else moves
    began = clock()

    def spent(made: int) -> float:
        share = 0.0 if most is None else made / most if most else 1.0
        if budget_s is None:
            return share
        return max(share, (clock() - began) / budget_s if budget_s else 1.0)

    best: Schedule | None = None
    for candidate in variants(p, contention):
        if best is None or candidate.makespan < best.makespan:
            best = candidate
        if budget_s is not None and spent(0) >= 1:
            return best
    assert best is not None
    return improve(p, best, contention, Random(seed), spent)


def variants(p: Problem, contention: bool) -> Iterator[Schedule]:
    """The list schedules, HEFT first."""
    p.require_placeable()
    usual = upward_rank(p)
    yield place(p, by_rank(p, usual), Rule(contention=contention))
    yield peft(p, contention=contention)
    half = Rule(contention=contention, outlook=0.5 * optimistic_costs(p))
    yield place(p, by_rank(p, usual), half)
    yield cpop(p, contention=contention)
    for rank in (upward_rank(p, comm=False), upward_rank(p, times=_least(p)), upward_rank(p, times=_most(p))):
        yield place(p, by_rank(p, rank), Rule(contention=contention))
    everything = dict.fromkeys(range(p.n_tasks), int((p.times.sum(axis=0) + p.ready_from).argmin()))
    yield place(p, by_rank(p, usual), Rule(contention=contention, places=everything))


def _least(p: Problem) -> list[float]:
    """(T,) the time of each task on its fastest node."""
    masked = p.times if p.placeable is None else np.where(p.placeable, p.times, np.inf)
    return [float(x) for x in masked.min(axis=1)]


def _most(p: Problem) -> list[float]:
    """(T,) the time of each task on its slowest node."""
    masked = p.times if p.placeable is None else np.where(p.placeable, p.times, 0.0)
    return [float(x) for x in masked.max(axis=1)]
