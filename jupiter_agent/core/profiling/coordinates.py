"""Where a node lies, so that the round trip of two nodes that never spoke can be estimated (Vivaldi, SIGCOMM 2004).

Each node has a point in a space of three dimensions and a height above it (its access link); the estimate is the
distance of the points plus both heights. A measured round trip moves the own point along the line to the other's, the
more so the less the own place and the more the other's is sure. 20 bytes on the wire. Differs: no random direction
where two points coincide, but one that follows from the ids, so a run can be replayed.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from math import isfinite, sqrt

from msgspec import Struct

STEP, SURE = 0.25, 0.25
"""The constants c_c and c_e of the paper"""
LEAST_HEIGHT_S = 1e-5
MOST_S = 10.0
"""No place is farther from the origin: nobody can send others away"""
FORMAT = "<5f"


class Place(Struct, frozen=True):
    """Seconds in each direction; `error` is relative, 1 means unknown."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    height: float = LEAST_HEIGHT_S
    error: float = 1.0

    def rtt_s(self, other: Place) -> float:
        return _length(self, other) + self.height + other.height

    def to_bytes(self) -> bytes:
        return struct.pack(FORMAT, self.x, self.y, self.z, self.height, self.error)

    @classmethod
    def from_bytes(cls, data: bytes) -> Place:
        """ValueError for what is no place."""
        if len(data) != struct.calcsize(FORMAT):
            raise ValueError("no place: another length")
        place = cls(*struct.unpack(FORMAT, data))
        far = any(not isfinite(each) or abs(each) > MOST_S for each in (place.x, place.y, place.z))
        if far or not 0 <= place.height <= MOST_S or not 0 <= place.error <= 1e3:
            raise ValueError("no place: numbers without meaning")
        return place


def moved(me: Place, other: Place, rtt_s: float, ids: tuple[str, str] = ("", "")) -> Place:
    """The own place after one more measurement. `ids`: of me and the other, for a direction where there is none."""
    weight = me.error / max(1e-6, me.error + other.error)
    predicted = me.rtt_s(other)
    off = abs(predicted - rtt_s) / max(1e-6, rtt_s)
    error = min(1.0, max(0.01, off * SURE * weight + me.error * (1 - SURE * weight)))
    force = STEP * weight * (rtt_s - predicted)
    length = _length(me, other)
    away = (me.x - other.x, me.y - other.y, me.z - other.z) if length > 1e-9 else _direction(*ids)
    scale = force / max(length, 1e-9) if length > 1e-9 else force
    height = max(LEAST_HEIGHT_S, me.height + force * me.height / max(1e-9, predicted))
    x, y, z = (
        min(MOST_S, max(-MOST_S, at + scale * d)) for at, d in zip((me.x, me.y, me.z), away, strict=True)
    )  # fmt: skip
    return Place(x, y, z, min(MOST_S, height), error)


def _length(a: Place, b: Place) -> float:
    return sqrt((a.x - b.x) ** 2 + (a.y - b.y) ** 2 + (a.z - b.z) ** 2)


def _direction(me: str, other: str) -> tuple[float, float, float]:
    """A unit vector that the two ids fix, the opposite one for the other."""
    low, high = sorted((me, other))
    digest = blake2b(f"{low}:{high}".encode(), digest_size=3).digest()
    raw = [byte / 127.5 - 1.0 + 1e-3 for byte in digest]
    size = sqrt(sum(each * each for each in raw))
    sign = 1.0 if me <= other else -1.0
    x, y, z = (sign * each / size for each in raw)
    return x, y, z
