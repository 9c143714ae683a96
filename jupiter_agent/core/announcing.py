"""What this node says of itself on everybody's board: resources, its best links, how many jobs have their home here.

Says what changed, and what changes all the time not too often. Owns what was said last; membership spreads it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from jupiter_agent.core.estimate import Links
from jupiter_agent.core.membership import Membership
from jupiter_agent.core.profiling.coordinates import Place

PUBLISH_S = 2.0
LINKS_S = 4.0
"""So often the links are looked through for what changed; in a crowd as seldom as it is said"""
BEST_LINKS = 8
STEADY = 0.7
"""A link is published anew when it is off by more than this factor"""
MOVED_S, MOVED = 0.002, 0.2
"""A place is published anew when it moved by more, in round trip time and as a share of the own access"""
EVERY_S = {"resources": 5.0, "links": 30.0, "net": 60.0}
"""What changes all the time is said at most so often (twice in a row at once)"""
CROWD, SELDOM_S = 40, 600.0
"""Of more members than this each says it the less often, since all hear it: of `c` times as many `c` squared times
less, so that even the sum becomes less, but not more seldom than this. News once in a while is still said at once"""
NET_AFTER_S = 5.0
"""A place is said so long after the first words, and in a crowd, as the links, later: a hundred agents that start at
once have enough to say, and until then no place is worth much"""


class Announcer:
    """`due`: when to say it again."""

    def __init__(self, membership: Membership, links: Links, queued: Callable[[], int]) -> None:
        self.due = inf
        self.resources: dict[str, Any] = {}
        """as the sensors read them last"""
        self.draining = False
        self.slow: Callable[[], float] = lambda: 1.0
        """set by the composition: how many times what is usual the runs of jobs take here now"""
        self._membership, self._links, self._queued = membership, links, queued
        self.is_starved: Callable[[float], bool] = lambda now: False
        """set by the composition: what is measured of the network now is the own processor"""
        self.says_net = False
        """where this node lies is of use to those who measure links only"""
        self._said: dict[str, Any] = {}
        self._began, self._links_at = inf, -inf

    def soon(self, by: float) -> None:
        self.due = min(self.due, by)

    def on_homed(self, homed: int, now: float) -> None:
        """So many jobs have their home here: said at once when it changed."""
        if homed != self._said.get("jobs", {}).get("homed"):
            self.soon(now)

    def say(self, homed: int, now: float) -> None:
        """Publish what changed."""
        self.due = now + PUBLISH_S
        draining = {"draining": True} if self.draining else {}
        slow = {"slow": factor} if (factor := self.slow()) > 1 else {}
        values: dict[str, dict[str, Any]] = {
            "resources": {**self.resources, **draining, **slow, "queue": self._queued()},
            "jobs": {"homed": homed},
        }
        self._began = min(self._began, now)
        crowd = max(1.0, len(self._membership.members()) / CROWD)
        net_from = self._began + NET_AFTER_S * crowd**2
        if now >= max(self._links_at, net_from - NET_AFTER_S) and not self.is_starved(now):
            self._links_at = now + crowd**2 * LINKS_S
            values["links"] = self._best_links()
            if self.says_net and now >= net_from:
                values["net"] = self._net()
        for key, value in values.items():
            was = self._said.get(key, {})
            if was != value:
                self._said[key] = value
                urgent = any(was.get(mark) != value.get(mark) for mark in ("draining", "full"))
                every_s = min(SELDOM_S, crowd**2 * EVERY_S.get(key, 0.0))
                self._membership.publish(key, value, now, 0.0 if urgent else every_s)

    def _best_links(self) -> dict[str, tuple[float, float]]:
        """Those with the least latency. What is published already stays while it is not far off: on a fast network the
        order of a hundred links, and their last digits, change all the time."""
        was: dict[str, tuple[float, float]] = self._said.get("links", {})
        measured = self._links.measured()
        order = sorted(measured, key=lambda peer: (measured[peer][0] * (STEADY if peer in was else 1.0), peer))
        best = {}
        for peer in order[:BEST_LINKS]:
            now = float(f"{measured[peer][0]:.2g}"), float(f"{measured[peer][1]:.2g}")
            pairs = zip(was.get(peer, (0.0, 0.0)), now, strict=True)
            near = peer in was and all(STEADY * new <= old <= new / STEADY for old, new in pairs)
            best[peer] = was[peer] if near else now
        return best

    def _net(self) -> dict[str, Any]:
        """The place in the common space and the access rates; what was said stays while it is not far off."""
        net, was = self._links.net(), self._said.get("net", {})
        place = net.place
        if place is not None and was.get("place"):
            said = Place.from_bytes(was["place"])
            near = place.rtt_s(said) - place.height - said.height + abs(place.height - said.height)
            place = said if near < MOVED_S + MOVED * place.height and place.error > said.error / 2 else place
        rates = {"up": net.up_bps, "down": net.down_bps}
        for key, rate in rates.items():
            old = was.get(key, 0.0)
            rates[key] = old if STEADY * rate <= old <= rate / STEADY else float(f"{rate:.2g}")
        return {**rates, **({"place": place.to_bytes()} if place is not None else {})}
