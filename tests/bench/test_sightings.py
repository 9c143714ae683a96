"""Traces of many agents, put together."""

from __future__ import annotations

import json

import pytest

from jupiter_agent.bench.fleet import chosen
from jupiter_agent.bench.sightings import Sightings
from jupiter_agent.errors import UsageError


@pytest.fixture
def seen(tmp_path):
    sightings = Sightings(tmp_path / "trace")
    tell(sightings, (1.0, "a", "start", "A"), (1.1, "a", "joined"), (2.0, "b", "start", "B"), (2.1, "b", "joined"))
    return sightings


def tell(sightings, *lines):
    sightings.take(json.dumps(line) for line in lines)


def test_all_see_all_since_the_last_one_saw_the_last_other(seen):
    tell(seen, (2.2, "a", "alive", "B"))
    assert seen.all_see_all(["a", "b"]) is None
    tell(seen, (2.5, "b", "alive", "A"))
    assert seen.all_see_all(["a", "b"]) == 2.5


def test_who_holds_a_running_one_dead_or_a_gone_one_alive_does_not_see_all(seen):
    tell(seen, (2.2, "a", "alive", "B"), (2.5, "b", "alive", "A"), (3.0, "c", "start", "C"), (3.1, "a", "alive", "C"))
    assert seen.all_see_all(["a", "b"]) is None
    tell(seen, (4.0, "a", "dead", "C"))
    assert seen.all_see_all(["a", "b"]) == 4.0
    tell(seen, (5.0, "b", "dead", "A"))
    assert seen.all_see_all(["a", "b"]) is None


def test_a_suspect_is_still_present(seen):
    tell(seen, (2.2, "a", "alive", "B"), (2.5, "b", "alive", "A"), (3.0, "b", "suspect", "A"))
    assert seen.all_see_all(["a", "b"]) == 3.0


def test_one_may_be_seen_before_its_own_first_line_is_written(seen):
    tell(seen, (3.1, "a", "alive", "C"), (3.2, "b", "alive", "C"), (3.0, "c", "start", "C"))
    assert seen.alive_in("a") == {"c"}
    assert seen.everywhere("c", ["alive"], ["a", "b"], 0.0) == 3.2


def test_an_agent_started_again_has_seen_nothing_yet(seen):
    tell(seen, (2.2, "a", "alive", "B"), (9.0, "a", "start", "A"))
    assert seen.alive_in("a") == set()


def test_everywhere_is_when_the_last_observer_saw_it_and_never_before_the_time_asked_for(seen):
    tell(seen, (3.0, "a", "profile", "B"), (7.0, "a", "profile", "B"))
    assert seen.everywhere("b", ["profile"], ["a", "b"], 0.0) == 3.0
    assert seen.everywhere("b", ["profile"], ["a", "b"], 5.0) == 7.0
    assert seen.everywhere("b", ["profile"], ["a", "b", "c"], 0.0) is None


def test_a_death_of_one_that_was_not_to_die_is_told_with_who_concluded_it(seen):
    tell(seen, (3.0, "a", "dead", "B"), (4.0, "b", "dead", "A"), (4.5, "b", "alive", "A"))
    assert [(s.by, s.subject) for s in seen.dead_since(2.0, ["a", "b"])] == [("a", "b"), ("b", "a")]
    assert [(s.by, s.subject) for s in seen.dead_since(2.0, ["a", "b"], but=["b"])] == [("b", "a")]
    assert [(s.by, s.subject) for s in seen.dead_since(2.0, ["b"])] == [("b", "a")]
    assert seen.dead_since(4.0, ["a", "b"]) == []


def test_lines_are_read_as_they_are_written_and_half_a_line_waits(tmp_path):
    path = tmp_path / "trace"
    sightings = Sightings(path)
    sightings.read()
    path.write_bytes(b'[1.0, "a", "start", "A"]\n[1.5, "a", "joi')
    sightings.read()
    assert sightings.agents["a"].joined is None
    with path.open("ab") as file:
        file.write(b'ned"]\n')
    sightings.read()
    assert sightings.agents["a"].joined == 1.5


def test_rows_that_there_are_not_are_refused():
    assert chosen(["idle", "kill"], "") == ["idle", "kill"]
    assert chosen(["idle", "kill"], "kill") == ["kill"]
    with pytest.raises(UsageError):
        chosen(["idle", "kill"], "kil")
