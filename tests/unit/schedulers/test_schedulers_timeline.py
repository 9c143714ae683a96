from __future__ import annotations

import pytest

from schedulers.local import eft
from schedulers.timeline import Timeline


def busy(*intervals: tuple[float, float]) -> Timeline:
    line = Timeline()
    for start, finish in intervals:
        line.insert(start, finish)
    return line


def test_an_idle_node_starts_when_the_inputs_are_there() -> None:
    assert busy().earliest(3.0, 5.0) == 3.0


def test_a_task_goes_into_the_first_gap_it_fits() -> None:
    line = busy((0, 2), (3, 5), (8, 9))
    assert line.earliest(0, 1) == 2
    assert line.earliest(0, 3) == 5
    assert line.earliest(0, 4) == 9
    assert line.earliest(6, 2) == 6
    assert line.earliest(6.5, 2) == 9
    assert line.earliest(20, 1) == 20


def test_reservations_stay_sorted_in_whatever_order_they_come() -> None:
    line = busy((8, 9), (0, 2), (3, 5), (2, 2), (5, 5), (3, 3))
    assert line.starts == [0, 2, 3, 3, 5, 8]
    assert line.finishes == [2, 2, 3, 5, 5, 9]


@pytest.mark.parametrize(("start", "finish"), [(1, 3), (4, 5), (0, 10), (5, 4), (3.5, 3.5)])
def test_an_overlapping_reservation_is_refused_and_changes_nothing(start: float, finish: float) -> None:
    line = busy((0, 2), (3, 5))
    with pytest.raises(ValueError, match="overlaps"):
        line.insert(start, finish)
    assert line.starts == [0, 3]
    assert line.finishes == [2, 5]


def test_an_instant_waits_for_the_running_task_and_nothing_runs_across_it() -> None:
    assert busy((0, 4)).earliest(1, 0) == 4
    assert busy((4, 4)).earliest(3, 2) == 4
    assert busy((4, 4)).earliest(3, 1) == 3


def test_the_finish_on_one_timeline_counts_the_last_input_and_the_availability_of_the_node() -> None:
    line = busy((0, 2), (5, 6))
    assert eft(line, [1.0, 2.5], 2.0) == (2.5, 4.5)
    assert eft(line, [], 2.0) == (2.0, 4.0)
    assert eft(line, [1.0], 2.0, ready_from=4.0) == (6.0, 8.0)
