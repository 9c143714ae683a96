"""Sets of item numbers as intervals, one per home version: the memory of the finished (DESIGN.md 7, rules 1 and 9)."""

from __future__ import annotations

from bisect import bisect_right

from jupiter_agent.core.messages.jobs import HomeVersion

Number = tuple[HomeVersion, int]


class IntervalSet:
    """Integers as disjoint, sorted, maximal intervals [lo, hi]; O(log k) look-up, O(k) insertion with k intervals."""

    def __init__(self, spans: list[tuple[int, int]] | None = None) -> None:
        self.spans: list[tuple[int, int]] = []
        for lo, hi in spans or []:
            self.add(lo, hi)

    def add(self, lo: int, hi: int | None = None) -> None:
        """Add lo..hi, both included."""
        high = lo if hi is None else hi
        if high < lo:
            raise ValueError(f"an interval ends before it starts: {lo}..{high}")
        merged: list[tuple[int, int]] = []
        for a, b in self.spans:
            if b + 1 < lo or a > high + 1:
                merged.append((a, b))
            else:
                lo, high = min(lo, a), max(high, b)
        merged.append((lo, high))
        self.spans = sorted(merged)

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self.spans, (number, number)) - 1
        at = [self.spans[j] for j in (i, i + 1) if 0 <= j < len(self.spans)]
        return any(a <= number <= b for a, b in at)


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
            mine = self._sets.setdefault(home, IntervalSet())
            for lo, hi in spans:
                mine.add(lo, hi)
        return self.to_intervals() != before

    def to_intervals(self) -> list[tuple[HomeVersion, list[tuple[int, int]]]]:
        return [(home, list(numbers.spans)) for home, numbers in sorted(self._sets.items())]
