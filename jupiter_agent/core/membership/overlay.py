"""The overlay: which links this node wants, and when one is let go.

Targets come from the rings and one random member that is replaced every minute. Where beacons are heard (radios), two
of those one hop away take the place of all rings but the first, and of the random member: what is said to them crosses
one hop, not four, and the one ring keeps the whole together. The caller opens a link, both ends
use it, and it is released 10 s after neither end wants it (each ping says whether its sender does). Whether an
existing session is reused or a new one opened is the transport's business: it is told to keep the session in either
case.
"""

from __future__ import annotations

from jupiter_agent.core.membership.context import OVERHEARD_S, Context
from jupiter_agent.core.membership.gossip import Gossip
from jupiter_agent.core.membership.link import Link
from jupiter_agent.core.membership.member import NEVER

TRIES = 32
"""to draw a random neighbour: where most are taken or out of reach there may be none"""


class Overlay:
    """Keeps `context.links` in step with the rings."""

    def __init__(self, context: Context, gossip: Gossip, now: float) -> None:
        self._context, self._gossip = context, gossip
        self._random: list[str] = []
        self._near: list[str] = []
        self._replace_at = now + context.settings.random_link_s * context.rng.random()
        self.due = now

    def next_deadline(self) -> float:
        return self.due if self._context.view.dirty and self._context.joined else float("inf")

    def hold_off(self, until: float) -> None:
        """Somebody must hear of us first (a sponsor floods our record), or others would refuse our key."""
        self.due = max(self.due, until)

    def on_tick(self, now: float) -> None:
        if now >= self._replace_at:
            self._replace_at = now + self._context.settings.random_link_s * self._context.rng.uniform(0.8, 1.2)
            self._random = self._random[1:]
            self._context.view.dirty = True
        if not all(self._is_heard(peer, now) for peer in self._near):
            self._context.view.dirty = True
        if self.next_deadline() <= now:
            self.compute(now)
        for link in [link for link in self._context.links.values() if not link.want]:
            self._let_go(link, now)

    def compute(self, now: float) -> None:
        context = self._context
        context.view.dirty = False
        settings = context.settings
        crowded = now - context.crowded_at < settings.crowded_s
        self.due = now + (settings.crowded_s if crowded else settings.topology_s)
        targets = self._targets(now)
        for peer in sorted(targets):  # sets have no order that a replay could repeat
            self.want(peer, now)
        for peer, link in context.links.items():
            if link.want and peer not in targets:
                link.want, link.unwanted_at = False, now

    def want(self, peer: str, now: float) -> None:
        context = self._context
        fresh = peer not in context.links
        link = context.link(peer, now)
        if link.want:
            return
        link.want = True
        link.next_ping = now + context.settings.probe_s * context.rng.random()
        context.keep(link)
        if peer in context.sessions:
            if fresh:
                link.renew(now)
            self._gossip.greet(link)

    def _targets(self, now: float) -> set[str]:
        context, view = self._context, self._context.view
        members = view.members

        scattered = context.is_scattered()

        def is_doubtful(peer: str) -> bool:
            """The next successor steps in as well."""
            untried = scattered and peer not in context.sessions and members[peer].last_ack == NEVER
            return members[peer].bad_edge_until > now or peer in context.shut or untried

        near = self._choose_near(now)
        rings, spares = (None, context.settings.random_links) if not near else (self._rings_beside(near), 0)
        targets = near | view.rings.targets(context.me, is_doubtful, context.is_shut if scattered else None, rings)
        self._random = [p for p in self._random if p in view.rings and p not in targets and not context.is_shut(p)]
        del self._random[spares:]
        spare = view.size() - 1 - len(targets)
        for _ in range(TRIES):
            if len(self._random) >= min(spares, spare):
                break
            peer = view.rings.any(context.rng)
            if peer != context.me and peer not in targets and peer not in self._random and not context.is_shut(peer):
                self._random.append(peer)
        bridges = {peer for peer, until in context.bridges.items() if until > now and peer in view.rings}
        return (targets | set(self._random) | bridges) - context.shunned - context.banned.keys()

    def _choose_near(self, now: float) -> set[str]:
        """Neighbours one hop away: the same as long as they are heard, then those there is a link with anyway."""
        context, most = self._context, self._context.settings.near_links
        if not most:
            return set()
        heard = [peer for peer in sorted(context.overheard) if self._is_heard(peer, now)]
        self._near = [peer for peer in self._near if peer in heard]
        others = [peer for peer in heard if peer not in self._near]
        context.rng.shuffle(others)
        others.sort(key=lambda peer: peer not in context.sessions)
        self._near += others[: most - len(self._near)]
        return set(self._near)

    def _is_heard(self, peer: str, now: float) -> bool:
        lately = now - self._context.overheard.get(peer, NEVER) < OVERHEARD_S
        return lately and peer in self._context.view.rings and peer not in self._context.shut

    def _rings_beside(self, near: set[str]) -> int:
        """One ring fewer for each near neighbour but the first, one at least."""
        return max(1, len(self._context.view.rings.used()) + 1 - len(near))

    def _let_go(self, link: Link, now: float) -> None:
        if now - link.unwanted_at < self._context.settings.unwanted_s:
            return
        if now - link.peer_want_at > self._context.settings.wanted_s:
            self._context.release(link)
            if not link.up:
                del self._context.links[link.peer]
