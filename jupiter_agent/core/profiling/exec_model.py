"""What one task takes on one node, learned online from its runs there: an estimate, and an interval that it keeps.

The fit (exec_fit) gives the time from input size and load. Runs are kept by size (octaves) and load, the last few of
each, so that a thousand small runs do not push the one large run out. What the curve misses near a size and load, its
neighbours tell: the mean of their logarithmic residuals, as far as there are enough of them.

The interval is learned from how wrong the estimates were, each made before its run was seen: the 10 % and the 90 %
quantile of their last logarithmic errors, as conformal prediction does it. So it holds what it says whatever the errors
look like, and follows when they become other ones.

    V. Vovk, A. Gammerman, G. Shafer: Algorithmic Learning in a Random World, 2005 (inductive conformal prediction).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import exp, log, log2
from typing import NamedTuple

from jupiter_agent.core.profiling.crowding import Crowding, seen, stretched
from jupiter_agent.core.profiling.exec_fit import LEAST_S, Coefficients, Sample, fit, is_sane, value

KEPT = 6
"""runs of one octave of sizes and one class of load"""
MOST = 96
"""runs in all"""
REFIT_S = 0.25
"""A fit takes some milliseconds: not more often, once there are a few runs"""
FEW = 8
NEIGHBOURS = 4.0
"""So many neighbours weigh as much as the belief that the curve is right"""
COVERED = 0.8
PRIOR_ERRORS = (-0.4, -0.25, -0.1, 0.0, 0.0, 0.1, 0.25, 0.4)
"""log: assumed before any are known; each known one takes the place of one"""
ERRORS = 60
"""are remembered"""
IDLE_SHARE = 0.5
"""A run that waited longer than that tells nothing of who else wanted the cores"""


class Guess(NamedTuple):
    """Seconds, and what 80 % of runs lie between."""

    seconds: float
    low: float
    high: float


class TaskModel:
    """Of one task on the node it ran on, whose crowding it shares with all others there."""

    def __init__(self, crowding: Crowding) -> None:
        self.crowding = crowding
        self.count = 0
        self.sampled = True
        """it has seen sample runs only"""
        self.refused = 0
        """runs that cannot have been"""
        self.low, self.high = _quantiles(PRIOR_ERRORS)
        """log of the interval's ends by the estimate"""
        self._kept: dict[tuple[int, int], deque[Sample]] = {}
        self._fit = Coefficients()
        self._fitted_at = float("-inf")
        self._stale = False
        self._errors: deque[float] = deque(maxlen=ERRORS)

    @property
    def samples(self) -> list[Sample]:
        """What is kept, oldest first."""
        return sorted((s for kept in self._kept.values() for s in kept), key=lambda s: s.at)

    def learn(self, s: Sample, now: float, sampled: bool = False) -> bool:
        """Take a run in. False: it cannot have been, and is counted only. `sampled`: a sample run, alone on its node.

        What ran for its job counts more than any sample run: with the first, those are forgotten.
        """
        if not is_sane(s):
            self.refused += 1
            return False
        if sampled and not self.sampled:
            return True
        if self.sampled and not sampled:
            self._kept.clear()
            self.count, self.sampled = 0, False
        if self.count:
            self._score(log(max(s.seconds, LEAST_S) / self.predict(s.size, s.load, now).seconds))
        idle = value(self._fit.idle, s.size)
        stretch = seen(s.seconds - idle, s.cpu_s)
        if stretch is not None and idle < IDLE_SHARE * s.seconds:
            self.crowding.learn(s.load, stretch, now)
        kept = self._kept.setdefault(self._bucket(s.size, s.load), deque(maxlen=KEPT))
        kept.append(s)
        self.count += 1
        self._stale = True
        if sum(map(len, self._kept.values())) > MOST:
            oldest = min(self._kept, key=lambda key: self._kept[key][0].at)
            self._kept[oldest].popleft()
            if not self._kept[oldest]:
                del self._kept[oldest]
        return True

    def coefficients(self, now: float) -> Coefficients:
        if self._stale and (self.count <= FEW or now - self._fitted_at >= REFIT_S):
            samples = self.samples
            self._fit, self._fitted_at = fit(samples, [self._stretch(s) for s in samples], now), now
            self._stale = False
        return self._fit

    def _stretch(self, s: Sample) -> float:
        """Of the work of a run, as a whole."""
        stretch = self.crowding.curve(s.load)
        return stretched(s.cpu_s, stretch) / s.cpu_s if s.cpu_s > 0 else stretch

    def predict(self, size: float, load: float, now: float) -> Guess:
        """For a run that begins now; meaningless before the first `learn`."""
        found = self.coefficients(now)
        curve = on_curve(found, size, self.crowding.now(load, now))
        seconds = curve * exp(self._beside(found, size, load))
        return Guess(seconds, seconds * exp(self.low), seconds * exp(self.high))

    def _beside(self, found: Coefficients, size: float, load: float) -> float:
        """Mean logarithmic residual of runs of about this size and load, as far as there are enough."""
        octave, busy = self._bucket(size, load)
        total = weight = 0.0
        for key, near in (((octave, busy), 1.0), ((octave - 1, busy), 0.5), ((octave + 1, busy), 0.5)):
            for s in self._kept.get(key, ()):
                curve = on_curve(found, s.size, self.crowding.curve(s.load))
                total += near * max(-1.0, min(1.0, log(max(s.seconds, LEAST_S) / curve)))
                weight += near
        return total / (weight + NEIGHBOURS)

    def _bucket(self, size: float, load: float) -> tuple[int, int]:
        return int(log2(1.0 + size)), round(2 * log2(1.0 + load))

    def _score(self, error: float) -> None:
        """An estimate was off by this, as a logarithm."""
        self._errors.append(error)
        self.low, self.high = _quantiles([*self._errors, *PRIOR_ERRORS[len(self._errors) :]])


def _quantiles(errors: Sequence[float]) -> tuple[float, float]:
    """Between which the next of these lies with 80 %, if they come in no order."""
    ordered, outside = sorted(errors), (1 - COVERED) / 2

    def at(share: float) -> float:
        place = min(max(share * (len(ordered) + 1) - 1, 0.0), len(ordered) - 1.0)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return at(outside), at(1 - outside)


def on_curve(of: Coefficients, size: float, stretch: float, faster: float = 1.0) -> float:
    """Seconds: idle, and work that is done `faster` times as fast and stretched by load."""
    return max(LEAST_S, value(of.idle, size) + stretched(value(of.work, size) / faster, stretch))
