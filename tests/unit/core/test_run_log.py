"""Records of runs outlive the agent, as far as its journal does."""

from __future__ import annotations

import msgspec

from jupiter_agent.core.counters import Run
from jupiter_agent.core.effects import Append
from jupiter_agent.core.profiling.run_log import BATCH, MOST_AT_ONCE, OLDEST_S, WRITE_S, RunLog

WALL = 1_000_000.0


def run(number: int) -> Run:
    at = float(number)
    return Run(f"i{number}", "t", at, at + 1, at + 2, 10, 5, 1.0, 0.5, 7, 0.0, {"home": (10, at - 1, at)}, {"u": 5})


def decoded(records: object) -> list[tuple[object, ...]]:
    """As they come back from disk."""
    return [tuple(record) for record in msgspec.msgpack.decode(msgspec.msgpack.encode(records))]


def journaled(log: RunLog) -> list[tuple[object, ...]]:
    return decoded([effect.record for effect in log.write() if isinstance(effect, Append)])


def test_runs_are_written_in_batches_and_are_there_in_wall_time_after_a_restart() -> None:
    log = RunLog(lambda now: WALL + now)
    log.note("j", [run(0)], 5.0)
    log.note("j", [run(n) for n in range(1, MOST_AT_ONCE + 9)], 5.1)
    assert log.due == 5.0 + WRITE_S
    journal = journaled(log)
    assert log.due == float("inf")
    again = RunLog(lambda now: 5.0 + now)
    others = [("home", "j", "job", {})]
    assert list(again.without([*journal, *others], WALL)) == others
    found = again.earlier("j")
    assert len(found) == MOST_AT_ONCE
    assert (found[1].enter, found[1].finish) == (WALL + 1, WALL + 3)
    assert found[1].edges_in == {"home": (10, WALL, WALL + 1)}
    third = RunLog(lambda now: now)
    assert list(third.without(decoded(list(again.earlier_records())), WALL)) == []
    assert third.earlier("j") == found


def test_a_journal_made_anew_has_the_runs_of_this_life_in_batches() -> None:
    log = RunLog(lambda now: WALL + now)
    records = list(log.records("j", [run(n) for n in range(BATCH + 1)]))
    assert [len(rows) for *_, rows in records] == [BATCH, 1]


def test_what_is_kept_is_not_for_ever() -> None:
    log = RunLog(lambda now: WALL + now)
    log.note("j", [run(0)], 0.0)
    late = RunLog(lambda now: now)
    list(late.without(journaled(log), WALL + OLDEST_S + 10))
    assert late.earlier("j") == []
    assert list(late.earlier_records()) == []


def test_a_damaged_record_is_left_out() -> None:
    log = RunLog(lambda now: now)
    assert list(log.without([("runs", "j", "runs", [["x"]]), ("runs", "j", "runs", 5)], WALL)) == []
    assert log.earlier("j") == []
