"""Batches of effects and the disk: what a batch promises is on disk before any of it is done (DESIGN.md 3, 88).

A batch that must be synced is written and synced by a thread, and the loop goes on. What comes meanwhile waits behind
it, whatever it is, and is then one batch with one sync: the slower the disk, the more records share a sync.

Small results are written twice: into the store, without a sync, and beside the record that names them into the journal,
which is synced anyway. So an item costs a share of one sync, not three of its own. `mend` puts back at the start what
a power cut took out of the store.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import chain
from typing import Any

from jupiter_agent.adapters.journal import Journal
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.core.effects import Append, Effect, StoreInline
from jupiter_agent.errors import CapacityError, JupiterError

log = logging.getLogger("jupiter")

DIGEST_BYTES = 32
AGAIN_S = 1.0
"""Between two tries to write to a full disk"""
BESIDE_BYTES = 4096
"""Objects up to this size go into the journal beside their records"""
BLOB = "blob"
COMPACT_BYTES, COMPACT_FACTOR = 16 * 1024 * 1024, 4
"""The journal is shortened while running when it is as large as this, and as many times what it was after the last time
"""

Batch = list[Effect]


class Promises:
    """`act` does a batch whose records are on disk; `refuse` answers one whose records are not."""

    def __init__(
        self, journal: Journal, objects: ObjectStore, act: Callable[[Batch], None],
        refuse: Callable[[Batch, CapacityError], None],
    ) -> None:  # fmt: skip
        self.on_crash: Callable[[BaseException], None] | None = None
        """set: syncs happen apart, and what went wrong there (a broken disk) is told; None: the caller waits for them
        """
        self.on_full: Callable[[str], None] | None = None
        """set: a batch that the disk does not take is kept and tried again until it does; told why when that begins,
        and '' when it is over. None: it is refused"""
        self.settle: Callable[[], None] = lambda: None
        """set: called before a batch is done; CapacityError as if a record had found no room"""
        self.full = ""
        """why nothing can be promised now"""
        self._live_bytes = 0
        """of the journal after it was shortened last"""
        self._journal, self._objects, self._act, self._refuse = journal, objects, act, refuse
        self._thread = ThreadPoolExecutor(1, "disk")
        self._writing = False
        self._held: Batch = []
        self._beside: set[bytes] = set()
        """digests of the objects that the journal held at the start"""

    def perform(self, effects: Batch) -> None:
        """Write, then do; behind what is being written."""
        if self._writing:
            self._held += effects
        elif self.on_crash is not None and any(isinstance(each, Append) and each.sync for each in effects):
            self._write_apart(effects)
        else:
            try:
                self._write(effects)
            except CapacityError as error:
                self._no_room(effects, error)
            else:
                self._act(effects)

    async def drain(self) -> None:
        """Until nothing is being written, or waits for that; a disk that hangs is not waited for for ever."""
        for _ in range(2000):
            if not self._writing or self.full:
                return
            await asyncio.sleep(0.005)

    def close(self) -> None:
        self._thread.shutdown(wait=not self._writing)

    # --- at the start ----------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Store again what the journal holds beside its records and the store has not, or not whole."""
        for record in filter(_is_blob, self._journal.replay()):
            if not self._is_whole(record[1]):
                self._objects.drop(record[1])
                self._objects.ingest_bytes(record[2])
            self._beside.add(record[1])

    def replay(self) -> Iterator[Any]:
        """The records of the machine."""
        return (record for record in self._journal.replay() if not _is_blob(record))

    def compact(self, records: Iterable[Any], needs: Callable[[bytes], bool]) -> None:
        """Shorten the journal to these records, and to the objects beside them that somebody still `needs`."""
        kept = [digest for digest in sorted(self._beside) if needs(digest)]
        self._beside.clear()
        self._journal.compact(chain(((BLOB, digest, self._read(digest)) for digest in kept), map(_made, records)))
        self._live_bytes = self._journal.size_bytes

    async def tidy(self, records: Callable[[], Iterable[Any]]) -> None:
        """`compact_if_long`; on a full disk another time, and a broken one is told."""
        try:
            if await self.compact_if_long(records):
                log.info("the journal was shortened to %d bytes", self._live_bytes)
        except CapacityError as error:
            log.warning("the journal could not be shortened: %s", error)
        except (OSError, JupiterError) as error:
            if self.on_crash is not None:
                self.on_crash(error)

    async def compact_if_long(self, records: Callable[[], Iterable[Any]]) -> bool:
        """Shorten the journal while all goes on, when it is long and mostly void. True when that was done.

        `records` is asked when all that happened is on disk; what it gives is written in a thread, while later records
        go behind it. Objects that lie beside the old records are synced themselves first. CapacityError: another time.
        """
        size = self._journal.size_bytes
        if self._writing or size < max(COMPACT_BYTES, COMPACT_FACTOR * self._live_bytes):
            return False
        loop = asyncio.get_running_loop()
        kept = list(records())
        await self._alone(self._journal.begin_compaction)

        def write() -> None:
            self._journal.write_compaction(map(_made, kept))
            os.sync()

        await loop.run_in_executor(None, write)
        while self._writing:
            await asyncio.sleep(0.005)
        await self._alone(self._journal.finish_compaction)
        self._live_bytes = self._journal.size_bytes
        return True

    async def _alone(self, step: Callable[[], None]) -> None:
        """A step that changes the journal, between two batches; those that come meanwhile wait."""
        self._writing = True
        try:
            await asyncio.wrap_future(self._thread.submit(step))
        finally:
            self._writing = False
            held, self._held = self._held, []
            if held:
                self.perform(held)

    def _read(self, digest: bytes) -> bytes:
        return self._objects.read_chunk(digest, 0, BESIDE_BYTES) or b""

    def _is_whole(self, digest: bytes) -> bool:
        return self._objects.has(digest) and sha256(self._read(digest)).digest() == digest

    # --- running ---------------------------------------------------------------------------------------------------

    def _write_apart(self, effects: Batch) -> None:
        self._writing = True
        future = self._thread.submit(self._write, effects)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._written, effects, done))

    def _no_room(self, effects: Batch, error: CapacityError) -> None:
        """Nothing of it happens: never, or until there is room. What comes meanwhile waits behind it."""
        if self.on_full is None:
            self._refuse(effects, error)
            return
        self._writing = True
        if not self.full:
            self.full = error.message
            self.on_full(error.message)
        asyncio.get_running_loop().call_later(AGAIN_S, self._write_apart, effects)

    def _written(self, effects: Batch, done: Future[None]) -> None:
        error = done.exception()
        if isinstance(error, CapacityError) and self.on_full is not None:
            self._no_room(effects, error)
            return
        self._writing = False
        held, self._held = self._held, []
        if isinstance(error, CapacityError):
            self._refuse(effects + held, error)
        elif error is not None:
            assert self.on_crash is not None
            self.on_crash(error)
        else:
            if self.full and self.on_full is not None:
                self.full = ""
                self.on_full("")
            self._act(effects)
            if held:
                self.perform(held)

    def _write(self, effects: Batch) -> None:
        """What must be on disk before anybody hears of it. CapacityError: it is not."""
        self.settle()
        appends = [effect for effect in effects if isinstance(effect, Append)]
        sync = any(each.sync for each in appends)
        beside: list[Any] = []
        for effect in effects:
            if isinstance(effect, StoreInline):
                self._objects.ingest_bytes(effect.data)
                if sync and len(effect.data) <= BESIDE_BYTES and self._objects.settle(effect.sha256):
                    beside.append((BLOB, effect.sha256, effect.data))
        if not appends:
            return
        records = [each.record for each in appends]
        if sync:
            self._objects.sync(_digests(records))
        try:
            self._journal.append([*beside, *records], sync)
        except CapacityError:  # if it is tried again, their bytes must still go with the record
            self._objects.unsettle(blob[1] for blob in beside)
            raise


def _made(record: Any) -> Any:
    """A record whose value may still have to be made."""
    *head, value = record
    return (*head, value()) if callable(value) else record


def _is_blob(record: Any) -> bool:
    return isinstance(record, list | tuple) and len(record) == 3 and record[0] == BLOB


def _digests(value: Any) -> Iterator[bytes]:
    """Whatever in a record has the length of a digest."""
    if isinstance(value, bytes):
        if len(value) == DIGEST_BYTES:
            yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _digests(each)
    elif isinstance(value, dict):
        yield from _digests(list(value.values()))
