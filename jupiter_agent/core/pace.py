"""How the runs of a job get on at one node: what a task usually takes there, and whether all of them take longer now.

A run is compared with the same task's own earlier runs here; a task that has not run often enough, with what was
predicted for it, corrected by how far the predictions for the node's other tasks were off. So neither a wrong
prediction nor tasks of different lengths look like a slow node. Runs vary: what counts is the lower end of what they
allow, at two standard errors, for a noise of at least 30 %. One run that takes twice as long says nothing; two that
take four times as long do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp, log, sqrt
from statistics import fmean, median, pstdev
from typing import NamedTuple

LATEST = 8
"""Runs that are looked at; those before them are the usual"""
LOOKS = (2, 4, 8)
"""... the last so many of them, each a test of its own"""
OWN = 4
"""Earlier runs from which on a task is compared with itself"""
USUAL = 32
"""Earlier runs that say what is usual"""
NOISE = 0.3
"""Standard deviation of the logarithm of a run's seconds, at least"""
ROUGH = 0.7
"""The same of a prediction that nothing confirms"""
ERRORS = 2.0
FRESH_S = 60.0
"""Older runs say nothing about now"""
SHORTEST_S = 1e-4
MOST = 1000.0


class Done(NamedTuple):
    """One run, or one under way: then `finish` is now."""

    task: str
    seconds: float
    finish: float


class Pace(NamedTuple):
    """`usual_s`: task -> seconds of a run; `slow`: how many times that they take now, at least."""

    usual_s: dict[str, float]
    slow: float


def pace(done: Sequence[Done], under_way: Iterable[Done], predicted_s: Mapping[str, float], now: float) -> Pace:
    """`done` in order of their ends; `predicted_s`: task -> seconds of a run on this node. O(runs)."""
    predicted = {task: log(max(seconds, SHORTEST_S)) for task, seconds in predicted_s.items() if seconds > 0}
    known = [(run, _log(run) - predicted[run.task]) for run in done if run.task in predicted]
    earlier, latest = known[:-LATEST], known[-LATEST:]
    usual, base = _usual_offsets(earlier, known)
    usual_s = {task: exp(x + usual.get(task, base)) for task, x in predicted.items()}
    offset = {task: usual.get(task, base if len(earlier) >= OWN else 0.0) for task in predicted}
    ratios = [x - offset[run.task] for run, x in latest if now - run.finish <= FRESH_S]
    lately = max(fmean(ratios) if ratios else 0.0, NOISE)
    begun = (_log(run) - predicted[run.task] - offset[run.task] for run in under_way if run.task in predicted)
    ratios += [x for x in begun if x > lately]
    return Pace(usual_s, min(MOST, exp(_lowest(ratios, [x - offset[run.task] for run, x in earlier]))))


def _log(run: Done) -> float:
    return log(max(run.seconds, SHORTEST_S))


def _usual_offsets(
    earlier: Sequence[tuple[Done, float]], known: Sequence[tuple[Done, float]]
) -> tuple[dict[str, float], float]:
    """By how much, as logarithms, runs differ from what is predicted: of tasks that ran often, and of the others."""
    own: dict[str, list[float]] = {}
    for run, x in earlier:
        own.setdefault(run.task, []).append(x)
    every = [x for _, x in (earlier if len(earlier) >= OWN else known)]
    return {task: _usual(xs) for task, xs in own.items() if len(xs) >= OWN}, _usual(every) if len(every) >= OWN else 0.0


def _usual(xs: Sequence[float]) -> float:
    """The lower median of the first and of the last ones: a node that is slow for long is slow still."""
    return min(median(xs[:USUAL]), median(xs[-USUAL:]))


def _lowest(ratios: Sequence[float], earlier: Sequence[float]) -> float:
    """The most that some look at the latest ratios proves; 0, as usual, when none proves anything."""
    spread, error = NOISE, ROUGH
    if len(earlier) >= OWN:
        spread = max(NOISE, pstdev(earlier))
        error = spread / sqrt(min(len(earlier), USUAL))
    looks = {min(n, len(ratios)) for n in LOOKS} - {0}
    return max([0.0, *(fmean(ratios[-n:]) - ERRORS * sqrt(spread**2 / n + error**2) for n in looks)])
