"""What the parts of the membership machine share: the view, the links, and the batch of effects being built."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec

from jupiter_agent.core.effects import Connect, Disconnect, Effect, Notice, Send
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


class Context:
    """State with no rules of its own; the rules are in the parts that hold it."""

    def __init__(
        self, record: Record, trust: Trust, settings: MembershipSettings, rng: random.Random, now: float
    ) -> None:
        self.trust, self.settings, self.rng = trust, settings, rng
        self.view = View(record, Rings(settings.rings + 1, settings.many), now)
        self.links: dict[str, Link] = {}
        self.sessions: set[str] = set()
        self.shunned: set[str] = set()
        """peers whose protocol does not overlap with ours"""
        self.counters: Counter[str] = Counter()
        self.batch: list[Effect] = []
        self.joined = False
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
        self.batch.append(Send(peer, message))

    def notice(self, level: str, event: str, peer: str = "", **fields: Any) -> None:
        if peer:
            member = self.view.members.get(peer)
            fields = {"peer": peer, "name": member.record.name if member else "", **fields}
        self.batch.append(Notice(level, event, fields))

    def taken(self) -> list[Effect]:
        batch, self.batch = self.batch, []
        return batch

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

    def heard_lately(self, now: float, but: str = "") -> bool:
        """Somebody (else) answers me; if nobody does, it is me."""
        limit = now - self.settings.silent_s
        return any(link.up and link.last_ack > limit for peer, link in self.links.items() if peer != but)

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

    def worse(self) -> None:
        self.health = min(HEALTH_MAX, self.health + 1)

    def better(self, chance: float) -> None:
        if self.health and self.rng.random() < chance:
            self.health -= 1
