"""Records of a job's home as they are journaled, copied to deputies, and merged when two homes meet (DESIGN.md 78, 80).

A record is (kind, value), an upsert: `job` (spec and first home version), `register` (home version and deputies),
`registers`, `item`, `inside`, `mapped`, `close`, `over`; of a former home `led`, who may take it for home yet. Any
order of them that has the newest of each gives the same state. `merged` is commutative, associative and repeatable, so
it does not matter who tells whom first.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import msgspec

from jupiter_agent.core.bounds import struct_checker
from jupiter_agent.core.effects import Effect, StoreInline
from jupiter_agent.core.genuine import check_genuine
from jupiter_agent.core.ids import is_item_name
from jupiter_agent.core.intake import Item
from jupiter_agent.core.messages.jobs import Copy, Obj, Register
from jupiter_agent.errors import PeerError

INLINE_RECORD_BYTES = 256 * 1024
"""Objects inside one record together; what is beyond goes by reference"""
RECORD_BYTES = 300
"""Of an item's record without its objects, about"""

FORMER = 16
"""Earlier homes and deputies that a register names, the last ones"""
OVER = ("done", "failed", "cancelled")
_rank = {"queued": 0, "running": 0, "cancelled": 1, "failed": 2, "done": 3}
_has_sense = struct_checker(Item) or (lambda item: True)

Record = tuple[str, str, str, Any]
"""(kind of machine, job id, what, value as plain data)"""


class Entry(NamedTuple):
    """One record on its way to a copy; `size` bytes, about."""

    kind: str
    value: Any
    size: int


def home_record(job: str, kind: str, value: Any) -> Record:
    """One journal record of a job's home."""
    return ("home", job, kind, plain(value))


def copy_record(job: str, kind: str, value: Any) -> Record:
    """One journal record of a copy."""
    return ("copy", job, kind, plain(value))


def plain(value: Any) -> Any:
    """What can be journaled; a value that is made when it is asked for stays so."""
    if callable(value):
        return lambda: plain(value())
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def entry(kind: str, value: Any) -> Entry:
    """A record that is not an item's."""
    return Entry(kind, plain(value), RECORD_BYTES * (len(value) if isinstance(value, list) else 1))


def item_entry(item: Item, fresh: dict[bytes, bytes] | None = None) -> Entry:
    """An item's record; small results whose bytes are at hand travel with it."""
    left, results = INLINE_RECORD_BYTES, []
    for sink, obj in item.results:
        data = (fresh or {}).get(obj.sha256)
        left -= obj.size if data is not None else 0
        results.append((sink, Obj(obj.name, obj.sha256, obj.size, data if left >= 0 else None)))
    objects = [*item.objects(), *(obj for _, obj in results)]
    size = RECORD_BYTES + sum(100 if obj.data is None else 100 + obj.size for obj in objects)
    return Entry("item", plain(msgspec.structs.replace(item, results=results)), size)


def to_item(value: Any) -> Item:
    """PeerError for what is no item. One that is decoded already is given back."""
    if isinstance(value, Item):
        return value
    try:
        item = msgspec.convert(value, Item)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise PeerError(f"a copied item does not decode: {error}") from None
    if not is_item_name(item.name) or item.state not in _rank or not _has_sense(item):
        raise PeerError(f"a copied item without meaning: {item.name!r}")
    check_genuine([*item.objects(), *(obj for _, obj in item.results)], f"a copied item {item.name!r}")
    return item


def decoded(copy: Copy) -> Copy:
    """The batch with its items decoded, once for all who read them. PeerError unless every record of it decodes, so
    that a batch is taken in whole or changes nothing."""
    entries = list[tuple[str, Any]]()
    for kind, value in copy.records:
        if kind == "registers":
            to_registers(value)
        elif kind == "led":
            to_nodes(value)
        elif kind == "inside":
            apply_inside({}, value)
        entries.append((kind, to_item(value) if kind == "item" else value))
    return msgspec.structs.replace(copy, records=entries)


def apply_inside(items: MutableMapping[str, Item], value: Any) -> None:
    """The record of who runs an item that has strikes, and who ended with it. PeerError: it is none."""
    try:
        name, inside, ended = msgspec.convert(value, tuple[str, list[tuple[str, int, str]], list[tuple[str, int]]])
    except msgspec.ValidationError as error:
        raise PeerError(f"a copied record of runs does not decode: {error}") from None
    if name in items:
        items[name] = msgspec.structs.replace(items[name], inside=inside, ended=ended)


def to_registers(value: Any) -> list[Register]:
    """PeerError for what is no list of registers."""
    try:
        return msgspec.convert(value, list[Register])
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise PeerError(f"copied registers do not decode: {error}") from None


def to_nodes(value: Any) -> list[str]:
    """PeerError for what is no list of nodes."""
    try:
        return msgspec.convert(value, list[str])[-FORMER:]
    except msgspec.ValidationError as error:
        raise PeerError(f"copied names of nodes do not decode: {error}") from None


def stored(item: Item) -> tuple[Item, list[StoreInline]]:
    """The item as it is kept: the bytes of its results are in the store."""
    effects = [StoreInline(obj.sha256, obj.data) for _, obj in item.results if obj.data is not None]
    results = [(sink, Obj(obj.name, obj.sha256, obj.size)) for sink, obj in item.results]
    parts = {entry_task: list(objects) for entry_task, objects in item.parts.items()}
    return msgspec.structs.replace(item, results=results, parts=parts), effects


def lighten(item: Item) -> list[Effect]:
    """Its parts as they fit into one record: what is beyond is stored here, and named."""
    left, effects = INLINE_RECORD_BYTES, list[Effect]()
    for entry_task, parts in item.parts.items():
        for i, obj in enumerate(parts):
            if obj.data is None:
                continue
            left -= obj.size
            if left < 0:
                effects.append(StoreInline(obj.sha256, obj.data))
                item.parts[entry_task][i] = Obj(obj.name, obj.sha256, obj.size)
    return effects


def kept(item: Item) -> list[Obj]:
    """The objects that must be there with the record: results, and the input of what may still need it."""
    inputs = [] if item.state in ("done", "cancelled") else item.objects()
    return [*inputs, *(obj for _, obj in item.results)]


def merged(one: Item, other: Item) -> Item:
    """What two homes know of one item: the record that stays whole, known under the numbers of both.

    Of two intakes of other bytes that of the higher home version stays, else what is over, else the decision of the
    higher home version; results that differ and lose are kept as `conflicts`.
    """
    if one == other:
        return one
    first, second = (one, other) if _order(one, other) else (other, one)
    numbers = {first.number, *first.others, second.number, *second.others} - {first.number}
    conflicts = list(first.conflicts)
    told = {msgspec.msgpack.encode(each) for each in conflicts}
    lost = [*second.conflicts, *([_as_conflict(second)] if _differ(first, second) else [])]
    conflicts += [each for each in lost if msgspec.msgpack.encode(each) not in told]
    return msgspec.structs.replace(
        first, parts=_all_parts(first, second), others=sorted(numbers), conflicts=sorted(conflicts, key=repr),
        sealed=first.sealed or second.sealed, ended=sorted({*first.ended, *second.ended}),
        void=sorted({*first.void, *second.void}),
    )  # fmt: skip


def _all_parts(first: Item, second: Item) -> dict[str, list[Obj]]:
    """Of an item that waits for parts, those that only the other side has."""
    if _rank[first.state] or not same_input(first, second):
        return first.parts
    return {
        **{entry_task: parts for entry_task, parts in second.parts.items() if entry_task not in first.parts},
        **first.parts,
    }


def same_input(one: Item, other: Item) -> bool:
    """No entry has other bytes in one than in the other."""
    shared = set(one.parts) & set(other.parts)
    return all([o.sha256 for o in one.parts[t]] == [o.sha256 for o in other.parts[t]] for t in shared)


def _order(one: Item, other: Item) -> bool:
    """Whether `one` stays whole."""
    if not same_input(one, other):
        return (one.number, _standing(one)) > (other.number, _standing(other))
    return bool(_standing(one) > _standing(other))


def _standing(item: Item) -> Any:
    decided = [item.decided] if item.decided else []
    return (_rank[item.state], decided, item.number, len(item.parts), msgspec.msgpack.encode(item, order="sorted"))


def _differ(first: Item, second: Item) -> bool:
    return not same_input(first, second) or (
        second.state == "done" and first.state == "done" and _listed(first) != _listed(second)
    )


def _listed(item: Item) -> list[tuple[str, str, bytes]]:
    return sorted((sink, obj.name, obj.sha256) for sink, obj in item.results)


def _as_conflict(item: Item) -> dict[str, Any]:
    home = item.number[0]
    inputs = sorted({obj.sha256.hex() for obj in item.objects()})
    results = [[sink, name, digest.hex()] for sink, name, digest in _listed(item)]
    return {"home_epoch": home.epoch, "state": item.state, "inputs": inputs, "results": results}
