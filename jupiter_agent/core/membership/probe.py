"""Probes: is the other end of each link alive, and if it does not answer, is it the member, the edge, or me?

One ping per link and period, whoever sends it: a ping whose sender had its own answered proves the round trip to both
ends. Only round trips count, so a half-deaf node is found although it talks. M misses in a row make a neighbour
silent, M following from the link's own miss rate. Then it may be me (nobody else answers: accuse nobody), or the edge
(a ring neighbour of the silent one reaches it: the edge gets probation and the next successor steps in); only else it
is accused.

`ask` serves all who need a sign of life of a member, linked or not: one ping, on demand, answered once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from jupiter_agent.core.effects import Connect, Disconnect
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.gossip import Gossip
from jupiter_agent.core.membership.link import Link
from jupiter_agent.core.membership.member import Member
from jupiter_agent.core.messages.membership import SUSPECT, Ack, Check, Checked, Ping

ASKED = 3
RARE = 0.001
"""M misses in a row happen with this probability while the link is as good as usual"""


class Prober:
    """Pings, acks, checks."""

    accuse: Callable[[str, float], None]
    vouch: Callable[[str, float], None]

    def __init__(self, context: Context, gossip: Gossip) -> None:
        self._context, self._gossip = context, gossip
        self._asks: dict[str, tuple[float, list[tuple[str, str]]]] = {}
        """peer -> (until when, for what)"""
        self.on_answer: dict[str, Callable[[str, str, bool, float], None]] = {
            "check": self._on_check_answered,
            "edge": self._on_edge_answered,
            "shut": self._on_shut_answered,
        }
        """purpose -> called with (its argument, peer, alive, now)"""

    # --- time ---

    def on_tick(self, now: float) -> None:
        links, settings = self._context.links, self._context.settings
        factor = 1 + self._context.health / 4
        upto = now
        if any(link.up and link.want and not link.waiting and link.next_ping <= now for link in links.values()):
            upto += settings.early * settings.probe_s
        for link in list(links.values()):
            if link.up and link.want and not link.waiting:
                if link.next_ping <= upto:
                    self._ping(link, now)
            elif link.up:
                self._tend(link, factor, now)
            elif link.want and now - link.last_ack > settings.silent_s:
                self._silent(link, now)
        for peer in [peer for peer, (until, _) in self._asks.items() if now >= until]:
            self._resolve(peer, False, now)

    def due(self, last: float) -> float:
        """When the next ping, or a verdict on one, will be due, after a tick at `last`."""
        context, settings = self._context, self._context.settings
        factor = 1 + context.health / 4
        due = min((until for until, _ in self._asks.values()), default=math.inf)
        for link in context.links.values():
            if link.asked_at is not None or (link.want and not link.up):
                due = min(due, last + settings.tick_s)
            elif link.waiting:
                due = min(due, link.pinged_at + self._ack_timeout_s(link) * factor)
            elif link.want:
                due = min(due, link.next_ping)
        return due

    def on_pause(self, now: float) -> None:
        """We slept: outstanding probes say nothing about others."""
        for link in self._context.links.values():
            link.waiting, link.misses, link.asked_at = False, 0, None
            link.last_ack = max(link.last_ack, now - 0.2)
            link.heard_at = max(link.heard_at, now - 0.2)
        self._asks = {
            peer: (max(until, now + self._context.settings.ask_s), why) for peer, (until, why) in self._asks.items()
        }

    def _tend(self, link: Link, factor: float, now: float) -> None:
        settings = self._context.settings
        period = settings.probe_s * factor
        if link.waiting:
            if now - link.pinged_at >= self._ack_timeout_s(link) * factor:
                link.misses += 1
                self._context.on_probed(link.peer, None, now)
                if link.misses >= self._patience(link):
                    self._silent(link, now)
                if link.up:
                    self._ping(link, now)
        elif now - link.peer_want_at < settings.wanted_s:
            quiet = now - link.heard_at > 2.2 * period
            if quiet and now - link.pinged_at > settings.probe_s:
                self._ping(link, now)

    def _ack_timeout_s(self, link: Link) -> float:
        return max(self._context.settings.ack_timeout_s, 4 * link.rtt_s)

    def _patience(self, link: Link) -> int:
        """M: so many misses in a row are rarer than RARE on this link."""
        least, most = self._context.settings.misses
        return min(most, max(least, math.ceil(math.log(RARE) / math.log(min(0.95, link.miss_rate)))))

    def _ping(self, link: Link, now: float) -> None:
        context, settings = self._context, self._context.settings
        link.seq += 1
        link.pinged_at, link.waiting = now, True
        link.next_ping = now + settings.probe_s * context.rng.uniform(0.95, 1.05) * (1 + context.health / 4)
        upto, held = context.view.news(link, settings.digest_lines, settings.ack_timeout_s)
        answered = now - link.acked_at < 2.2 * settings.probe_s
        context.send(link.peer, Ping(link.seq, answered, link.want, upto, link.seen, held))

    # --- pings and acks ---

    def on_ping(self, src: str, message: Ping, now: float) -> None:
        context, link = self._context, self._context.links.get(src)
        wants = self._gossip.on_digest(src, message.held, now)
        if link is None or context.relayed:
            context.send(src, Ack(message.seq, 0, 0, [], wants))
            return
        self._gossip.confirm(link, message.upto, message.seen)
        upto, held = context.view.news(link, context.settings.digest_lines, context.settings.ack_timeout_s)
        context.send(src, Ack(message.seq, upto, link.seen, held, wants))
        if message.want:
            link.peer_want_at = now
        if message.ok:
            link.answered(now)
            link.next_ping = max(link.next_ping, now + (1.3 + context.settings.early) * context.settings.probe_s)

    def on_ack(self, src: str, message: Ack, now: float) -> None:
        context, link = self._context, self._context.links.get(src)
        member = context.view.members[src]
        if not context.relayed:
            member.last_ack = now
        if link is not None and not context.relayed:
            self._on_link_ack(link, member, message, now)
        if src in self._asks:
            self._resolve(src, True, now)
        wants = self._gossip.on_digest(src, message.held, now)
        if message.want or wants:
            self._gossip.answer(src, message.want, wants)

    def _on_link_ack(self, link: Link, member: Member, message: Ack, now: float) -> None:
        if link.waiting and message.seq == link.seq:
            link.rtt_s += 0.1 * (now - link.pinged_at - link.rtt_s)
            member.rtt_s = link.rtt_s
            self._context.on_probed(link.peer, now - link.pinged_at, now)
        if link.misses < self._context.settings.misses[1]:
            link.miss_rate = min(0.9, 0.95 * link.miss_rate + 0.05 * link.misses / (link.misses + 1))
        link.acked_at = now
        link.answered(now)
        self._gossip.confirm(link, message.upto, message.seen)
        self._context.better(0.1)
        if link.vouch_seq is not None and message.seq >= link.vouch_seq:
            link.vouch_seq = None
            if member.refusals:
                self.vouch(link.peer, now)
        if member.bad_edge_until > now:
            member.bad_edge_until = now
            self._context.view.dirty = True

    # --- others ask us to look ---

    def look(self, peer: str, now: float) -> None:
        """A neighbour is suspected: see for ourselves at once."""
        link = self._context.links.get(peer)
        if link is not None and link.up and not link.waiting and now - link.last_ack > 1.0:
            self._ping(link, now)

    def look_to_vouch(self, peer: str, now: float) -> None:
        """A neighbour's port is said to be closed: the answer to a ping sent now contradicts it."""
        link = self._context.links.get(peer)
        if link is not None and link.up:
            self._ping(link, now)
            link.vouch_seq = link.seq

    def ask(self, peer: str, purpose: tuple[str, str], now: float) -> None:
        """One ping, over whatever session there is or can be opened; the purpose's handler gets the outcome."""
        until, purposes = self._asks.get(peer, (now + self._context.settings.ask_s, []))
        if purpose not in purposes:
            self._asks[peer] = (until, [*purposes, purpose])
        link = self._context.links.get(peer)
        if link is not None and link.up:
            self._ping(link, now)
        else:
            self._context.send(peer, Ping(0, False, False, 0, 0))

    def _resolve(self, peer: str, alive: bool, now: float) -> None:
        for kind, argument in self._asks.pop(peer)[1]:
            self.on_answer[kind](argument, peer, alive, now)

    def on_check(self, src: str, message: Check, now: float) -> None:
        member = self._context.view.members.get(message.subject)
        if member is None or not member.present:
            return
        link = self._context.links.get(message.subject)
        if message.subject == self._context.me or (link is not None and link.up and now - link.last_ack < 1.2):
            self._context.send(src, Checked(message.subject))
        else:
            self.ask(message.subject, ("check", src), now)

    def _on_check_answered(self, asker: str, peer: str, alive: bool, now: float) -> None:
        if alive:
            self._context.send(asker, Checked(peer))
            return
        member = self._context.view.members.get(peer)  # None: forgotten meanwhile
        if member is not None and member.rank == SUSPECT and self._context.heard_lately(now):
            self.accuse(peer, now)

    def on_checked(self, src: str, message: Checked, now: float) -> None:
        link = self._context.links.get(message.subject)
        if link is not None:
            link.confirmed_at = now

    # --- silence ---

    def _silent(self, link: Link, now: float) -> None:
        context, settings = self._context, self._context.settings
        member = context.view.members.get(link.peer)
        if now < context.grace_until or member is None or not member.present or member.bad_edge_until > now + 2:
            return
        if context.view.size() > 2 and not context.heard_lately(now, but=link.peer):
            context.counters["self_blamed"] += 1
            return
        if link.asked_at is None and context.view.size() > 2:
            link.asked_at = now
            for peer in self._whom_to_ask(link.peer):
                context.send(peer, Check(link.peer))
            if link.peer in context.shut:
                self.ask(link.peer, ("edge", link.peer), now)  # on a way round, if there is one
        elif link.asked_at is None or now - link.asked_at > settings.check_s:
            confirmed = link.asked_at is not None and link.confirmed_at >= link.asked_at
            if confirmed or not self._is_witness(link, member, now):
                self._blame_edge(link, member, now)
            else:
                self.accuse(link.peer, now)
                if link.asked_at is not None and now - link.asked_at > 3.0:
                    link.asked_at = None
            self._reopen_stalled(link, now)

    def _is_witness(self, link: Link, member: Member, now: float) -> bool:
        """Whether our silence means anything: the member was in touch with us, or nobody had news of it for long. Where
        many are out of each other's reach, those who never met would accuse each other all the time."""
        quiet = now - max(member.fresh_at, link.born) > self._context.settings.quiet_s
        return link.up or self._has_met(member, now) or quiet

    def _has_met(self, member: Member, now: float) -> bool:
        """We heard this life of it ourselves lately."""
        return member.heard_as[0] == member.record.boot and now - member.heard_at < self._context.settings.met_s

    def _on_edge_answered(self, _: str, peer: str, alive: bool, now: float) -> None:
        link = self._context.links.get(peer)
        if alive and link is not None:
            link.confirmed_at = now

    def _on_shut_answered(self, _: str, peer: str, alive: bool, now: float) -> None:
        """Out of our reach, directly and on the way round: a long silence of its own is a reason to accuse it, or that
        others do and that we knew it ourselves."""
        member = self._context.view.members.get(peer)
        if alive or member is None or peer not in self._context.shut or not self._context.heard_lately(now):
            return
        quiet = max(member.fresh_at, member.since) < now - self._context.settings.quiet_s
        if quiet or (member.rank == SUSPECT and self._has_met(member, now)):
            self.accuse(peer, now)

    def _whom_to_ask(self, peer: str) -> list[str]:
        context = self._context
        rings, size = context.view.rings, context.view.size()
        chosen = [other for other in rings.neighbours(peer) if other != context.me]
        context.rng.shuffle(chosen)
        del chosen[ASKED:]
        while len(chosen) < min(ASKED, size - 2):
            other = rings.any(context.rng)
            if other not in (peer, context.me) and other not in chosen:
                chosen.append(other)
        return chosen

    def _blame_edge(self, link: Link, member: Member, now: float) -> None:
        first, most = self._context.settings.bad_edge_s
        member.bad_edge_s = min(most, 2 * member.bad_edge_s) if member.bad_edge_s else first
        member.bad_edge_until = now + member.bad_edge_s
        link.asked_at, link.misses = None, 0
        if link.peer in self._context.shut:
            self._context.shut[link.peer].blamed = True
        self._context.view.dirty = True
        self._context.counters["bad_edges"] += 1

    def _reopen_stalled(self, link: Link, now: float) -> None:
        """A stalled session is opened afresh, never waited for: TCP backs off to tens of seconds."""
        stalled = self._context.settings.stalled_s
        if link.up and link.kept and now - link.heard_at > stalled and now - link.reopened_at > stalled:
            link.reopened_at = now
            self._context.emit(Disconnect(link.peer))
            self._context.emit(Connect(link.peer))
