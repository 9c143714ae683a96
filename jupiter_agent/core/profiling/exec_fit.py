"""The time of one task as a function of input size and load, fitted to its runs.

    t(x, S) = idle(x) + S work(x),   idle and work: p + q x + r x^2,   p, q, r >= 0

`idle` is spent waiting (sleep, disk, network), `work` on a core; S says how much longer work takes because others want
the cores too. The six coefficients are found together, by least squares of *relative* errors under the constraint that
none is negative, so t grows with size and load and is never negative, wherever it is asked. Two equations per run: its
time, and its CPU time, which tells idle from work. Outliers count less (Huber's weights), old runs too.

    C. L. Lawson, R. J. Hanson: Solving Least Squares Problems, ch. 23 (NNLS); P. J. Huber: Robust Statistics, 1981.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

TERMS = 6
LEAST_S = 1e-6
"""No run is quicker: what errors are relative to"""
HUBER = 0.2
"""Relative error from where on a run counts less"""
ROUNDS = 3
HALF_LIFE_S = 1800.0
BESIDE, QUICK = 3, 0.25
"""neighbours in size on either side, and the share of their median below which a run is an outlier"""
CPU_NOISE = 0.05
"""share of a run's time below which its CPU time tells nothing"""
CPU_WEIGHT = 0.5
"""of the equation of the CPU time: it is not what is predicted"""
RIDGE = 1e-9


class Sample(NamedTuple):
    """One run: bytes in, wall and CPU seconds, processes that wanted a core beside it, when it ended."""

    size: float
    seconds: float
    cpu_s: float
    load: float
    at: float


class Coefficients(NamedTuple):
    """Of idle and work."""

    idle: tuple[float, float, float] = (0.0, 0.0, 0.0)
    work: tuple[float, float, float] = (0.0, 0.0, 0.0)


def is_sane(s: Sample) -> bool:
    """A run that can have been: finite numbers of possible size."""
    return all(map(isfinite, s)) and 0 <= s.size < 1e18 and 0 <= s.seconds < 1e8 and 0 <= s.cpu_s < 1e10 and (
        0 <= s.load < 1e6
    )  # fmt: skip


def value(of: tuple[float, float, float], size: float) -> float:
    """p + q x + r x^2"""
    return of[0] + size * (of[1] + size * of[2])


def fit(samples: Sequence[Sample], stretches: Sequence[float], now: float) -> Coefficients:
    """The coefficients for runs of one node, work of each stretched so; all 0 without any. O(runs), 2 ms for 96."""
    if not samples:
        return Coefficients()
    scale = max(1.0, *(s.size for s in samples))
    each = zip(samples, stretches, _least(samples), strict=True)
    equations = [equation for s, *of in each for equation in _equations(s, of, scale, now)]
    found = [0.0] * TERMS
    trust = [1.0] * len(equations)
    for _ in range(ROUNDS):
        found = _nnls(*_normal(equations, trust))
        errors = (sum(a * b for a, b in zip(row, found, strict=True)) - target for row, target, _ in equations)
        trust = [min(1.0, HUBER / max(abs(error), 1e-12)) for error in errors]
    c, d, e, p, q, r = found  # work first: where nobody measured the CPU time, it is taken for work
    return Coefficients((p, q / scale, r / scale**2), (c, d / scale, e / scale**2))


Equation = tuple[list[float], float, float]
"""(row, target, weight): the row times the coefficients should be the target, about 1"""


def _least(samples: Sequence[Sample]) -> list[float]:
    """For each run: relative to how many seconds at least its error is. A run far quicker than its neighbours in size
    would count more than all others together."""
    order = sorted(range(len(samples)), key=lambda i: samples[i].size)
    least = [0.0] * len(samples)
    for place, i in enumerate(order):
        near = sorted(samples[k].seconds for k in order[max(0, place - BESIDE) : place + BESIDE + 1])
        least[i] = max(LEAST_S, QUICK * near[len(near) // 2])
    return least


def _equations(s: Sample, of: Sequence[float], scale: float, now: float) -> list[Equation]:
    """Of one run; `of`: its stretch, and what its error is relative to at least. Sizes are in units of `scale`.

    CPU time is told to 5 % of the whole time: less is noise.
    """
    x = s.size / scale
    age = 0.5 ** (max(0.0, now - s.at) / HALF_LIFE_S)
    stretch, least = of
    seconds = max(s.seconds, least)
    powers = (1.0, x, x * x)
    whole = ([*(v * stretch / seconds for v in powers), *(v / seconds for v in powers)], s.seconds / seconds, age)
    if s.cpu_s <= 0:  # nobody measured it
        return [whole]
    used = max(s.cpu_s, CPU_NOISE * seconds)
    return [whole, ([*(v / used for v in powers), 0.0, 0.0, 0.0], s.cpu_s / used, CPU_WEIGHT * age)]


def _normal(equations: Sequence[Equation], trust: Sequence[float]) -> tuple[list[list[float]], list[float]]:
    """A = sum w r r', b = sum w r y: the normal equations of w |r beta - y|^2, a little towards zero."""
    a = [[0.0] * TERMS for _ in range(TERMS)]
    b = [0.0] * TERMS
    for (row, target, weight), trusted in zip(equations, trust, strict=True):
        for i, v in enumerate(row):
            if v:
                line, scaled = a[i], weight * trusted * v
                b[i] += scaled * target
                for j in range(i, TERMS):
                    line[j] += scaled * row[j]
    for i in range(TERMS):
        a[i][i] += RIDGE * (a[i][i] or 1.0)
        for j in range(i):
            a[i][j] = a[j][i]
    return a, b


def _nnls(a: list[list[float]], b: list[float]) -> list[float]:
    """min x'Ax/2 - b'x with x >= 0, by active sets (Lawson and Hanson)."""
    x, free = [0.0] * TERMS, set[int]()
    for _ in range(3 * TERMS):
        gradient = {i: b[i] - sum(a[i][j] * x[j] for j in range(TERMS)) for i in range(TERMS) if i not in free}
        best = max(gradient, key=lambda i: gradient[i] / (a[i][i] ** 0.5), default=None)
        if best is None or gradient[best] <= 1e-9 * (abs(b[best]) + 1e-30):
            return x
        free.add(best)
        while True:
            wanted = _solve(a, b, sorted(free))
            if all(v > 0 for v in wanted.values()):
                x = [wanted.get(i, 0.0) for i in range(TERMS)]
                break
            # as far as the constraint, and there the first to touch it stays
            step = min(x[i] / max(x[i] - v, 1e-300) for i, v in wanted.items() if v <= 0)
            x = [x[i] + step * (wanted[i] - x[i]) if i in free else 0.0 for i in range(TERMS)]
            free = {i for i in free if x[i] > 1e-15 * max(x)} - ({best} if x[best] <= 0 else set())
            if not free:
                return [0.0] * TERMS
    return x


def _solve(a: list[list[float]], b: list[float], which: list[int]) -> dict[int, float]:
    """A x = b for these rows and columns: Gauss, the matrix is positive definite."""
    rows = [[a[i][j] for j in which] + [b[i]] for i in which]
    n = len(which)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        if not rows[k][k]:
            continue
        for i in range(k + 1, n):
            factor = rows[i][k] / rows[k][k]
            for j in range(k, n + 1):
                rows[i][j] -= factor * rows[k][j]
    found = [0.0] * n
    for k in reversed(range(n)):
        rest = rows[k][n] - sum(rows[k][j] * found[j] for j in range(k + 1, n))
        found[k] = rest / rows[k][k] if rows[k][k] else 0.0
    return dict(zip(which, found, strict=True))
