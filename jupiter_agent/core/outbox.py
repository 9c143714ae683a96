"""Parcels this node owes to receivers (DESIGN.md 7, rule 5: the state is the sender's).

A parcel is kept until its item is FINISHED. It is sent when the receiver's host is known, again after a time without
RECEIVED, and again when the receiver's assignment or its host's boot epoch changes, because whoever holds it then may
never have seen it. What a receiver has already it drops, so sending again costs bytes and nothing else.
"""

from __future__ import annotations

from math import inf

from msgspec import structs

from jupiter_agent.core.effects import Effect, Send, StoreInline
from jupiter_agent.core.job import Job
from jupiter_agent.core.join import Key, key_of
from jupiter_agent.core.messages.jobs import INLINE_MESSAGE_BYTES, Obj, Parcel, ParcelReceived, RunStarted
from jupiter_agent.core.strikes import OUT
from jupiter_agent.core.surroundings import Surroundings

RESEND_S = 1.0
RESEND_MAX_S = 8.0

OutKey = tuple[str, str, str, Key]


def lightened(parcel: Parcel) -> tuple[Parcel, list[Effect]]:
    """The parcel as it fits into a message: what is beyond the bytes allowed there is stored here, to be fetched."""
    left, objects, stores = INLINE_MESSAGE_BYTES, [], list[Effect]()
    for obj in parcel.objects:
        if obj.data is not None and obj.size > left:
            stores.append(StoreInline(obj.sha256, obj.data))
            objects.append(Obj(obj.name, obj.sha256, obj.size))
        else:
            left -= obj.size if obj.data is not None else 0
            objects.append(obj)
    return (structs.replace(parcel, objects=objects) if stores else parcel), stores


class Owed:
    """One parcel: where it went last, to which boot of that node, and when it is due again."""

    __slots__ = ("boot", "due", "lost", "parcel", "started", "target", "tries")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.target = ""
        self.boot = 0
        self.tries = 0
        self.due = 0.0
        self.started: set[str] = set()
        """tasks of runs that its host has announced, and that did not end"""
        self.lost: list[str] = []
        """hosts that were lost with it: its strikes"""

    def struck(self, received: bool) -> bool:
        """Its host was lost; whether that makes a strike: the first by chance, others only for announced runs."""
        counts = bool(self.started) or (received and not self.parcel.strikes)
        self.started.clear()
        if counts:
            self.lost.append(self.target)
            self.parcel = structs.replace(self.parcel, strikes=self.parcel.strikes + 1)
        return counts


class Outbox:
    """All parcels one node owes for one job."""

    def __init__(self, job: Job, around: Surroundings) -> None:
        self._job = job
        self._around = around
        self._pending: dict[OutKey, Owed] = {}
        self._kept: dict[OutKey, Owed] = {}
        self._by_item: dict[str, set[OutKey]] = {}
        self._next = inf
        """nothing is due before"""
        self.poisoned: list[Owed] = []
        """of the items to be given up: sent no more"""
        self.moved_bytes = 0
        """bytes of objects in parcels that another node confirmed"""

    def put(self, parcel: Parcel, now: float) -> list[Effect]:
        """Owe a parcel from now on; it leaves at once when its receiver's host is known. Twice is once."""
        owed = Owed(parcel)
        key = self._key(owed)
        if key in self._pending or key in self._kept:
            return []
        self._pending[key] = owed
        self._by_item.setdefault(parcel.item, set()).add(key)
        return self._send(owed, now)

    def flush(self, now: float) -> list[Effect]:
        """After registers or boots changed: send again what its present receiver may not have."""
        for key, owed in list(self._kept.items()):
            self._strike_if_lost(owed, True)
            host = self._job.host(owed.parcel.dst)
            if host != owed.target or self._boot(host) > owed.boot:
                self._pending[key] = self._kept.pop(key)
                owed.tries, owed.due = 0, now
        effects: list[Effect] = []
        for owed in list(self._pending.values()):
            self._strike_if_lost(owed, False)
            if owed.target != self._job.host(owed.parcel.dst) or self._boot(owed.target) > owed.boot or owed.due <= now:
                effects += self._send(owed, now)
        self._look_ahead()
        return effects

    def on_received(self, node: str, ack: ParcelReceived) -> None:
        """The receiver holds it. What an earlier life of the node held is lost: such words are too late."""
        key = (ack.item, ack.src, ack.dst, (ack.stamp, frozenset(ack.carried.items())))
        owed = self._pending.get(key)
        if owed is not None and owed.target == node and ack.boot >= self._boot(node):
            owed.boot = ack.boot
            if node != self._around.me:
                self.moved_bytes += sum(obj.size for obj in owed.parcel.objects)
            self._kept[key] = self._pending.pop(key)

    def on_run(self, node: str, message: RunStarted) -> None:
        """The node begins or ended a run of an item with strikes: in this task, or in one behind it there."""
        for key in self._by_item.get(message.item, ()):
            owed = self._pending.get(key) or self._kept[key]
            if message.over:
                owed.started.discard(message.task)
            elif owed.target == node:
                owed.started.add(message.task)

    def _strike_if_lost(self, owed: Owed, received: bool) -> None:
        """One that has left in peace was not ended by what it held."""
        target, around = owed.target, self._around
        died = target and around.is_gone(target) and target in around.dead()
        lost = target and (died or self._boot(target) > owed.boot)
        if lost and owed.struck(received) and owed.parcel.strikes >= OUT:
            self.poisoned.append(owed)

    def free(self, item: str) -> list[Parcel]:
        """The item is FINISHED: nobody will ask for its parcels again. Gives those that were kept."""
        keys = self._by_item.pop(item, set())
        return [(self._pending if key in self._pending else self._kept).pop(key).parcel for key in keys]

    def items(self) -> set[str]:
        return set(self._by_item)

    def unreceived(self) -> int:
        return len(self._pending)

    def next_deadline(self) -> float:
        """Or sooner: what was received since is struck off when it would be due."""
        return self._next if self._pending else inf

    def _look_ahead(self) -> None:
        """Find what is due next."""
        self._next = min((owed.due for owed in self._pending.values() if owed.target), default=inf)

    @staticmethod
    def _key(owed: Owed) -> OutKey:
        return (owed.parcel.item, owed.parcel.src, owed.parcel.dst, key_of(owed.parcel))

    def _boot(self, host: str | None) -> int:
        return self._around.boot_of(host) if host else 0

    def _send(self, owed: Owed, now: float) -> list[Effect]:
        host = self._job.host(owed.parcel.dst)
        if host is None or self._around.is_gone(host) or owed.parcel.strikes >= OUT:
            owed.target, owed.due = "", inf
            return []
        if host != owed.target:
            owed.tries = 0
        owed.target, owed.boot = host, self._boot(host)
        owed.due = now + min(RESEND_MAX_S, RESEND_S * 2 ** min(16, owed.tries))
        owed.tries += 1
        self._next = min(self._next, owed.due)
        return [Send(host, owed.parcel)]

    def check(self) -> None:
        """Raise when the index by item and the two states do not hold the same parcels."""
        keys = {key for keys in self._by_item.values() for key in keys}
        assert keys == {*self._pending, *self._kept}, "outbox index out of step"
