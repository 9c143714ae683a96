"""Runs that wait for a warm process and runs inside it."""

from __future__ import annotations

import asyncio

import pytest

from jupiter_agent.adapters.runs import MAX_ROOM, Runs
from jupiter_agent.adapters.setup import environ
from jupiter_agent.core.effects import StartRun


def run(number: int) -> StartRun:
    return StartRun(number, "j", "t", f"item{number}", [])


def numbers(runs: Runs) -> list[int]:
    """Let in what there is room for."""
    entered = []
    while effect := runs.next():
        runs.enter(effect)
        entered.append(effect.run)
    return entered


def make(replay: int = 0, waiting: int = 5) -> Runs:
    runs = Runs(None, lambda: None, replay)
    for number in range(1, waiting + 1):
        runs.push(run(number))
    return runs


def test_only_so_many_are_inside() -> None:
    runs = make()
    runs.reset(2)
    assert numbers(runs) == [1, 2]
    assert runs.leave(1) == run(1)
    assert runs.leave(1) is None
    assert numbers(runs) == [3]
    runs.widen(4)
    assert numbers(runs) == [4, 5]
    runs.widen(2)
    runs.push(run(6))
    assert runs.leave(9) is None
    assert numbers(runs) == []
    runs.leave(4)
    assert numbers(runs) == [6]


def test_room_has_a_bound() -> None:
    runs = make(waiting=100)
    runs.widen(1 << 40)
    assert len(numbers(runs)) == MAX_ROOM


def test_what_is_given_back_waits_again_in_its_order() -> None:
    runs = make()
    runs.widen(3)
    numbers(runs)
    runs.give_back(2)
    assert [attempt.effect.run for attempt in runs.empty(given_back=False)] == [1, 3]
    runs.reset(5)
    assert numbers(runs) == [2, 4, 5]
    assert runs.empty(given_back=True) == []
    assert numbers(runs) == [2, 4, 5]


def test_refused_ones_are_gone() -> None:
    runs = make()
    assert [effect.run for effect in runs.refuse()] == [1, 2, 3, 4, 5]
    assert runs.next() is None


def test_the_last_done_come_first_again_under_negative_numbers() -> None:
    runs = make(replay=2)
    runs.widen(5)
    for number in numbers(runs)[:3]:
        runs.remember(runs.leave(number) or run(0))
    assert [attempt.effect.run for attempt in runs.empty(given_back=False)] == [4, 5]
    runs.push(run(6))
    runs.reset(1)
    assert numbers(runs) == [-1]
    assert (runs.leave(-1) or run(0)).item == "item2"
    assert numbers(runs) == [-2]
    assert runs.empty(given_back=False) == []
    runs.reset(9)
    assert numbers(runs) == [6]


def test_time_runs_only_inside_and_a_late_answer_is_none() -> None:
    async def test() -> None:
        late = asyncio.Event()
        runs = Runs(0.001, late.set)
        runs.push(run(1))
        runs.push(run(2))
        assert numbers(runs) == [1]
        await asyncio.wait_for(late.wait(), 5)
        assert runs.leave(1) is None
        runs.give_back(1)
        [attempt] = runs.empty(given_back=True)
        assert (attempt.effect.run, attempt.late) == (1, True)
        runs.stop()

    asyncio.run(test())


@pytest.mark.parametrize("name", ["_env_JUPITER_JOB", "_env_", "_env_1A", "_env_A=B", "_env_A\nB", "CIRCE_HOME_IP"])
def test_what_is_no_variable_or_ours_does_not_reach_the_environment(name: str) -> None:
    assert environ({name: "x", "_env_CIRCE_HOME_IP": "1.2.3.4", "plain": "y"}) == {"CIRCE_HOME_IP": "1.2.3.4"}
