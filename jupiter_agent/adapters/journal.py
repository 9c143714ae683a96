"""The journal: an append-only log of records in segments, which is all an agent remembers over a restart.

A segment `FOLDER/journal-<8 digits>.log` is a header (magic, schema version, flags, crc32) and frames (length, crc32 of
length and payload, MessagePack of one record). A full segment is synced before the next begins, so only the last one
can be torn: its first bad frame and what follows never were promised to anybody, and are cut off at the next start. A
bad frame anywhere else is damage, and refused. A segment gets its name when its header, or all of a compaction, is on
disk; a compaction carries a flag that makes all before it void. So a crash leaves the old log or the new one.

One thread, one process.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec

from jupiter_agent.adapters.disk import capacity, sync_folder, write_all
from jupiter_agent.errors import CapacityError, JupiterError

SEGMENT_BYTES = 8 * 1024 * 1024
MAX_RECORD_BYTES = 64 * 1024 * 1024
_MAGIC = b"JUPITERJ"
_HEADER = struct.Struct("<8sHHI")
_FRAME = struct.Struct("<II")
_VOIDS_OLDER = 1
_UNNAMED, _COMPACTED = "segment.tmp", "compacted.tmp"
_OPEN = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_PIECE = 1024 * 1024
_NAME = re.compile(r"journal-([0-9]{8})\.log\Z")


class Journal:
    """Opened on `folder`, which is made if need be; the torn tail is cut off. `cut_bytes` says how much that was.

    JupiterError: damage, or a log of another schema version.
    """

    def __init__(self, folder: Path, schema: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.schema, self.segment_bytes = folder, schema, segment_bytes
        self.cut_bytes = 0
        self._fd, self._size, self._broken, self._place = -1, 0, "", 0
        with capacity("opening the journal"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._segments = self._valid_segments()
            if self._segments:
                self._recover_tail()
            else:
                self._create(1, 0, [])
                self._segments = [1]

    @property
    def size_bytes(self) -> int:
        """Of all segments: when to compact."""
        return sum(self._path(n).stat().st_size for n in self._segments[:-1]) + self._size

    def append(self, records: Iterable[Any], sync: bool = False) -> None:
        """Add records with one write; `sync`: they and all before them are on disk on return.

        A record is None, bool, int, float, str, bytes, a list, a dict (keys: str, bytes, int) or a msgspec Struct; it
        comes back as plain lists and dicts. All or none is appended. CapacityError: the disk is full, nothing was
        added. OSError: the disk is broken; after a failed sync so is the journal.
        """
        if self._broken:
            raise JupiterError(f"the journal is closed: {self._broken}", "restart the agent")
        data = b"".join(_frame(record) for record in records)
        with capacity("writing the journal"):
            if self._size + len(data) > self.segment_bytes and self._size > _HEADER.size:
                self._roll()
            if data:
                self._write(data)
            if sync:
                self._sync()

    def replay(self) -> Iterator[Any]:
        """All records, oldest first. Takes memory for one segment. JupiterError: damage."""
        for number in list(self._segments):
            content = memoryview(self._path(number).read_bytes())
            end = self._size if number == self._segments[-1] else len(content)
            at = _HEADER.size
            for record_at, at in _frames(content[:end]):
                try:
                    record = msgpack.unpackb(content[record_at:at], strict_map_key=False)
                except (ValueError, TypeError):  # the checksum is right, and this was never written by us
                    raise self._damaged(number, record_at) from None
                yield record
            if at != end:
                raise self._damaged(number, at)

    def compact(self, keep: Iterable[Any]) -> None:
        """Replace everything by these records, durably; a crash leaves either. CapacityError: full, nothing changed."""
        old, number = list(self._segments), self._segments[-1] + 1
        with capacity("compacting the journal"):
            self._create(number, _VOIDS_OLDER, keep)
            self._segments = [number]
            for older in old:
                self._path(older).unlink()

    def close(self) -> None:
        """Durable and closed. Idempotent."""
        if self._fd >= 0:
            if not self._broken:
                os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd, self._broken = -1, "closed"

    # --- compaction while running

    def begin_compaction(self) -> None:
        """What is appended from now on stays behind what `finish_compaction` puts in the place of all before.

        An empty segment keeps that place, so a crash meanwhile leaves the old log. CapacityError: full.
        """
        with capacity("compacting the journal"):
            self._roll()
            self._place = self._segments[-1]
            self._roll()

    def write_compaction(self, keep: Iterable[Any]) -> None:
        """The records that stand for all before, durably, under no name yet. In any thread: nothing else is touched."""
        with capacity("compacting the journal"):
            fd, _ = _write_segment(self.folder / _COMPACTED, _header(self.schema, _VOIDS_OLDER), keep)
            os.close(fd)

    def finish_compaction(self) -> None:
        """One rename makes what was written count, and all before it void."""
        with capacity("compacting the journal"):
            (self.folder / _COMPACTED).rename(self._path(self._place))
            sync_folder(self.folder)
            void = [number for number in self._segments if number < self._place]
            self._segments = [number for number in self._segments if number >= self._place]
            for number in void:
                self._path(number).unlink()

    # --- opening

    def _valid_segments(self) -> list[int]:
        """Numbers of the segments that count; files that a crash left over are removed."""
        for left_over in (_UNNAMED, _COMPACTED):
            (self.folder / left_over).unlink(missing_ok=True)
        numbers = sorted(int(m[1]) for m in (_NAME.match(p.name) for p in self.folder.iterdir()) if m)
        first = 0
        for i, number in enumerate(numbers):
            if self._flags(number) & _VOIDS_OLDER:
                first = i
        for number in numbers[:first]:
            self._path(number).unlink()
        numbers = numbers[first:]
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise JupiterError(f"the journal {self.folder} has a gap: segments {numbers}", _DAMAGE_HINT)
        return numbers

    def _flags(self, number: int) -> int:
        path = self._path(number)
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        magic, schema, flags, crc = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
        if magic != _MAGIC or crc != zlib.crc32(header[:12]):
            raise JupiterError(f"{path} is no journal, or its header is damaged", _DAMAGE_HINT)
        if schema != self.schema:
            what = f"{path} has schema version {schema}, this agent reads and writes {self.schema}"
            raise JupiterError(what, "start the version that wrote it, or give another --state-dir")
        return int(flags)

    def _recover_tail(self) -> None:
        """Open the last segment for appending, behind its last good frame."""
        number = self._segments[-1]
        content = memoryview(self._path(number).read_bytes())
        end = _HEADER.size
        for _, end in _frames(content):  # noqa: B007 - where the last good one ends
            pass
        self._fd, self._size = os.open(self._path(number), _OPEN, 0o600), end
        self.cut_bytes = len(content) - end
        if self.cut_bytes:
            os.ftruncate(self._fd, end)
            os.fdatasync(self._fd)

    def _damaged(self, number: int, at: int) -> JupiterError:
        return JupiterError(f"{self._path(number)} is damaged at byte {at}", _DAMAGE_HINT)

    # --- writing

    def _path(self, number: int) -> Path:
        return self.folder / f"journal-{number:08}.log"

    def _create(self, number: int, flags: int, records: Iterable[Any]) -> None:
        """A new segment to append to, with these records; it has its name when they are on disk."""
        fresh = self.folder / _UNNAMED
        fd, size = _write_segment(fresh, _header(self.schema, flags), records)
        try:
            fresh.rename(self._path(number))
        except BaseException:
            os.close(fd)
            fresh.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, size
        try:
            sync_folder(self.folder)
        except OSError as error:  # whatever is appended now might be lost with the name
            self._broken = str(error)
            raise

    def _roll(self) -> None:
        number = self._segments[-1] + 1
        self._sync()
        self._create(number, 0, [])
        self._segments.append(number)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError:
            try:
                os.ftruncate(self._fd, self._size)  # half a frame must not stay in front of the next
            except OSError as error:
                self._broken = str(error)
            raise
        self._size += len(data)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:  # what the kernel dropped cannot be synced by asking again
            self._broken = str(error)
            raise


_DAMAGE_HINT = "restore it, or move the folder aside to start without it"


def _header(schema: int, flags: int) -> bytes:
    start = _HEADER.pack(_MAGIC, schema, flags, 0)[:12]
    return start + zlib.crc32(start).to_bytes(4, "little")


def _write_segment(path: Path, header: bytes, records: Iterable[Any]) -> tuple[int, int]:
    """(descriptor, size) of a synced file with these records; on errors there is none."""
    fd = os.open(path, _OPEN | os.O_TRUNC, 0o600)
    try:
        size, waiting = 0, bytearray(header)
        for record in records:
            waiting += _frame(record)
            if len(waiting) > _PIECE:
                write_all(fd, waiting)
                size, waiting = size + len(waiting), bytearray()
        write_all(fd, waiting)
        os.fdatasync(fd)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd, size + len(waiting)


def _frame(record: Any) -> bytes:
    payload: bytes = msgpack.packb(record, default=_plain)
    if len(payload) > MAX_RECORD_BYTES:
        raise CapacityError(f"a journal record of {len(payload)} bytes, {MAX_RECORD_BYTES} are allowed")
    return _FRAME.pack(len(payload), _crc(payload)) + payload


def _plain(value: Any) -> Any:
    """What msgpack does not know itself: Structs become lists or dicts."""
    if not isinstance(value, msgspec.Struct):
        raise TypeError(f"{type(value).__name__} cannot be journaled")
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def _crc(payload: bytes | memoryview) -> int:
    """Of length and payload, so that zeros are no frame."""
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little")))


def _frames(content: memoryview) -> Iterator[tuple[int, int]]:
    """Start and end of each payload, up to the first bad frame."""
    at = _HEADER.size
    while at + _FRAME.size <= len(content):
        length, crc = _FRAME.unpack_from(content, at)
        at += _FRAME.size
        if not 0 < length <= len(content) - at or _crc(content[at : at + length]) != crc:
            return
        yield at, at + length
        at += length
