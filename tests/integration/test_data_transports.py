"""Data transports: the built-in one and a third party's pass one conformance test."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters.bulk import BulkChannel, Wanted
from jupiter_agent.adapters.transports import GROUP, conforms, find
from jupiter_agent.core.events import BulkEnded, ObjectStored
from jupiter_agent.errors import UsageError

pytestmark = pytest.mark.smoke


class Plain:
    """About the least a transport can be: one TCP connection per object, the key of who asks in the first line. It
    believes that line, so it is for tests alone."""

    def __init__(self, pair: Any, objects: Any, post: Callable[[Any], None], admit: Callable[[str], bool], host: str):
        self.counters: Counter[str] = Counter()
        self.pair, self.objects, self.post, self.admit, self.host = pair, objects, post, admit, host
        self.tasks: dict[bytes, asyncio.Task[None]] = {}
        import socket

        self.sock = socket.create_server((host, 0))
        self.port = self.sock.getsockname()[1]
        self.server = asyncio.ensure_future(asyncio.start_server(self._serve, sock=self.sock))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key, digest = (await reader.readline()).decode().split()
        if self.admit(key):
            sha256 = bytes.fromhex(digest)
            size = self.objects.size(sha256)
            writer.write(f"{-1 if size is None else size}\n".encode())
            writer.write(self.objects.path(sha256).read_bytes() if size else b"")
            await writer.drain()
        writer.close()

    def take(self, wanted: Wanted) -> None:
        if wanted.sha256 not in self.tasks:
            self.tasks[wanted.sha256] = asyncio.ensure_future(self._take(wanted))

    async def _take(self, wanted: Wanted) -> None:
        began, error, moved = asyncio.get_running_loop().time(), "", 0
        host, _, port = wanted.endpoint.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{self.pair.public} {wanted.sha256.hex()}\n".encode())
        line = await reader.readline()
        size = int(line) if line else None
        if size is None or size < 0:
            error = "lost" if size is None else "missing"
        elif size != wanted.size:
            error = f"size {size}"
        else:
            data = await reader.readexactly(size)
            moved = len(data)
            self.objects.write_chunk(wanted.sha256, size, 0, data)
            self.post(ObjectStored(wanted.sha256, size))
        writer.close()
        seconds = max(1e-6, asyncio.get_running_loop().time() - began)
        self.post(BulkEnded(wanted.sha256, wanted.peer, moved, seconds, error))

    def drop(self, sha256: bytes) -> None:
        if task := self.tasks.pop(sha256, None):
            task.cancel()

    def close(self) -> None:
        for task in [self.server, *self.tasks.values()]:
            task.cancel()
        self.sock.close()


class Lossy(Plain):
    """Says that all came, and stores nothing."""

    async def _take(self, wanted: Wanted) -> None:
        self.post(ObjectStored(wanted.sha256, wanted.size))
        self.post(BulkEnded(wanted.sha256, wanted.peer, wanted.size, 0.1, ""))


class Open(Plain):
    """Lets everybody in."""

    def __init__(self, pair: Any, objects: Any, post: Callable[[Any], None], admit: Any, host: str):
        super().__init__(pair, objects, post, lambda key: True, host)


def conforming(transport: Any, folder: Path) -> None:
    async def run() -> None:
        await conforms(transport, folder)

    asyncio.run(run())


@pytest.mark.parametrize("transport", [BulkChannel, Plain])
def test_the_built_in_transport_and_another_conform(transport: Any, tmp_path: Path) -> None:
    conforming(transport, tmp_path)


@pytest.mark.parametrize("transport", [Lossy, Open])
def test_one_that_loses_objects_or_lets_strangers_in_does_not(transport: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        conforming(transport, tmp_path)


def test_an_installed_transport_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("mine", f"{__name__}:Plain", GROUP)])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))
    assert find("mine") is not None
    assert find("builtin") is BulkChannel
    with pytest.raises(UsageError, match="no transport is called 'yours'"):
        find("yours")
