"""The round trip to one peer: its least, how much it varies, how often there is no answer in time.

A sample is never too short, but may be too long for reasons that are not the link's: a busy processor, a queue. So the
delay is the least of the last samples (`WINDOW` of them, not older than `OLDEST_S`). That finds a shorter path at once;
a longer one when `LONGER` samples in a row are all well above what was known.
"""

from __future__ import annotations

from collections import deque
from math import inf

WINDOW = 12
OLDEST_S = 120.0
LONGER = 3
WELL_ABOVE = 1.3
EXACT_S = 75.0
"""So long after an exact sample others do not count: they hold what agents do besides"""
NOISE_S = 0.002
"""What a processor adds, in bad moments"""
WEIGHT = 1 / 16
"""Of the newest sample in jitter (RFC 3550) and loss"""


class Delay:
    """Samples of one round trip time."""

    def __init__(self) -> None:
        self.samples = 0
        self.at = -inf
        self.jitter_s = 0.0
        """mean difference of successive samples"""
        self.loss = 0.0
        """share of probes that were not answered in time"""
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._above = 0
        self._hints = 0
        """samples in a row that are not exact and well above"""
        self._asked = 0
        self._exact_at = -inf

    @property
    def rtt_s(self) -> float | None:
        """None before the first sample."""
        return min(rtt for _, rtt in self._recent) if self._recent else None

    def on_rtt(self, rtt_s: float, now: float, exact: bool = False) -> bool:
        """A probe was answered; whether that was far from what was known. One that is not exact only tells that, where
        exact ones are at hand: when it is well below, or as many as are believed were well above in a row."""
        if not 0 < rtt_s < 1e3:
            return False
        known = self.rtt_s
        self._count(0.0)
        above = known is not None and rtt_s > WELL_ABOVE * known + NOISE_S
        below = known is not None and WELL_ABOVE * rtt_s + NOISE_S < known
        if not exact and now - self._exact_at < EXACT_S:
            self._hints = self._hints % LONGER + 1 if above else 0
            return below or self._hints == LONGER
        if exact and now - self._exact_at >= EXACT_S:
            self._recent.clear()
        self._exact_at = now if exact else self._exact_at
        if self._recent:
            self.jitter_s += WEIGHT * (abs(rtt_s - self._recent[-1][1]) - self.jitter_s)
        self._recent.append((now, rtt_s))
        self.samples += 1
        self.at = now
        self._above = self._above + 1 if above else 0
        if self._above >= LONGER:
            self._keep(LONGER)
        while len(self._recent) > 1 and self._recent[0][0] < now - OLDEST_S:
            self._recent.popleft()
        return above or below

    def on_lost(self, now: float) -> None:
        """A probe was not answered in time."""
        self._count(1.0)

    def _count(self, lost: float) -> None:
        self._asked += 1
        self.loss += max(WEIGHT, 1 / self._asked) * (lost - self.loss)

    def _keep(self, newest: int) -> None:
        while len(self._recent) > newest:
            self._recent.popleft()
        self._above = 0
