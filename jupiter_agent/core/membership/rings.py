"""Who is whose neighbour: k hash rings over the present members (bounded degree, no agreement needed).

Ring r orders members by H(r, id). A node links to its successor on every ring and to random others; the union of k
rings stays connected when 30 % vanish at once with k = 4, above about 500 members with k = 5. Every node computes rings
from its own view only: a wrong view costs an extra edge, never correctness, because any admitted member is accepted as
a neighbour.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

STEP_IN = 3
"""successors looked at when the nearest ones have bad edges"""


@lru_cache(maxsize=8192)
def place(ring: int, peer: str) -> int:
    """H(ring, id): 48 bits."""
    return int.from_bytes(blake2b(f"{ring}:{peer}".encode(), digest_size=6).digest(), "big")


class Rings:
    """k sorted lists of (place, id). Adding and removing costs O(k N) moves of a list, a lookup O(log N). `many`: the
    last ring counts only when there are more members than this."""

    def __init__(self, count: int, many: int = -1) -> None:
        self._rings: list[list[tuple[int, str]]] = [[] for _ in range(count)]
        self._many = many

    def __len__(self) -> int:
        return len(self._rings[0])

    def used(self) -> list[list[tuple[int, str]]]:
        """The rings that links follow at the present size."""
        return self._rings if len(self) > self._many else self._rings[:-1]

    def __contains__(self, peer: str) -> bool:
        ring, entry = self._rings[0], (place(0, peer), peer)
        at = bisect_left(ring, entry)
        return at < len(ring) and ring[at] == entry

    def add(self, peer: str) -> None:
        if peer not in self:
            for number, ring in enumerate(self._rings):
                insort(ring, (place(number, peer), peer))

    def remove(self, peer: str) -> None:
        if peer in self:
            for number, ring in enumerate(self._rings):
                ring.pop(bisect_left(ring, (place(number, peer), peer)))

    def any(self, rng: random.Random) -> str:
        ring = self._rings[0]
        return ring[rng.randrange(len(ring))][1]

    def neighbours(self, peer: str) -> list[str]:
        """Successor and predecessor of a member on every ring: those who most likely have a link with it."""
        found: dict[str, None] = {}
        for number, ring in enumerate(self.used()):
            at = bisect_left(ring, (place(number, peer), peer))
            here = at < len(ring) and ring[at][1] == peer
            for index in (at + here, at - 1):
                found[ring[index % len(ring)][1]] = None
        found.pop(peer, None)
        return list(found)

    def targets(
        self, peer: str, bad: Callable[[str], bool], shut: Callable[[str], bool] | None = None, most: int | None = None
    ) -> set[str]:
        """Whom `peer` links to by the rings, the first `most` of them: everybody while N <= 2k, else its successors. A
        bad edge keeps its place, but the next successor steps in as well; one that is shut (cannot be opened from here)
        is passed over."""
        size, rings = len(self), self.used()[:most]
        if size <= 2 * len(rings):
            return {other for _, other in rings[0] if other != peer and not (shut and shut(other))}
        chosen: set[str] = set()
        for number, ring in enumerate(rings):
            at = bisect_left(ring, (place(number, peer), peer))
            tried = 0
            for offset in range(1, size):
                other = ring[(at + offset) % size][1]
                if shut is not None and shut(other):
                    continue
                chosen.add(other)
                tried += 1
                if tried == STEP_IN or not bad(other):
                    break
        chosen.discard(peer)
        return chosen
