"""Keeps what was learned of the execution of apps: read once at start, written off the loop when the machine says so.

A disk that takes nothing costs the memory of runs, not the agent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jupiter_agent.adapters.profile_store import ProfileStore
from jupiter_agent.core.messages.profiling import TaskProfile
from jupiter_agent.core.profiling.exec_book import ExecBook

log = logging.getLogger("jupiter")

Row = tuple[bytes, str, str, TaskProfile]
_decode = msgspec.msgpack.Decoder(TaskProfile).decode


class LearnedRuns:
    """`profiles.db` of a state folder. Nothing is opened before there is something to read or to write."""

    def __init__(self, path: Path, book: ExecBook) -> None:
        self._path, self._book = path, book
        self._store: ProfileStore | None = None
        self._writing = asyncio.Lock()
        if path.exists():
            book.recall(self._recalled())

    def _recalled(self) -> Iterator[Row]:
        for bundle, task, node, profile in self._opened().executions():
            try:
                yield bundle, task, node, _decode(profile)
            except (msgspec.MsgspecError, ValueError):
                log.warning("%s: the profile of task %s cannot be read", self._path.name, task)

    async def keep(self, rows: list[Row]) -> None:
        """One writer at a time."""
        async with self._writing:
            await asyncio.to_thread(self._write, rows)

    async def forget(self, bundle: bytes | None) -> None:
        """Of one bundle, or of all."""
        async with self._writing:
            if self._store is not None or self._path.exists():
                await asyncio.to_thread(self._forget, bundle)

    def close(self, now: float) -> None:
        """Write what is new, and let go of the file."""
        if rows := self._book.unsaved(now):
            self._write(rows)
        if self._store is not None:
            self._store.close()

    def _opened(self) -> ProfileStore:
        if self._store is None:
            self._store = ProfileStore(self._path)
            if self._store.notice:
                log.warning("%s", self._store.notice)
        return self._store

    def _write(self, rows: list[Row]) -> None:
        encoded = [(bundle, task, node, msgspec.msgpack.encode(profile)) for bundle, task, node, profile in rows]
        try:
            self._opened().save_executions(encoded, time.time())
        except OSError as error:
            log.warning("what was learned of runs is not kept: %s", error)

    def _forget(self, bundle: bytes | None) -> None:
        try:
            self._opened().forget_executions(bundle)
        except OSError as error:
            log.warning("what was learned of runs cannot be forgotten on disk: %s", error)
