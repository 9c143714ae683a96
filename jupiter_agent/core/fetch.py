"""One object on its way to this node: from whom, by which way, what it still lacks.

Two ways: the bulk channel, where an adapter takes the whole object and tells the end; or chunk by chunk in messages, a
window of them, where there is no bulk channel between the two (it cannot be opened, or others carry the messages).
"""

from __future__ import annotations

from math import inf

from jupiter_agent.core.messages.jobs import CHUNK_BYTES

RELAYED_BYTES = 64 * 1024
"""A chunk that others carry"""

QUEUED, ASKING, BULK, CHUNKS = "queued", "asking", "bulk", "chunks"
"""Waits for its turn; asks where the source serves; is taken by the bulk channel; comes in chunks"""


class Fetch:
    """`sources`: the present one first."""

    def __init__(self, size: int, sources: list[str], now: float) -> None:
        self.size = size
        self.sources = sources
        self.way = QUEUED
        self.durable = False
        """a result: it must be on disk before it is here"""
        self.asked: dict[int, int] = {}
        """chunks that were asked for: offset -> length"""
        self._next = 0
        """the offset from where on nothing was ever asked for"""
        self._owed: list[tuple[int, int]] = []
        """chunks below it that were asked for in vain, the lowest last"""
        self.misses = 0
        """answers `Missing` since the last chunk"""
        self.stalls = 0
        """times in a row that nothing came"""
        self.due = inf
        self.began = now
        self.next_at = 0.0
        """when the next chunk may be asked for, where others carry it"""

    @property
    def source(self) -> str:
        return self.sources[0]

    @property
    def all_asked(self) -> bool:
        return not self._owed and self._next >= self.size

    @property
    def is_whole(self) -> bool:
        """All chunks have come."""
        return self.all_asked and not self.asked

    def ask(self, most: int = CHUNK_BYTES) -> tuple[int, int]:
        """The next chunk to ask for, of those that are missing: offset and length."""
        offset, length = self._owed.pop() if self._owed else (self._next, min(most, self.size - self._next))
        self._next = max(self._next, offset + length)
        self.asked[offset] = length
        return offset, length

    def give_back(self) -> None:
        """What was asked for and did not come is to be asked for again."""
        self._owed = sorted([*self._owed, *self.asked.items()], reverse=True)
        self.asked.clear()

    def turn(self) -> None:
        """Go to the next source, and ask it for what the last one owes."""
        self.sources.append(self.sources.pop(0))
        self.give_back()

    def name(self, sources: list[str]) -> None:
        """More who have it."""
        self.sources += [source for source in sources if source not in self.sources]
