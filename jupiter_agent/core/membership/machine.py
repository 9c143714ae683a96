"""Membership: the machine that knows who is in the cluster and who of them is alive, and keeps the board.

It owns the view (members, rings, tombstones, board), the links of the overlay and all that is said about members. It
is made of parts that share one `Context`: `join` and `sponsor` (entering), `overlay` (which links), `probe` (is it
alive?), `suspicion` (when is it dead?), `roster` (records and states), `gossip` (digests, pulls, published keys),
`flood` (events). This module routes each event and message to its part, by tables; `clock` says when the next tick is.

Rules that hold whatever happens:

* Only round trips are life, only signed words count, only newer versions replace.
* Nobody is buried on one member's word, and nothing is concluded right after a pause of our own (a tick served more
  than 0.5 s late).
* What a peer sends can be wrong in any way: it is a `PeerError`, counted and dropped, never fatal.

It must not know jobs, sockets, files or wall clocks. Papers: SWIM (Das, Gupta, Motivala 2002), Lifeguard (Dadgar,
Phillips, Currey 2018); the numbers were simulated and measured, see DESIGN.md.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jupiter_agent.core import events
from jupiter_agent.core.board import Board
from jupiter_agent.core.effects import Effect, TestPort
from jupiter_agent.core.events import Event, Hint
from jupiter_agent.core.membership.clock import Clock
from jupiter_agent.core.membership.conduct import Conduct
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.effects import Delivered
from jupiter_agent.core.membership.flood import Flood
from jupiter_agent.core.membership.gossip import Gossip
from jupiter_agent.core.membership.join import Joiner
from jupiter_agent.core.membership.member import Member
from jupiter_agent.core.membership.notary import Notary
from jupiter_agent.core.membership.overlay import Overlay
from jupiter_agent.core.membership.probe import Prober
from jupiter_agent.core.membership.recall import Recall
from jupiter_agent.core.membership.relay import Relay
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.membership.routes import Routes
from jupiter_agent.core.membership.seeds import SeedSet
from jupiter_agent.core.membership.settings import MembershipSettings
from jupiter_agent.core.membership.shunning import Shunning
from jupiter_agent.core.membership.sponsor import Sponsor
from jupiter_agent.core.membership.suspicion import Suspicions
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages import membership as m
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.trust import Trust
from jupiter_agent.errors import OffenceError, PeerError

NOT_OPENED = frozenset({"refused", "timeout", "handshake"})
"""Reasons why a session could not be opened. What libzmq calls refused may be a host without a route: only a connect of
our own tells (`TestPort`)."""

ON_THE_WAY_ROUND = frozenset({m.Ping, m.Ack, m.Range, m.News, m.Data, m.Check, m.Checked, m.Buried})
ON_THE_WAY_ROUND |= {m.LedgerDigest, m.LedgerKeys, m.Entries, m.SecretWanted, m.Secret}
"""What counts also when others carried it"""

ROUTINE = frozenset({m.Ping, m.Ack, m.Data, m.Range})
"""What may leave something to do for a tick, but not for one of its own: a pull is looked after with the next one"""

FROM_STRANGERS = frozenset({m.Hello, m.News, m.Buried, m.Refused})
"""What may come from a peer whose record is not known yet: it holds the record."""


class Membership:
    """See the module. Feed it events and deadlines; perform what it returns, in order."""

    def __init__(
        self,
        record: Record,
        trust: Trust,
        settings: MembershipSettings,
        seeds: Iterable[str],
        rng: random.Random,
        now: float,
    ) -> None:
        """`record`: this node's unsigned draft, with the stored boot epoch plus one, and an earlier admission if there
        is one. `seeds`: addresses, found by "join". Nothing is sent before the first deadline."""
        context = self._context = Context(record, trust, settings, rng, now)
        flood = self._flood = Flood(context)
        roster = self._roster = Roster(context, flood)
        gossip = self._gossip = Gossip(context, roster, now)
        self._overlay = Overlay(context, gossip, now)
        prober = self._prober = Prober(context, gossip)
        suspicions = self._suspicions = Suspicions(context, flood, roster, prober)
        self._recall = Recall(context)
        self._joiner = Joiner(context, roster, self._overlay, now)
        self.notary = Notary(context, roster, now)
        self._sponsor = Sponsor(context, prober, self.notary)
        shunning, self._conduct = Shunning(context, gossip), Conduct(context)
        self._routes = Routes(context, gossip, now)
        self._relay = Relay(context, self._routes, prober)
        prober.on_answer["bridge"] = lambda _, peer, alive, at: suspicions.on_bridge_answered(peer, alive, at)
        prober.on_answer["last"] = lambda _, peer, alive, at: suspicions.on_last_check(peer, alive, at)
        prober.on_answer["contested"] = lambda _, peer, alive, at: suspicions.on_contest_answered(peer, alive, at)
        self._clock = Clock(context, prober, gossip, self._joiner.seeds, now)
        self._lagged_at = now
        self._heal_at = now + settings.heal_s * rng.random()
        self._left = False
        self._on_event: dict[type[Event], Callable[[Any, float], None]] = {
            events.Received: self._on_received,
            events.SessionUp: self._on_up,
            events.SessionDown: self._on_down,
            events.PortTested: self._on_port,
            events.Garbled: self._conduct.on_garbled,
            events.JoinRequested: self._sponsor.on_request,
            events.JoinAnswered: self._joiner.on_answer,
            events.SeedsFound: self._joiner.on_found,
        }
        self._on_message: dict[type[Message], Callable[[str, Any, float], None]] = {
            m.Hello: shunning.on_hello,
            m.Ping: prober.on_ping,
            m.Ack: prober.on_ack,
            m.Range: gossip.on_range,
            m.News: self._on_news,
            m.Data: gossip.on_data,
            m.Check: prober.on_check,
            m.Checked: prober.on_checked,
            m.Buried: roster.on_buried,
            m.Refused: shunning.on_refusal,
            m.WhoAreYou: roster.on_asked,
            m.Relayed: self._on_relayed,
            **self.notary.handlers,
        }
        for address in seeds:
            self.add_seed(address, "join")

    # --- what others may ask ---

    @property
    def self_record(self) -> Record:
        return self._context.view.record

    @property
    def board(self) -> Board:
        return self._context.view.board

    @property
    def counters(self) -> Counter[str]:
        return self._context.counters

    @property
    def seeds(self) -> SeedSet:
        return self._joiner.seeds

    @property
    def trust(self) -> Trust:
        return self._context.trust

    @property
    def joined(self) -> bool:
        """Admitted to a cluster, maybe alone in it."""
        return self._context.joined

    def members(self) -> Mapping[str, Member]:
        """Everybody known, this node and tombstones included, by id. Live objects: do not change them."""
        return self._context.view.members

    def alive(self) -> list[str]:
        """Sorted ids of members neither dead nor left, this node included."""
        return sorted(peer for peer, member in self._context.view.members.items() if member.present)

    def reach(self, peer: str) -> bool | str:
        """How a member is reached from here: True directly (nothing speaks against it), the id of the member it is
        reached through, or False. It may be alive in any case."""
        context = self._context
        member = context.view.members.get(peer)
        if member is None or not member.present or peer in context.banned:
            return False
        if peer == context.me or (member.session and member.bad_edge_until <= context.view.clock.now):
            return True
        if peer not in context.shut and member.bad_edge_until <= context.view.clock.now:
            return True
        return self._routes.hops(peer) > 0 and (self._routes.first_hop(peer) or False)

    def is_shut(self, peer: str) -> bool:
        """No session can be opened with it: what is for it goes through `relayed`."""
        return peer in self._context.shut

    def relayed_bps(self, peer: str) -> float:
        """Bytes/s that others carry for us to a member that is shut; 0 for any other."""
        return self._context.settings.relay_bps if self.is_shut(peer) else 0.0

    def relayed(self, peer: str, message: Message, now: float) -> list[Effect]:
        """A message to a member that is shut, as it leaves this node: sealed, to the next hop."""
        return self._relay.sent(peer, message, now)

    def watch_probes(self, on_probed: Callable[[str, float | None, float], None]) -> None:
        """Have this called with (peer, round trip time or None when it was not answered in time, now) of each ping."""
        self._context.on_probed = on_probed

    def add_seed(self, address: str, found_by: str) -> None:
        """Another address to try: `found_by` says who named it (join, token, remembered; others post `SeedsFound`)."""
        self._joiner.add_seed(Hint(address, found_by), self._context.view.clock.now)

    def recall(self, records: Iterable[Record]) -> list[Effect]:
        """Members met in an earlier life: they may be spoken to without the cluster's door."""
        self._recall.remember(records)
        return self._context.taken()

    def publish(self, key: str, value: dict[str, object], now: float, every_s: float = 0.0) -> list[Effect]:
        """Put a value of this node on everybody's board. CapacityError over 2 kB; an unchanged value is no news.
        `every_s`: the newest of what changes all the time is said this often, or less often in a large cluster."""
        self._gossip.publish(key, value, now, every_s)
        self._clock.stir(now)
        return self._context.taken()

    def forget(self, peer: str) -> list[Effect]:
        """Strike a dead or left member from the list; nothing for one that is present or unknown."""
        view = self._context.view
        if peer in view.tombs:
            view.forget(peer)
            self._context.forget(peer)
        return self._context.taken()

    def decided(self, now: float, act: Callable[[Notary], object]) -> list[Effect]:
        """Have the notary do something that an operator asked for."""
        self._context.view.clock.now = now
        act(self.notary)
        self._clock.stir(now)
        return self._context.taken()

    def leave(self, now: float) -> list[Effect]:
        """Say good-bye to every neighbour; nothing is said or done afterwards."""
        context = self._context
        if not self._left and context.joined:
            self._flood.record(context.rewrite(left=True), context.me, now)
            self._flood.flush()
        self._left = True
        return context.taken()

    # --- the machine ---

    def on_event(self, event: Event, now: float) -> list[Effect]:
        self._context.view.clock.now = now
        handler = self._on_event.get(type(event))
        if handler is not None and not self._left:
            try:
                handler(event, now)
            except PeerError as error:
                self._conduct.on_error(event, error, now)
            if not isinstance(event, events.Received) or type(event.message) not in ROUTINE:
                self._clock.stir(now)
            elif isinstance(event.message, m.Ack):
                self._clock.on_answer(now)
        return self._context.taken()

    def on_deadline(self, now: float) -> list[Effect]:
        self._context.view.clock.now = now
        if self._left:
            return []
        late_s, settings = now - self._clock.due, self._context.settings
        if late_s > settings.pause_s:
            self._on_pause(late_s, now)
        elif late_s > settings.lag_s and now - self._lagged_at >= 1.0:
            self._lagged_at = now
            self._context.counters["lags"] += 1
            self._context.worse()
        if now >= self._clock.due:
            self._joiner.on_tick(now)
            if self._context.joined:
                self._on_tick(now)
            self._clock.ticked(now)
        if self._overlay.next_deadline() <= now:
            self._overlay.compute(now)
        if now >= self._flood.due:
            self._flood.flush()
        return self._context.taken()

    def next_deadline(self) -> float:
        if self._left:
            return float("inf")
        return min(self._clock.due, self._flood.due, self._overlay.next_deadline())

    def check(self) -> None:
        """Raise if an invariant is broken."""
        self._context.check()

    def _on_tick(self, now: float) -> None:
        self._prober.on_tick(now)
        self._suspicions.on_tick(now)
        self._gossip.on_tick(now)
        self._overlay.on_tick(now)
        self._sponsor.on_tick(now)
        self.notary.on_tick(now)
        self._recall.on_tick(now)
        self._conduct.on_tick(now)
        self._routes.on_tick(now)
        self._relay.on_tick(now)
        if now >= self._heal_at:
            self._heal_at = now + self._context.settings.heal_s * self._context.rng.uniform(0.5, 1.5)
            self._roster.heal(now)

    def _on_pause(self, late_s: float, now: float) -> None:
        context = self._context
        context.counters["pauses"] += 1
        context.grace_until = now + context.settings.grace_s
        context.worse()
        self._prober.on_pause(now)
        self._suspicions.on_pause(late_s)
        if late_s > 1.0:
            context.notice("warning", "paused", seconds=round(late_s, 2))

    # --- events ---

    def _on_up(self, event: events.SessionUp, now: float) -> None:
        context, peer = self._context, event.peer
        context.sessions.add(peer)
        context.let_in(peer)
        if peer in context.view.members:
            context.view.members[peer].session = True
        link = context.link(peer, now)
        link.renew(now)
        link.next_ping = min(link.next_ping, now + 0.05)
        if context.joined:
            self._gossip.greet(link)
            self.notary.greet(peer)

    def _on_down(self, event: events.SessionDown, now: float) -> None:
        context, peer = self._context, event.peer
        context.sessions.discard(peer)
        link, member = context.links.get(peer), context.view.members.get(peer)
        if link is not None:
            link.up, link.waiting = False, False
            if not link.want and not link.kept:
                del context.links[peer]
        if member is None:
            return
        member.session = False
        if member.present and event.reason in NOT_OPENED:
            context.shut_out(peer, now)
        if member.present and event.reason != "closed" and now - member.heard_at < context.settings.witness_s:
            context.emit(TestPort(peer, member.record.address))

    def _on_port(self, event: events.PortTested, now: float) -> None:
        if event.outcome == "refused":
            self._suspicions.on_refused(event.peer, now)
        elif event.outcome == "open":
            self._suspicions.on_open(event.peer)

    def _on_received(self, event: events.Received, now: float) -> None:
        context, src, message = self._context, event.src, event.message
        handler = self._on_message.get(type(message))
        shunned = src in context.banned or (src in context.shunned and not isinstance(message, m.Hello))
        if handler is None or shunned or not context.joined:
            context.counters["dropped_unwanted"] += handler is not None
            return
        member = context.view.members.get(src)
        if member is None and type(message) not in FROM_STRANGERS:
            context.counters["dropped_stranger"] += 1
            if isinstance(message, m.Ping):
                context.send(src, m.WhoAreYou())
            return
        link = context.links.get(src)
        if link is not None:
            link.heard_at = now
        handler(src, message, now)
        member = context.view.members.get(src)
        if member is not None:
            member.heard_at, member.heard_as = now, (member.record.boot, member.record.address)
            if member.rank == m.DEAD:
                self._roster.tell(member, member.version, now)

    def _on_relayed(self, src: str, message: m.Relayed, now: float) -> None:
        """For this node: handled as if it came from its sender, without being a proof of any link."""
        context = self._context
        found = self._relay.on_relayed(src, message, now)
        if found is None:
            return
        sender, inner = found
        handler = self._on_message.get(type(inner))
        if handler is None:
            context.emit(Delivered(sender, inner))
        elif type(inner) in ON_THE_WAY_ROUND:
            context.relayed = True
            try:
                handler(sender, inner, now)
            except OffenceError as error:
                if error.by not in context.view.members:  # or who passed it on, sealed, would be struck for it
                    error.by = sender
                raise
            finally:
                context.relayed = False

    def _on_news(self, src: str, message: m.News, now: float) -> None:
        self._gossip.on_news(src, message, now)
        self._suspicions.on_news(src, message, now)
