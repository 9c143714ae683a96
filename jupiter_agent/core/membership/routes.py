"""Routes: through whom a member is reached that this node cannot reach itself.

Link state, and only where it is needed: while somebody cannot open a session with a living member (a radio out of
range, a firewall), all publish the members they have proven links with under the key `near`; who needs a route says
so in it (`far`). A route is a shortest path over these; ties are broken by the ids, so that nothing flips. Each hop
looks in its own board: views that differ for a moment can send a message in a circle until its `ttl` is used up, which
is then four hops. Without a path a neighbour of the member on the rings is tried, or any: on a network where only one
pair is cut that is enough, before anybody has published anything.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jupiter_agent.core.membership.context import NEAR, Context
from jupiter_agent.core.membership.gossip import Gossip
from jupiter_agent.core.messages.membership import RELAYS, Short

NEAR_MAX = 64
COMPUTE_S = 1.0
BEATS = 4
"""So often a needed value is said anew before its owner counts as quiet"""


class Near(Struct, frozen=True):
    """The value of the key. `far`: the publisher needs routes to somebody."""

    near: Annotated[list[Short], Meta(max_length=NEAR_MAX)] = []
    far: bool = False
    beat: int = 0
    """grows, so that there is news of a member whom many cannot ask"""


class Routes:
    """Publishes this node's links when they are needed, and finds first hops."""

    def __init__(self, context: Context, gossip: Gossip, now: float) -> None:
        self._context, self._gossip = context, gossip
        self._hops: dict[str, tuple[str, int]] = {}
        self._computed_at = now
        self._said = False

    def first_hop(self, dst: str, but: str = "") -> str | None:
        """The member to hand a message for `dst` to, not `but` (whom it came from); None if there is nobody."""
        sessions = self._context.sessions
        if dst in sessions:
            return dst
        hop = self._hops.get(dst, ("", 0))[0]
        if hop in sessions and hop != but:
            return hop
        return self._guess(dst, but)

    def hops(self, dst: str) -> int:
        """How many members a message passes on its way, as published; 0 when no path is known."""
        hop, count = self._hops.get(dst, ("", 0))
        return count if hop in self._context.sessions else 0

    def _guess(self, dst: str, but: str) -> str | None:
        context = self._context
        taken = {dst, but, context.me}
        near = [peer for peer in context.view.rings.neighbours(dst) if peer in context.sessions and peer not in taken]
        others = sorted(peer for peer in context.sessions if peer in context.view.rings and peer not in taken)
        choice = near or others
        return context.rng.choice(choice) if choice else None

    # --- time ---

    def on_tick(self, now: float) -> None:
        if now < self._computed_at + COMPUTE_S:
            return
        self._computed_at = now
        if not self._context.shut and not self._said and not self._needed():
            self._hops.clear()
            return
        self._publish(now)
        self._compute()

    def _needed(self) -> bool:
        rings = self._context.view.rings
        return any(peer in rings for peer in self._context.far)

    def _publish(self, now: float) -> None:
        context = self._context
        far = context.is_scattered()
        needed = far or self._needed()
        near = sorted(link.peer for link in context.live_links() if link.peer in context.view.rings)[:NEAR_MAX]
        beat = int(now * BEATS / context.settings.quiet_s)
        value: dict[str, object] = {"near": near, "far": far, "beat": beat} if needed else {}
        self._said = needed
        self._gossip.publish(NEAR, value, now, context.settings.near_s)

    def _compute(self) -> None:
        """Breadth first from here over what members say of their links."""
        context = self._context
        board, rings = context.view.board, context.view.rings
        todo: deque[tuple[str, str, int]] = deque()
        found: dict[str, tuple[str, int]] = {context.me: (context.me, 0)}
        for peer in sorted(peer for peer in context.sessions if peer in rings):
            found[peer] = (peer, 0)
            todo.append((peer, peer, 0))
        while todo:
            here, first, count = todo.popleft()
            if count >= RELAYS:
                continue
            value = board.get(here, NEAR)
            for peer in _near(value) if value else ():
                if peer not in found and peer in rings:
                    found[peer] = (first, count + 1)
                    todo.append((peer, first, count + 1))
        self._hops = found


def _near(value: dict[str, object]) -> list[str]:
    """What a member says, if it makes sense."""
    try:
        return msgspec.convert(value, Near).near
    except msgspec.ValidationError:
        return []
