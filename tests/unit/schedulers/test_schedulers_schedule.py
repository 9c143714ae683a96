from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schedulers import Problem, Schedule
from schedulers.errors import Infeasible

P = Problem(
    times=[[2, 2], [3, 3], [1, 1]],
    edges=[(0, 1, 10)],
    latency=[[0, 1], [1, 0]],
    inv_rate=[[0, 0.1], [0.1, 0]],
    pinned={0: 0},
    available=[0, 1],
    allowed=[[True, True], [True, True], [True, False]],
)
GOOD: dict[str, Any] = {"node": [0, 1, 0], "start": [0, 4, 2], "finish": [2, 7, 3]}


def test_a_schedule_that_obeys_every_rule_passes() -> None:
    s = Schedule(**GOOD)
    s.check(P)
    assert s.makespan == 7.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node": [0, 1]}, "node has shape"),
        ({"finish": [2, 7]}, "finish has shape"),
        ({"node": [0, 2, 0]}, "task 1 is on a node that does not exist"),
        ({"node": [0, -1, 0]}, "task 1 is on a node that does not exist"),
        ({"start": [0, 4, np.nan]}, "task 2 has no finite start"),
        ({"finish": [2, 6, 3]}, "task 1 does not take its time"),
        ({"node": [1, 1, 0], "start": [0, 4, 2]}, "task 0 is on node 1 but pinned to node 0"),
        ({"node": [0, 1, 1]}, "task 2 is on a node it is not allowed on"),
        ({"start": [-1, 4, 2], "finish": [1, 7, 3]}, "task 0 starts before its node is available"),
        ({"start": [0, 0.5, 2], "finish": [2, 3.5, 3]}, "task 1 starts before its node is available"),
        ({"start": [0, 3.5, 2], "finish": [2, 6.5, 3]}, "before its input from 0 arrives at 4"),
        ({"start": [0, 4, 1.5], "finish": [2, 7, 2.5]}, "tasks 0 and 2 overlap on node 0"),
    ],
)
def test_a_planted_violation_is_found(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Infeasible, match=message):
        Schedule(**(GOOD | changes)).check(P)


def test_rounding_in_the_last_digits_is_forgiven() -> None:
    Schedule(GOOD["node"], [0, 4 - 1e-12, 2 - 1e-12], [2, 7, 3]).check(P)


def test_the_tolerance_follows_the_unit() -> None:
    nano = Problem([[2e-9], [2e-9]], [], [[0]], [[0]])
    with pytest.raises(Infeasible, match="overlap"):
        Schedule([0, 0], [0, 1e-9], [2e-9, 3e-9]).check(nano)


@pytest.mark.parametrize("instant", [0.0, 2.0, 4.0])
def test_a_task_without_duration_fits_between_others(instant: float) -> None:
    p = Problem([[2], [2], [0]], [], [[0]], [[0]])
    Schedule([0, 0, 0], [0, 2, instant], [2, 4, instant]).check(p)


def test_a_task_without_duration_does_not_fit_into_another() -> None:
    p = Problem([[2], [0]], [], [[0]], [[0]])
    with pytest.raises(Infeasible, match="overlap"):
        Schedule([0, 0], [0, 1], [2, 1]).check(p)


def test_a_schedule_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Schedule(**GOOD).node[0] = 1
