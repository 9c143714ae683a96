"""What the parts of the membership machine share: the view, the links, and the batch of effects being built."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from jupiter_agent.core.effects import Connect, Disconnect, Effect, Forget, Learn, Notice, Send
from jupiter_agent.core.membership.effects import Joined
from jupiter_agent.core.membership.link import Link
from jupiter_agent.core.membership.member import NEVER
from jupiter_agent.core.membership.rings import Rings
from jupiter_agent.core.membership.settings import MembershipSettings
from jupiter_agent.core.membership.view import View
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.trust import Trust

HEALTH_MAX = 8
NEAR = "near"
"""The published key that routes are made of"""
BRIDGES = 4
OVERHEARD_S = 16.0
"""Who sent a beacon within this time is one hop away"""
OVERHEARD_MAX = 256
BRIDGE_S = 300.0


@dataclass(slots=True)
class Shut:
    """A member that no session could be opened with. `blamed`: it is the link, for others know that the member lives;
    `retry_at`: when it is tried again, after a pause that grows."""

    retry_at: float
    pause_s: float
    blamed: bool = False


Relaying = Callable[[str, Message, float], list[Effect]]


class Context:
    """State with no rules of its own; the rules are in the parts that hold it."""

    def __init__(
        self, record: Record, trust: Trust, settings: MembershipSettings, rng: random.Random, now: float
    ) -> None:
        self.trust, self.settings, self.rng = trust, settings, rng
        self.view = View(record, Rings(settings.rings + 1, settings.many), now)
        self.links: dict[str, Link] = {}
        self.sessions: set[str] = set()
        self.key_holders = {record.curve_key: record.id}
        """CURVE key -> the id it was learned for first, until that is forgotten"""
        self.expected: set[str] = set()
        """members that were learned at the address of a request to join, which is not (yet) that of their record"""
        self.shut: dict[str, Shut] = {}
        self.far: set[str] = set()
        """members that say they need routes"""
        self.bridges: dict[str, float] = {}
        """members that others wrongly took for dead, but that spoke to us: kept as neighbours until then"""
        self.overheard: dict[str, float] = {}
        """when beacons of others were last heard, by their ids"""
        self.relay: Relaying | None = None
        self.on_probed: Callable[[str, float | None, float], None] = lambda peer, rtt_s, now: None
        """told of each ping of a link: its round trip time, None when it was not answered in time"""
        self.relayed = False
        """the message being handled came through others"""
        self.shunned: set[str] = set()
        """peers whose protocol does not overlap with ours"""
        self.banned: dict[str, float] = {}
        """members that broke rules, and until when nothing is taken from them"""
        self.counters: Counter[str] = Counter()
        self.batch: list[Effect] = []
        self.joined = False
        self.recall_until = NEVER
        """members of an earlier life are being spoken to: a door that refuses us may have been changed"""
        self.crowded_at = NEVER
        """when many members last came at a time"""
        self.grace_until = NEVER
        """after a pause of ours: nobody is accused before"""
        self.health = 0
        """Lifeguard's local health multiplier, 0 is good"""

    @property
    def me(self) -> str:
        return self.view.me

    def emit(self, effect: Effect) -> None:
        self.batch.append(effect)

    def send(self, peer: str, message: Message) -> None:
        if peer in self.shut and self.relay is not None:
            self.batch += self.relay(peer, message, self.view.clock.now)
        else:
            self.batch.append(Send(peer, message))

    def notice(self, level: str, event: str, peer: str = "", **fields: Any) -> None:
        if peer:
            member = self.view.members.get(peer)
            fields = {"peer": peer, "name": member.record.name if member else "", **fields}
        self.batch.append(Notice(level, event, fields))

    def taken(self) -> list[Effect]:
        batch, self.batch = self.batch, []
        return batch

    def check(self) -> None:
        """Raise if an invariant is broken."""
        self.view.check()
        assert set(self.links) <= set(self.view.members) | self.sessions, "a link with nobody"
        for peer, link in self.links.items():
            assert link.up == (peer in self.sessions), "a link and its session disagree"
            assert link.confirmed <= self.view.place, "a peer confirmed what was not yet said"
            assert not link.want or link.kept, "a wanted link is not kept"
        assert self.me not in self.links, "a link with myself"

    # --- links ---

    def link(self, peer: str, now: float) -> Link:
        """The link with this peer, made if there is none."""
        link = self.links.get(peer)
        if link is None:
            link = self.links[peer] = Link(peer, now, up=peer in self.sessions, unwanted_at=now, last_ack=now)
        return link

    def keep(self, link: Link) -> None:
        if not link.kept:
            link.kept = True
            self.emit(Connect(link.peer))

    def release(self, link: Link) -> None:
        if link.kept:
            link.kept = False
            self.emit(Disconnect(link.peer))

    def live_links(self) -> list[Link]:
        return [link for link in self.links.values() if link.up]

    def overlay_links(self) -> list[Link]:
        """Those that either end wants; sessions opened for a question or for data are no neighbours. All if there is
        no such link (yet)."""
        limit = self.view.clock.now - self.settings.wanted_s
        live = self.live_links()
        return [link for link in live if link.want or link.peer_want_at > limit] or live

    def heard_lately(self, now: float, but: str = "") -> bool:
        """Somebody (else) answers me; if nobody does, it is me."""
        limit = now - self.settings.silent_s
        return any(link.up and link.last_ack > limit for peer, link in self.links.items() if peer != but)

    def learn(self, record: Record) -> None:
        """Let this member in, and know where it is; not while it is banned. Its keys are the one of its record and the
        one it asks to join with."""
        known = self.view.members.get(record.id)
        kept = known.record.curve_key if known is not None else ""
        others = {key: holder for key, holder in self.key_holders.items() if holder != record.id or key == kept}
        self.key_holders = {**others, record.curve_key: record.id}
        if record.id not in self.banned:
            self.emit(Learn(record.id, record.address, record.curve_key))

    def has_stolen_key(self, record: Record) -> bool:
        """Whether its CURVE key is another's: a session is its key's, so one of two would speak in the other's name."""
        return self.key_holders.get(record.curve_key, record.id) != record.id

    def forget(self, peer: str) -> None:
        """Nobody on any socket of ours any more."""
        self.key_holders = {key: holder for key, holder in self.key_holders.items() if holder != peer}
        self.expected.discard(peer)
        self.emit(Forget(peer))

    # --- who can be reached from here ---

    def is_shut(self, peer: str) -> bool:
        """No session could be opened, and it is the link's fault: not worth a place among the neighbours."""
        return peer in self.shut and self.shut[peer].blamed

    def is_scattered(self) -> bool:
        """Whether living members are out of reach from here: then nobody is taken for granted."""
        return any(shut.blamed for shut in self.shut.values())

    def shut_out(self, peer: str, now: float) -> None:
        """No session could be opened."""
        if peer not in self.shut:
            first = self.settings.shut_s[0]
            self.shut[peer] = Shut(now + first, first)
            self.view.dirty = True

    def let_in(self, peer: str) -> None:
        """A session is up, the member moved, or it is gone."""
        if self.shut.pop(peer, None) is not None:
            self.view.dirty = True

    def bridge(self, peer: str, now: float) -> None:
        """Others lost this member, we did not: we may be the only link between two parts of the network."""
        self.bridges[peer] = now + BRIDGE_S
        while len(self.bridges) > BRIDGES:
            self.bridges.pop(min(self.bridges, key=lambda known: self.bridges[known]))
        self.view.dirty = True

    def overhear(self, peer: str, now: float) -> None:
        """A beacon of this node: it is one hop away."""
        if self.overheard.get(peer, NEVER) < now - OVERHEARD_S:
            self.overheard = {other: at for other, at in self.overheard.items() if at >= now - OVERHEARD_S}
            self.view.dirty = True
        if len(self.overheard) < OVERHEARD_MAX or peer in self.overheard:
            self.overheard[peer] = now

    # --- this node ---

    def rewrite(self, **changes: Any) -> Record:
        """A newer own record, signed and filed."""
        record = self.trust.signed(msgspec.structs.replace(self.view.record, **changes))
        member = self.view.members[self.me]
        renewed = member.record.boot != record.boot
        member.record = record
        self.view.filed(member)
        if renewed or not self.joined:
            self.emit(Joined(record.boot, record.admission))
        return record

    def pull_s(self) -> float:
        """How long an answer is waited for: longer while this node, or the machine it shares, is starved."""
        return self.settings.pull_s * (1 + self.health)

    def worse(self) -> None:
        self.health = min(HEALTH_MAX, self.health + 1)

    def better(self, chance: float) -> None:
        if self.health and self.rng.random() < chance:
            self.health -= 1
