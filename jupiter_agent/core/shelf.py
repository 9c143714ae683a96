"""Copies of one job on a node that is not its home: a deputy, a former one, a former home (DESIGN.md 7, 6 and 8).

A shelf is a heap of records with the register that it last heard of. Whatever comes is merged by the rules of
`records.merged`, so it does not matter whether a home, a former one or this node's own past said it. What the acting
home may lack (`owed`) is handed over to it; a shelf whose node is no deputy is emptied when the acting home has
confirmed all of it, and has said that its deputies hold everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from msgspec import convert

from jupiter_agent.core import records
from jupiter_agent.core.copies import Stream
from jupiter_agent.core.effects import StoreInline
from jupiter_agent.core.intake import Item
from jupiter_agent.core.items import Items
from jupiter_agent.core.job import LEAP, decode_spec
from jupiter_agent.core.messages.jobs import Deputies, HomeVersion, JobSpec, Register, SignedSpec
from jupiter_agent.core.records import FORMER, Entry
from jupiter_agent.core.transfer import Transfers

_ends = {"completed": 1, "failed": 1, "cancelled": 2}


class Shelf:
    """The copies; `spec` is decoded, its signature checked before."""

    def __init__(self, signed: SignedSpec, home: HomeVersion, deputies: Deputies) -> None:
        self.signed = signed
        self.spec: JobSpec = decode_spec(signed)
        self.home, self.deputies = home, deputies
        self.complete = False
        """the acting home said that its deputies hold everything"""
        self.items = Items()
        self.registers: dict[str, Register] = {}
        self.closed = False
        self.mapped_at: float | None = None
        self.over = ""
        self.owed: set[str] = set()
        """items that the acting home may lack"""
        self.facts_owed = True
        self.told_all = False
        """home's stream has brought everything it had: what is owed now is owed indeed"""
        self.heard_at = -inf
        """when the register changed last, or home sent copies"""
        self.home_boot = 0
        """the boot in which home was heard of as home"""
        self.probe_at = -inf
        """when home, started again since, is asked whether it still is home"""
        self.disowned = False
        """it said no: it lost its disk"""
        self.handing: Stream | None = None
        self.led: list[str] = []
        """who had copies from this node while it was home, and may not have heard of the acting one"""
        self.offered: dict[str, Item] = {}
        """what the stream under way offers"""

    def learn(self, home: HomeVersion, deputies: Deputies, complete: bool) -> bool:
        """News of the register; True when it changed. With a new home everything is owed again."""
        if (home, deputies.n, complete) <= (self.home, self.deputies.n, self.complete):
            return False
        if home.epoch > self.home.epoch + LEAP:
            return False
        if home != self.home:
            self.owed, self.facts_owed, self.told_all, self.handing = set(self.items), True, False, None
            self.home_boot, self.disowned = 0, False
        self.home, self.deputies, self.complete = home, deputies, complete
        return True

    def apply(self, kind: str, value: Any, from_home: bool) -> tuple[Item | None, Item | None, list[StoreInline]]:
        """Merge one record: (the item before, the item now, bytes to store); (None, None, []) for other kinds."""
        if kind == "item":
            theirs, effects = records.stored(records.to_item(value))
            mine = self.items.get(theirs.name)
            item = records.merged(mine, theirs) if mine else theirs
            self.items[item.name] = item
            if item.pending and self.over != "cancelled":
                self.over = ""  # a later home has found an item that is not over
            if not from_home or item != theirs:
                self.owed.add(item.name)
            else:
                self.owed.discard(item.name)
            return mine, item, effects
        if kind == "registers":
            for register in records.to_registers(value):
                known = self.registers.get(register.task)
                if known is None or register.version() > known.version():
                    self.registers[register.task] = register
        elif kind == "inside":
            records.apply_inside(self.items, value)
        elif kind == "led":
            self.led = records.to_nodes(value)
        elif kind == "close":
            self.closed = True
        elif kind == "mapped" and isinstance(value, float | int):
            self.mapped_at = min(float(value), self.mapped_at or float(value))
        elif kind == "over" and _ends.get(str(value), 0) > _ends.get(self.over, 0):
            self.over, self.closed = str(value), True
        return None, None, []

    def deputies_under(self, me: str, is_gone: Callable[[str], bool]) -> Deputies:
        """What the register says when `me` is the next home: living deputies stay; the others may become home, too."""
        nodes = [node for node in self.deputies.nodes if node != me and not is_gone(node)]
        others = dict.fromkeys([*self.deputies.former, *self.led, *self.deputies.nodes, self.home.writer])
        return Deputies(0, nodes, [node for node in others if node not in (me, *nodes)][-FORMER:])

    def entries(self) -> Iterator[Entry]:
        """Everything, the job's own record first."""
        yield records.entry("job", (self.signed, self.home))
        yield from self.facts()
        for item in list(self.items.values()):
            yield records.item_entry(item)

    def facts(self) -> Iterator[Entry]:
        yield records.entry("registers", list(self.registers.values()))
        if self.led:
            yield records.entry("led", self.led)
        if self.mapped_at is not None:
            yield records.entry("mapped", self.mapped_at)
        if self.closed:
            yield records.entry("close", None)
        if self.over:
            yield records.entry("over", self.over)

    def offer(self, transfers: Transfers) -> Iterator[Entry]:
        """What is owed: facts, then the items whose bytes are here."""
        yield from self.facts()
        for name in sorted(self.owed):
            item = self.items[name]
            if all(map(transfers.has, records.kept(item))):
                self.offered[name] = item
                yield records.item_entry(item)

    def handed(self) -> None:
        """The acting home has what was offered; what changed since is still owed."""
        for name, item in self.offered.items():
            if self.items.get(name) == item:
                self.owed.discard(name)
        self.facts_owed, self.offered, self.handing = False, {}, None

    def owes(self, transfers: Transfers) -> bool:
        """Something that is here whole may be unknown to the acting home."""
        return self.facts_owed or any(all(map(transfers.has, records.kept(self.items[n]))) for n in self.owed)


def restored(value: Any) -> tuple[SignedSpec, HomeVersion]:
    return convert(value, tuple[SignedSpec, HomeVersion])
