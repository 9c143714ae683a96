"""Records on their way to one other node that keeps them (DESIGN.md 78).

A stream carries what was there when it began, read as it goes, and every change since; changes go first. One batch is
under way at a time: what comes meanwhile makes up the next one, so batches grow with the load and a round trip is
paid per batch. The receiver confirms what is on its disk, and names the records whose objects it still fetches. One
that forgot the stream says so, and gets another one from the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import inf
from typing import Any

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.messages.jobs import Copied, Copy, Deputies, HomeVersion, StreamId
from jupiter_agent.core.records import Entry

BATCH_RECORDS = 512
BATCH_BYTES = 512 * 1024
AGAIN_S = 1.0
AGAIN_MAX_S = 8.0


class Stream:
    """To the node `to`. `at`: number of the last change that `rest` holds already."""

    def __init__(self, job: str, to: str, ident: StreamId, rest: Iterator[Entry], at: int) -> None:
        self.to, self.ident = to, ident
        self.whole = False
        """the receiver has all that was there at the beginning"""
        self.forgotten = False
        self._job, self._rest, self._at = job, rest, at
        self._reached = at
        """all changes up to this number are confirmed"""
        self._fresh: deque[tuple[int, Entry]] = deque()
        self._flight: Copy | None = None
        self._numbers: list[int] = []
        """of the changes in flight; 0 of what was there before"""
        self._lacking: dict[int, int] = {}
        """place in the stream -> number, of records whose objects are not there yet"""
        self._next = 1
        self._read = False
        self._due, self._tries = inf, 0

    def push(self, number: int, change: Entry) -> None:
        self._fresh.append((number, change))

    def has(self, number: int) -> bool:
        """The change of this number is durable there."""
        if number <= self._at:
            return self.whole
        return number <= self._reached and number not in self._lacking.values()

    @property
    def upto(self) -> int:
        """It has no later change than this."""
        return self._reached

    @property
    def idle(self) -> bool:
        """All that was to be sent is confirmed."""
        return self.whole and self._flight is None and not self._fresh and not self._lacking

    @property
    def standing(self) -> str:
        """What its receiver has, in a few words."""
        if self._lacking:
            return f"lacks objects of {len(self._lacking)} records"
        return "whole" if self.whole else "under way"

    def pump(self, register: tuple[HomeVersion, Deputies], now: float) -> list[Effect]:
        """Send the next batch, if none is under way and there is something to send."""
        if self._flight is not None or (self._read and not self._fresh):
            return []
        records: list[tuple[str, Any]] = []
        size, self._numbers = 0, []
        while len(records) < BATCH_RECORDS and size < BATCH_BYTES and (found := self._take()) is not None:
            number, each = found
            if records and size + each.size > BATCH_BYTES:
                self._fresh.appendleft(found)
                break
            records.append((each.kind, each.value))
            self._numbers.append(number)
            size += each.size
        self._flight = Copy(self._job, *register, self.ident, self._next, records, self._read)
        self._due, self._tries = now + AGAIN_S, 1
        return [Send(self.to, self._flight)]

    def _take(self) -> tuple[int, Entry] | None:
        """The job's own record, then changes, then the rest."""
        if self._fresh and self._next > 1:
            return self._fresh.popleft()
        if not self._read:
            each = next(self._rest, None)
            if each is not None:
                return (0, each)
            self._read = True
        return self._fresh.popleft() if self._fresh else None

    def on_copied(self, message: Copied, now: float) -> bool:
        """False when it is about another stream."""
        if message.stream != self.ident:
            return False
        flight = self._flight
        if message.upto == 0 and (flight.first if flight is not None else self._next) > 1:
            self.forgotten = True
            return True
        known = dict(self._lacking)
        if flight is not None and message.upto >= flight.first + len(flight.records) - 1:
            known |= dict(enumerate(self._numbers, flight.first))
            self._reached = max([self._reached, *self._numbers])
            self._next = flight.first + len(flight.records)
            self._flight, self._due = None, inf
        lacking = set(message.lacking)
        self._lacking = {seq: number for seq, number in known.items() if seq in lacking or seq > message.upto}
        if self._flight is None and self._due == inf and self._lacking:
            self._due, self._tries = now + AGAIN_S, 1
        self.whole = self.whole or (self._read and self._flight is None and 0 not in self._lacking.values())
        return True

    def next_deadline(self) -> float:
        return self._due

    def on_deadline(self, register: tuple[HomeVersion, Deputies], now: float) -> list[Effect]:
        """Nobody confirmed the batch: the same again, with the register as it is now.

        With nothing under way an empty batch asks about what was lacking: the word that it came may be lost.
        """
        if self._due > now:
            return []
        first, records, whole = self._next, list[tuple[str, Any]](), self._read
        if self._flight is not None:
            first, records, whole = self._flight.first, self._flight.records, self._flight.whole
        elif not self._lacking:
            self._due = inf
            return []
        copy = Copy(self._job, *register, self.ident, first, records, whole)
        self._flight = copy if self._flight is not None else None
        self._due = now + min(AGAIN_MAX_S, AGAIN_S * 2**self._tries)
        self._tries = min(self._tries + 1, 8)
        return [Send(self.to, copy)]
