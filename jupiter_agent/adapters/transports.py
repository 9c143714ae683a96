"""Data transports of third parties: the entry point group `jupiter.transports`.

What moves large objects from store to store. The built-in one is the bulk channel (adapters/bulk.py); another is

    def transport(pair, objects, post, admit, host) -> DataTransport

    [project.entry-points."jupiter.transports"]
    mine = "my_package:transport"

with the node's CURVE key pair (`public`, `secret`), the object store, where to report events (on the loop's thread),
who may come in (`admit(key)`), and the host to listen on. Chosen with `transport = "mine"`, on all agents of a cluster:
one that speaks another cannot be reached, and gets objects chunk by chunk on the control channel, slower. Encryption
and authentication are the transport's own business: `Wanted.key` is the key that who listens at `Wanted.endpoint` must
show.

`conforms` is the conformance test: the built-in passes it, and every other one must.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import zmq

from jupiter_agent.adapters.bulk import BulkChannel, Wanted
from jupiter_agent.adapters.curve import CurvePair
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.adapters.plugins import load
from jupiter_agent.core.events import BulkEnded, Event, ObjectStored

GROUP = "jupiter.transports"
BUILT_IN = "builtin"
LIMIT_S = 20.0


class DataTransport(Protocol):
    """All methods are called on the loop's thread and return at once."""

    counters: Counter[str]
    """shown in /metrics"""

    @property
    def port(self) -> int:
        """Where this agent serves; it may begin to with the first question. 0: it cannot."""

    def take(self, wanted: Wanted) -> None:
        """Fetch an object into the store, from what is here of it on. Answered by `ObjectStored` once it is whole and
        verified there, and by `BulkEnded`: with the bytes that came and in how long, or with the error missing, lost,
        unreachable, or `size N`: what the source has. Twice at a time is once."""

    def drop(self, sha256: bytes) -> None:
        """Nobody wants this object any longer; what comes of it is let pass."""

    def close(self) -> None:
        """End everything; nothing is told afterwards."""


Transport = Callable[[CurvePair, ObjectStore, Callable[[Event], None], Callable[[str], bool], str], DataTransport]


def find(name: str) -> Transport:
    """The transport of this name. UsageError for one that is not installed or does not load."""
    found: Transport = BulkChannel if name in ("", BUILT_IN) else load(GROUP, "transport", name, BUILT_IN)
    return found


class _End:
    """One side of the conformance test."""

    def __init__(self, transport: Transport, folder: Path, known: set[str]) -> None:
        public, secret = zmq.curve_keypair()
        self.pair = CurvePair(public.decode(), secret.decode())
        known.add(self.pair.public)
        self.store = ObjectStore(folder)
        self.events: list[Event] = []
        self.transport = transport(self.pair, self.store, self.events.append, lambda key: key in known, "127.0.0.1")

    def take(self, source: _End, sha256: bytes, size: int) -> None:
        endpoint = f"127.0.0.1:{source.transport.port}"
        self.transport.take(Wanted(sha256, size, "source", endpoint, source.pair.public))

    def ends(self) -> list[BulkEnded]:
        return [event for event in self.events if isinstance(event, BulkEnded)]


async def conforms(transport: Transport, folder: Path) -> None:
    """Raise AssertionError where a transport breaks the contract. For tests of whoever writes one."""
    known: set[str] = set()
    source, taker = (_End(transport, folder / name, known) for name in ("source", "taker"))
    try:
        await _moves(source, taker)
        await _fails(source, taker)
        await _refuses(transport, folder, source, known)
    finally:
        for end in (source, taker):
            end.transport.close()
    told = len(taker.events)
    await asyncio.sleep(0.05)
    assert len(taker.events) == told, "something is told after close()"


async def _moves(source: _End, taker: _End) -> None:
    assert 0 < source.transport.port < 65536, "it serves nowhere"
    data = {size: random.Random(size).randbytes(size) for size in (1, 70_000, 3_000_000)}
    digests = {source.store.ingest_bytes(each): each for each in data.values()}
    for sha256, each in digests.items():
        taker.take(source, sha256, len(each))
        taker.take(source, sha256, len(each))
    await _until(lambda: len(taker.ends()) >= len(digests), "not all objects came")
    for sha256, each in digests.items():
        assert ObjectStored(sha256, len(each)) in taker.events, "an object that came was not told of"
        assert taker.store.has(sha256), "an object that was told of is not there"
        assert hashlib.sha256(taker.store.path(sha256).read_bytes()).digest() == sha256
    assert [end.error for end in taker.ends()] == [""] * len(digests), "wanted twice is once, and without an error"
    assert sum(end.moved_bytes for end in taker.ends()) == sum(map(len, digests.values())), "bytes are counted wrong"
    assert all(0 < end.seconds < LIMIT_S and end.peer == "source" for end in taker.ends())


async def _fails(source: _End, taker: _End) -> None:
    """What is not there, and what is of another size than was said."""
    taker.events.clear()
    sha256 = source.store.ingest_bytes(b"x" * 1000)
    taker.take(source, hashlib.sha256(b"nobody has this").digest(), 1000)
    taker.take(source, sha256, 999)
    await _until(lambda: len(taker.ends()) >= 2, "what cannot come never ends")
    assert {end.error for end in taker.ends()} == {"missing", "size 1000"}


async def _refuses(transport: Transport, folder: Path, source: _End, known: set[str]) -> None:
    """Who is no member gets nothing."""
    stranger = _End(transport, folder / "stranger", set())
    try:
        sha256 = source.store.ingest_bytes(b"for members" * 1000)
        stranger.take(source, sha256, 11_000)
        await _until(stranger.ends, "a stranger is never told that it gets nothing")
        assert stranger.ends()[0].error in ("unreachable", "lost"), "a stranger was let in"
        assert not stranger.store.has(sha256)
    finally:
        stranger.transport.close()


async def _until(ready: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while not ready():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None
