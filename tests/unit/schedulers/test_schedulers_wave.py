from __future__ import annotations

import copy

import numpy as np
import pytest

from schedulers import Problem, schedule
from schedulers.generate import layered
from schedulers.local import EVEN, IDLE, Resources, Weights, greedy_choice_v4
from schedulers.wave import Places, decide_all, greedy_decision


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


def test_entry_tasks_go_where_they_are_pinned_and_else_to_the_first_nodes_in_turn() -> None:
    p = Problem(
        np.ones((4, 3)), [], links(3), links(3), pinned={1: 2}, allowed=[[True] * 3] * 3 + [[False, True, True]]
    )
    for name in ("wave-random", "wave-greedy"):
        assert schedule(name, p).node.tolist() == [0, 2, 1, 1]


def test_greedy_keeps_a_task_with_its_large_input_and_sends_it_away_with_a_small_one() -> None:
    for size, node in ((1000, 0), (1, 1)):
        p = Problem([[1, 1], [4, 1]], [(0, 1, size)], links(2), links(2, 0.01))
        assert schedule("wave-greedy", p).node.tolist() == [0, node]


def test_the_weights_of_greedy_are_options() -> None:
    p = Problem([[1, 1], [4, 1]], [(0, 1, 1000)], links(2), links(2, 0.01))
    assert schedule("wave-greedy", p, weights=Weights(net=0)).node.tolist() == [0, 1]
    assert schedule("wave-greedy", p, weights=(9, 1, 1)).node.tolist() == [0, 0]


def test_what_nodes_say_about_themselves_counts() -> None:
    p = Problem(np.ones((2, 3)), [(0, 1, 0)], links(3), links(3))
    assert schedule("wave-greedy", p).node.tolist() == [0, 1]
    loaded = [Resources(), Resources(load=3), Resources()]
    assert schedule("wave-greedy", p, resources=loaded).node.tolist() == [0, 2]
    with pytest.raises(ValueError, match="resources are of 1 nodes"):
        schedule("wave-greedy", p, resources=[Resources()])


def test_a_node_that_is_not_available_yet_is_avoided() -> None:
    p = Problem(np.ones((2, 3)), [(0, 1, 0)], links(3), links(3), available=[0, 50, 0])
    assert schedule("wave-greedy", p).node.tolist() == [0, 2]


def test_a_node_spreads_the_children_that_it_places_itself() -> None:
    p = Problem(np.ones((8, 4)), [(0, t, 0) for t in range(1, 8)], links(4), links(4))
    assert np.bincount(schedule("wave-greedy", p).node).tolist() == [2, 2, 2, 2]


def test_greedy_beats_random_by_far() -> None:
    problems = [layered(40, 10, seed) for seed in range(5)]
    greedy = [schedule("wave-greedy", p).makespan for p in problems]
    drawn = [schedule("wave-random", p, seed=1).makespan for p in problems]
    assert sum(greedy) < 0.85 * sum(drawn)


def test_the_rule_of_jupiter_4_goes_away_round_robin_and_looks_neither_at_sizes_nor_at_times() -> None:
    # Task 0 is on node 0; its children are huge and quick there, and go elsewhere all the same, nearest node first.
    near = [[0, 0.03, 0.02, 0.01], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    p = Problem([[1, 99, 99, 99]] * 5, [(0, t, 1e9) for t in range(1, 5)], near, links(4))
    assert schedule("wave-greedy-v4", p).node.tolist() == [0, 3, 2, 1, 1]
    assert schedule("wave-greedy", p).node.tolist() == [0] * 5


def test_the_rule_of_jupiter_4_takes_the_length_of_a_name_for_the_size_of_the_input() -> None:
    p = Problem(np.ones((2, 3)), [(0, 1, 0)], [[0, 0, 0.003], [0] * 3, [0] * 3], [[0, 0.001, 0], [0] * 3, [0] * 3])
    assert schedule("wave-greedy-v4", p, names=["a", "b"]).node.tolist() == [0, 1]
    assert schedule("wave-greedy-v4", p, names=["a", "long"]).node.tolist() == [0, 2]
    with pytest.raises(ValueError, match="names are of 1 tasks"):
        schedule("wave-greedy-v4", p, names=["a"])


def test_the_rule_of_jupiter_4_leaves_out_far_nodes_and_adds_percentages_to_milliseconds() -> None:
    idle, busy = Resources(), Resources(load=0.5, cpus=1, memory_used=0.4)
    delays = {0: 0.0, 1: 20.0, 2: 80.0, 3: 301.0}
    assert greedy_choice_v4(0, delays, {1: busy, 2: idle}, ()) == 2
    assert greedy_choice_v4(0, delays, {1: busy, 2: busy, 3: idle}, ()) == 1
    assert greedy_choice_v4(0, delays, {}, {1}) == 2
    assert greedy_choice_v4(0, {0: 0.0}, {}, {0}) == 0


def test_a_deciding_node_knows_what_it_placed_what_it_hosts_and_where_the_parents_are() -> None:
    # 0 and 1 are entries on nodes 0 and 1; 2 is decided on node 0; 3 joins both and is decided by 0 as well.
    p = Problem(np.ones((5, 3)), [(0, 2, 0), (0, 3, 0), (1, 3, 0), (1, 4, 0)], links(3), links(3))
    seen: dict[int, Places] = {}

    def choose(t: int, known: Places) -> int:
        seen[t] = dict(known)
        return {2: 2, 3: 1, 4: 0}[t]

    assert decide_all(p, choose) == [0, 1, 2, 1, 0]
    assert seen == {2: {0: 0}, 3: {0: 0, 2: 2, 1: 1}, 4: {1: 1, 3: 1}}


def blindfolded(p: Problem, t: int, known: Places) -> Problem:
    """`p` with NaN for everything that whoever decides task `t` cannot know."""
    hosts = [known[u] for u, _ in p.parents[t]]
    blind = copy.copy(p)
    for name, kept in (("times", [t]), ("latency", hosts), ("inv_rate", hosts)):
        array = np.full_like(getattr(p, name), np.nan)
        array[kept] = getattr(p, name)[kept]
        object.__setattr__(blind, name, array)
    return blind


@pytest.mark.parametrize("seed", range(4))
def test_a_greedy_decision_does_not_depend_on_what_its_node_cannot_know(seed: int) -> None:
    p = layered(25, 6, seed)
    decided = []

    def choose(t: int, known: Places) -> int:
        scores = greedy_decision(p, t, known, [IDLE] * 6, EVEN)
        assert greedy_decision(blindfolded(p, t, known), t, known, [IDLE] * 6, EVEN) == scores
        decided.append(t)
        return scores[0].node

    decide_all(p, choose)
    assert len(decided) == 24
