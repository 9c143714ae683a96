import pytest

from jupiter_agent.core.intervals import FinishedSet, IntervalSet
from jupiter_agent.core.messages.jobs import HomeVersion

ONE, TWO = HomeVersion(1, "a", 1), HomeVersion(2, "b", 1)


def test_neighbours_and_overlaps_become_one_interval():
    numbers = IntervalSet([(1, 2), (5, 6)])
    numbers.add(3)
    assert numbers.spans == [(1, 3), (5, 6)]
    numbers.add(2, 5)
    assert numbers.spans == [(1, 6)]


def test_only_what_was_added_is_in_it():
    numbers = IntervalSet([(3, 5), (8, 8)])
    assert [n for n in range(12) if n in numbers] == [3, 4, 5, 8]


def test_an_interval_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match=r"5\.\.4"):
        IntervalSet([(5, 4)])


def test_the_same_number_of_another_home_version_is_another_item():
    finished = FinishedSet()
    finished.add((ONE, 1))
    assert (ONE, 1) in finished
    assert (TWO, 1) not in finished
    assert None not in finished


def test_merging_says_whether_something_was_new():
    mine, other = FinishedSet(), FinishedSet()
    mine.add((ONE, 1))
    other.add((ONE, 2))
    other.add((TWO, 7))
    assert mine.merge(other.to_intervals())
    assert not mine.merge(other.to_intervals())
    assert mine.to_intervals() == [(ONE, [(1, 2)]), (TWO, [(7, 7)])]


def test_intervals_given_away_do_not_change_later():
    finished = FinishedSet()
    finished.add((ONE, 1))
    given = finished.to_intervals()
    finished.add((ONE, 2))
    assert given == [(ONE, [(1, 1)])]
