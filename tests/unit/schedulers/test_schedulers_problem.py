from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schedulers import Problem
from schedulers.peft import optimistic_costs
from schedulers.ranks import downward_rank, upward_rank

NAN, INF = float("nan"), float("inf")


def problem(**changes: Any) -> Problem:
    """Three tasks in a row on two nodes; `changes` replace arguments."""
    arguments: dict[str, Any] = {
        "times": [[1, 2], [3, 4], [5, 6]],
        "edges": [(0, 1, 10), (1, 2, 20)],
        "latency": [[0, 1], [2, 0]],
        "inv_rate": [[0, 0.5], [0.25, 0]],
    }
    return Problem(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": []}, r"times has shape \(0,\)"),
        ({"times": np.zeros((0, 2))}, "at least one of each"),
        ({"times": np.zeros((3, 0))}, "at least one of each"),
        ({"times": [1, 2, 3]}, r"expected \(tasks, nodes\)"),
        ({"times": [[1, 2], [3]]}, "not an array of numbers"),
        ({"times": [["a", "b"]]}, "not an array of numbers"),
        ({"times": [[1, NAN], [3, 4], [5, 6]]}, r"times\[0, 1\] is nan"),
        ({"times": [[1, 2], [3, -4], [5, 6]]}, r"times\[1, 1\] is -4.0"),
        ({"times": [[1, 2], [3, 4], [INF, 6]]}, r"times\[2, 0\] is inf"),
        ({"times": [[1e308, 2], [1e308, 4], [1e308, 6]]}, "overflow"),
        ({"times": [[4.4e307, 2], [0, 4], [0, 6]]}, "overflow"),
        ({"quadratic": [[0, 1e-300], [0, 0]], "edges": [(0, 1, 1e200)]}, "overflow"),
        ({"times": 5}, r"times has shape \(\)"),
        ({"times": [[1, 2], [3, 10**400], [5, 6]]}, r"times\[1, 1\] is inf, expected a finite number >= 0"),
        ({"times": [[1, 2], [3, -(10**400)], [5, 6]]}, r"times\[1, 1\] is -inf"),
        ({"times": [[1, 10**400], [3]]}, "not an array of numbers"),
        ({"times": [[1, 10**400], [3, "a"]]}, "not an array of numbers"),
        ({"latency": [[0, 10**400], [1, 0]]}, r"latency\[0, 1\] is inf"),
        ({"available": [0, 10**400]}, r"available\[1\] is inf"),
        ({"latency": [[0, 1]]}, r"latency has shape \(1, 2\), expected \(2, 2\)"),
        ({"latency": [[0, NAN], [1, 0]]}, r"latency\[0, 1\]"),
        ({"latency": [[1, 1], [1, 0]]}, "latency has a nonzero diagonal"),
        ({"inv_rate": [[0, 1], [1, 2]]}, "inv_rate has a nonzero diagonal"),
        ({"inv_rate": [[0, -1], [1, 0]]}, r"inv_rate\[0, 1\] is -1.0"),
        ({"quadratic": [[0, INF], [1, 0]]}, r"quadratic\[0, 1\] is inf"),
        ({"quadratic": [0, 0]}, "quadratic has shape"),
        ({"available": [0]}, "available has shape"),
        ({"available": [0, NAN]}, r"available\[1\] is nan"),
        ({"available": [0, -1]}, r"available\[1\] is -1.0"),
        ({"allowed": [[True, True]]}, "allowed has shape"),
        ({"allowed": [[1, 2], [1, 1], [1, 1]]}, "other than true and false"),
        ({"edges": [(0, 1, -1)]}, "carries -1.0 bytes"),
        ({"edges": [(0, 1, NAN)]}, "carries nan bytes"),
        ({"edges": [(0, 1, INF)]}, "carries inf bytes"),
        ({"edges": [(0, 1, 10**400)]}, "carries inf bytes"),
        ({"edges": None}, "edges is None, expected an iterable of .task, task, bytes."),
        ({"edges": 5}, "edges is 5, expected an iterable"),
        ({"edges": [(0, 3, 1)]}, "task 3 is unknown"),
        ({"edges": [(-1, 2, 1)]}, "task -1 is unknown"),
        ({"edges": [(0.5, 2, 1)]}, "expected an integer"),
        ({"edges": [(0, 1)]}, "not .task, task, bytes."),
        ({"edges": [(0, 1, None)]}, "not .task, task, bytes."),
        ({"edges": [(0, 1, 1), (0, 1, 1)]}, "given twice"),
        ({"edges": [(0, 0, 1)]}, r"a cycle keeps \[0\]"),
        ({"edges": [(0, 1, 1), (1, 2, 1), (2, 1, 1)]}, r"a cycle keeps \[1, 2\]"),
        ({"pinned": {3: 0}}, "pinned task 3 is unknown"),
        ({"pinned": {0: 2}}, "node of a pinned task 2 is unknown"),
        ({"pinned": [0, 1]}, "expected a mapping"),
    ],
)
def test_bad_input_is_a_value_error_that_says_where(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(**changes)


def test_one_task_on_one_node_is_a_problem() -> None:
    p = Problem([[1.5]], [], [[0]], [[0]])
    assert (p.n_tasks, p.n_nodes, p.order) == (1, 1, [0])
    assert repr(p) == "Problem(1 tasks, 0 edges, 1 nodes)"


def test_a_transfer_takes_latency_plus_rate_plus_the_quadratic_term_and_nothing_on_the_same_node() -> None:
    p = problem(quadratic=[[0, 0.125], [0.0, 0]])
    assert p.transfer(0, 1, 4) == 1 + 0.5 * 4 + 0.125 * 16
    assert p.transfer(1, 0, 4) == 2 + 0.25 * 4
    assert p.transfer(1, 1, 4) == 0
    assert p.transfer_row(0, 4).tolist() == [0, p.transfer(0, 1, 4)]
    assert p.busy_row(0, 4).tolist() == [0, 4]
    assert problem().transfer(0, 1, 4) == 3


def test_sizes_whose_squares_are_no_numbers_take_what_the_link_says_where_it_has_no_quadratic_term() -> None:
    p = problem(edges=[(0, 1, 1e200)])
    assert p.transfer(0, 1, 1e200) == p.transfer_row(0, 1e200)[1] == 0.5e200
    assert upward_rank(p)[0] == downward_rank(p)[1] == pytest.approx(0.375e200)
    assert optimistic_costs(p)[0].tolist() == [3, 4]


def test_a_problem_does_not_change_with_the_arrays_it_was_made_from() -> None:
    times = np.ones((3, 2))
    p = problem(times=times)
    times[0, 0] = 7
    assert p.times[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        p.times[0, 0] = 7


def test_pins_and_forbidden_nodes_narrow_where_a_task_may_go() -> None:
    p = problem(pinned={0: 1}, allowed=[[True, True], [True, False], [True, True]])
    assert [p.nodes_for(t) for t in range(3)] == [[1], [0], [0, 1]]
    p.require_placeable()
    assert problem().nodes_for(0) == [0, 1]


def test_the_order_is_topological_with_ties_by_index() -> None:
    p = Problem(np.ones((5, 1)), [(4, 0, 1), (4, 1, 1), (1, 2, 1)], [[0]], [[0]])
    assert p.order == [3, 4, 0, 1, 2]
    assert p.parents[2] == [(1, 1.0)]
    assert p.children[4] == [(0, 1.0), (1, 1.0)]
