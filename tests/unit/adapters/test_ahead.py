"""When a process starts ahead of its first item."""

import asyncio
import os
import time

import pytest

from jupiter_agent.adapters import ahead
from jupiter_agent.adapters.ahead import CROWDED, is_crowded, until_calm


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


def test_where_there_is_room_nothing_waits(wanting: list[int | None]) -> None:
    wanting.append(0)
    began = time.monotonic()
    asyncio.run(until_calm(asyncio.Event()))
    assert time.monotonic() - began < 0.1


def test_what_is_wanted_starts_in_the_middle_of_a_crowd(wanting: list[int | None]) -> None:
    wanting.append(1000)

    async def story() -> float:
        wanted = asyncio.Event()
        waiting = asyncio.ensure_future(until_calm(wanted))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        wanted.set()
        began = time.monotonic()
        await waiting
        return time.monotonic() - began

    assert asyncio.run(story()) < 0.1


def test_it_looks_again_and_waits_no_longer_than_so_long(
    wanting: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "LOOK_AGAIN_S", 0.01)
    wanting += [1000, 1000, 0]
    asyncio.run(until_calm(asyncio.Event()))
    assert wanting == [0]
    wanting[:] = [1000]
    monkeypatch.setattr(ahead, "AT_MOST_S", 0.05)
    began = time.monotonic()
    asyncio.run(until_calm(asyncio.Event()))
    assert 0.05 <= time.monotonic() - began < 1.0
