"""Suspicion: from claims to a death everybody concludes alike (SWIM and Lifeguard, with witnesses).

Two ways lead to DEAD, and both need several members' own words, each signed and flooded:

* *silent*: accusers whose own checks failed. With one accuser the suspicion takes 6 x min, with three min. It is
  dropped when the accused has authored anything newer meanwhile (evidence), or refutes it by a newer incarnation.
* *refused*: the session broke and the host answers that the port is closed. Two witnesses, who had heard the member
  itself under this boot and address within the last minute, and 1.5 s in which nobody vouches by a fresh ping.

After a pause of our own nothing is accused or concluded for a while; suspicions start later by as much as we slept.
Nobody is buried on one member's word; a death that others concluded and we did not is contested first (see `roster`).
"""

from __future__ import annotations

from math import inf

from jupiter_agent.core.effects import TestPort
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.flood import Flood
from jupiter_agent.core.membership.member import Member, Suspicion
from jupiter_agent.core.membership.probe import Prober
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.messages.membership import ALIVE, REFUSED, SUSPECT, SUSPECTED, VOUCHED, Claim, News

ACCUSERS_MAX = 5
REFUSALS_KEPT_S = 15.0


class Suspicions:
    """Claims in, claims out, deaths."""

    def __init__(self, context: Context, flood: Flood, roster: Roster, prober: Prober) -> None:
        self._context, self._flood, self._roster, self._prober = context, flood, roster, prober
        prober.accuse, prober.vouch = self.accuse, self.vouch
        self._on_kind = {SUSPECTED: self._on_suspected, REFUSED: self._on_refused, VOUCHED: self._on_vouched}

    # --- our own claims ---

    def accuse(self, peer: str, now: float) -> None:
        if now >= self._context.grace_until:
            self._claim(SUSPECTED, peer, now)

    def vouch(self, peer: str, now: float) -> None:
        self._claim(VOUCHED, peer, now)

    def _claim(self, kind: int, peer: str, now: float) -> None:
        context = self._context
        member = context.view.members.get(peer)
        if member is None or not member.present:
            return
        claim = Claim(kind, peer, *member.version, context.me)
        if self._known(member, claim):
            return
        claim = context.trust.signed_claim(claim)
        if self._on_kind[kind](member, claim, now):
            self._flood.claim(claim, context.me, now)

    def on_refused(self, peer: str, now: float) -> None:
        """Its host says that nobody listens there. It counts if we heard the member itself there lately."""
        context = self._context
        member = context.view.members.get(peer)
        if member is None or not member.present or now < context.grace_until:
            return
        known_there = member.heard_as == (member.record.boot, member.record.address)
        if not known_there or now - member.heard_at > context.settings.witness_s:
            return
        if context.me in member.refusals:
            return
        context.counters["refused"] += 1
        member.recheck_at = now + context.settings.recheck_s
        context.view.accused.add(peer)
        self._claim(REFUSED, peer, now)

    def on_open(self, peer: str) -> None:
        """Somebody listens there again: we are no witness any more."""
        member = self._context.view.members.get(peer)
        if member is not None:
            member.recheck_at = None
            member.refusals.pop(self._context.me, None)

    # --- claims of others ---

    def on_news(self, src: str, message: News, now: float) -> None:
        for claim in message.claims:
            self._on_claim(src, claim, now)

    def _on_claim(self, src: str, claim: Claim, now: float) -> None:
        context = self._context
        by, member = context.view.members.get(claim.by), context.view.members.get(claim.subject)
        handler = self._on_kind.get(claim.kind)
        if by is None or not by.present or member is None or handler is None or claim.by == context.me:
            context.counters["claims_ignored"] += 1
            return
        version = (claim.boot, claim.incarnation)
        if not member.present or version < member.version or self._known(member, claim):
            return
        context.trust.verify_claim(claim, by.record)
        if claim.subject == context.me:
            if claim.kind != VOUCHED:
                self._roster.refute(*version, now)
        elif version == member.version and handler(member, claim, now):
            self._flood.claim(claim, src, now)

    def _known(self, member: Member, claim: Claim) -> bool:
        """Seen before: not worth a signature check."""
        if claim.kind == SUSPECTED:
            suspicion = member.suspicion
            full = suspicion is not None and len(suspicion.accusers) >= ACCUSERS_MAX
            return full or (suspicion is not None and claim.by in suspicion.accusers)
        return claim.kind == REFUSED and claim.by in member.refusals

    def _on_suspected(self, member: Member, claim: Claim, now: float) -> bool:
        """A first sight of this accuser -> True."""
        if self._known(member, claim):
            return False
        if member.suspicion is None:
            member.suspicion = Suspicion(now, member.version, set())
            self._context.view.accused.add(claim.subject)
        member.suspicion.accusers.add(claim.by)
        self._roster.suspect(member, SUSPECT, now)
        if claim.by != self._context.me:
            self._look(claim.subject, now)
        return True

    def _look(self, peer: str, now: float) -> None:
        """Somebody cannot reach it: can we? Where members are out of each other's reach, those without a link look as
        well, for one of them may be the only one who can."""
        context = self._context
        link = context.links.get(peer)
        if peer in context.shut:
            self._prober.ask(peer, ("shut", peer), now)
        elif context.is_scattered() and (link is None or not link.up):
            self._prober.ask(peer, ("bridge", peer), now)
        else:
            self._prober.look(peer, now)

    def on_bridge_answered(self, peer: str, alive: bool, now: float) -> None:
        """It lives: it is told of the suspicion, and becomes a neighbour."""
        member = self._context.view.members.get(peer)
        if alive and member is not None and member.rank == SUSPECT:
            self._roster.tell(member, member.version, now)
            self._context.bridge(peer, now)

    def _on_refused(self, member: Member, claim: Claim, now: float) -> bool:
        if now - member.vouched_at < self._context.settings.vouched_s or claim.by in member.refusals:
            return False
        member.refusals[claim.by] = now
        self._context.view.accused.add(claim.subject)
        if claim.by != self._context.me:
            self._prober.look_to_vouch(claim.subject, now)
        return True

    def _on_vouched(self, member: Member, claim: Claim, now: float) -> bool:
        if now - member.vouched_at < 1.0:
            return False
        member.vouched_at = now
        member.refusals.clear()
        return True

    # --- time ---

    def on_pause(self, seconds: float) -> None:
        """We slept: suspicions are younger than they look, refusals may be outdated."""
        for peer in self._context.view.accused:
            member = self._context.view.members[peer]
            if member.suspicion is not None:
                member.suspicion.since += seconds
            if member.contested_at is not None:
                member.contested_at += seconds
            member.refusals.clear()

    def on_tick(self, now: float) -> None:
        context = self._context
        for peer in sorted(context.view.accused):
            member = context.view.members[peer]
            if member.recheck_at is not None and now >= member.recheck_at:
                member.recheck_at = None
                context.emit(TestPort(peer, member.record.address))
            if now >= context.grace_until:
                self._conclude(peer, member, now)
            idle = member.suspicion is None and not member.refusals
            if idle and member.recheck_at is None and member.contested_at is None:
                context.view.accused.discard(peer)

    def _conclude(self, peer: str, member: Member, now: float) -> None:
        settings = self._context.settings
        suspicion, size = member.suspicion, self._context.view.size()
        left_s = inf
        if suspicion is not None:
            left_s = suspicion.since + settings.suspicion_s(size, len(suspicion.accusers)) - now
            checks = settings.last_checks - suspicion.last_checks
            if checks > 0 and left_s <= checks * settings.ask_s:
                suspicion.last_checks += 1
                self._prober.ask(peer, ("last", peer), now)
        if suspicion is not None and left_s <= 0:
            if member.fresh_at > suspicion.since + settings.evidence_s:
                member.suspicion = None
                self._context.counters["acquitted"] += 1
                self._roster.suspect(member, ALIVE, now)
            else:
                self._roster.bury(member, now, "silent")
                return
        witnesses, needed = sorted(member.refusals.values()), 2 if size > 3 else 1
        if len(witnesses) >= needed and now - witnesses[needed - 1] >= settings.hold_s:
            self._roster.bury(member, now, "refused")
        elif witnesses and now - witnesses[-1] > REFUSALS_KEPT_S:
            member.refusals.clear()
        elif member.contested_at is not None and now >= member.contested_at:
            member.contested_at = None
            self._roster.tell(member, member.version, now)
            self._prober.ask(peer, ("contested", peer), now)

    def on_last_check(self, peer: str, alive: bool, now: float) -> None:
        """A round trip is proven, whatever others say; their suspicion and its refutation have yet to meet."""
        member = self._context.view.members.get(peer)
        if alive and member is not None and member.suspicion is not None:
            self._roster.tell(member, member.version, now)
            member.suspicion = None
            self._context.counters["acquitted"] += 1
            self._roster.suspect(member, ALIVE, now)

    def on_contest_answered(self, peer: str, alive: bool, now: float) -> None:
        """The sign of life that a contested member was asked for came, or did not."""
        member = self._context.view.members.get(peer)
        if member is not None and member.present and not alive and now >= self._context.grace_until:
            self._roster.bury(member, now, "told")
