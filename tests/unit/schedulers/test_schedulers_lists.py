"""CPOP and PEFT, and the ready list and the decided places that they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedulers import Problem, Unplaceable, schedule
from schedulers.cpop import critical_path
from schedulers.generate import layered
from schedulers.listing import Rule, place, ready_order
from schedulers.peft import mean_costs, optimistic_costs
from schedulers.ranks import downward_rank, upward_rank

VECTORS = Path(__file__).parents[2] / "vectors"


def paper(name: str) -> tuple[Problem, dict[str, Any]]:
    table = json.loads((VECTORS / f"{name}.json").read_text())
    nodes = len(table["times"][0])
    return Problem(table["times"], table["edges"], np.zeros((nodes, nodes)), 1 - np.eye(nodes)), table


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


@pytest.mark.parametrize(("mapper", "example"), [("cpop", "heft-2002"), ("peft", "peft-2014")])
def test_the_examples_of_the_papers_give_the_published_makespan(mapper: str, example: str) -> None:
    p, table = paper(example)
    s = schedule(mapper, p)
    s.check(p)
    assert s.makespan == table[f"{mapper}_makespan"]


def test_the_optimistic_costs_are_those_of_the_paper() -> None:
    p, table = paper("peft-2014")
    assert optimistic_costs(p)[0].tolist() == table["optimistic_costs_of_entry"]


def test_the_critical_path_of_the_example_is_the_published_one() -> None:
    p, _ = paper("heft-2002")
    priority = [up + down for up, down in zip(upward_rank(p), downward_rank(p), strict=True)]
    assert critical_path(p, priority) == [0, 1, 8, 9]
    assert [round(priority[t], 3) for t in (0, 1, 8, 9)] == [108.0] * 4


def test_optimistic_costs_are_those_of_trying_every_pair_of_nodes() -> None:
    p = layered(20, 5, 3)
    table = optimistic_costs(p)
    latency = p.latency.sum() / 20
    inv_rate = p.inv_rate.sum() / 20
    for t in range(p.n_tasks):
        for n in range(5):
            follow = [
                min(table[v, m] + p.times[v, m] + (m != n) * (latency + d * inv_rate) for m in range(5))
                for v, d in p.children[t]
            ]
            assert table[t, n] == pytest.approx(max(follow, default=0.0))


def test_a_path_runs_on_the_node_that_is_through_with_it_first() -> None:
    p = Problem([[4, 1, 2], [4, 1, 2]], [(0, 1, 1)], links(3, 9), links(3), available=[0, 7, 0])
    assert schedule("cpop", p).node.tolist() == [2, 2]


def test_tasks_of_the_path_that_its_node_must_not_run_go_elsewhere() -> None:
    allowed = [[True, True], [True, False], [True, True]]
    p = Problem([[9, 1], [9, 1], [9, 1]], [(0, 1, 1), (1, 2, 1)], links(2, 1), links(2), allowed=allowed)
    assert schedule("cpop", p).node.tolist() == [0, 0, 0]
    away = Problem(p.times, p.edges, p.latency, p.inv_rate, pinned={0: 1, 1: 0, 2: 1})
    assert schedule("cpop", away).node.tolist() == [1, 0, 1]


def test_looking_ahead_avoids_the_node_from_which_the_child_is_far() -> None:
    # Task 1 is quick on node 1 only; HEFT keeps task 0 where it ends soonest and pays for the move.
    p = Problem([[3, 4], [50, 1]], [(0, 1, 10)], links(2), links(2, 1.0))
    assert schedule("heft", p).node.tolist() == [0, 1]
    assert schedule("peft", p).node.tolist() == [1, 1]


def test_a_forbidden_node_is_neither_hoped_for_nor_averaged() -> None:
    p = Problem([[1, 1], [50, 1]], [(0, 1, 0)], links(2), links(2), allowed=[[True, True], [True, False]])
    table = optimistic_costs(p)
    assert table[0].tolist() == [50, 50]
    assert mean_costs(p, table) == [50, 0]


def test_a_task_without_a_node_is_refused_before_anything_is_computed() -> None:
    p = Problem([[1, 1], [1, 1]], [(0, 1, 0)], links(2), links(2), allowed=[[True, True], [False, False]])
    for name in ("cpop", "peft"):
        with pytest.raises(Unplaceable, match="task 1"):
            schedule(name, p)


def test_a_ready_list_never_puts_a_child_before_its_parents() -> None:
    p = Problem(np.ones((4, 1)), [(0, 2, 0), (1, 3, 0)], [[0]], [[0]])
    assert ready_order(p, [1, 2, 9, 0]) == [1, 0, 2, 3]
    assert ready_order(p, [0, 0, 0, 0]) == [0, 1, 2, 3]


def test_places_decided_before_are_kept_where_they_are_allowed() -> None:
    p = Problem(np.ones((3, 2)), [], links(2), links(2), allowed=[[True, True], [True, False], [True, True]])
    assert place(p, [0, 1, 2], Rule(places={0: 1, 1: 1, 2: 1})).node.tolist() == [1, 0, 1]
