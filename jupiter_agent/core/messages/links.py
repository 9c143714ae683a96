"""Messages about links: their models as they travel, who asks for them, active probes (DESIGN.md 96, 97)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from jupiter_agent.core.messages import FETCHED_BYTES, Count, Message, Seconds

PROBE_BYTES = 64 * 1024
"""What a probe may ask for at most"""

FIRST_BYTES = 14_480.0
"""Ten segments: the window TCP begins with, and begins with again after a pause (RFC 6928, RFC 5681)"""

USUAL_Q = 1 / 12.5e6
"""Seconds per byte where nothing is known: 100 Mbit/s"""
USUAL_S = 1.0
USUAL_P_S = 0.003

Rate = Annotated[float, Meta(ge=0, le=1e15)]
"""bytes/s, 0 when unknown"""
Delay = Annotated[float, Meta(ge=0, le=1e4)]
PerByte = Annotated[float, Meta(ge=0, le=1e3)]
"""Seconds per byte; 0 where it is not known"""


class Shape(Struct, frozen=True, array_like=True):
    """The model of one directed link at one time (core/profiling/link_model.py).

    `rtt_s` there and back; `error` relative, of a single transfer; `samples` 0: only the round trip was measured.
    """

    rtt_s: Delay
    p: Delay = USUAL_P_S
    q: PerByte = USUAL_Q
    r: PerByte = 0.0
    s: Annotated[float, Meta(ge=0, le=100)] = USUAL_S
    error: Annotated[float, Meta(ge=0, le=100)] = 1.0
    samples: Count = 0

    def seconds(self, size: float, opened: float = 0.0) -> float:
        """From the start of sending an object of this size to having it, on a path that was idle, or where the window
        is `opened` to so many bytes. Monotone in the size, never negative."""
        asked = self.rtt_s + self.p if size > FETCHED_BYTES else 0.0
        return self.rtt_s / 2 + asked + self.moving_s(size, opened)

    def moving_s(self, size: float, opened: float = 0.0) -> float:
        """Of that what the bytes take."""
        rounds, before = slow_start(size, self.s * self.rtt_s, self.q, opened)
        return self.q * (size - before) + self.r * size * size + self.s * self.rtt_s * rounds

    def straight(self, sizes: Sequence[float]) -> tuple[float, float, float]:
        """(seconds, seconds per byte, seconds per byte^2) for mappers, which know quadratics only: the line with the
        least relative errors at these sizes, and r."""
        n = f = ff = t = ft = 0.0
        for size in sizes:
            seconds = max(1e-9, self.seconds(size) - self.r * size * size)
            weight = 1.0 / (seconds * seconds)
            n, f, ff = n + weight, f + weight * size, ff + weight * size * size
            t, ft = t + weight * seconds, ft + weight * size * seconds
        spread = n * ff - f * f
        slope = max(0.0, (n * ft - f * t) / spread) if spread > 1e-9 * n * ff else self.q
        first = (t - slope * f) / n if n else self.rtt_s / 2
        return (first, slope, self.r) if first >= 0 else (0.0, ft / ff, self.r)


def slow_start(size: float, rtt_s: float, q: float, opened: float = 0.0) -> tuple[int, float]:
    """(round trips spent waiting for the window, bytes that went in them) until the rest of `size` goes at once: the
    window begins `opened`, at least with ten segments, and doubles until it holds all that the path does."""
    window, before, rounds = max(FIRST_BYTES, opened), 0.0, 0
    while before + window < size and q * window < rtt_s:
        before, window, rounds = before + window, 2 * window, rounds + 1
    return rounds, before


class LinksWanted(Message, frozen=True, tag=44):
    """Which links have you measured? Answered by `Links` (the matrix is pulled on demand)."""

    seq: Count
    among: Annotated[list[str], Meta(max_length=1000)] = []
    """candidates of a mapping: those of the links between them that are not known well are measured now"""


class Links(Message, frozen=True, tag=45):
    """A node's own measured links: peer -> (latency s, bandwidth bytes/s or 0 when unknown, samples)."""

    seq: Count
    links: dict[str, tuple[Seconds, Rate, Count]]
    inbound: dict[str, Shape] = {}
    """peer -> the model of the link from it to this node, as measured here"""


class LinkProbe(Message, frozen=True, tag=70):
    """Answer at once (`LinkEcho`) with so many bytes, or fewer. `q`: what a byte from you to me takes, as measured."""

    serial: Count
    size: Annotated[int, Meta(ge=0, le=PROBE_BYTES)] = 0
    q: PerByte = 0.0


class LinkEcho(Message, frozen=True, tag=71):
    """`heard_at`: when the probe was heard, on the clock of who answers; `dwell_s`: how long it was there."""

    serial: Count
    heard_at: Seconds
    q: PerByte = 0.0
    data: Annotated[bytes, Meta(max_length=PROBE_BYTES)] = b""
    dwell_s: Delay = 0.0
    took_s: Delay = 0.0
    """from the probe's leaving to the answer, as the asking end noted itself; what comes from outside is overwritten"""
