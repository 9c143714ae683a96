"""Two agents' bulk channels and stores in one process, over loopback sockets."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq

from jupiter_agent.adapters.bulk import BulkChannel, Wanted
from jupiter_agent.adapters.curve import CurvePair
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.core.events import BulkEnded, Event, ObjectStored

MB = 1_000_000


class End:
    """One agent's store and channel; `events` as told."""

    def __init__(self, folder: Path, known: set[str]) -> None:
        public, secret = zmq.curve_keypair()
        self.pair = CurvePair(public.decode(), secret.decode())
        known.add(self.pair.public)
        self.store = ObjectStore(folder)
        self.events: list[Event] = []
        self.channel = BulkChannel(self.pair, self.store, self.events.append, lambda key: key in known, "127.0.0.1")

    def put(self, size: int, seed: int = 1) -> bytes:
        return self.store.ingest_bytes((random.Random(seed).randbytes(MB) * (size // MB + 1))[:size])

    def take(self, source: "End", sha256: bytes, size: int, port: int = 0) -> None:
        endpoint = f"127.0.0.1:{port or source.channel.port}"
        self.channel.take(Wanted(sha256, size, "n1", endpoint, source.pair.public))

    def ended(self) -> list[str]:
        return [event.error for event in self.events if isinstance(event, BulkEnded)]


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own."""

    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))  # type: ignore[arg-type]

    run.__name__ = test.__name__
    return run


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[End, End, set[str]]]:
    known: set[str] = set()
    ends = End(folder / "a", known), End(folder / "b", known)
    try:
        yield (*ends, known)
    finally:
        for end in ends:
            end.channel.close()


async def until(ready: Callable[[], object], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not ready():
            await asyncio.sleep(0.01)


async def begun(source: End, taker: End, sha256: bytes, size: int) -> None:
    """Until the first bytes of a large object are here."""
    taker.take(source, sha256, size)
    await until(lambda: taker.store.partial_offset(sha256) > 0)


@in_loop
@pytest.mark.smoke
async def test_objects_arrive_whole_and_verified(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sizes = [40 * MB, 100_000, 3 * MB, 1]
        digests = [source.put(size, seed) for seed, size in enumerate(sizes)]
        for sha256, size in zip(digests, sizes, strict=True):
            taker.take(source, sha256, size)
        await until(lambda: len(taker.ended()) == len(sizes))
        for sha256, size in zip(digests, sizes, strict=True):
            assert ObjectStored(sha256, size) in taker.events
            assert hashlib.sha256(taker.store.path(sha256).read_bytes()).digest() == sha256
        moved = sum(event.moved_bytes for event in taker.events if isinstance(event, BulkEnded))
        assert moved == sum(sizes)
        assert [event.sha256 for event in taker.events if isinstance(event, BulkEnded)][-1] == digests[0], "small first"


@in_loop
async def test_what_is_here_of_an_object_is_not_taken_again(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        size = 8 * MB
        sha256 = source.put(size)
        half = source.store.read_chunk(sha256, 0, MB)
        assert half is not None
        taker.store.write_chunk(sha256, size, 0, half)
        taker.take(source, sha256, size)
        await until(taker.ended)
        assert taker.store.has(sha256)
        assert source.channel.counters["bulk_bytes_out"] == size - len(half)


@in_loop
async def test_after_its_source_is_gone_an_object_goes_on_from_another(tmp_path):
    async with two(tmp_path) as (source, taker, known):
        other = End(tmp_path / "c", known)
        size = 200 * MB
        sha256 = source.put(size)
        assert other.put(size) == sha256
        await begun(source, taker, sha256, size)
        source.channel.close()
        await until(taker.ended)
        assert taker.ended() == ["lost"]
        here = taker.store.partial_offset(sha256)
        assert 0 < here < size
        taker.take(other, sha256, size)
        await until(lambda: len(taker.ended()) == 2)
        assert taker.store.has(sha256)
        assert other.channel.counters["bulk_bytes_out"] == size - here
        other.channel.close()


@in_loop
async def test_a_source_says_what_it_does_not_have_and_a_size_it_has_otherwise(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(MB)
        taker.take(source, bytes(32), MB)
        taker.take(source, sha256, 2 * MB)
        await until(lambda: len(taker.ended()) == 2)
        assert sorted(taker.ended()) == ["missing", f"size {MB}"]


@in_loop
async def test_who_is_no_member_gets_nothing(tmp_path):
    async with two(tmp_path) as (source, taker, known):
        sha256 = source.put(MB)
        known.discard(taker.pair.public)
        taker.take(source, sha256, MB)
        await until(taker.ended)
        assert taker.ended() == ["unreachable"]
        assert source.channel.counters["bulk_bytes_out"] == 0


@in_loop
async def test_a_member_that_was_expelled_gets_nothing_more_on_an_open_session(tmp_path):
    async with two(tmp_path) as (source, taker, known):
        first, second = source.put(MB, 1), source.put(MB, 2)
        taker.take(source, first, MB)
        await until(taker.ended)
        known.discard(taker.pair.public)
        taker.take(source, second, MB)
        await until(lambda: source.channel.counters["bulk_refused"])
        assert not taker.store.has(second)


@in_loop
async def test_nobody_listens_there(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        taker.take(source, bytes(32), MB, port=1)
        await until(taker.ended)
        assert taker.ended() == ["unreachable"]


@in_loop
async def test_what_is_no_address_is_unreachable(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        taker.channel.take(Wanted(bytes(32), MB, "n1", "no such host:1", source.pair.public))
        await until(taker.ended)
        assert taker.ended() == ["unreachable"]


def _breaks() -> None:
    raise ZeroDivisionError("what nobody foresaw")


@in_loop
async def test_a_thread_that_broke_sends_everybody_to_the_other_way(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(MB)
        taker.channel._take_orders = _breaks
        taker.channel.take(Wanted(sha256, MB, "n1", "127.0.0.1:1", source.pair.public))
        await until(taker.ended)
        assert taker.channel.port == 0
        taker.take(source, sha256, MB)
        await until(lambda: taker.ended() == ["unreachable"] * 2)


@in_loop
@pytest.mark.smoke
async def test_a_liar_about_the_content_is_told_by_the_digest(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(MB)
        path = source.store.path(sha256)
        path.chmod(0o600)
        path.write_bytes(bytes(MB))
        taker.take(source, sha256, MB)
        await until(lambda: taker.events)
        assert [event.error for event in taker.events if isinstance(event, ObjectStored)] == ["the digest is wrong"]
        assert not taker.store.has(sha256)


@in_loop
async def test_an_object_that_is_dropped_stops_coming(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(200 * MB)
        await begun(source, taker, sha256, 200 * MB)
        taker.channel.drop(sha256)
        taker.take(source, bytes(32), MB)
        await until(taker.ended)
        sent = source.channel.counters["bulk_bytes_out"]
        await asyncio.sleep(0.3)
        assert source.channel.counters["bulk_bytes_out"] == sent < 200 * MB


@in_loop
async def test_an_object_whose_beginning_was_thrown_away_is_not_said_to_be_here(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(100 * MB)
        await begun(source, taker, sha256, 100 * MB)
        taker.store.drop(sha256)
        await until(taker.ended)
        assert taker.ended() == ["lost"]
        taker.take(source, sha256, 100 * MB)
        await until(lambda: taker.ended() == ["lost", ""])
        assert taker.store.has(sha256)


@in_loop
async def test_memory_stays_flat_while_much_is_moved(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(60 * MB, 1)
        taker.take(source, sha256, 60 * MB)
        await until(taker.ended)
        before = _rss_kb()
        for seed in range(2, 6):
            source.store.drop(sha256)
            taker.store.drop(sha256)
            sha256 = source.put(60 * MB, seed)
            taker.take(source, sha256, 60 * MB)
            await until(lambda: len(taker.ended()) == seed)  # noqa: B023
        assert _rss_kb() - before < 80_000, "a put takes its bytes once"


def _rss_kb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@in_loop
async def test_a_source_whose_key_is_none_is_unreachable_and_the_channel_goes_on(tmp_path):
    async with two(tmp_path) as (source, taker, _):
        sha256 = source.put(MB)
        taker.channel.take(Wanted(b"x" * 32, MB, "bad", f"127.0.0.1:{source.channel.port}", "~" * 40))
        await until(lambda: taker.channel.counters["bulk_bad_addresses"])
        taker.take(source, sha256, MB)
        await until(lambda: taker.store.has(sha256))
