from __future__ import annotations

from itertools import count
from random import Random

import numpy as np
import pytest

from schedulers import Problem, Unplaceable, schedule
from schedulers.exhaustive import optimum
from schedulers.generate import fork_join, layered
from schedulers.portfolio import portfolio, variants
from schedulers.replay import replay
from schedulers.search import STRIDE, Plan, improve


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


def busy(p: Problem) -> Problem:
    """The same with a quadratic term, nodes that are busy at first, and constraints."""
    rng = np.random.default_rng(p.n_tasks)
    allowed = rng.random(p.times.shape) < 0.7
    allowed[:, 0] = True
    ready = rng.uniform(0, 3, p.n_nodes)
    return Problem(p.times, p.edges, p.latency, p.inv_rate, {0: 0}, p.inv_rate * 1e-7, ready, allowed)


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_portfolio_is_never_worse_than_any_of_its_rules(seed: int, contention: bool) -> None:
    p = layered(30, 6, seed)
    p = busy(p) if seed % 2 else p
    s = schedule("portfolio", p, seed=seed, contention=contention)
    s.check(p)
    assert s.makespan <= min(each.makespan for each in variants(p, contention))
    assert s.makespan <= schedule("heft", p, contention=contention).makespan


def test_the_search_improves_what_list_scheduling_leaves() -> None:
    ratios = []
    for seed in range(10):
        p = layered(30, 6, seed)
        ratios.append(schedule("portfolio", p).makespan / schedule("portfolio", p, moves=0).makespan)
    assert np.mean(ratios) < 0.98


def test_the_search_finds_nearly_every_optimum_of_tiny_problems() -> None:
    found = 0
    for seed in range(12):
        p = fork_join(2, 1, 3, seed) if seed % 2 else layered(5, 3, seed)
        found += schedule("portfolio", p).makespan <= optimum(p).makespan * (1 + 1e-9)
    assert found >= 11


def test_the_same_seed_and_moves_give_the_same_schedule_and_more_moves_no_worse_one() -> None:
    p = layered(40, 8, 3)
    first, again = (schedule("portfolio", p, seed=5, moves=300) for _ in range(2))
    assert first.node.tolist() == again.node.tolist()
    assert first.start.tolist() == again.start.tolist()
    assert schedule("portfolio", p, seed=6, moves=300).node.tolist() != first.node.tolist()


def test_the_budget_in_seconds_ends_the_search() -> None:
    ticks = count()
    p = layered(20, 4, 1)
    portfolio(p, budget_s=50.0, clock=lambda: float(next(ticks))).check(p)
    assert next(ticks) == 51
    ticks = count()
    only_heft = portfolio(p, budget_s=0.5, clock=lambda: float(next(ticks)))
    assert only_heft.node.tolist() == schedule("heft", p).node.tolist()


def test_moves_and_seconds_together_end_with_the_first() -> None:
    ticks = count()
    portfolio(layered(20, 4, 1), budget_s=1e9, moves=10, clock=lambda: float(next(ticks)))
    assert next(ticks) < 30


@pytest.mark.parametrize("budget", [{"moves": -1}, {"budget_s": -0.1}, {"budget_s": float("nan")}])
def test_a_budget_below_nothing_is_refused(budget: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is none"):
        schedule("portfolio", layered(5, 2), **budget)


def test_a_task_without_a_node_is_refused() -> None:
    p = Problem(np.ones((1, 2)), [], links(2), links(2), allowed=[[False, False]])
    with pytest.raises(Unplaceable, match="task 0"):
        schedule("portfolio", p)


@pytest.mark.parametrize("contention", [False, True])
def test_times_from_a_changed_place_on_are_those_of_evaluating_everything(contention: bool) -> None:
    p = busy(layered(3 * STRIDE, 5, 2))
    found = schedule("heft", p, contention=contention)
    order = sorted(range(p.n_tasks), key=lambda t: float(found.start[t]))
    plan = Plan(p, contention, found.node.tolist(), order)
    rng = Random(1)
    for _ in range(60):
        place = rng.randrange(p.n_tasks)
        t = plan.order[place]
        plan.node[t] = rng.choice(p.nodes_for(t))
        assert plan.try_from(place, float("inf"))
        whole = Plan(p, contention, plan.node.copy(), plan.order.copy())
        assert plan.start == whole.start
        assert plan.finish == whole.finish
        plan.schedule().check(p)


def test_a_move_that_breaks_the_threshold_changes_nothing() -> None:
    p = layered(40, 5, 2)
    found = schedule("heft", p)
    order = sorted(range(p.n_tasks), key=lambda t: float(found.start[t]))
    plan = Plan(p, False, found.node.tolist(), order)
    before = plan.start.copy()
    plan.node = [0] * p.n_tasks
    assert not plan.try_from(0, plan.makespan)
    assert plan.start == before


def test_the_critical_chain_leads_from_the_end_to_the_beginning_without_a_pause() -> None:
    # 0 -> 2 over a link of two seconds; 1 keeps node 1 busy for less long.
    p = Problem([[3, 9], [9, 4], [9, 1]], [(0, 2, 1)], links(2, 2), links(2))
    plan = Plan(p, False, [0, 1, 1], [0, 1, 2])
    assert plan.critical() == [2, 0]
    p = Problem([[3, 9], [9, 6], [9, 1]], [(0, 2, 1)], links(2, 2), links(2))
    assert Plan(p, False, [0, 1, 1], [0, 1, 2]).critical() == [2, 1]


def test_improving_gives_back_what_it_got_where_there_is_nothing_to_change() -> None:
    p = Problem(np.ones((3, 1)), [(0, 2, 1)], [[0]], [[0]])
    found = schedule("heft", p)
    assert improve(p, found, False, Random(0), lambda moves: 0.0) is found


def test_a_portfolio_that_charges_network_cards_pays_where_links_are_shared() -> None:
    ratios = []
    for seed in range(4):
        p = layered(40, 10, seed)
        heft = replay(p, schedule("heft", p).node, contention=True).makespan
        ratios.append(replay(p, schedule("portfolio", p, contention=True).node, contention=True).makespan / heft)
    assert np.mean(ratios) < 0.75
