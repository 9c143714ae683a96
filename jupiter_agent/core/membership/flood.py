"""Flooding: records and claims go to every neighbour on first sight, gathered for 20 ms, records for longer while
there are many (a cluster that starts): of two neighbours then only the one that speaks first tells the other."""

from __future__ import annotations

from collections import deque

from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.link import Link
from jupiter_agent.core.membership.member import NEVER
from jupiter_agent.core.messages.membership import ALIVE, DEAD, Claim, News, Record

PER_MESSAGE = 40
MANY, MANY_S = 8, 0.1
"""So many urgent records within a second, as when halves meet, are gathered for so long: it is messages that cost"""


class Flood:
    """The caller says what is news (seen for the first time and verified); this queue only spreads it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._records: dict[str, tuple[Record, str]] = {}
        self._claims: dict[tuple[int, str, str], tuple[Claim, str]] = {}
        self.due = float("inf")
        self._record_at = NEVER
        """when there was last a record to spread"""
        self._urgent: deque[float] = deque(maxlen=MANY)
        """when there were the last urgent ones"""

    def record(self, record: Record, src: str, now: float, was: int = ALIVE) -> None:
        """News. A record that may contradict a suspicion (its incarnation was raised) is not kept waiting, but one of
        a member that `was` dead here."""
        self._records[record.id] = (record, src)
        settings = self._context.settings
        urgent = record.left or (record.incarnation > 0 and was < DEAD)
        crowded = now - self._record_at < settings.crowded_s and not urgent
        self._record_at = now
        if crowded:
            self._context.crowded_at = now
        wait_s = settings.gather_s if crowded else settings.coalesce_s
        if urgent:
            many = len(self._urgent) == MANY and now - self._urgent[0] < settings.crowded_s
            self._urgent.append(now)
            wait_s = MANY_S if many else wait_s
        self._wake(now + wait_s)

    def claim(self, claim: Claim, src: str, now: float) -> None:
        self._claims[claim.kind, claim.subject, claim.by] = (claim, src)
        self._wake(now + self._context.settings.coalesce_s)

    def _wake(self, at: float) -> None:
        self.due = min(self.due, at)

    def flush(self) -> None:
        """Nobody is told what it told us, nor its own record. What is sent may be lost: the digest of the next ping
        names it as well, or a refutation that misses one member costs a life."""
        self.due = float("inf")
        queued, self._records = list(self._records.values()), {}
        claimed, self._claims = list(self._claims.values()), {}
        if not queued and not claimed:
            return
        for link in self._context.overlay_links():
            peer = link.peer
            records = [r for r, src in queued if peer not in (src, r.id) and not _holds(link, r)]
            claims = [claim for claim, src in claimed if peer not in (src, claim.by)]
            for start in range(0, max(len(records), len(claims)), PER_MESSAGE):
                end = start + PER_MESSAGE
                self._context.send(peer, News(records[start:end], claims[start:end]))


def _holds(link: Link, record: Record) -> bool:
    """The peer has said that it has this version."""
    known = link.has.get((record.id, ""))
    return known is not None and known[:2] >= (record.boot, record.incarnation) and not record.left
