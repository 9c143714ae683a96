"""The join of CIRCE (DESIGN.md 7, rule 3): parcels wait here until every in-edge of a task has one and they agree.

A buffer holds, per item, what arrived on each in-edge of one task (or of home, the last join). Parcels agree when no
two carry different stamps of one ancestor, so two attempts of a non-deterministic ancestor never mix. Every agreeing
set is offered in order of arrival; whoever runs it decides which values it has run already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from jupiter_agent.core.messages.jobs import Obj, Parcel

Key = tuple[bytes, frozenset[tuple[str, bytes]]]
"""What tells parcels of one edge and item apart: stamp and carried stamps."""


def key_of(parcel: Parcel) -> Key:
    return (parcel.stamp, frozenset(parcel.carried.items()))


def merged_stamps(parcels: Iterable[Parcel]) -> dict[str, bytes] | None:
    """Every ancestor's stamp that the parcels carry; None when two of them disagree."""
    stamps: dict[str, bytes] = {}
    for parcel in parcels:
        for ancestor, stamp in parcel.carried.items():
            if stamps.setdefault(ancestor, stamp) != stamp:
                return None
    return stamps


class JoinBuffer:
    """Parcels for one receiving task, by item and in-edge."""

    def __init__(self, in_edges: list[str]) -> None:
        self._in_edges = in_edges
        self._items: dict[str, dict[str, dict[Key, Parcel]]] = {}
        self._order: dict[str, list[Parcel]] = {}

    def add(self, parcel: Parcel) -> bool:
        """Keep the parcel; False when this object is here already."""
        arrived = self._items.setdefault(parcel.item, {}).setdefault(parcel.src, {})
        key = key_of(parcel)
        if key in arrived:
            return False
        arrived[key] = parcel
        self._order.setdefault(parcel.item, []).append(parcel)
        return True

    def sets(self, item: str) -> Iterator[tuple[dict[str, bytes], list[Parcel]]]:
        """Complete agreeing sets with the stamps they carry, in order of arrival; O(product of attempts per edge)."""
        arrived = self._items.get(item, {})
        if any(not arrived.get(edge) for edge in self._in_edges):
            return
        for parcels in product(*(list(arrived[edge].values()) for edge in self._in_edges)):
            stamps = merged_stamps(parcels)
            if stamps is not None:
                yield stamps, list(parcels)

    def parcels(self, item: str) -> list[Parcel]:
        """All of an item, in order of arrival."""
        return list(self._order.get(item, ()))

    def objects(self, item: str) -> list[Obj]:
        """All that were announced for an item."""
        return [obj for parcel in self.parcels(item) for obj in parcel.objects]

    def drop(self, item: str) -> None:
        self._items.pop(item, None)
        self._order.pop(item, None)

    def items(self) -> list[str]:
        return list(self._items)
