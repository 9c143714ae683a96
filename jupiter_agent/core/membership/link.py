"""One link of the overlay: a session with a neighbour, as this end uses it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jupiter_agent.core.membership.member import NEVER

HAS_MAX = 65536
"""A digest of invented ids must not fill the memory."""


@dataclass(slots=True)
class Link:
    """Exists while the link is wanted here or a session is there. Log places count changes of a view (`View.log`)."""

    peer: str
    born: float
    want: bool = False
    kept: bool = False
    """`Connect` was said"""
    up: bool = False
    unwanted_at: float = 0.0
    peer_want_at: float = NEVER

    seq: int = 0
    pinged_at: float = NEVER
    waiting: bool = False
    next_ping: float = 0.0
    misses: int = 0
    miss_rate: float = 0.03
    """of this link in good times: it is not raised during a failure, or it would raise its own threshold"""
    rtt_s: float = 0.01
    last_ack: float = NEVER
    """the last proof of a round trip, by an ack or by a ping that says mine arrived"""
    acked_at: float = NEVER
    """the last ack of a ping of mine"""
    heard_at: float = NEVER
    asked_at: float | None = None
    """when the neighbours of the silent peer were asked about it"""
    confirmed_at: float = NEVER
    """when one of them said it answers"""
    vouch_seq: int | None = None
    """only the answer to this ping or a later one vouches: older ones may be in flight from the dead"""
    reopened_at: float = NEVER

    confirmed: int = 0
    """the place of my log the peer has confirmed"""
    told: int = 0
    told_at: float = NEVER
    """the place of my log the last digest went up to, and when"""
    seen: int = 0
    """the place of its log I have seen"""
    has: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    """what the peer is known to hold: (id, '') -> (boot, incarnation, state), (id, key) -> (boot, version)"""

    def note(self, entry: tuple[str, str], version: tuple[int, ...]) -> None:
        """The peer has said that it holds this."""
        if len(self.has) < HAS_MAX or entry in self.has:
            self.has[entry] = version

    def renew(self, now: float) -> None:
        """A new session: nothing said on an earlier one counts."""
        self.up, self.waiting, self.misses, self.asked_at, self.vouch_seq = True, False, 0, None, None
        self.last_ack = self.heard_at = self.reopened_at = now
        self.confirmed = self.seen = self.told = 0
        self.has.clear()

    def answered(self, now: float) -> None:
        """A round trip is proven."""
        self.last_ack, self.misses, self.asked_at, self.waiting = now, 0, None, False
