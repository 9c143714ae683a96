"""How much longer work takes on a node while others want its cores, learned from runs whose CPU time is known.

A fair scheduler would stretch it by (others + 1) / cores; but others may be niced, wait for memory, or have more
threads than one, so for each class of load the mean of what was seen takes the place of that prior as it grows. The
length of the run queue is a crude measure of what changes from second to second, so what the last runs saw beyond
the curve counts too, and fades.

A process that wakes up runs at once for a slice: short work is not stretched at all.

`stretched` and `seen` are inverse to each other.
"""

from __future__ import annotations

from math import exp, log, log2

SLICE_S = 0.003
"""What the kernel lets a process run before another has its turn"""
LEAST_CPU_S = 2 * SLICE_S
"""Work that says something about the stretch"""
BELIEF = 3.0
"""So many runs weigh as much as the prior"""
LEAST_WEIGHT = 0.05
"""of a new run in the mean of its class"""
RECENT_WEIGHT, RECENT_S = 0.3, 15.0
"""weight of a new run in what is seen just now, and how fast that fades"""
MOST = 1000.0


class Crowding:
    """Of one node with so many cores."""

    def __init__(self, cores: float) -> None:
        self.cores = max(cores, 0.01)
        self._seen: dict[int, tuple[float, int]] = {}
        """class of load -> (mean log of the stretch beyond the prior, runs)"""
        self._recent, self._recent_at = 0.0, float("-inf")

    def curve(self, load: float) -> float:
        """The stretch of work among so many others, in the long run."""
        weighed = total = 0.0
        for near, share in ((0, 1.0), (-1, 0.5), (1, 0.5)):
            mean, count = self._seen.get(_class(load) + near, (0.0, 0))
            weighed, total = weighed + share * min(count, 20) * mean, total + share * min(count, 20)
        return max(1.0, self._prior(load) * exp(weighed / (total + BELIEF)))

    def now(self, load: float, now: float) -> float:
        """The stretch at this time: the last runs count."""
        faded = self._recent * 0.5 ** (max(0.0, now - self._recent_at) / RECENT_S)
        return max(1.0, self.curve(load) * exp(faded))

    def learn(self, load: float, stretch: float, now: float) -> None:
        """Work was stretched so among so many others."""
        stretch = min(max(stretch, 0.5), MOST)
        beyond = log(stretch / self.curve(load))
        faded = self._recent * 0.5 ** (max(0.0, now - self._recent_at) / RECENT_S)
        self._recent, self._recent_at = faded + RECENT_WEIGHT * (beyond - faded), now
        mean, count = self._seen.get(_class(load), (0.0, 0))
        error = log(stretch / self._prior(load)) - mean
        self._seen[_class(load)] = (mean + error * max(LEAST_WEIGHT, 1 / (count + 1)), count + 1)

    def _prior(self, load: float) -> float:
        return max(1.0, (load + 1.0) / self.cores)


def stretched(work_s: float, stretch: float) -> float:
    """What it takes to get so many CPU seconds."""
    return work_s + (stretch - 1.0) * max(0.0, work_s - SLICE_S)


def seen(wall_s: float, cpu_s: float) -> float | None:
    """The stretch of work that took so long; None when it was too short to tell."""
    return 1.0 + (wall_s - cpu_s) / (cpu_s - SLICE_S) if cpu_s >= LEAST_CPU_S else None


def _class(load: float) -> int:
    return round(2 * log2(1.0 + max(0.0, load)))
