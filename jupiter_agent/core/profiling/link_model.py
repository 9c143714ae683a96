"""How long bytes take on one directed link: a constrained quadratic, with the rounds that a window needs to open.

    l(f) = one way + p + q (f - h) + r f^2 + s n rtt        p, q, r, s >= 0: never negative, never falling

`p` is the fixed cost of fetching an object, beyond one round trip to ask for it; `q` seconds per byte, `r` the
quadratic term of DRUPE. Differs: `n` round trips, in which `h` bytes go, pass until the sender's window, ten segments
at first, has doubled to what is left of f, or to what the path holds (rtt / q). TCP makes the start of every transfer
concave, which no quadratic with p, q, r >= 0 can follow: 1 MB over 100 Mbit/s and 150 ms takes 0.8 s, of which 0.08 s
are bytes (m). What does not leave by itself but inside a message has no fetching.

The fit is least squares on relative errors, so that 1 kB counts as much as 50 MB, with a prior for what was never seen,
solved with p, q, r, s >= 0 by trying the faces of the cone. Weights fade with age and with every further sample. The
last samples themselves are kept, not their sums: `n` depends on q, so the equations are stated anew with every fit. A
sample far off counts little; twice in a row in the same direction it is a change, and what was known before fades at
once. The round trip is measured apart (`delays`) and enters each sample as it was then, so a change of the delay needs
no new transfer to be known.
"""

from __future__ import annotations

from collections import deque
from itertools import combinations
from math import exp, inf, log, sqrt
from typing import Annotated

from msgspec import Meta, Struct

from jupiter_agent.core.messages import MAX_OBJECT_BYTES, Count
from jupiter_agent.core.messages.links import USUAL_P_S, USUAL_Q, USUAL_S, Shape, slow_start

MB = 1e6
"""The unit of f in the equations: all terms are of one magnitude"""
SPREAD = 0.05
"""Relative error of a single sample on a good day"""
SPREAD_S = 0.1
"""How sure `s` is: a round trip of the window is a round trip"""
FADE_SAMPLES = 6.0
FADE_S = 600.0
"""After so many later transfers, or so long, a sample counts 1/e"""
CHANGED = 0.05
"""What is left of the past when the link has changed"""
FAR = 2.5
"""So many usual errors off is far"""
USUAL = 0.15
"""Relative error before any sample"""
LEAST_ERROR = 0.08
"""Its floor as a measure of what is far"""
PARAMETERS = 4
YOUNG = 3
"""Transfers before which nothing is far: what is expected of the next is not much yet"""
LEAST_Q = 1e-10
"""10 GB/s: what is faster cannot be told from nothing"""
TRANSFERS, PROBES = 24, 6
"""Samples that are kept"""
ABOVE = 2
"""Probes in a row that must be well above the least to be a change"""
REFIT = 4
"""Samples that come in before what is expected of the next is computed anew"""
ROUNDS = 6
"""Fits until q and what the path holds agree"""

Time = Annotated[float, Meta(ge=0, le=1e6)]


class Sample(Struct, frozen=True, array_like=True):
    """`size` bytes came in `seconds` after they were asked for. `fetched`: an object by its digest, not a probe.
    `noise_s`: how far off the clock or the processor may have been."""

    size: Annotated[int, Meta(ge=1, le=MAX_OBJECT_BYTES)]
    seconds: Time
    fetched: bool = True
    noise_s: Time = 0.001
    opened: Annotated[int, Meta(ge=0, le=MAX_OBJECT_BYTES)] = 0
    """bytes to which the window was open, where something came just before"""


class Taken(Struct, array_like=True):
    """A sample with what else was so then; `weight` besides that of its age."""

    sample: Sample
    rtt_s: Time
    at: Annotated[float, Meta(ge=-1e12, le=1e12)]
    weight: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Memory(Struct, frozen=True, array_like=True):
    """All a model holds, to be kept."""

    count: Count
    error: Annotated[float, Meta(ge=0.02, le=1)]
    taken: Annotated[list[Taken], Meta(max_length=TRANSFERS + PROBES)]


class LinkModel:
    """What was learned of one directed link. Times are given by the caller."""

    def __init__(self) -> None:
        self.count = 0
        self.at = -inf
        """of the last sample"""
        self.error = USUAL
        """relative, of one transfer, as it was lately"""
        self._transfers: deque[Taken] = deque(maxlen=TRANSFERS)
        self._probes: deque[Taken] = deque(maxlen=PROBES)
        self._off = 0
        """samples in a row that were far off: over or, negative, under"""
        self._above = 0
        """probes in a row that were well above the least"""
        self._new = 0
        """samples since it was fitted"""
        self._fitted: tuple[float, list[float]] | None = None
        """(the prior it was found with, the solution)"""

    @property
    def transfers(self) -> int:
        """Samples of real transfers that are still held."""
        return len(self._transfers)

    @property
    def last_q(self) -> float:
        """Seconds per byte, as fitted last."""
        return self._fitted[1][1] if self._fitted else USUAL_Q

    def on_sample(self, sample: Sample, rtt_s: float, now: float, usual_q: float = USUAL_Q) -> bool:
        """Take it in; whether it was far from what was expected. What makes no sense changes nothing."""
        if not 0 < sample.size <= MAX_OBJECT_BYTES or not 0 < sample.seconds < 1e6 or not 0 <= rtt_s < 1e6:
            return False
        if not sample.fetched:
            return self._on_probe(Taken(sample, rtt_s, now))
        p, q, r, s = self._fitted[1] if self._fitted and self._new < REFIT else self._solution(usual_q)
        off = log(sample.seconds / (rtt_s + p + Shape(rtt_s, p, q, r, s).moving_s(sample.size, sample.opened)))
        allowed = FAR * max(LEAST_ERROR, self.error) + FAR * sample.noise_s / sample.seconds
        far = self.transfers >= YOUNG and abs(off) > allowed
        self._off = (max(0, self._off) + 1 if off > 0 else min(0, self._off) - 1) if far else 0
        self._transfers.append(Taken(sample, rtt_s, now, (allowed / off) ** 2 / 4 if far else 1.0))
        if abs(self._off) >= 2:
            self._changed()
        if self.count:
            self.error = max(0.02, sqrt(0.85 * self.error**2 + 0.15 * min(allowed / 2, abs(off)) ** 2))
        self._took(far or self.count <= TRANSFERS // 2, now)
        return far

    def _on_probe(self, taken: Taken) -> bool:
        """Noise only adds: the least of the last probes counts, given up when `ABOVE` in a row are well above it."""
        least, (q, noise) = self._least(), _bytes_take(taken)
        self._probes.append(taken)
        far = False
        if least is not None:
            known, about = _bytes_take(least)
            above = q > (1 + FAR * 2 * LEAST_ERROR) * known + 2 * min(noise, about)
            far = above or q * (1 + FAR * 2 * LEAST_ERROR) + 2 * noise < known
            self._above = self._above + 1 if above else 0
            if self._above >= ABOVE:
                while len(self._probes) > ABOVE:
                    self._probes.popleft()
            if self._above >= ABOVE or (far and not above):
                for old in self._transfers:
                    old.weight *= CHANGED
                self._above = 0
        self._took(True, taken.at)
        return far

    def _took(self, fit: bool, now: float) -> None:
        self.count += 1
        self._new += REFIT if fit else 1
        self.at = now

    def _least(self) -> Taken | None:
        """The probe whose bytes took least, as sure as the next best one says."""
        if not self._probes:
            return None
        best = min(self._probes, key=lambda taken: _bytes_take(taken)[0])
        q, noise = _bytes_take(best)
        others = sorted(_bytes_take(taken)[0] for taken in self._probes)
        sure = min(noise, max(noise / 3, others[1] - q)) if len(others) > 1 else noise
        sample = Sample(best.sample.size, best.sample.seconds, False, sure * best.sample.size)
        return Taken(sample, best.rtt_s, self._probes[-1].at)

    def shape(self, rtt_s: float, usual_q: float = USUAL_Q) -> Shape:
        """The model as it is now; what was never seen is as usual."""
        p, q, r, s = self._solution(usual_q)
        return Shape(rtt_s, p, q, r, s, self.uncertainty, self.count)

    @property
    def uncertainty(self) -> float:
        """Relative, of a prediction: the usual error, more while there are few samples."""
        if self._transfers:
            return min(1.0, self.error * sqrt(1.0 + 3.0 / len(self._transfers)))
        least = self._least()
        if least is None:
            return 1.0
        q, noise = _bytes_take(least)
        return min(1.0, 2 * self.error + noise / q)

    def _changed(self) -> None:
        """The last two transfers were far off in one direction: what was before them hardly counts."""
        held = list(self._transfers)
        for taken in held[:-2]:
            taken.weight *= CHANGED
        for taken in held[-2:]:
            taken.weight = 1.0
        self._off = 0
        self._probes.clear()

    # --- the equations -----------------------------------------------------------------------------------------------

    def _solution(self, usual_q: float) -> list[float]:
        """p, q, r, s."""
        if self._fitted is None or self._fitted[0] != usual_q or self._new:
            q = usual_q
            for _ in range(ROUNDS):
                found = self._solved(usual_q, q)
                q = sqrt(q * found[1]) or usual_q  # half way: or it swings between two
            self._fitted, self._new = (usual_q, found), 0
        return self._fitted[1]

    def _solved(self, usual_q: float, q: float) -> list[float]:
        """The solution, where the path holds what `q` says."""
        least_probe = self._least()
        crude = [_bytes_take(taken) for taken in (least_probe, *list(self._transfers)[-1:]) if taken is not None]
        spread_q = 3 * max(usual_q, *(per_byte - 2 * noise for per_byte, noise in crude), 0.0) * MB
        prior = ((USUAL_P_S, 2 * USUAL_P_S), (usual_q * MB, spread_q), (0.0, q * MB / 250), (USUAL_S, SPREAD_S))
        a = [[0.0] * PARAMETERS for _ in range(PARAMETERS)]
        b = [0.0] * PARAMETERS
        for i, (mean, deviation) in enumerate(prior):
            a[i][i] = 1 / max(1e-12, deviation) ** 2
            b[i] = mean * a[i][i]
        for later, taken in enumerate([*([least_probe] if least_probe else []), *reversed(self._transfers)]):
            sample, f = taken.sample, taken.sample.size / MB
            y = sample.seconds - taken.rtt_s
            spread = (SPREAD * (sample.seconds if sample.fetched else y)) ** 2 + sample.noise_s**2
            weight = taken.weight * exp((taken.at - self.at) / FADE_S - later / FADE_SAMPLES) / spread
            rounds, before = slow_start(sample.size, taken.rtt_s, q, sample.opened)
            x = (float(sample.fetched), f - before / MB, f * f, taken.rtt_s * rounds)
            for i in range(PARAMETERS):
                weighted = weight * x[i]
                b[i] += weighted * y
                for j in range(PARAMETERS):
                    a[i][j] += weighted * x[j]
        p, q, r, s = least(a, b)
        return [p, max(LEAST_Q, q / MB), r / MB**2, s]

    # --- remembering -------------------------------------------------------------------------------------------------

    def to_memory(self) -> Memory:
        return Memory(self.count, self.error, [*self._transfers, *self._probes])

    @classmethod
    def from_memory(cls, memory: Memory, at: float) -> LinkModel:
        """As it was remembered; it counts as learned at `at`."""
        model = cls()
        model.count, model.error = memory.count, memory.error
        last = max((taken.at for taken in memory.taken), default=at)
        for taken in memory.taken:
            held = model._transfers if taken.sample.fetched else model._probes
            held.append(Taken(taken.sample, taken.rtt_s, taken.at - last + at, taken.weight))
        model.at = at
        return model


def _bytes_take(taken: Taken) -> tuple[float, float]:
    """(seconds per byte, how far that may be off)"""
    sample = taken.sample
    return max(1e-12, (sample.seconds - taken.rtt_s) / sample.size), sample.noise_s / sample.size


def least(a: list[list[float]], b: list[float]) -> list[float]:
    """The x >= 0 with the least x'Ax - 2b'x, for a positive definite A of few rows: the best of all faces."""
    n = len(b)
    best, best_value = [0.0] * n, 0.0
    for count in range(n, 0, -1):
        for face in combinations(range(n), count):
            x = _solved([[a[i][j] for j in face] for i in face], [b[i] for i in face])
            if x is None or min(x) < 0:
                continue
            value = -sum(each * b[i] for each, i in zip(x, face, strict=True))
            if value < best_value:
                best_value = value
                best = [0.0] * n
                for each, i in zip(x, face, strict=True):
                    best[i] = each
        if count == n and best_value < 0:
            break  # the free optimum is inside
    return best


def _solved(a: list[list[float]], b: list[float]) -> list[float] | None:
    """x of Ax = b by elimination with pivots; None where A is singular."""
    n = len(b)
    rows = [[*a[i], b[i]] for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        if not abs(rows[i][i]) > 0:
            return None
        for k in range(i + 1, n):
            factor = rows[k][i] / rows[i][i]
            if factor:
                rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i], strict=True)]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][k] * x[k] for k in range(i + 1, n))) / rows[i][i]
    return x
