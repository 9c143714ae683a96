"""The object store: immutable files named by the SHA-256 of their content, and the parts of those still arriving.

Owns `FOLDER/ab/<64 hex>.<size>` (mode 0400) and `FOLDER/partial/<64 hex>.<size>` (0600); small objects that come whole
are in `FOLDER/packed` (packs.py). A name is only ever made from a digest and a size, never from what a peer or a task
calls a thing. The size in the name lets a start find files that a power cut left short: those go. A partial is kept
over a restart when its bytes came in order, so its length says how far it got; one with holes goes. Completion verifies
the digest: a wrong one throws the partial away.

Any thread may call; only `ingest_file` is slow (it hashes before it takes the lock).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from jupiter_agent.adapters.disk import capacity, sync_folder, write_all
from jupiter_agent.adapters.object_files import hash_file, left_over, move, stored, sync_file
from jupiter_agent.adapters.packs import PACKED_BYTES, Packs
from jupiter_agent.adapters.partial import MAX_HOLES, PIECE, Partial
from jupiter_agent.core.messages import MAX_OBJECT_BYTES
from jupiter_agent.errors import CapacityError

MAX_PARTIALS = 64
STALE_S = 300.0
"""a partial that got nothing for so long makes room for another"""
_DIGEST = 32


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
        self._packs = Packs(folder / "packed")
        files = dict(stored(folder))
        for sha256 in [digest for digest in self._packs.sizes() if digest in files]:
            self._packs.drop(sha256)  # a crash came between its file and that
        self._sizes: dict[bytes, int] = {**self._packs.sizes(), **files}
        self._partials: dict[bytes, Partial] = dict(left_over(self._incoming, clock()))
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
        """Of a stored object, to read only. KeyError when it is not here. A packed one gets a file."""
        if sha256 in self._packs:
            with self._lock, capacity("writing an object"):
                self._unpack(sha256)
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
        if sha256 in self._packs:
            with self._lock:
                if sha256 in self._packs:
                    return self._packs.read(sha256, offset, length)
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
                if len(data) <= PACKED_BYTES:
                    self._pack(sha256, data, sync)
                else:
                    self._write_file(fresh, data)
                    self._keep(fresh, sha256, len(data), sync)
            except BaseException:
                self.used_bytes -= len(data)
                fresh.unlink(missing_ok=True)
                raise
        return sha256

    def _pack(self, sha256: bytes, data: bytes, sync: bool) -> None:
        """Keep a small object beside others."""
        self._packs.put(sha256, data)
        self._sizes[sha256] = len(data)
        if sync:
            self._packs.sync()
        else:
            self._unsynced.add(sha256)

    def _unpack(self, sha256: bytes) -> None:
        """Give a packed object a file of its own."""
        if sha256 not in self._packs:
            return
        size, synced = self._sizes[sha256], sha256 not in self._unsynced
        fresh = self._incoming / f"{sha256.hex()}.{size}.new"
        self._write_file(fresh, self._packs.read(sha256, 0, size))
        self._keep(fresh, sha256, size, sync=synced)
        self._packs.drop(sha256)

    @staticmethod
    def _write_file(path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def ingest_file(self, path: Path, sync: bool = False) -> tuple[bytes, int]:
        """Move a file into the store; returns digest and size. Blocks while it hashes.

        Copied and removed where it cannot be moved: on another file system, or with other hard links. TaskError: not a
        regular file, too large, or changed meanwhile; CapacityError: full. The file stays where it was then. Who holds
        it open for writing can change it afterwards: end the writer first.
        """
        with capacity("storing a file"):
            sha256, seen = hash_file(path, self.max_object_bytes)
            with self._lock:
                if sha256 in self._packs:
                    path.unlink()
                    return sha256, seen.st_size
                if sha256 in self._sizes:
                    if path.resolve() != self.path(sha256).resolve():
                        path.unlink()
                    return sha256, seen.st_size
                fresh = self._reserve(sha256, seen.st_size)
                try:
                    move(path, fresh, seen, sha256)
                    self._keep(fresh, sha256, seen.st_size, sync)
                except BaseException:
                    self.used_bytes -= seen.st_size
                    raise
        return sha256, seen.st_size

    def sync(self, digests: Iterable[bytes]) -> None:
        """Have these on disk, those that are here and were not synced yet. Blocks, without the lock."""
        with self._lock:
            wanted = self._unsynced.intersection(digests)
            packed = {sha256 for sha256 in self._unsynced if sha256 in self._packs} if wanted else set()
            pack = self._packs.handle() if packed & wanted else -1
            places = {sha256: self.path(sha256) for sha256 in wanted - packed}
        if pack >= 0:
            self._sync_pack(pack, packed)
        if not places:
            return
        with capacity("syncing an object"):
            for place in places.values():
                sync_file(place)
            for folder in {self.folder, *(place.parent for place in places.values())}:
                sync_folder(folder)
        with self._lock:
            self._unsynced.difference_update(places)

    def _sync_pack(self, handle: int, packed: set[bytes]) -> None:
        """One sync for all small objects there are."""
        try:
            with capacity("syncing an object"):
                os.fdatasync(handle)
        finally:
            os.close(handle)
        with self._lock:
            self._unsynced -= packed

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
            if sha256 in self._packs:
                self._packs.drop(sha256)
            elif size is not None:
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
            sync_file(path)
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
