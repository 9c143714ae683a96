"""How much each source may ask for: token buckets, a bounded number of them, the least recently used forgotten."""

from __future__ import annotations

from collections import OrderedDict

MOST_SOURCES = 1024


class Rates:
    """Every source may take `burst` at once and `per_s` in the long run. A forgotten one starts with a full bucket."""

    def __init__(self, per_s: float, burst: float, sources: int = MOST_SOURCES) -> None:
        self._per_s, self._burst, self._most = per_s, burst, sources
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """source -> what is left, and when that was"""

    def take(self, source: str, now: float) -> bool:
        """Whether this source may have one more now; it has it then."""
        left, at = self._buckets.get(source, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        granted = left >= 1.0
        self._buckets[source] = (left - granted, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return granted
