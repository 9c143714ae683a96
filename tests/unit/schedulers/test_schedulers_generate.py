from __future__ import annotations

import numpy as np
import pytest

from schedulers.generate import drifted, dummy, layered, pinned


@pytest.mark.parametrize(("tasks", "nodes"), [(1, 1), (2, 3), (3, 1), (40, 6)])
def test_dummy_problems_have_one_entry_one_exit_and_the_asked_size(tasks: int, nodes: int) -> None:
    p = dummy(tasks, nodes, seed=4)
    assert p.times.shape == (tasks, nodes)
    assert [t for t in range(tasks) if not p.parents[t]] == [0]
    assert [t for t in range(tasks) if not p.children[t]] == [tasks - 1]


def test_dummy_problems_have_the_distributions_of_the_dummy_applications() -> None:
    problems = [dummy(100, 4, seed, ccr=2.0) for seed in range(20)]
    degrees = [len(children) for p in problems for children in p.children[:-1]]
    assert 2.0 < np.mean(degrees) < 2.5
    sizes = np.array([data for p in problems for *_, data in p.edges])
    assert abs(sizes.mean() / 1e6 - 1) < 0.02
    assert abs(sizes.std() / 1e6 - 0.3) < 0.02
    for p in problems:
        mean = np.mean([data for *_, data in p.edges])
        transfer = (p.latency.sum() + p.inv_rate.sum() * mean) / 12
        assert transfer / p.times.mean() == pytest.approx(2.0)


def test_the_same_seed_gives_the_same_problem() -> None:
    assert dummy(30, 5, 7).edges == dummy(30, 5, 7).edges
    assert dummy(30, 5, 7).edges != dummy(30, 5, 8).edges


def test_pinning_keeps_everything_else() -> None:
    p = layered(10, 3, 1)
    q = pinned(p, 2)
    assert q.pinned == {0: 2}
    assert q.edges == p.edges
    assert pinned(q, 1).pinned == {0: 1}


def test_drift_multiplies_the_times_of_a_node_by_one_factor() -> None:
    p = layered(10, 400, 1)
    factors = drifted(p, 0.5, 3).times / p.times
    assert np.allclose(factors, factors[0])
    assert abs(np.log(factors[0]).std() - 0.5) < 0.05


@pytest.mark.parametrize("counts", [(0, 1), (1, 0)])
def test_nothing_is_not_generated(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        dummy(*counts)
