from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from schedulers import Unplaceable
from schedulers.local import (
    Candidate,
    Resources,
    Weights,
    controllers,
    greedy_choice,
    greedy_scores,
    random_choice,
)

NAN, INF = float("nan"), float("inf")


def one_second_per_byte(src: str, dst: str, data: float) -> float:
    return data


def costs(*arguments: object, **options: object) -> dict[str, float]:
    return {s.node: s.cost_s for s in greedy_scores(*arguments, **options)}  # type: ignore[arg-type]


def test_a_task_without_parents_is_controlled_by_home() -> None:
    assert controllers(["a", "b"], {"b": ["a"]}) == {"a": None, "b": "a"}


def test_of_several_parents_the_first_that_already_controls_something_is_taken() -> None:
    parents = {"x": ["b"], "join": ["a", "b", "c"]}
    assert controllers(["a", "b", "c", "x", "join"], parents)["join"] == "b"


def test_of_several_parents_that_control_nothing_the_first_in_file_order_is_taken() -> None:
    assert controllers(["a", "b", "join"], {"join": ["b", "a"]})["join"] == "a"


def test_ties_in_the_topological_order_are_in_file_order() -> None:
    parents = {"a": ["z"], "m": ["z"], "end": ["m", "a"]}
    assert list(controllers(["end", "m", "z", "a"], parents)) == ["z", "m", "a", "end"]


def test_home_self_edges_and_tasks_outside_the_dag_are_dropped() -> None:
    tasks = ["home", "a", "side", "b"]
    parents = {"a": ["home", "a"], "side": ["side"], "b": ["side", "a"], "home": ["b"]}
    assert controllers(tasks, parents, is_dag={"side": False, "a": True}) == {"a": None, "b": "a"}


def test_the_home_of_old_apps_has_another_name() -> None:
    assert controllers(["a"], {"a": ["scheduler"]}, home="scheduler") == {"a": None}


@pytest.mark.parametrize(
    ("tasks", "parents", "message"),
    [
        (["a", "a"], {}, "twice"),
        (["a"], {"a": ["b"]}, "parent 'b' of task 'a' is unknown"),
        (["a", "b", "c"], {"b": ["c"], "c": ["b"]}, r"a cycle keeps \['b', 'c'\]"),
    ],
)
def test_what_is_no_dag_is_refused(tasks: list[str], parents: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        controllers(tasks, parents)


def test_the_cost_is_the_slowest_input_plus_the_time_under_load_plus_memory_pressure() -> None:
    candidate = Candidate("n", 3.0, Resources(load=2.0, cpus=4.0, memory_used=0.9), committed=4)
    (score,) = greedy_scores([candidate], [("a", 5.0), ("b", 7.0)], one_second_per_byte, Weights(2, 3, 5))
    assert score.transfer_s == 7.0
    assert score.compute_s == 3.0 * (1 + (2 + 4) / 4)
    assert score.memory_s == pytest.approx(3.0 * 0.1 / 0.2)
    assert score.cost_s == pytest.approx(2 * 7.0 + 3 * 7.5 + 5 * 1.5)


def test_memory_below_the_high_water_mark_costs_nothing() -> None:
    assert costs([Candidate("n", 3.0, Resources(memory_used=0.8))], [], one_second_per_byte) == {"n": 3.0}


def test_a_transfer_to_the_same_node_is_free_and_not_asked_for() -> None:
    def never(src: str, dst: str, data: float) -> float:
        raise AssertionError

    assert costs([Candidate("a", 1.0)], [("a", 5.0)], never) == {"a": 1.0}


def test_the_real_size_of_the_edge_decides_between_staying_and_moving() -> None:
    candidates = [Candidate("here", 3.0), Candidate("fast", 1.0)]
    assert greedy_choice(candidates, [("here", 1.0)], one_second_per_byte).node == "fast"
    assert greedy_choice(candidates, [("here", 9.0)], one_second_per_byte).node == "here"


def test_without_a_known_parent_the_transfer_is_left_out() -> None:
    assert costs([Candidate("a", 1.0), Candidate("b", 2.0)], [], one_second_per_byte) == {"a": 1.0, "b": 2.0}


def test_tasks_already_committed_push_the_next_one_elsewhere() -> None:
    candidates = [Candidate("a", 1.0, committed=2), Candidate("b", 2.5)]
    assert greedy_choice(candidates, [], one_second_per_byte).node == "b"


def test_ties_go_to_the_shorter_transfer_then_to_no_transfer_then_to_the_smaller_node() -> None:
    tied = [Candidate("c", 1.0), Candidate("b", 1.0), Candidate("far", 0.0)]
    assert [s.node for s in greedy_scores(tied, [("c", 1.0)], lambda *_: 0.0, Weights(0, 0, 0))] == ["c", "b", "far"]
    slow = [Candidate("a", 1.0), Candidate("z", 0.0)]
    assert [s.node for s in greedy_scores(slow, [("a", 1.0)], one_second_per_byte)] == ["a", "z"]


@pytest.mark.parametrize("unknown", [None, NAN])
def test_an_unknown_link_counts_as_the_slowest_known_and_says_so(unknown: float | None) -> None:
    links = {"b": 4.0, "c": unknown, "d": INF}
    scores = greedy_scores([Candidate(n, 0.0) for n in "bcd"], [("a", 1.0)], lambda src, dst, data: links[dst])
    assert [(s.node, s.transfer_s) for s in scores] == [("b", 4.0), ("c", 4.0), ("d", INF)]
    assert [s.assumed for s in scores] == [(), ("link from a not measured: taken as the slowest known, 4 s",), ()]


@pytest.mark.parametrize("unknown", [None, NAN])
def test_an_unknown_time_counts_as_the_mean_of_the_known_and_says_so(unknown: float | None) -> None:
    scores = greedy_scores([Candidate("a", 1.0), Candidate("b", 3.0), Candidate("c", unknown)], [], one_second_per_byte)
    assert [(s.node, s.exec_s) for s in scores] == [("a", 1.0), ("c", 2.0), ("b", 3.0)]
    assert scores[1].assumed == ("time here not measured: taken as the mean of the others, 2 s",)


@pytest.mark.parametrize("unknown", [Resources(load=NAN), Resources(cpus=0.0), Resources(memory_used=-1.0)])
def test_unknown_resources_count_as_idle_and_say_so(unknown: Resources) -> None:
    (score,) = greedy_scores([Candidate("a", 2.0, unknown)], [], one_second_per_byte)
    assert score.cost_s == 2.0
    assert score.assumed == ("resources not known: taken as idle",)


def test_an_unreachable_node_costs_no_number_where_the_network_does_not_count() -> None:
    scores = greedy_scores([Candidate("b", 1.0)], [("a", 1.0)], lambda *_: INF, Weights(0, 1, 1))
    assert scores[0].cost_s == 1.0


@pytest.mark.parametrize("weights", [Weights(net=-1), Weights(cpu=NAN), Weights(memory=INF)])
def test_a_weight_that_is_no_finite_number_from_zero_on_is_refused(weights: Weights) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        greedy_scores([Candidate("a", 1.0)], [], one_second_per_byte, weights)


def test_every_number_of_a_score_is_explained_in_words() -> None:
    here = Candidate("a", 2.0, Resources(load=1.0, cpus=2.0, memory_used=0.9), committed=1)
    there = Candidate("b", None)
    by_node = {s.node: s.reasons for s in greedy_scores([here, there], [("a", 5.0)], one_second_per_byte)}
    assert by_node == {
        "a": [
            "no transfer: no parent on another node",
            "computing 4 s: 2 s alone, load 1 and 1 committed on 2 cpus",
            "memory pressure 1 s: 90% used",
        ],
        "b": [
            "transfer 5 s, the slowest input is from a",
            "computing 2 s: 2 s alone, load 0 and 0 committed on 1 cpus",
            "time here not measured: taken as the mean of the others, 2 s",
        ],
    }


def test_a_choice_among_no_nodes_is_unplaceable() -> None:
    with pytest.raises(Unplaceable, match="task t cannot be placed: there is no node"):
        greedy_choice([], [], one_second_per_byte, task="t")
    with pytest.raises(Unplaceable, match="task t"):
        random_choice([], Random(0), task="t")


def test_a_random_choice_depends_on_the_seed_and_not_on_the_order_of_the_nodes() -> None:
    nodes = ["c", "a", "b"]
    first = [random_choice(nodes, rng) for rng in [Random(1)] for _ in range(300)]
    again = [random_choice(reversed(nodes), rng) for rng in [Random(1)] for _ in range(300)]
    assert first == again
    assert all(math.isclose(count, 100, rel_tol=0.3) for count in Counter(first).values())
