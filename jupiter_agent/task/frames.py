"""Frames between agent and task process: 4 bytes of length (big-endian), then one MessagePack value."""

from __future__ import annotations

import os

from msgpack import packb, unpackb  # type: ignore[import-untyped]

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

HEADER_BYTES = 4
READ_BYTES = 256 * 1024


class Pipe:
    """The process's end, on a plain file descriptor (importing `socket` would cost 5 ms). Not thread-safe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pid = os.getpid()
        self._buffer = bytearray()

    def read(self) -> Any:
        """The next value; None when the agent closed its end, or is gone."""
        header = self._take(HEADER_BYTES)
        body = header and self._take(int.from_bytes(header, "big"))
        return unpackb(body) if body else None

    def write(self, value: Any) -> None:
        """In a child that user code forked and let return, this ends the child: one run has one answer."""
        if os.getpid() != self._pid:
            os._exit(0)
        body = packb(value)
        rest = memoryview(len(body).to_bytes(HEADER_BYTES, "big") + body)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def buffered(self) -> bool:
        """Whether `read` would return without waiting."""
        have = len(self._buffer)
        return have >= HEADER_BYTES and have >= HEADER_BYTES + int.from_bytes(self._buffer[:HEADER_BYTES], "big")

    def _take(self, count: int) -> bytes:
        buffer = self._buffer
        while len(buffer) < count:
            try:
                data = os.read(self.fd, READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                return b""
            buffer += data
        taken = bytes(buffer[:count])
        del buffer[:count]
        return taken
