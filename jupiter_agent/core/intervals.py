"""Sets of item numbers as intervals, one per home version: the memory of the finished (DESIGN.md 7, rules 1 and 9)."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter

import msgspec

from jupiter_agent.core.messages.jobs import HomeVersion

Number = tuple[HomeVersion, int]


_first = itemgetter(0)


class IntervalSet:
    """Integers as disjoint, sorted, maximal intervals [lo, hi]; O(log k) look-up, O(k) insertion in k intervals."""

    def __init__(self, spans: list[tuple[int, int]] | None = None) -> None:
        self.spans: list[tuple[int, int]] = []
        self.merge(spans or [])

    def add(self, lo: int, hi: int | None = None) -> None:
        """Add lo..hi, both included."""
        high = lo if hi is None else hi
        self.merge([(lo, high)])

    def merge(self, spans: list[tuple[int, int]]) -> None:
        """Add these intervals, both ends included; O(n log n) in all of them together. ValueError: nothing is added."""
        merged: list[tuple[int, int]] = []
        for lo, hi in sorted([*self.spans, *spans]):
            if hi < lo:
                raise ValueError(f"an interval ends before it starts: {lo}..{hi}")
            if merged and lo <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
            else:
                merged.append((lo, hi))
        self.spans = merged

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self.spans, number, key=_first) - 1
        return i >= 0 and number <= self.spans[i][1]


class FinishedSet:
    """Finished numbers per home version; a lattice under `merge`."""

    def __init__(self) -> None:
        self._sets: dict[HomeVersion, IntervalSet] = {}

    def add(self, number: Number) -> None:
        self._sets.setdefault(number[0], IntervalSet()).add(number[1])

    def __contains__(self, number: Number | None) -> bool:
        return number is not None and number[0] in self._sets and number[1] in self._sets[number[0]]

    def merge(self, intervals: list[tuple[HomeVersion, list[tuple[int, int]]]]) -> bool:
        """Take in another's intervals; True when something was new."""
        before = self.to_intervals()
        for home, spans in intervals:
            self._sets.setdefault(home, IntervalSet()).merge(spans)
        return self.to_intervals() != before

    def digest(self) -> int:
        """One number, equal where the same numbers are finished."""
        return zlib.crc32(msgspec.msgpack.encode(self.to_intervals()))

    def include(self, numbers: Iterable[Number]) -> bool:
        """True when one of them was new."""
        fresh = [number for number in numbers if number not in self]
        for number in fresh:
            self.add(number)
        return bool(fresh)

    def to_intervals(self) -> list[tuple[HomeVersion, list[tuple[int, int]]]]:
        return [(home, list(numbers.spans)) for home, numbers in sorted(self._sets.items())]
