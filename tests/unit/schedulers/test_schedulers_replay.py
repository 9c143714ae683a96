from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedulers import Problem
from schedulers.exhaustive import optimum
from schedulers.generate import fork_join, layered
from schedulers.replay import replay
from schedulers.stream import stream
from schedulers.throughput import period

NAN = float("nan")


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


def test_a_chain_on_two_nodes_waits_for_its_transfers() -> None:
    p = Problem(np.ones((3, 2)), [(0, 1, 10), (1, 2, 10)], links(2, 0.5), links(2, 0.1))
    s = replay(p, [0, 1, 1])
    s.check(p)
    assert s.start.tolist() == [0, 2.5, 3.5]


def test_the_queue_of_a_node_is_ordered_by_rank_and_not_by_arrival() -> None:
    # Task 1 arrives first, task 2 has a long tail; both wait for task 0.
    p = Problem([[5.0], [1.0], [1.0], [9.0]], [(2, 3, 0)], [[0]], [[0]])
    assert replay(p, [0] * 4, priority=[9, 0, 0, 0]).start.tolist() == [0, 5, 6, 7]
    assert replay(p, [0] * 4).start.tolist() == [10 + 0, 15, 0, 1]


def test_a_node_that_is_busy_at_first_starts_late() -> None:
    p = Problem(np.ones((2, 2)), [], links(2), links(2), available=[3, 0])
    assert replay(p, [0, 1]).start.tolist() == [3, 0]


def test_cards_are_taken_in_the_order_in_which_senders_really_finish() -> None:
    # The slow sender 0 starts first; the quick ones finish before it and must not wait behind it.
    p = Problem(
        [[9] * 3, [1] * 3, [1] * 3, [1] * 3],
        [(0, 3, 10), (1, 2, 10)],
        links(3),
        links(3, 0.1),
    )
    s = replay(p, [0, 1, 2, 2], contention=True)
    assert s.start[2] == 2
    assert s.start[3] == 10


def test_of_two_transfers_that_are_ready_at_once_the_urgent_one_goes_first() -> None:
    p = Problem([[1] * 3, [1] * 3, [9] * 3], [(0, 1, 10), (0, 2, 10)], links(3), links(3, 0.1))
    assert replay(p, [0, 1, 2], contention=True).start.tolist() == [0, 3, 2]


@pytest.mark.parametrize("take", [replay, stream, period])
@pytest.mark.parametrize(
    "node",
    [[0, 0], [0, 0, 2], [0, -1, 0], [0, 0.5, 1], [0.0, 1.0, 1.0], [0, NAN, 1], [0, 10**400, 1], [True] * 3, "012", 0],
    ids=lambda each: str(each)[:20],
)
def test_a_mapping_of_other_tasks_or_nodes_is_refused(node: Any, take: Callable[[Problem, Any], object]) -> None:
    with pytest.raises(ValueError, match="node must be"):
        take(Problem(np.ones((3, 2)), [], links(2), links(2)), node)


@pytest.mark.parametrize("take", [replay, stream, period])
@pytest.mark.parametrize(("node", "task"), [([1, 0, 0], 0), ([0, 0, 1], 2)])
def test_a_mapping_to_a_node_that_a_task_must_not_use_is_refused(
    node: list[int], task: int, take: Callable[[Problem, Any], object]
) -> None:
    allowed = [[True, True], [True, True], [True, False]]
    p = Problem(np.ones((3, 2)), [], links(2), links(2), pinned={0: 0}, allowed=allowed)
    with pytest.raises(ValueError, match=f"task {task} is on node 1, which it must not use"):
        take(p, node)


@pytest.mark.parametrize("priority", [[1, 2], [1, 2, 3, 4], [1, NAN, 3], [[1], [2], [3]], ["a", "b", "c"], 5])
def test_priorities_that_are_too_few_or_no_numbers_are_refused(priority: Any) -> None:
    with pytest.raises(ValueError, match="priority must be"):
        replay(Problem(np.ones((3, 2)), [], links(2), links(2)), [0, 0, 0], priority)


def test_nodes_and_priorities_may_be_arrays_of_any_kind_of_number() -> None:
    p = Problem(np.ones((3, 2)), [], links(2), links(2))
    last_first = np.array([1, 2, np.inf], dtype=np.float32)
    assert replay(p, np.zeros(3, dtype=np.uint8), last_first).start.tolist() == [2, 1, 0]


def test_the_optimum_of_two_independent_pairs_is_found() -> None:
    p = Problem([[3, 3], [3, 3], [2, 2], [2, 2], [2, 2]], [], links(2), links(2))
    s = optimum(p)
    s.check(p)
    assert s.makespan == 6


def test_the_exhaustive_search_refuses_what_would_take_for_ever() -> None:
    with pytest.raises(ValueError, match="8 tasks on 2 nodes are too many"):
        optimum(layered(8, 2))


@pytest.mark.parametrize("arguments", [(1, 1), (2, 1), (3, 2), (50, 7)])
def test_layered_problems_have_one_entry_one_exit_and_the_asked_size(arguments: tuple[int, int]) -> None:
    p = layered(*arguments)
    assert (p.n_tasks, p.n_nodes) == arguments
    assert sum(not parents for parents in p.parents) == 1
    assert sum(not children for children in p.children) == 1


def test_generated_problems_have_the_asked_ratio_of_communication_to_computation() -> None:
    for ccr in (0.2, 5.0):
        p = layered(60, 8, seed=2, ccr=ccr)
        transfers = [p.transfer(a, b, d) for *_, d in p.edges for a in range(8) for b in range(8) if a != b]
        assert np.mean(transfers) / p.times.mean() == pytest.approx(ccr)


def test_a_fork_join_has_its_stages() -> None:
    p = fork_join(3, 2, 2)
    assert p.n_tasks == 9
    assert [len(parents) for parents in p.parents] == [0, 1, 1, 1, 3, 1, 1, 1, 3]


@pytest.mark.parametrize(("generator", "arguments"), [(layered, (0, 1)), (layered, (1, 0)), (fork_join, (0, 1, 1))])
def test_a_generator_refuses_an_empty_problem(generator: Any, arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        generator(*arguments)
