"""The object store: immutable files named by the SHA-256 of their content, and the parts of those still arriving.

Owns `FOLDER/ab/<64 hex>.<size>` (mode 0400) and `FOLDER/partial/<64 hex>.<size>` (0600). A name is only ever made from
a digest and a size, never from what a peer or a task calls a thing. The size in the name lets a start find files that a
power cut left short: those go. A partial is kept over a restart when its bytes came in order, so its length says how
far it got; one with holes goes. Completion verifies the digest: a wrong one throws the partial away.

Any thread may call; only `ingest_file` is slow (it hashes before it takes the lock).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from jupiter_agent.adapters.disk import capacity, sync_folder, write_all
from jupiter_agent.adapters.partial import MAX_HOLES, PIECE, Partial, hash_range
from jupiter_agent.core.messages import MAX_OBJECT_BYTES
from jupiter_agent.errors import CapacityError, TaskError

MAX_PARTIALS = 64
STALE_S = 300.0
"""a partial that got nothing for so long makes room for another"""
_DIGEST = 32
_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]{1,18})\Z")


class Written(NamedTuple):
    """What became of a chunk. `error`: the chunk was refused or the object thrown away, and why."""

    state: Literal["stored", "partial", "error"]
    error: str = ""


class ObjectStore:
    """Opened on `folder`, which is made if need be. `limit_bytes` bounds stored and announced bytes together."""

    def __init__(
        self,
        folder: Path,
        limit_bytes: int = 1 << 40,
        max_object_bytes: int = MAX_OBJECT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.limit_bytes, self.max_object_bytes = folder, limit_bytes, max_object_bytes
        self._clock, self._lock = clock, threading.RLock()
        self._incoming = folder / "partial"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sizes: dict[bytes, int] = dict(_stored(folder))
        self._partials: dict[bytes, Partial] = dict(_left_over(self._incoming, clock()))
        self.used_bytes = sum(self._sizes.values()) + sum(p.size for p in self._partials.values())
        """bytes stored, and of partials the bytes they will have"""
        self._unsynced: set[bytes] = set()

    # --- asking

    def has(self, sha256: bytes) -> bool:
        return sha256 in self._sizes

    def size(self, sha256: bytes) -> int | None:
        """None: it is not here, or not whole."""
        return self._sizes.get(sha256)

    def path(self, sha256: bytes) -> Path:
        """Of a stored object, to read only. KeyError when it is not here."""
        return self._place(sha256, self._sizes[sha256])

    def partial_offset(self, sha256: bytes) -> int:
        """How many bytes from the start are here: where to resume. The size when stored, 0 when unknown."""
        partial = self._partials.get(sha256)
        return partial.prefix if partial else self._sizes.get(sha256, 0)

    def sizes(self) -> dict[bytes, int]:
        """Digest -> bytes of all stored objects, for what drops those nobody needs."""
        return dict(self._sizes)

    def read_chunk(self, sha256: bytes, offset: int, length: int) -> bytes | None:
        """At most `length` bytes (and 1 MiB) from `offset`, fewer at the end. None: not here, or no such offset."""
        size = self._sizes.get(sha256)
        if size is None or not 0 <= offset <= size or length < 0:
            return None
        with capacity("reading an object"):
            try:
                fd = os.open(self._place(sha256, size), os.O_RDONLY)
            except FileNotFoundError:
                return None
            try:
                return os.pread(fd, min(length, PIECE), offset)
            finally:
                os.close(fd)

    # --- putting in

    def write_chunk(
        self, sha256: bytes, size: int, offset: int, data: bytes | memoryview, sync: bool = False
    ) -> Written:
        """Bytes of an object at an offset, in any order, repeated or not. `sync`: durable when stored.

        CapacityError: the disk, the limit, or the number of partials is full; the parts of this object make room.
        Amortised O(1) in order; out of order O(holes).
        """
        try:
            return self._write_chunk(sha256, size, offset, data, sync)
        except CapacityError:
            with self._lock:
                if sha256 in self._partials:
                    self.drop(sha256)
            raise

    def expire(self) -> None:
        """Drop the partial objects that got nothing for long: whoever sent them has gone."""
        with self._lock:
            now = self._clock()
            for sha256 in [digest for digest, p in self._partials.items() if now - p.touched >= STALE_S]:
                self.drop(sha256)

    def _write_chunk(self, sha256: bytes, size: int, offset: int, data: bytes | memoryview, sync: bool) -> Written:
        with self._lock, capacity("writing an object"):
            if error := self._refused(sha256, size, offset, data):
                return Written("error", error)
            if sha256 in self._sizes:
                return Written("stored")
            partial = self._partials.get(sha256) or self._announce(sha256, size)
            partial.touched = self._clock()
            if not partial.put(offset, data):
                return Written("error", f"more than {MAX_HOLES} holes")
            if partial.prefix < size:
                return Written("partial")
            if (partial.hashed or hashlib.sha256()).digest() != sha256:
                self.drop(sha256)
                return Written("error", "the digest is wrong")
            self._keep(partial.path, sha256, size, sync)
            del self._partials[sha256]
            return Written("stored")

    def ingest_bytes(self, data: bytes, sync: bool = False) -> bytes:
        """Store these bytes; returns their digest. CapacityError: full."""
        sha256 = hashlib.sha256(data).digest()
        with self._lock, capacity("writing an object"):
            if sha256 in self._sizes:
                return sha256
            fresh = self._reserve(sha256, len(data))
            try:
                fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
                try:
                    write_all(fd, data)
                finally:
                    os.close(fd)
                self._keep(fresh, sha256, len(data), sync)
            except BaseException:
                self.used_bytes -= len(data)
                fresh.unlink(missing_ok=True)
                raise
        return sha256

    def ingest_file(self, path: Path, sync: bool = False) -> tuple[bytes, int]:
        """Move a file into the store; returns digest and size. Blocks while it hashes.

        Copied and removed where it cannot be moved: on another file system, or with other hard links. TaskError: not a
        regular file, too large, or changed meanwhile; CapacityError: full. The file stays where it was then. Who holds
        it open for writing can change it afterwards: end the writer first.
        """
        with capacity("storing a file"):
            sha256, seen = _hash_file(path, self.max_object_bytes)
            with self._lock:
                if sha256 in self._sizes:
                    if path.resolve() != self.path(sha256).resolve():
                        path.unlink()
                    return sha256, seen.st_size
                fresh = self._reserve(sha256, seen.st_size)
                try:
                    _move(path, fresh, seen, sha256)
                    self._keep(fresh, sha256, seen.st_size, sync)
                except BaseException:
                    self.used_bytes -= seen.st_size
                    raise
        return sha256, seen.st_size

    def sync(self, digests: Iterable[bytes]) -> None:
        """Have these on disk, those that are here and were not synced yet. Blocks, without the lock."""
        with self._lock:
            places = {sha256: self.path(sha256) for sha256 in self._unsynced.intersection(digests)}
        if not places:
            return
        with capacity("syncing an object"):
            for place in places.values():
                _sync_file(place)
            for folder in {self.folder, *(place.parent for place in places.values())}:
                sync_folder(folder)
        with self._lock:
            self._unsynced.difference_update(places)

    def settle(self, sha256: bytes) -> bool:
        """Its bytes are kept elsewhere, too: it needs no sync. Whether it would have needed one."""
        with self._lock:
            needed = sha256 in self._unsynced
            self._unsynced.discard(sha256)
            return needed

    def unsettle(self, digests: Iterable[bytes]) -> None:
        """Their bytes are not kept elsewhere after all."""
        with self._lock:
            self._unsynced.update(digest for digest in digests if digest in self._sizes)

    def drop(self, sha256: bytes) -> None:
        """Forget an object or its partial. Idempotent."""
        with self._lock:
            if partial := self._partials.pop(sha256, None):
                self.used_bytes -= partial.size
                partial.remove()
            size = self._sizes.pop(sha256, None)
            self._unsynced.discard(sha256)
            if size is not None:
                self.used_bytes -= size
                self._place(sha256, size).unlink(missing_ok=True)

    # --- inside

    def _refused(self, sha256: bytes, size: int, offset: int, data: bytes | memoryview) -> str:
        """Why a chunk cannot belong to the object, or ''."""
        if len(sha256) != _DIGEST or not 0 <= offset <= size - len(data):
            return "the chunk is not inside the object"
        if size > self.max_object_bytes:
            return f"{size} bytes, an object may have {self.max_object_bytes}"
        partial = self._partials.get(sha256)
        known = partial.size if partial else self._sizes.get(sha256, size)
        return "" if known == size else f"the size is another: {size}, known is {known}"

    def _announce(self, sha256: bytes, size: int) -> Partial:
        now = self._clock()
        if len(self._partials) >= MAX_PARTIALS:
            stalest = min(self._partials, key=lambda digest: self._partials[digest].touched)
            if now - self._partials[stalest].touched < STALE_S:
                raise CapacityError(f"{MAX_PARTIALS} objects are arriving already", "wait until one is whole")
            self.drop(stalest)
        self._room(size)
        path = self._incoming / f"{sha256.hex()}.{size}"
        path.touch(mode=0o600)
        self.used_bytes += size
        self._partials[sha256] = Partial(path, size, now)
        return self._partials[sha256]

    def _reserve(self, sha256: bytes, size: int) -> Path:
        """Count a whole object in, instead of its partial if there is one; where to put it first."""
        partial = self._partials.get(sha256)
        self._room(size - (partial.size if partial else 0))
        self.drop(sha256)
        self.used_bytes += size
        return self._incoming / f"{sha256.hex()}.{size}.new"

    def _room(self, more: int) -> None:
        if self.used_bytes + more > self.limit_bytes:
            what = f"the object store is full: {self.used_bytes} of {self.limit_bytes} bytes"
            raise CapacityError(what, "wait until jobs end, or raise the limit")

    def _keep(self, path: Path, sha256: bytes, size: int, sync: bool) -> None:
        """Give a verified file its name."""
        path.chmod(0o400)
        if sync:
            _sync_file(path)
        place = self._place(sha256, size)
        try:
            path.rename(place)
        except FileNotFoundError:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            if sync:
                sync_folder(self.folder)
            path.rename(place)
        if sync:
            sync_folder(place.parent)
        else:
            self._unsynced.add(sha256)
        self._sizes[sha256] = size

    def _place(self, sha256: bytes, size: int) -> Path:
        name = sha256.hex()
        return self.folder / name[:2] / f"{name}.{size}"


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _hash_file(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Digest and state of a regular file that a task made: no link is followed, no fifo waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOENT, errno.ENXIO, errno.EACCES}:
            raise TaskError(f"{path.name}: not a file that can be read: {error.strerror}") from error
        raise
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise TaskError(f"{path.name}: not a regular file")
        if seen.st_size > most:
            raise TaskError(f"{path.name}: {seen.st_size} bytes, an object may have {most}")
        return hash_range(fd, 0, seen.st_size, hashlib.sha256()).digest(), seen
    finally:
        os.close(fd)


def _move(path: Path, fresh: Path, seen: os.stat_result, sha256: bytes) -> None:
    """Rename a file that is still as it was hashed, or copy it, hash the copy and remove it."""
    now = path.lstat()
    if any(getattr(now, what) != getattr(seen, what) for what in ("st_ino", "st_dev", "st_size", "st_mtime_ns")):
        raise TaskError(f"{path.name}: it changed while it was stored")
    try:
        if seen.st_nlink > 1:
            raise OSError(errno.EXDEV, "has other links")
        path.rename(fresh)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            shutil.copyfile(path, fresh, follow_symlinks=False)
            if _hash_file(fresh, seen.st_size)[0] != sha256:
                raise TaskError(f"{path.name}: it changed while it was stored") from error
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        path.unlink()


def _stored(folder: Path) -> Iterator[tuple[bytes, int]]:
    """Whole objects; those that a power cut left short are removed."""
    for shard in folder.iterdir():
        if len(shard.name) == 2:
            for entry in os.scandir(shard):
                match = _NAME.match(entry.name)
                if match and entry.stat(follow_symlinks=False).st_size == int(match[2]):
                    yield bytes.fromhex(match[1]), int(match[2])
                else:
                    os.unlink(entry)


def _left_over(incoming: Path, now: float) -> Iterator[tuple[bytes, Partial]]:
    """Partials that came in order; everything else in the folder is removed."""
    for path in sorted(incoming.iterdir()):
        match = _NAME.match(path.name)
        if match and not path.with_name(path.name + ".holes").exists():
            length = path.stat().st_size
            if length < int(match[2]):
                yield bytes.fromhex(match[1]), Partial(path, int(match[2]), now, prefix=length)
                continue
        path.unlink()  # a partial before its marker, which sorts behind it
