"""When a process starts ahead of its first item."""

import asyncio
import os

import pytest
from jumping import run

from jupiter_agent.adapters import ahead
from jupiter_agent.adapters.ahead import AT_MOST_S, CROWDED, LOOK_AGAIN_MAX_S, LOOK_AGAIN_S, is_crowded, until_calm


@pytest.fixture
def wanting(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many processes want a core: the first one now, the others when it is looked at again."""
    counts: list[int | None] = []
    monkeypatch.setattr(ahead, "runnable", lambda: counts.pop(0) if len(counts) > 1 else counts[0])
    return counts


def test_a_machine_is_crowded_when_several_want_each_core(wanting: list[int | None]) -> None:
    most = CROWDED * len(os.sched_getaffinity(0))
    wanting += [most, most + 1, None]
    assert [is_crowded() for _ in range(3)] == [False, True, False]


def waited() -> float:
    """Seconds until the process of a task that has no item may start."""

    async def story() -> float:
        began = asyncio.get_running_loop().time()
        await until_calm(asyncio.Event())
        return asyncio.get_running_loop().time() - began

    return float(run(story))


def test_where_there_is_room_nothing_waits(wanting: list[int | None]) -> None:
    wanting.append(0)
    assert waited() == 0.0


def test_what_is_wanted_starts_in_the_middle_of_a_crowd(wanting: list[int | None]) -> None:
    wanting.append(1000)

    async def story() -> float:
        loop, wanted = asyncio.get_running_loop(), asyncio.Event()
        waiting = asyncio.ensure_future(until_calm(wanted))
        await asyncio.sleep(AT_MOST_S / 2)
        assert not waiting.done()
        wanted.set()
        began = loop.time()
        await waiting
        return loop.time() - began

    assert run(story) == 0.0


def test_it_looks_again_and_waits_no_longer_than_so_long(wanting: list[int | None]) -> None:
    wanting += [1000, 1000, 0]
    assert LOOK_AGAIN_S < waited() < 5 * LOOK_AGAIN_S
    assert wanting == [0]
    wanting[:] = [1000]
    assert AT_MOST_S <= waited() < AT_MOST_S + 1.5 * LOOK_AGAIN_MAX_S
