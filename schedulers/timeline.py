"""Busy time of one node: sorted intervals that never overlap, and the earliest gap a task fits into.

Plain Python, because agents keep one each: the insertion-based slot search of HEFT (IEEE TPDS 13(3), 2002, section
4.2) on one processor. Comparisons are exact, so what `earliest` returns can always be inserted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Timeline:
    """Reservations of one node, in seconds. A zero-length task occupies an instant: nothing runs across it."""

    __slots__ = ("finishes", "starts")

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.finishes: list[float] = []

    def earliest(self, ready: float, duration: float) -> float:
        """Earliest start >= `ready` of a free stretch of `duration`. O(log k + gaps after `ready`)."""
        starts, finishes = self.starts, self.finishes
        begin = ready
        for k in range(bisect_right(finishes, ready), len(starts)):
            if begin + duration <= starts[k]:
                break
            begin = max(begin, finishes[k])
        return begin

    def insert(self, start: float, finish: float) -> None:
        """Reserve [start, finish]. ValueError, and nothing changed, if it overlaps a reservation or ends too early."""
        # An instant goes before the interval that begins with it, an interval after the instant it begins with.
        k = (bisect_right if finish > start else bisect_left)(self.starts, start)
        if finish < start or (k and self.finishes[k - 1] > start) or (k < len(self.starts) and self.starts[k] < finish):
            raise ValueError(f"[{start}, {finish}] overlaps a reservation or ends before it starts")
        self.starts.insert(k, start)
        self.finishes.insert(k, finish)
