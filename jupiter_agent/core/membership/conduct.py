"""Conduct: members that send what no honest one sends are kept out for a while, for longer each time.

An offence is a frame that is none, or a forgery: a false signature, words in another's name. Only what its sender alone
can have done counts: members check before they pass on, and what came through others is its author's, for only the
author can have sealed it. Messages that are late, superfluous or of a newer version are no offence.

`STRIKES` offences within `WINDOW_S` end the member's sessions; its key opens none, and what comes from it is dropped,
for a minute, then two, and so on up to an hour. It stays a member: what others say of it counts, only an admin can
expel it. Nobody is accused for being banned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jupiter_agent.core.effects import Ban
from jupiter_agent.core.events import Event, Garbled, Received
from jupiter_agent.core.membership.context import Context
from jupiter_agent.errors import OffenceError, PeerError

STRIKES, WINDOW_S = 5, 60.0
BAN_S = (60.0, 3600.0)
FORGIVEN_S = 86400.0
"""after so long without an offence the next ban is a first one"""
DOUBLINGS = 16
MOST = 1024


@dataclass
class _Sheet:
    """What is held against a member."""

    at: list[float] = field(default_factory=list)
    bans: int = 0


class Conduct:
    """Counts, bans, and lets back in."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sheets: dict[str, _Sheet] = {}

    def on_garbled(self, event: Garbled, now: float) -> None:
        """What came was no message."""
        self.strike(event.peer, event.reason, now)

    def on_error(self, event: Event, error: PeerError, now: float) -> None:
        """Handling this event met a peer's fault."""
        self._context.counters[f"peer_error: {error.message}"] += 1
        if isinstance(event, Received) and isinstance(error, OffenceError):
            by = error.by if error.by in self._context.view.members else event.src
            self.strike(by, error.message, now)

    def strike(self, peer: str, reason: str, now: float) -> None:
        """One more offence of a member; clients and strangers have no sheet."""
        context = self._context
        if peer not in context.view.members or peer == context.me or peer in context.banned:
            return
        if len(self._sheets) >= MOST:
            self._sheets = {other: old for other, old in self._sheets.items() if other in context.view.members}
        sheet = self._sheets.setdefault(peer, _Sheet())
        if sheet.at and sheet.at[-1] < now - FORGIVEN_S:
            sheet.bans = 0
        sheet.at = [*(at for at in sheet.at if at > now - WINDOW_S), now]
        context.counters["offences"] += 1
        if len(sheet.at) >= STRIKES:
            first, most = BAN_S
            self._ban(peer, min(most, first * 2 ** min(sheet.bans, DOUBLINGS)), reason, now)
            sheet.bans += 1

    def _ban(self, peer: str, for_s: float, reason: str, now: float) -> None:
        context = self._context
        context.banned[peer] = now + for_s
        context.counters["bans"] += 1
        context.notice("warning", "peer banned", peer, seconds=for_s, reason=reason)
        link = context.links.get(peer)
        if link is not None:
            link.want = link.kept = False
        context.emit(Ban(peer, for_s))
        context.view.dirty = True

    def on_tick(self, now: float) -> None:
        """Whose time is up may come back."""
        context = self._context
        for peer in [peer for peer, until in context.banned.items() if until <= now]:
            del context.banned[peer]
            context.view.dirty = True
            member = context.view.members.get(peer)
            if member is not None and not context.trust.ledger.is_revoked(peer):
                context.learn(member.record)
