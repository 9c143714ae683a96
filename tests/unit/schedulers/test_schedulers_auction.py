from __future__ import annotations

import copy

import numpy as np
import pytest

from schedulers import Problem, bidding, schedule
from schedulers.auction import HOME, simulate
from schedulers.generate import fork_join, layered
from schedulers.replay import replay


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


def blindfolded(p: Problem, node: int, task: int) -> Problem:
    """`p` with NaN for everything that `node` cannot know when it decides about `task`, or bids for it."""
    blind = copy.copy(p)
    own = [] if node == HOME else [node]
    for name in ("times", "latency", "inv_rate", "quadratic"):
        array = getattr(p, name)
        if array is None:
            continue
        seen = np.full_like(array, np.nan)
        seen[:, own] = array[:, own]
        if name == "times":
            seen[task] = array[task]
        else:
            seen[own] = array[own]
        object.__setattr__(blind, name, seen)
    return blind


def bent(p: Problem, seed: int) -> Problem:
    """The same with a quadratic term, busy nodes and constraints."""
    rng = np.random.default_rng(seed)
    allowed = rng.random(p.times.shape) < 0.7
    allowed[:, 0] = True
    quadratic = p.inv_rate * 1e-7
    return Problem(p.times, p.edges, p.latency, p.inv_rate, {0: 0}, quadratic, rng.uniform(0, 3, p.n_nodes), allowed)


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_auction_does_not_depend_on_what_its_nodes_cannot_know(seed: int, contention: bool) -> None:
    p = layered(30, 14, seed)
    p = bent(p, seed) if seed % 2 else p
    seen, blind = (simulate(p, seed=seed, contention=contention, sight=s) for s in (None, blindfolded))
    seen.schedule.check(p)
    assert blind.schedule.node.tolist() == seen.schedule.node.tolist()
    assert blind.schedule.start.tolist() == seen.schedule.start.tolist()


def test_the_blindfold_hides_what_others_know() -> None:
    p = layered(10, 4, 1)
    blind = blindfolded(p, 2, 5)
    assert np.isnan(blind.times[4, 1])
    assert np.isnan(blind.latency[0, 1])
    assert not np.isnan(blind.times[5]).any()
    assert not np.isnan(blind.inv_rate[:, 2]).any()
    assert np.isnan(blindfolded(p, HOME, 5).latency).all()


@pytest.mark.parametrize("seed", range(6))
def test_messages_per_task_stay_within_the_promise(seed: int) -> None:
    p = layered(60, 40, seed, ccr=0.2) if seed % 2 else fork_join(20, 2, 40, seed)
    outcome = simulate(p, seed=seed)
    for t, count in enumerate(outcome.messages):
        assert 0 < count <= 2 * (len(p.parents[t]) + 10) + 4
    assert outcome.rounds <= p.n_tasks


def test_refusals_happen_and_are_counted() -> None:
    assert sum(simulate(layered(80, 12, seed, ccr=0.2), seed=seed).refusals for seed in range(4)) > 0


def test_the_auction_stays_close_to_heft_without_its_view() -> None:
    ratios = []
    for seed in range(40):
        p = layered(40, 12, seed, ccr=[0.2, 1.0, 5.0][seed % 3])
        p = Problem(p.times, p.edges, p.latency, p.inv_rate, pinned={0: seed % 12})
        ratios.append(schedule("wave-auction", p, seed=seed).makespan / schedule("heft", p).makespan)
    assert np.median(ratios) <= 1.01
    assert np.percentile(ratios, 90) <= 1.06


def test_bidders_know_their_own_speed_of_today_where_gossip_is_old() -> None:
    stale, auction = [], []
    for seed in range(20):
        then = layered(40, 12, seed)
        drift = np.random.default_rng(seed).lognormal(0, 0.5, 12)
        now = Problem(then.times * drift, then.edges, then.latency, then.inv_rate)
        best = schedule("heft", now).makespan
        stale.append(replay(now, schedule("heft", then).node).makespan / best)
        auction.append(simulate(now, seed=seed, gossip=then).schedule.makespan / best)
    assert np.median(auction) <= 1.05 < np.median(stale)


def test_charging_network_cards_pays_where_links_are_shared() -> None:
    ratios = []
    for seed in range(6):
        p = layered(40, 10, seed)
        plain, aware = (schedule("wave-auction", p, seed=seed, contention=c).node for c in (False, True))
        ratios.append(replay(p, aware, contention=True).makespan / replay(p, plain, contention=True).makespan)
    assert np.mean(ratios) < 0.85


def test_explorers_are_drawn_with_the_seed() -> None:
    p = layered(60, 60, 1)
    first, again, other = (simulate(p, seed=seed).messages for seed in (1, 1, 2))
    assert first == again != other


def test_a_few_bidders_suffice_but_none_do_not() -> None:
    p = layered(20, 20, 2)
    simulate(p, bidders=1).schedule.check(p)
    with pytest.raises(ValueError, match="bidders is 0"):
        simulate(p, bidders=0)


def test_gossip_of_other_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="gossip is of"):
        simulate(layered(20, 5, 2), gossip=layered(20, 6, 2))


@pytest.mark.parametrize("contention", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_asking_everybody_one_task_at_a_time_is_heft(
    seed: int, contention: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bidding, "WINDOW", 0.0)
    monkeypatch.setattr(bidding, "CROWDED_WINDOW", 0.0)
    p = layered(40, 9, seed)
    p = bent(p, seed) if seed % 2 else p
    heft = schedule("heft", p, contention=contention)
    outcome = simulate(p, bidders=9, contention=contention)
    assert outcome.schedule.node.tolist() == heft.node.tolist()
    assert outcome.schedule.start.tolist() == pytest.approx(heft.start.tolist())
    assert outcome.refusals == 0


def test_one_node_takes_everything() -> None:
    p = Problem(np.ones((3, 1)), [(0, 1, 5), (0, 2, 5)], links(1), links(1))
    s = schedule("wave-auction", p)
    assert s.makespan == 3
    assert simulate(p).messages == [2 + 2, 0, 0]
