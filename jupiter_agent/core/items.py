"""The items of a job by name, small in memory: an open one is an object, one that is over is its packed record.

An endless job has any number of items that are over, and few ask for one: a record of some 250 bytes is unpacked for
whoever does. What is read of a packed one is a copy: who changes it puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from typing import Any

import msgspec

from jupiter_agent.core.intake_item import Item

_fields = [(each.name, each.type) for each in msgspec.structs.fields(Item)]
_Row = msgspec.defstruct("_Row", _fields, array_like=True)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode
_CODES = {"done": b"d", "failed": b"f", "cancelled": b"c"}
_STATES = {code[0]: state for state, code in _CODES.items()}


class Items(MutableMapping[str, Item]):
    """In the order they came. Iteration allows that values are replaced."""

    def __init__(self) -> None:
        self._all: dict[str, Item | bytes] = {}
        self.last_end: float | None = None
        """when the last item was over, of all there were"""

    def __getitem__(self, name: str) -> Item:
        held = self._all[name]
        return held if isinstance(held, Item) else _unpacked(held)

    def __setitem__(self, name: str, item: Item) -> None:
        self._all[name] = item if item.pending else _packed(item)
        if item.finished_at is not None:
            self.last_end = max(item.finished_at, self.last_end or 0.0)

    def __delitem__(self, name: str) -> None:
        del self._all[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def states(self) -> Iterator[tuple[str, str]]:
        """(name, state) of all, without unpacking."""
        for name, held in self._all.items():
            yield name, held.state if isinstance(held, Item) else _STATES[held[0]]

    def frozen(self) -> Iterator[Item | Callable[[], Item]]:
        """All as they are now: open ones, and of packed ones how to get them, at any time, in any thread."""
        for held in self._all.values():
            yield held if isinstance(held, Item) else partial(_unpacked, held)

    def open(self) -> Iterator[Item]:
        """Those that are held as objects: all that are pending, and none that was put here when it was over."""
        return (held for held in self._all.values() if isinstance(held, Item))


def _packed(item: Item) -> bytes:
    return _CODES[item.state] + _encode(msgspec.structs.astuple(item))


def _unpacked(record: bytes) -> Item:
    values: tuple[Any, ...] = msgspec.structs.astuple(_decode(memoryview(record)[1:]))
    return Item(*values)
