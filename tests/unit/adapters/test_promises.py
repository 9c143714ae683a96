"""What is on disk when, and what a start finds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters import promises
from jupiter_agent.adapters.journal import Journal
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.adapters.promises import BESIDE_BYTES, Promises
from jupiter_agent.core.effects import Append, Effect, Forget, StoreInline
from jupiter_agent.errors import CapacityError


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


class Slow(Journal):
    """A journal whose syncs end when they are let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 1)
        self.batches: list[list[Any]] = []
        self.let = threading.Event()
        self.error: BaseException | None = None

    def append(self, records: Any, sync: bool = False) -> None:
        if sync:
            assert self.let.wait(10)
        if self.error:
            raise self.error
        self.batches.append(list(records))
        super().append(records, sync)


class Rig:
    def __init__(self, folder: Path, apart: bool = True) -> None:
        self.journal = Slow(folder / "journal")
        self.objects = ObjectStore(folder / "objects")
        self.done: list[Effect] = []
        self.refused: list[Effect] = []
        self.crashes: list[BaseException] = []
        self.promises = Promises(
            self.journal, self.objects, self.done.extend, lambda effects, error: self.refused.extend(effects)
        )
        if apart:
            self.promises.on_crash = self.crashes.append


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.journal.let.set()
    rig.promises.close()
    rig.journal.close()


def test_nothing_of_a_batch_nor_of_what_comes_behind_it_is_done_before_it_is_on_disk(rig: Rig) -> None:
    async def run() -> None:
        first, later = [Append(("a",), sync=True), Forget("1")], [Forget("2")]
        rig.promises.perform(first)
        rig.promises.perform(later)
        await asyncio.sleep(0)
        assert rig.done == []
        rig.journal.let.set()
        await rig.promises.drain()
        assert rig.done == first + later

    asyncio.run(run())


def test_what_came_during_a_sync_shares_the_next_one(rig: Rig) -> None:
    async def run() -> None:
        for name in "abcd":
            rig.promises.perform([Append((name,), sync=True)])
        rig.journal.let.set()
        await rig.promises.drain()

    asyncio.run(run())
    assert rig.journal.batches == [[("a",)], [("b",), ("c",), ("d",)]]


def test_without_a_sync_a_batch_is_done_at_once(rig: Rig) -> None:
    rig.promises.perform([Append(("a",)), Forget("1")])
    assert rig.done == [Append(("a",)), Forget("1")]


def test_a_full_disk_refuses_the_batch_and_all_that_waited(rig: Rig) -> None:
    async def run() -> None:
        rig.journal.error = CapacityError("full")
        rig.promises.perform([Append(("a",), sync=True)])
        rig.promises.perform([Forget("2")])
        rig.journal.let.set()
        await rig.promises.drain()

    asyncio.run(run())
    assert rig.done == []
    assert rig.refused == [Append(("a",), sync=True), Forget("2")]


def test_a_batch_that_a_full_disk_does_not_take_is_kept_and_done_in_order_when_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "AGAIN_S", 0.001)
    told: list[str] = []

    async def run() -> None:
        rig.promises.on_full = told.append
        rig.journal.error = CapacityError("full")
        rig.journal.let.set()
        first, later = [Append(("a",), sync=True), Forget("1")], [Append(("b",)), Forget("2")]
        rig.promises.perform(first)
        rig.promises.perform(later)
        while not told:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert (told, rig.promises.full, rig.done, rig.refused) == (["full"], "full", [], [])
        rig.journal.error = None
        while rig.promises.full:
            await asyncio.sleep(0.001)
        await rig.promises.drain()
        assert (told, rig.done, rig.refused) == (["full", ""], first + later, [])

    asyncio.run(run())
    assert rig.journal.batches == [[("a",)], [("b",)]]


def test_the_bytes_beside_a_record_go_with_it_at_the_second_try_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "AGAIN_S", 0.001)

    async def run() -> None:
        rig.promises.on_full = lambda why: None
        rig.journal.error = CapacityError("full")
        rig.journal.let.set()
        rig.promises.perform([StoreInline(digest(b"result"), b"result"), Append(("a",), sync=True)])
        while not rig.promises.full:
            await asyncio.sleep(0.001)
        rig.journal.error = None
        while rig.promises.full:
            await asyncio.sleep(0.001)

    asyncio.run(run())
    assert rig.journal.batches == [[("blob", digest(b"result"), b"result"), ("a",)]]


def test_a_broken_disk_is_told_and_nothing_is_done(rig: Rig) -> None:
    async def run() -> None:
        rig.journal.error = OSError("gone")
        rig.promises.perform([Append(("a",), sync=True)])
        rig.journal.let.set()
        await rig.promises.drain()

    asyncio.run(run())
    assert (rig.done, [str(error) for error in rig.crashes]) == ([], ["gone"])


def commit(folder: Path, *contents: bytes) -> None:
    """Results with their records, as an agent leaves them that is killed."""
    rig = Rig(folder, apart=False)
    rig.journal.let.set()
    stores = [StoreInline(digest(data), data) for data in contents]
    rig.promises.perform([*stores, *(Append(("home", digest(data)), sync=True) for data in contents)])
    rig.journal.close()
    rig.promises.close()


def test_a_small_result_that_a_power_cut_took_from_the_store_comes_back_from_the_journal(tmp_path: Path) -> None:
    commit(tmp_path, b"lost", b"damaged", b"there")
    store = ObjectStore(tmp_path / "objects")
    store.path(digest(b"lost")).unlink()
    path = store.path(digest(b"damaged"))
    path.chmod(0o600)
    path.write_bytes(bytes(len(b"damaged")))
    rig = Rig(tmp_path)
    rig.promises.mend()
    for data in (b"lost", b"damaged", b"there"):
        assert rig.objects.path(digest(data)).read_bytes() == data
    assert list(rig.promises.replay()) == [["home", digest(data)] for data in (b"lost", b"damaged", b"there")]
    rig.promises.close()
    rig.journal.close()


def test_the_shortened_journal_still_holds_what_is_needed_and_nothing_else(tmp_path: Path) -> None:
    commit(tmp_path, b"needed", b"not")
    rig = Rig(tmp_path)
    rig.promises.mend()
    rig.promises.compact([["x"]], lambda sha: sha == digest(b"needed"))
    assert list(rig.journal.replay()) == [["blob", digest(b"needed"), b"needed"], ["x"]]
    rig.promises.close()
    rig.journal.close()


def test_a_larger_result_is_synced_by_itself(tmp_path: Path) -> None:
    large = bytes(BESIDE_BYTES + 1)
    rig = Rig(tmp_path, apart=False)
    rig.journal.let.set()
    rig.promises.perform([StoreInline(digest(large), large), Append(("home", digest(large)), sync=True)])
    assert rig.journal.batches == [[("home", digest(large))]]
    assert not rig.objects.settle(digest(large)), "it was synced"
    rig.promises.close()
    rig.journal.close()


def test_a_long_journal_is_shortened_while_batches_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "COMPACT_BYTES", 1000)

    async def run() -> None:
        rig.journal.let.set()
        assert not await rig.promises.compact_if_long(lambda: [])
        for _ in range(100):
            rig.promises.perform([Append(("home", "j", "item", "again and again"))])
        shortening = asyncio.create_task(rig.promises.compact_if_long(lambda: [("home", "j", "item", lambda: "made")]))
        for n in range(5):
            await asyncio.sleep(0)
            rig.promises.perform([Append((n,), sync=True), Forget(str(n))])
        assert await shortening
        await rig.promises.drain()
        assert not await rig.promises.compact_if_long(lambda: [])

    asyncio.run(run())
    assert list(rig.promises.replay()) == [["home", "j", "item", "made"], [0], [1], [2], [3], [4]]
    assert [each for each in rig.done if isinstance(each, Forget)] == [Forget(str(n)) for n in range(5)]
    assert rig.journal.size_bytes < 1000


def test_what_cannot_be_settled_holds_a_batch_up_like_a_record_that_finds_no_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, told = [True], []
    monkeypatch.setattr(promises, "AGAIN_S", 0.001)

    def settle() -> None:
        if full.pop():
            raise CapacityError("writing cluster.json: no room")

    async def run() -> None:
        rig.promises.on_full, rig.promises.settle = told.append, settle
        rig.promises.perform([Forget("a")])
        assert (rig.done, told) == ([], ["writing cluster.json: no room"])
        full[:] = [False]
        async with asyncio.timeout(10):
            while not rig.done:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert (rig.done, told[1:], rig.crashes) == ([Forget("a")], [""], [])
