from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedulers import Problem, schedule
from schedulers.generate import fork_join, layered
from schedulers.ranks import by_rank, mean_links, upward_rank
from schedulers.replay import replay

VECTORS = Path(__file__).parents[2] / "vectors"


def paper(name: str) -> tuple[Problem, dict[str, Any]]:
    """The example of a paper, where the size of an edge is its transfer time between any two nodes."""
    table = json.loads((VECTORS / f"{name}.json").read_text())
    nodes = len(table["times"][0])
    return Problem(table["times"], table["edges"], np.zeros((nodes, nodes)), 1 - np.eye(nodes)), table


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


@pytest.mark.parametrize("name", ["heft-2002", "peft-2014"])
def test_the_examples_of_the_papers_give_the_published_makespan(name: str) -> None:
    p, table = paper(name)
    s = schedule("heft", p)
    s.check(p)
    assert s.makespan == table["heft_makespan"]


def test_the_example_of_the_heft_paper_gives_the_published_ranks_and_places() -> None:
    p, table = paper("heft-2002")
    assert upward_rank(p) == pytest.approx(table["upward_rank"], abs=5e-4)
    assert schedule("heft", p).node.tolist() == table["heft_node"]


def test_the_mean_link_is_over_ordered_pairs_of_different_nodes() -> None:
    p = Problem([[1, 1]], [], [[0, 2], [4, 0]], [[0, 1], [2, 0]], quadratic=[[0, 3], [6, 0]])
    assert mean_links(p) == (3.0, 1.5, 4.5)
    assert mean_links(Problem([[1]], [], [[0]], [[0]])) == (0.0, 0.0, 0.0)


def test_the_rank_includes_the_quadratic_term_and_can_leave_communication_out() -> None:
    p = Problem([[1, 3], [4, 4]], [(0, 1, 10)], links(2, 5), links(2, 0.5), quadratic=links(2, 0.01))
    assert upward_rank(p) == [2 + 5 + 5 + 1 + 4, 4]
    assert upward_rank(p, comm=False) == [2 + 4, 4]


def test_the_rank_of_a_constrained_task_averages_the_nodes_it_may_use() -> None:
    p = Problem([[1, 3, 8]], [], links(3), links(3), allowed=[[True, True, False]])
    assert upward_rank(p) == [2]


def test_tasks_without_cost_still_come_after_their_parents() -> None:
    p = Problem(np.zeros((4, 2)), [(3, 2, 0), (2, 1, 0), (1, 0, 0)], links(2), links(2))
    assert by_rank(p, upward_rank(p)) == [3, 2, 1, 0]
    schedule("heft", p).check(p)


def test_every_entry_task_starts_at_once_where_there_is_room() -> None:
    p = Problem(np.ones((3, 3)), [], links(3), links(3))
    s = schedule("heft", p)
    assert s.start.tolist() == [0, 0, 0]
    assert sorted(s.node) == [0, 1, 2]


def test_equal_nodes_are_taken_in_their_order() -> None:
    p = Problem(np.ones((2, 4)), [], links(4), links(4))
    assert schedule("heft", p).node.tolist() == [0, 1]


def test_insertion_fills_a_gap_that_appending_leaves() -> None:
    # Node 0 waits for 1 -> 3; the short task 2 fits in between.
    p = Problem([[4, 9], [9, 4], [2, 9], [9, 1]], [(0, 3, 1), (1, 3, 1)], links(2, 2), links(2), pinned={3: 0, 2: 0})
    assert schedule("heft", p).start[2] == 4
    assert schedule("heft", p).makespan == 15
    assert schedule("heft", p, insertion=False).start[2] == 15


def test_pins_forbidden_nodes_and_busy_nodes_are_respected() -> None:
    p = Problem(
        np.ones((3, 3)),
        [(0, 1, 1)],
        links(3, 0.1),
        links(3),
        pinned={0: 2},
        available=[5, 0, 3],
        allowed=[[True] * 3, [True, False, True], [True] * 3],
    )
    s = schedule("heft", p)
    s.check(p)
    assert s.node.tolist() == [2, 2, 1]
    assert s.start.tolist() == [3, 4, 0]


def test_a_large_file_on_a_quadratic_link_stays_at_home() -> None:
    arguments: dict[str, Any] = {"times": [[1, 9], [9, 1]], "latency": links(2), "inv_rate": links(2, 0.001)}
    bent = links(2, 0.001)
    assert schedule("heft", Problem(edges=[(0, 1, 100)], **arguments)).node.tolist() == [0, 1]
    assert schedule("heft", Problem(edges=[(0, 1, 100)], quadratic=bent, **arguments)).node.tolist() == [0, 0]


def test_ranks_without_communication_give_another_order() -> None:
    p, _ = paper("heft-2002")
    assert schedule("heft", p, rank_comm=False).makespan == 91


def test_two_large_inputs_of_one_node_come_one_after_the_other_under_contention() -> None:
    p = Problem(np.ones((3, 3)), [(0, 2, 10), (1, 2, 10)], links(3, 0.5), links(3, 0.1), pinned={0: 0, 1: 1, 2: 2})
    assert schedule("heft", p).start[2] == 2.5
    assert schedule("heft", p, contention=True).start[2] == 3.5


def test_two_large_outputs_of_one_node_go_one_after_the_other_under_contention() -> None:
    p = Problem(np.ones((3, 3)), [(0, 1, 10), (0, 2, 10)], links(3, 0.5), links(3, 0.1), pinned={0: 0, 1: 1, 2: 2})
    assert schedule("heft", p).start.tolist() == [0, 2.5, 2.5]
    assert schedule("heft", p, contention=True).start.tolist() == [0, 2.5, 3.5]


def test_a_message_without_bytes_waits_for_no_card() -> None:
    p = Problem(np.ones((3, 3)), [(0, 1, 10), (0, 2, 0)], links(3, 0.5), links(3, 0.1), pinned={0: 0, 1: 1, 2: 2})
    assert schedule("heft", p, contention=True).start.tolist() == [0, 2.5, 1.5]


def test_planning_the_network_cards_pays_where_links_are_shared() -> None:
    ratios = []
    for seed in range(4):
        p = layered(40, 10, seed)
        plain, aware = schedule("heft", p), schedule("heft", p, contention=True)
        ratios.append(replay(p, aware.node, contention=True).makespan / replay(p, plain.node, contention=True).makespan)
    assert np.mean(ratios) < 0.8


def test_balanced_heft_spreads_what_heft_piles_up() -> None:
    p = Problem([[1, 100, 100]] * 12, [], links(3), links(3))
    assert np.bincount(schedule("heft", p).node, minlength=3).tolist() == [12, 0, 0]
    assert np.bincount(schedule("heft-balanced", p).node, minlength=3).max() == 6
    assert np.bincount(schedule("heft-balanced", p, cap=4).node, minlength=3).tolist() == [4, 4, 4]


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_the_cap_gives_way_where_every_node_is_full(cap: int) -> None:
    p = fork_join(5, 2, 3, seed=1)
    s = schedule("heft-balanced", p, cap=cap)
    s.check(p)
    counts = np.bincount(s.node, minlength=3)
    assert counts.max() - counts.min() <= 1


def test_the_cap_gives_way_to_pins() -> None:
    p = Problem(np.ones((8, 2)), [], links(2), links(2), pinned=dict.fromkeys(range(8), 1))
    assert schedule("heft-balanced", p, cap=2).node.tolist() == [1] * 8


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="cap is 0"):
        schedule("heft-balanced", fork_join(2, 1, 2), cap=0)
