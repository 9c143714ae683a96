"""The fit of a task's time: constrained, relative, robust."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupiter_agent.core.profiling import exec_fit
from jupiter_agent.core.profiling.exec_fit import Coefficients, Sample, fit, is_sane, value


def runs(n: int, seed: int, noise: float = 0.0) -> tuple[list[Sample], list[float]]:
    """30 ms of waiting, and 10 ms + 0.2 us a byte of work, on a node that is more or less busy."""
    rng, made, stretches = Random(seed), [], []
    for i in range(n):
        size, stretch = rng.uniform(1e3, 1e6), rng.choice([1.0, 1.5, 3.0])
        work = 0.01 + 2e-7 * size
        seconds = (0.03 + work * stretch) * rng.lognormvariate(0, noise)
        made.append(Sample(size, seconds, work, 2 * stretch - 1, float(i)))
        stretches.append(stretch)
    return made, stretches


def test_idle_time_and_work_are_told_apart() -> None:
    found = fit(*runs(20, 1), now=20.0)
    assert value(found.idle, 5e5) == pytest.approx(0.03, rel=0.01)
    assert value(found.work, 5e5) == pytest.approx(0.11, rel=0.01)


def test_outliers_hardly_count() -> None:
    made, stretches = runs(40, 2, noise=0.05)
    made[10] = made[10]._replace(seconds=1000.0)
    made[20] = made[20]._replace(seconds=1e-5)
    found = fit(made, stretches, now=40.0)
    assert value(found.idle, 5e5) + value(found.work, 5e5) == pytest.approx(0.14, rel=0.05)


def test_old_runs_count_less_than_new_ones() -> None:
    old = [Sample(1e5, 1.0, 0.0, 0.0, float(i)) for i in range(20)]
    new = [Sample(1e5, 3.0, 0.0, 0.0, 20_000.0 + i) for i in range(5)]
    found = fit(old + new, [1.0] * 25, now=20_005.0)
    assert value(found.idle, 1e5) + value(found.work, 1e5) == pytest.approx(3.0, rel=0.05)


def test_one_run_is_enough_for_a_fit_that_goes_through_it() -> None:
    found = fit([Sample(0.0, 0.5, 0.4, 0.0, 0.0)], [1.0], now=0.0)
    assert value(found.idle, 0.0) + value(found.work, 0.0) == pytest.approx(0.5, rel=0.01)
    assert fit([], [], now=0.0) == Coefficients()


sizes = st.floats(0, 1e12)
times = st.floats(0, 1e6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sizes, times, times, st.floats(1, 100)), min_size=1, max_size=12), sizes, sizes)
def test_no_runs_whatever_make_a_time_negative_or_shrink_with_size(
    given_runs: list[tuple[float, float, float, float]], a: float, b: float
) -> None:
    made = [Sample(size, seconds, cpu, 0.0, 0.0) for size, seconds, cpu, _ in given_runs]
    found = fit(made, [stretch for *_, stretch in given_runs], now=0.0)
    small, large = sorted((a, b))
    for part in found:
        assert 0.0 <= value(part, small) <= value(part, large) * (1 + 1e-9)


def test_the_constrained_minimum_is_the_best_of_all_active_sets() -> None:
    rng = Random(3)

    def cost(a: list[list[float]], b: list[float], x: list[float]) -> float:
        both = [(i, j) for i in range(6) for j in range(6)]
        return sum(x[i] * a[i][j] * x[j] for i, j in both) / 2 - sum(b[i] * x[i] for i in range(6))

    for _ in range(60):
        rows = [[rng.gauss(0, 1) ** 2 * rng.choice([0, 1, 1, 5]) for _ in range(6)] for _ in range(rng.randint(1, 8))]
        a, b = exec_fit._normal([(row, 1.0, 1.0) for row in rows], [1.0] * len(rows))
        best = 0.0
        for which in (c for k in range(1, 7) for c in itertools.combinations(range(6), k)):
            solved = exec_fit._solve(a, b, list(which))
            if all(v >= 0 for v in solved.values()):
                best = min(best, cost(a, b, [solved.get(i, 0.0) for i in range(6)]))
        assert cost(a, b, exec_fit._nnls(a, b)) <= best + 1e-6 * abs(best) + 1e-12


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), 1e300])
def test_a_run_that_cannot_have_been_is_not_sane(bad: float) -> None:
    good = Sample(1e3, 0.5, 0.4, 1.0, 5.0)
    assert is_sane(good)
    for field in ("size", "seconds", "cpu_s", "load"):
        assert not is_sane(good._replace(**{field: bad}))
