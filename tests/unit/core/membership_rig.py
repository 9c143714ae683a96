"""One membership machine with a literal clock, and hand-made peers around it."""

from __future__ import annotations

import random
from typing import TypeVar

import msgspec

from jupiter_agent.core import events
from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.membership import Membership, MembershipSettings
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.membership import Ack, Claim, Hello, News, Ping, Record, Value
from jupiter_agent.core.trust import Trust
from jupiter_agent.sim.trust import FakeAuthority, fake_member

E = TypeVar("E", bound=Effect)
M = TypeVar("M", bound=Message)


class Peer:
    """Another member: its keys and what it would say."""

    def __init__(self, name: str, /, **changes: object) -> None:
        draft, self.trust = fake_member(name)
        self.record = self.sign(draft, **changes)

    @property
    def id(self) -> str:
        return self.record.id

    def sign(self, record: Record | None = None, /, **changes: object) -> Record:
        record = msgspec.structs.replace(record or self.record, **changes)
        return self.trust.signed(msgspec.structs.replace(record, admission=FakeAuthority().issue(record)))

    def claims(self, kind: int, about: Record) -> Claim:
        return self.trust.signed_claim(Claim(kind, about.id, about.boot, about.incarnation, self.id))

    def value(self, key: str, version: int, **content: object) -> Value:
        data = msgspec.msgpack.encode(content)
        return self.trust.signed_value(Value(self.id, key, self.record.boot, version, data))


class Rig:
    """The machine under test. `effects` has everything it returned since the last `clear`."""

    def __init__(
        self,
        seeds: tuple[str, ...] = (),
        admin: bool = True,
        settings: MembershipSettings | None = None,
        waiting: bool = False,
        **changes: object,
    ) -> None:
        """`waiting`: something around may name seeds."""
        draft, trust = fake_member("me", admin=admin)
        self.trust: Trust = trust
        record = msgspec.structs.replace(draft, **changes)
        self.machine = Membership(record, trust, settings or MembershipSettings(), seeds, random.Random(7), 0.0)
        if waiting:
            self.machine.seeds.listen()
        self.effects: list[Effect] = []
        self.now = 0.0
        self.run_to(0.0)

    @property
    def me(self) -> Record:
        return self.machine.self_record

    def clear(self) -> None:
        self.effects.clear()

    def event(self, event: events.Event) -> None:
        self.effects += self.machine.on_event(event, self.now)
        self.machine.check()

    def receive(self, peer: Peer, message: Message) -> None:
        self.event(events.Received(peer.id, message))

    def run_to(self, when: float, answering: tuple[Peer, ...] = ()) -> None:
        """Serve every deadline on time; `answering` peers ack each ping sent to them at once."""
        while self.machine.next_deadline() <= when:
            self.now = max(self.now, self.machine.next_deadline())
            batch = self.machine.on_deadline(self.now)
            self.effects += batch
            for send in (e for e in batch if isinstance(e, Send) and isinstance(e.message, Ping)):
                for peer in answering:
                    if peer.id == send.dst:
                        self.receive(peer, Ack(send.message.seq, 0, send.message.upto))
        self.now = when
        self.machine.check()

    def pause_to(self, when: float) -> None:
        """The process stood still until `when`."""
        self.now = when
        self.effects += self.machine.on_deadline(when)

    def meet(self, *peers: Peer) -> None:
        """A session with each, and its hello."""
        for peer in peers:
            self.event(events.SessionUp(peer.id))
            self.receive(peer, Hello((1, 1), peer.record, True, 0, []))

    def state(self, peer: Peer) -> str:
        return self.machine.members()[peer.id].state

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def sent(self, kind: type[M], to: Peer | str | None = None) -> list[M]:
        dst = to.id if isinstance(to, Peer) else to
        return [e.message for e in self.of(Send) if isinstance(e.message, kind) and dst in (None, e.dst)]

    def claims(self) -> list[Claim]:
        return [claim for news in self.sent(News) for claim in news.claims]

    def notices(self) -> list[str]:
        return [notice.event for notice in self.of(Notice)]
