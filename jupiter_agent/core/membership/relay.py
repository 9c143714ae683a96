"""Relay: messages to members this node cannot open a session with, carried by others.

A member is *shut* from here from a failed attempt to open a session until one is up; meanwhile what is for it is
sealed and handed to the first hop of a route (`routes`). Each hop passes it on, at most `RELAYS` of them, and keeps
nothing. The receiver acts on what is inside as if it had come from its sender directly, once it is sure who that is:
only the two can make the box; it names both, their boots and a sequence number; a number is taken once (a window of
`WINDOW` below the highest one). Answers find their own way back. An attempt to reach a member directly is repeated
ever more rarely.

Differs from onion and source routing: hops are chosen on the way, by each hop's own view.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from jupiter_agent.core import wire
from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.probe import Prober
from jupiter_agent.core.membership.routes import Routes
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.membership import RELAY_BYTES, RELAYS, Ping, Relayed, Sealed
from jupiter_agent.errors import CapacityError, PeerError

WINDOW = 1024
TRANSIT = 16
"""times what one member may send: what another may pass on for all"""
ALLOWANCES = 1024
HEAD_BYTES = 256
"""of a `Sealed`, and what sealing adds"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Sealed).decode


@dataclass(slots=True)
class _Window:
    """Which sequence numbers of a sender's boot were taken: the highest one, and a bit for each below it."""

    boot: int
    top: int = 0
    bits: int = 0

    def take(self, seq: int) -> bool:
        ahead = seq - self.top
        if ahead > 0:
            self.bits = (self.bits << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self.top = seq
            return True
        if -ahead >= WINDOW or self.bits >> -ahead & 1:
            return False
        self.bits |= 1 << -ahead
        return True


@dataclass(slots=True)
class _Allowance:
    """Bytes a member may still have us carry for it."""

    left: float
    at: float


class Relay:
    """Seals, passes on, unseals."""

    def __init__(self, context: Context, routes: Routes, prober: Prober) -> None:
        self._context, self._routes, self._prober = context, routes, prober
        context.relay = self.sent
        self._seq = 0
        self._windows: dict[str, _Window] = {}
        self._allowances: dict[tuple[str, str], _Allowance] = {}
        """(sender, who passed it on), and ("", who passed it on) for all that it passes on"""

    # --- sending ---

    def sent(self, dst: str, message: Message, now: float) -> list[Effect]:
        """A message to a shut member, as it leaves: sealed, to the first hop; unchanged when there is none."""
        context = self._context
        member, sealer = context.view.members.get(dst), context.trust.sealer
        hop = self._routes.first_hop(dst) if member is not None and member.present else None
        if hop is None or hop == dst or sealer is None or member is None or isinstance(message, Relayed):
            return [Send(dst, message)]
        try:
            frame = wire.encode(message)
        except CapacityError:
            frame = b""
        if not frame or len(frame) + HEAD_BYTES > RELAY_BYTES:
            context.counters["relay_too_large"] += 1
            return []
        self._seq += 1
        inner = Sealed(context.me, dst, context.view.record.boot, member.record.boot, self._seq, frame)
        context.counters["relay_sent"] += 1
        return [Send(hop, Relayed(context.me, dst, RELAYS, sealer.seal(member.record.curve_key, _encode(inner))))]

    # --- receiving ---

    def on_relayed(self, via: str, message: Relayed, now: float) -> tuple[str, Message] | None:
        """What has arrived for us, (sender, message); None when it is passed on or not for anybody. PeerError."""
        if message.dst == self._context.me:
            return self._opened(message)
        self._pass_on(via, message, now)
        return None

    def _opened(self, message: Relayed) -> tuple[str, Message]:
        context, sealer = self._context, self._context.trust.sealer
        member = context.view.members.get(message.src)
        if (
            member is None
            or not member.present
            or message.src in context.shunned | context.banned.keys()
            or sealer is None
        ):
            raise PeerError("relay: from nobody we take it from")
        plain = sealer.unseal(member.record.curve_key, message.sealed)
        if plain is None:
            raise PeerError("relay: not sealed by its sender")
        try:
            inner = _decode(plain)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PeerError("relay: malformed") from error
        if (inner.src, inner.dst) != (message.src, context.me):
            raise PeerError("relay: sealed for another")
        if (inner.boot, inner.dst_boot) != (member.record.boot, context.view.record.boot):
            raise PeerError("relay: of another boot")
        window = self._windows.get(inner.src)
        if window is None or window.boot != inner.boot:
            self._windows = {peer: w for peer, w in self._windows.items() if peer in context.view.rings}
            window = self._windows[inner.src] = _Window(inner.boot)
        if not window.take(inner.seq):
            raise PeerError("relay: seen before")
        found = wire.decode(inner.frame)
        if isinstance(found, Relayed):
            raise PeerError("relay: within a relay")
        context.counters["relay_received"] += 1
        return inner.src, found

    def _pass_on(self, via: str, message: Relayed, now: float) -> None:
        context = self._context
        sender, receiver = context.view.members.get(message.src), context.view.members.get(message.dst)
        known = sender is not None and sender.present and receiver is not None and receiver.present
        if not known or message.ttl == 0 or message.src == context.me:
            context.counters["relay_dropped"] += 1
            return
        if not self._may_carry(message.src, via, len(message.sealed), now):
            context.counters["relay_over_budget"] += 1
            return
        openable = message.dst not in context.shut and message.dst != via
        hop = message.dst if openable else self._routes.first_hop(message.dst, but=via)
        if hop is None:
            context.counters["relay_no_route"] += 1
            return
        context.counters["relay_passed_on"] += 1
        context.emit(Send(hop, msgspec.structs.replace(message, ttl=message.ttl - 1)))

    def _may_carry(self, src: str, via: str, size: int, now: float) -> bool:
        """A token bucket per sender and way, a second's worth more than the largest message: nobody can use up what
        others may send by passing on what it says is theirs. And one for all that a member passes on for others."""
        rate = self._context.settings.relay_bps
        buckets = [self._allowance((src, via), rate, now)]
        if via != src:
            buckets.append(self._allowance(("", via), TRANSIT * rate, now))
        if any(bucket.left < size for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.left -= size
        return True

    def _allowance(self, key: tuple[str, str], rate: float, now: float) -> _Allowance:
        full = RELAY_BYTES + rate
        known = self._allowances.get(key)
        if known is None:
            if len(self._allowances) >= ALLOWANCES:  # who sent nothing for as long as it takes to be full again is new
                long_ago = now - full / max(1.0, rate)
                self._allowances = {k: a for k, a in self._allowances.items() if a.at > long_ago}
            known = self._allowances[key] = _Allowance(full, now)
        known.left = min(full, known.left + rate * (now - known.at))
        known.at = now
        return known

    # --- time ---

    def on_tick(self, now: float) -> None:
        """Try shut members directly again, ever more rarely, and ask for a sign of life on the way round."""
        context = self._context
        for peer, shut in list(context.shut.items()):
            if now >= shut.retry_at:
                shut.pause_s = min(2 * shut.pause_s, context.settings.shut_s[1])
                shut.retry_at = now + shut.pause_s * context.rng.uniform(0.8, 1.2)
                context.emit(Send(peer, Ping(0, False, False, 0, 0)))
                self._prober.ask(peer, ("shut", peer), now)
