"""Shunning: peers with whom there is no common protocol version. Their own signed record decides, not their words."""

from __future__ import annotations

from jupiter_agent.core.effects import Disconnect
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.gossip import Gossip
from jupiter_agent.core.membership.join import PROTOCOL
from jupiter_agent.core.membership.sponsor import overlaps
from jupiter_agent.core.messages import membership as m
from jupiter_agent.errors import PeerError


class Shunning:
    """Greets those who understand us, and ends it with the others."""

    def __init__(self, context: Context, gossip: Gossip) -> None:
        self._context, self._gossip = context, gossip

    def on_hello(self, src: str, message: m.Hello, now: float) -> None:
        mine = self._context.view.record.protocol
        if overlaps(message.protocol, mine):
            if src in self._context.shunned:
                self._context.shunned.discard(src)
                self._context.view.dirty = True
            self._gossip.on_hello(src, message, now)
            return
        if src not in self._context.view.members:
            self._context.trust.verify(message.record)  # or it would get a larger answer for a smaller lie
        if self._shares_protocol(src):
            self._context.trust.verify(message.record)
            if message.record.id != src or overlaps(message.record.protocol, mine):
                raise PeerError("hello: a protocol that its record does not have")
        hint = f"we speak {mine[0]} to {mine[1]}, you {message.protocol[0]} to {message.protocol[1]}"
        self._context.send(src, m.Refused(PROTOCOL, hint))
        self._shun(src, hint)

    def on_refusal(self, src: str, message: m.Refused, now: float) -> None:
        """Nonsense of a member whose own record says that we understand each other: then it is ignored."""
        if self._shares_protocol(src):
            raise PeerError("refusal: for a protocol that we have in common")
        self._shun(src, message.hint)

    def _shares_protocol(self, peer: str) -> bool:
        """As its own signed record says."""
        member = self._context.view.members.get(peer)
        return member is not None and overlaps(member.record.protocol, self._context.view.record.protocol)

    def _shun(self, peer: str, hint: str) -> None:
        """No common protocol: the session ends and none is wanted, until one of us is replaced."""
        context = self._context
        if peer not in context.shunned:
            context.shunned.add(peer)
            context.notice("error", "protocol refused", peer, hint=hint)
        link = context.links.get(peer)
        if link is not None:
            link.want = link.kept = False
        context.emit(Disconnect(peer))
        context.view.dirty = True
