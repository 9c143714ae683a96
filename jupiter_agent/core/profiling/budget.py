"""How much may be said in a while: a token bucket."""

from __future__ import annotations


class Budget:
    """A bucket that fills with `rate` per second up to `most`."""

    def __init__(self, rate: float, most: float, now: float) -> None:
        self._rate, self._most, self._held, self._at = rate, most, most, now

    def held(self, now: float) -> float:
        self._held = min(self._most, self._held + self._rate * max(0.0, now - self._at))
        self._at = max(self._at, now)
        return self._held

    def spend(self, cost: float, now: float) -> None:
        """It may end below zero: who had too little waits longer."""
        self._held = self.held(now) - cost
