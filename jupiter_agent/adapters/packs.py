"""Small objects, many to a file: `FOLDER/<8 digits>.pack`, frames of size, digest and bytes, only ever appended to.

A file of its own costs a small object a hundred times its writing. What is dropped stays until most of its pack is
dropped; then the rest moves on and the pack goes. A start reads all packs and believes what has its digest: a torn end
is cut off, a damaged frame is skipped. What was dropped since the last move is here again then, like any object that
nobody asks for.

The caller keeps threads apart.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from jupiter_agent.adapters.disk import sync_folder, write_all

PACKED_BYTES = 16 * 1024
"""Larger objects have files of their own"""
PACK_BYTES = 2 * 1024 * 1024
LIVE_SHARE = 0.25
"""A full pack of which less is live goes: what has to be moved then takes some milliseconds"""
_HEAD = struct.Struct("<I32s")


class Packs:
    """Opened on `folder`, which is made if need be."""

    def __init__(self, folder: Path, pack_bytes: int = PACK_BYTES) -> None:
        self._folder, self._pack_bytes = folder, pack_bytes
        self._at: dict[bytes, tuple[int, int, int]] = {}
        """digest -> (pack, offset of its bytes, size)"""
        self._live: dict[int, int] = {}
        """pack -> bytes of live frames"""
        self._bytes: dict[int, int] = {}
        """pack -> bytes of all its frames"""
        self._fd, self._number, self._size = -1, 0, 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in sorted(int(path.stem) for path in folder.glob("*.pack")):
            self._load(number)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._at

    def sizes(self) -> dict[bytes, int]:
        return {digest: size for digest, (_, _, size) in self._at.items()}

    def put(self, digest: bytes, data: bytes) -> None:
        """Append an object; not synced. OSError: nothing was added."""
        if self._fd < 0 or self._size >= self._pack_bytes:
            self._roll()
        try:
            write_all(self._fd, _HEAD.pack(len(data), digest) + data)
        except OSError:
            os.ftruncate(self._fd, self._size)  # half a frame must not stay in front of the next
            raise
        self._at[digest] = (self._number, self._size + _HEAD.size, len(data))
        self._size += _HEAD.size + len(data)
        self._bytes[self._number] = self._size
        self._live[self._number] = self._live.get(self._number, 0) + _HEAD.size + len(data)

    def read(self, digest: bytes, offset: int, length: int) -> bytes:
        """KeyError when it is not here."""
        number, at, size = self._at[digest]
        fd = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, max(0, min(length, size - offset)), at + offset)
        finally:
            os.close(fd)

    def drop(self, digest: bytes) -> None:
        """Idempotent. A pack that is mostly void goes."""
        place = self._at.pop(digest, None)
        if place is None:
            return
        number, _, size = place
        self._live[number] -= _HEAD.size + size
        if number != self._number and self._live[number] < LIVE_SHARE * self._bytes[number]:
            self._move_out(number)

    def handle(self) -> int:
        """A descriptor, the caller's to close: when it is synced, all that was put before is on disk. -1: it is."""
        return os.dup(self._fd) if self._fd >= 0 else -1

    def sync(self) -> None:
        """All that was put is on disk."""
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # --- inside

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}.pack"

    def _roll(self) -> None:
        """Begin the next pack; the last one is synced, so that one sync is enough for all."""
        self.sync()
        self.close()
        last, number = self._number, self._number + 1
        self._fd = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        sync_folder(self._folder)
        self._number, self._size = number, os.fstat(self._fd).st_size
        if last in self._live and self._live[last] < LIVE_SHARE * self._bytes[last]:
            self._move_out(last)

    def _move_out(self, number: int) -> None:
        """What is live in a pack goes to the end, durably; then the pack goes."""
        here = [(digest, at, size) for digest, (of, at, size) in self._at.items() if of == number]
        content = self._path(number).read_bytes() if here else b""
        for digest, at, size in here:
            self.put(digest, content[at : at + size])
        if here:
            self.sync()
        del self._live[number], self._bytes[number]
        self._path(number).unlink()

    def _load(self, number: int) -> None:
        """Enter what is whole in a pack; later packs have the later copy of what was moved."""
        path = self._path(number)
        content = path.read_bytes()
        end = 0
        self._live[number] = 0
        for digest, at, size in _frames(content):
            end = at + size
            if sha256(content[at:end]).digest() == digest:
                if digest in self._at:
                    self._live[self._at[digest][0]] -= _HEAD.size + size
                self._at[digest] = (number, at, size)
                self._live[number] += _HEAD.size + size
        if end < len(content):
            os.truncate(path, end)
        self._bytes[number] = end
        self._number = number
        if not self._live[number]:
            del self._live[number], self._bytes[number]
            path.unlink()


def _frames(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(digest, offset, size) of each frame, up to where there can be none."""
    at = 0
    while at + _HEAD.size <= len(content):
        size, digest = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        if size > PACKED_BYTES or at + size > len(content):
            return
        yield digest, at, size
        at += size
