from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from schedulers import Problem, Unplaceable, schedule
from schedulers.generate import fork_join, layered
from schedulers.throughput import _Loads, period, refine, tp_heft


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


def plain_period(p: Problem, node: list[int], contention: bool) -> float:
    """The slow twin, straight from the definition."""
    loads: dict[object, float] = {}

    def add(what: object, seconds: float) -> None:
        loads[what] = loads.get(what, 0.0) + seconds

    for t, n in enumerate(node):
        add(n, float(p.times[t, n]))
    for u, v, data in p.edges:
        a, b = node[u], node[v]
        if a != b:
            for what in [("from", a), ("to", b)] if contention else [(a, b)]:
                add(what, p.transfer(a, b, data) - float(p.latency[a, b]))
    return max(loads.values())


def bent(p: Problem) -> Problem:
    return Problem(p.times, p.edges, p.latency, p.inv_rate, quadratic=p.inv_rate * 1e-6)


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_period_is_that_of_the_busiest_resource(seed: int, contention: bool) -> None:
    p = bent(layered(20, 5, seed))
    node = np.random.default_rng(seed).integers(5, size=20)
    assert period(p, node, contention) == pytest.approx(plain_period(p, node.tolist(), contention))


def test_two_streams_over_one_link_add_up_and_over_two_links_only_at_the_card() -> None:
    p = Problem(np.ones((3, 3)), [(0, 1, 10), (0, 2, 10)], links(3, 50), links(3, 0.2))
    assert period(p, [0, 1, 1]) == 4
    assert period(p, [0, 1, 2]) == 2
    assert period(p, [0, 1, 2], contention=True) == 4
    assert period(p, [0, 0, 0]) == 3


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_move_is_that_of_trying_every_node(seed: int, contention: bool) -> None:
    p = bent(layered(15, 5, seed))
    node = np.random.default_rng(seed).integers(5, size=15)
    loads = _Loads(p, node.copy(), contention)
    for t in range(15):
        tried = []
        for n in range(5):
            moved = node.copy()
            moved[t] = n
            each = _Loads(p, moved, contention)
            tried.append((each.period, each.potential))
        found = loads.best_move(t)
        best = min(tried)
        assert found[:2] == pytest.approx(best)
        assert tried[found[3]] == pytest.approx(best)
        assert loads.node.tolist() == node.tolist()


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_bottleneck_moves_only_shorten_the_period(seed: int, contention: bool) -> None:
    p = layered(25, 6, seed)
    start = np.random.default_rng(seed).integers(6, size=25)
    periods = [period(p, refine(p, start.copy(), moves, contention), contention) for moves in (0, 1, 5, 50)]
    assert periods == sorted(periods, reverse=True)
    assert periods[0] == pytest.approx(period(p, start, contention))
    assert periods[-1] < periods[0]


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_tiny_problems_come_close_to_the_shortest_period_there_is(seed: int, contention: bool) -> None:
    p = fork_join(3, 1, 3, seed) if seed % 2 else layered(6, 3, seed)
    best = min(plain_period(p, list(node), contention) for node in product(range(3), repeat=p.n_tasks))
    found = period(p, schedule("tp-heft", p, contention=contention).node, contention)
    assert best * (1 - 1e-9) <= found <= 1.15 * best


@pytest.mark.parametrize("contention", [False, True])
def test_streams_run_faster_than_with_the_mapping_of_heft(contention: bool) -> None:
    gains = []
    for seed in range(8):
        p = layered(40, 10, seed)
        heft, stream = (schedule(name, p, contention=contention).node for name in ("heft", "tp-heft"))
        gains.append(period(p, heft, contention) / period(p, stream, contention))
    assert min(gains) >= 1 - 1e-9
    assert np.median(gains) >= 1.6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("exponent", [-900, 600, 1000])
def test_the_unit_of_time_does_not_change_the_mapping(exponent: int, contention: bool) -> None:
    p, unit = bent(layered(15, 4, 1)), 2.0**exponent
    assert p.quadratic is not None
    scaled = Problem(p.times * unit, p.edges, p.latency * unit, p.inv_rate * unit, quadratic=p.quadratic * unit)
    usual, same = (schedule("tp-heft", each, contention=contention) for each in (p, scaled))
    assert same.node.tolist() == usual.node.tolist()
    same.check(scaled)


def test_latency_does_not_slow_a_stream() -> None:
    p = Problem([[4, 4], [4, 4]], [(0, 1, 0)], links(2, 1000), links(2))
    assert len(set(schedule("tp-heft", p).node.tolist())) == 2
    assert set(schedule("heft", p).node.tolist()) == {0}


def test_pins_and_forbidden_nodes_are_respected() -> None:
    p = Problem(np.ones((4, 3)), [], links(3), links(3), pinned={0: 2, 1: 2}, allowed=[[True, False, True]] * 4)
    s = schedule("tp-heft", p)
    s.check(p)
    assert s.node.tolist() == [2, 2, 0, 0]


def test_a_task_without_a_node_and_moves_below_nothing_are_refused() -> None:
    with pytest.raises(Unplaceable, match="task 0"):
        tp_heft(Problem(np.ones((1, 2)), [], links(2), links(2), allowed=[[False, False]]))
    with pytest.raises(ValueError, match="moves is -1"):
        tp_heft(layered(5, 2), moves=-1)
