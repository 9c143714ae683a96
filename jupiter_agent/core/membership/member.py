"""One member as this node sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jupiter_agent.core.messages.membership import ALIVE, DEAD, SUSPECT, Record

STATES = ("alive", "suspect", "dead", "left")

FRESH_ACK_S = 5.0

NEVER = float("-inf")


@dataclass
class Clock:
    """When the machine last looked up."""

    now: float


@dataclass
class Suspicion:
    """Since when, at which incarnation, and by whom a member is accused. `since` moves when we were paused
    ourselves."""

    since: float
    version: tuple[int, int]
    accusers: set[str]
    last_checks: int = 0
    """how often this node asked it for a sign of life, its time being nearly up"""


@dataclass
class Member:
    """`record` is owner-signed; all the rest is this node's own observation."""

    record: Record
    rank: int
    since: float
    """when it entered its state, on this node's clock"""
    clock: Clock
    found_by: str = "gossip"
    """join, token, remembered or another source of discovery; gossip: heard of it from other members"""
    session: bool = False
    last_ack: float = NEVER
    rtt_s: float | None = None

    fresh_at: float = NEVER
    """when newer owner-written data arrived"""
    heard_at: float = NEVER
    heard_as: tuple[int, str] = (0, "")
    """boot and address under which it was last heard itself"""
    told_at: float = NEVER
    suspicion: Suspicion | None = None
    refusals: dict[str, float] = field(default_factory=dict)
    vouched_at: float = NEVER
    recheck_at: float | None = None
    contested_at: float | None = None
    bad_edge_until: float = NEVER
    bad_edge_s: float = 0.0

    @property
    def state(self) -> str:
        return STATES[self.rank]

    @property
    def present(self) -> bool:
        return self.rank < DEAD

    @property
    def version(self) -> tuple[int, int]:
        return (self.record.boot, self.record.incarnation)

    @property
    def reachable(self) -> bool:
        """A session exists, or a ping was answered lately."""
        return self.present and (self.session or self.clock.now - self.last_ack < FRESH_ACK_S)

    def acquit(self) -> None:
        """Forget every accusation: the member has spoken, or is gone."""
        self.suspicion, self.recheck_at, self.contested_at = None, None, None
        self.refusals.clear()
        if self.rank == SUSPECT:
            self.rank = ALIVE
