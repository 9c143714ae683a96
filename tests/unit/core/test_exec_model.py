"""The model of one task on one node: what it learns, and whether its intervals hold what they say."""

from __future__ import annotations

from math import log
from random import Random

import pytest

from jupiter_agent.core.profiling.crowding import SLICE_S, Crowding, seen, stretched
from jupiter_agent.core.profiling.exec_fit import Sample
from jupiter_agent.core.profiling.exec_model import MOST, TaskModel


def ran(model: TaskModel, rng: Random, n: int, cores: float = 2.0, noise: float = 0.1, at: float = 0.0) -> None:
    """Runs of 20 ms and 0.3 us a byte of work, on a node whose load comes and goes."""
    for i in range(n):
        size, load = 10 ** rng.uniform(3, 6), float(rng.choice([0, 0, 1, 3, 7]))
        cpu = (0.02 + 3e-7 * size) * rng.lognormvariate(0, noise)
        model.learn(Sample(size, stretched(cpu, max(1.0, (load + 1) / cores)), cpu, load, at + i), at + i)


def test_size_and_load_are_both_in_the_estimate() -> None:
    model = TaskModel(Crowding(2.0))
    ran(model, Random(1), 80, noise=0.05)
    for size, load, work in ((1e4, 0.0, 0.023), (1e6, 0.0, 0.32), (1e6, 7.0, 0.32)):
        expected = stretched(work, max(1.0, (load + 1) / 2))
        assert model.predict(size, load, 80.0).seconds == pytest.approx(expected, rel=0.2)


def test_intervals_of_80_percent_hold_75_to_85_percent_of_runs() -> None:
    for noise in (0.02, 0.1, 0.5):
        rng, model, held, n = Random(5), TaskModel(Crowding(2.0)), 0, 600
        for i in range(n):
            size, load = 10 ** rng.uniform(3, 6), float(rng.choice([0, 0, 1, 3, 7]))
            cpu = (0.02 + 3e-7 * size) * rng.lognormvariate(0, noise)
            seconds = stretched(cpu, max(1.0, (load + 1) / 2.0))
            if i >= 20:
                guess = model.predict(size, load, float(i))
                held += guess.low <= seconds <= guess.high
            model.learn(Sample(size, seconds, cpu, load, float(i)), float(i))
        assert 0.75 <= held / (n - 20) <= 0.85


def test_what_ran_for_a_job_replaces_what_sample_runs_showed() -> None:
    model = TaskModel(Crowding(1.0))
    model.learn(Sample(100.0, 5.0, 0.0, 0.0, 0.0), 0.0, sampled=True)
    assert model.sampled
    assert model.predict(100.0, 0.0, 0.0).seconds == pytest.approx(5.0, rel=0.05)
    model.learn(Sample(100.0, 1.0, 0.0, 0.0, 1.0), 1.0)
    model.learn(Sample(100.0, 9.0, 0.0, 0.0, 1.0), 1.0, sampled=True)
    assert not model.sampled
    assert model.predict(100.0, 0.0, 1.0).seconds == pytest.approx(1.0, rel=0.05)


def test_runs_that_cannot_have_been_are_counted_and_change_nothing() -> None:
    model = TaskModel(Crowding(2.0))
    ran(model, Random(1), 20)
    before = model.predict(1e5, 0.0, 20.0)
    for bad in (-1.0, float("nan"), float("inf"), 1e300):
        assert not model.learn(Sample(1e5, bad, 0.1, 0.0, 20.0), 20.0)
    assert model.refused == 4
    assert model.predict(1e5, 0.0, 20.0) == before


def test_a_thousand_small_runs_do_not_push_out_the_one_large_run() -> None:
    model = TaskModel(Crowding(2.0))
    model.learn(Sample(1e6, 10.0, 9.0, 0.0, 0.0), 0.0)
    for i in range(1000):
        model.learn(Sample(100.0 + i % 7, 0.01, 0.009, float(i % 40), 1.0 + i), 1.0 + i)
    assert len(model.samples) <= MOST
    assert model.predict(1e6, 0.0, 1001.0).seconds == pytest.approx(10.0, rel=0.3)


def test_a_task_that_only_waits_is_not_stretched_by_load() -> None:
    model = TaskModel(Crowding(2.0))
    for i in range(10):
        model.learn(Sample(1e4, 0.5, 0.001, 0.0, float(i)), float(i))
    assert model.predict(1e4, 20.0, 10.0).seconds == pytest.approx(0.5, rel=0.1)


def test_the_stretch_is_what_was_seen_where_enough_was() -> None:
    crowding = Crowding(2.0)
    assert crowding.curve(7.0) == 4.0
    for i in range(40):
        crowding.learn(7.0, 2.0, float(i))  # the others are niced
    assert crowding.curve(7.0) == pytest.approx(2.0, rel=0.1)
    assert crowding.curve(0.0) == 1.0
    crowding.learn(7.0, 4.0, 41.0)
    assert crowding.now(7.0, 41.0) > 1.1 * crowding.curve(7.0)
    assert crowding.now(7.0, 400.0) == pytest.approx(crowding.curve(7.0), rel=0.01)


def test_short_work_is_done_within_a_slice_and_tells_nothing_of_the_stretch() -> None:
    assert stretched(SLICE_S / 2, 10.0) == SLICE_S / 2
    assert seen(1.0, SLICE_S) is None
    found = seen(stretched(0.1, 2.5), 0.1)
    assert found is not None
    assert log(found) == pytest.approx(log(2.5))
