"""Keeps what the links' models learned: read once at start, written now and then off the loop, the rest at the end.

A disk that takes nothing costs the memory of links, not the agent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from jupiter_agent.adapters.profile_store import ProfileStore
from jupiter_agent.core.estimate import Links

log = logging.getLogger("jupiter")

EVERY_S = 60.0
OLDEST_S = 30 * 86400.0
"""What is older is not taken over"""


class LearnedLinks:
    """`profiles.db` of a state folder. Nothing is opened before there is something to read or to write."""

    def __init__(self, path: Path, links: Links, now: float) -> None:
        self._path, self._links = path, links
        self._store: ProfileStore | None = None
        self._saved_at = now
        if path.exists():
            self._recall(now, time.time())

    def _recall(self, now: float, wall: float) -> None:
        for peer, (saved_at, row) in self._opened().links().items():
            age_s = max(0.0, wall - saved_at)
            if age_s < OLDEST_S and not self._links.recall(peer, row, age_s, now):
                log.warning("%s: the model of the link from %s cannot be read", self._path.name, peer)

    def _opened(self) -> ProfileStore:
        if self._store is None:
            self._store = ProfileStore(self._path)
            if self._store.notice:
                log.warning("%s", self._store.notice)
        return self._store

    async def save(self, now: float) -> None:
        """Write what changed, if the last time is long enough ago."""
        if now - self._saved_at >= EVERY_S and (rows := self._changed(now)):
            await asyncio.to_thread(self._write, rows)

    def close(self, now: float) -> None:
        """Write what changed, and let go of the file."""
        if rows := self._changed(now):
            self._write(rows)
        if self._store is not None:
            self._store.close()

    def forget(self, peer: str = "") -> int:
        """Forget what was learned of the links from one peer, or from all; of how many something was known."""
        kept = self._opened().forget_links(peer) if self._store is not None or self._path.exists() else 0
        return max(kept, self._links.forget(peer))

    def _changed(self, now: float) -> dict[str, bytes]:
        since, self._saved_at = self._saved_at, now
        return self._links.to_rows(self._links.learned_since(since))

    def _write(self, rows: dict[str, bytes]) -> None:
        try:
            self._opened().save_links(rows, time.time())
        except OSError as error:
            log.warning("what was learned of links is not kept: %s", error)
