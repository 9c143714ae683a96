"""The roster: how members enter, change and leave this node's view.

A record counts only with both signatures, and is taken when it is newer in its owner's order: boot, incarnation,
left. A member cannot speak for another. What this node concludes itself (suspect, dead) never enters a record; the
accused refutes it by a newer incarnation of its own. Deaths read in a digest are contested first: the member is told,
and asked for a sign of life.
"""

from __future__ import annotations

from collections.abc import Callable

from jupiter_agent.core.effects import Halt
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.effects import MemberChanged
from jupiter_agent.core.membership.flood import Flood
from jupiter_agent.core.membership.member import Member
from jupiter_agent.core.messages.membership import (
    ALIVE,
    DEAD,
    LEFT,
    SUSPECT,
    Buried,
    Data,
    News,
    Record,
    Want,
    WhoAreYou,
)

TELL_S = 1.0
TWIN_STEPS, TWIN_S = 3, 10.0
THIEVES_MAX = TURNED_AWAY = 256
LATELY = 16


class Roster:
    """Applies records, buries the dead, speaks up for itself."""

    def __init__(self, context: Context, flood: Flood) -> None:
        self._context, self._flood = context, flood
        self.found_by: Callable[[str], str] = lambda address: "gossip"
        """address -> which source of discovery named it"""
        self._stepped: list[float] = []
        self._thieves: set[str] = set()
        self._turned_away: dict[str, tuple[int, ...]] = {}
        """id -> the order of the record with which it left"""

    # --- records ---

    def _turn_away(self, record: Record) -> None:
        """One that left, and of which there is no room to keep a tombstone: older news of it counts no more."""
        if record.left:
            self._context.trust.verify(record)
            self._turned_away[record.id] = order(record)
            while len(self._turned_away) > TURNED_AWAY:
                del self._turned_away[next(iter(self._turned_away))]

    def apply(self, record: Record, src: str, now: float, buried: bool = False) -> bool:
        """Take a record if it is news, and flood it. PeerError, and nothing changed, if it is forged. `buried`: the
        sender holds it dead; so do we then, if we never knew it."""
        context = self._context
        member = context.view.members.get(record.id)
        if record.id == context.me:
            return self._about_me(record, now)
        if context.trust.ledger.is_revoked(record.id):
            context.counters["revoked_records"] += 1
            return False
        if member is None and (buried or record.left) and self.is_full_of_the_dead():
            self._turn_away(record)
            return False
        if member is None and order(record) <= self._turned_away.get(record.id, ()):
            return False  # it spoke before it left
        if member is not None and order(record) <= order(member.record):
            return False
        context.trust.verify(record)
        if context.has_stolen_key(record):
            self._notice_thief(record)
            return False
        was = ALIVE if member is None else member.rank
        if member is None:
            found_by = self.found_by(record.address)
            member = Member(record, ALIVE, now, context.view.clock, found_by, session=record.id in context.sessions)
            self._install(member, DEAD if buried and not record.left else ALIVE, now)
        else:
            self._renew(member, record, src, now)
        if member.rank != DEAD:
            self._flood.record(record, src, now, was)
        return True

    def _install(self, member: Member, rank: int, now: float) -> None:
        context, record = self._context, member.record
        member.rank = LEFT if record.left else rank
        member.fresh_at = now
        context.view.add(member)
        context.learn(record)
        if member.present:
            self._notice_twin(record)
            context.notice("info", "member joined", record.id, address=record.address, found_by=member.found_by)
        self._changed(member)

    def _renew(self, member: Member, record: Record, src: str, now: float) -> None:
        context, old, was = self._context, member.record, member.rank
        member.record, member.fresh_at = record, now
        member.acquit()
        context.view.accused.discard(record.id)
        member.rank = LEFT if record.left else ALIVE
        moved = (old.address, old.curve_key) != (record.address, record.curve_key)
        if moved or record.id in context.expected:
            context.expected.discard(record.id)
            context.learn(record)
            context.let_in(record.id)
        spoke_up = src == record.id and was >= SUSPECT and not record.left and not context.relayed
        if spoke_up and context.is_scattered():
            context.bridge(record.id, now)
        context.view.filed(member)
        if member.present and (old.name != record.name or was >= DEAD):
            self._notice_twin(record)
        link = context.links.get(record.id)
        if link is not None:
            link.misses, link.asked_at = 0, None
        if member.rank != was or old.boot != record.boot:
            member.since = now
            if member.rank == LEFT:
                self._gone(record.id)
                context.notice("info", "member left", record.id)
            elif was >= DEAD:
                context.notice("info", "member back", record.id, boot=record.boot)
            self._changed(member)

    def _about_me(self, record: Record, now: float) -> bool:
        """A newer record of mine than mine: an earlier life of this node knew better. Step over it; but one that keeps
        stepping over me is no earlier life, it is another process with my key."""
        mine = self._context.view.record
        if order(record) > order(mine):
            self._context.trust.verify(record)
            self._stepped = [when for when in self._stepped if now - when < TWIN_S] + [now]
            if len(self._stepped) > TWIN_STEPS:
                self._context.emit(Halt(f"another agent runs with this node's identity at {record.address}"))
            elif record.boot > mine.boot:
                self.restate(now, boot=record.boot + 1, incarnation=0)
            else:
                self.restate(now, incarnation=record.incarnation + 1)
        return False

    def _notice_twin(self, record: Record) -> None:
        if self._context.view.has_twin(record):
            self._context.notice("warning", "name conflict", record.id, address=record.address)

    def _notice_thief(self, record: Record) -> None:
        """Once per node, or everybody's repetitions would fill the log."""
        context = self._context
        context.counters["stolen_keys"] += 1
        if record.id not in self._thieves and len(self._thieves) < THIEVES_MAX:
            self._thieves.add(record.id)
            holder = context.key_holders[record.curve_key]
            context.notice("warning", "key conflict", holder, claimed_by=record.id, address=record.address)

    def _changed(self, member: Member) -> None:
        self._context.emit(MemberChanged(member.record.id, member.state, member.record.boot))

    # --- states ---

    def suspect(self, member: Member, rank: int, now: float) -> None:
        """Move between alive and suspect."""
        if member.rank != rank:
            member.rank, member.since = rank, now
            self._context.view.filed(member)
            if rank != ALIVE:
                self._context.notice("info", "member suspect", member.record.id)
            self._changed(member)

    def bury(self, member: Member, now: float, why: str) -> None:
        """This node concludes that the member is dead. The digest tells those who missed what led to it."""
        member.acquit()
        member.rank, member.since = DEAD, now
        self._context.view.filed(member)
        self._gone(member.record.id)
        self._context.counters[f"dead_{why}"] += 1
        self._context.notice("warning", "member dead", member.record.id, why=why)
        self._changed(member)

    def _gone(self, peer: str) -> None:
        context = self._context
        context.let_in(peer)
        context.far.discard(peer)
        context.bridges.pop(peer, None)
        link = context.links.pop(peer, None)
        if link is not None:
            context.release(link)
        while len(context.view.tombs) > context.settings.tombstones:
            oldest = next(iter(context.view.tombs))
            context.view.forget(oldest)
            context.forget(oldest)

    def is_full_of_the_dead(self) -> bool:
        """No room for tombstones of others: nobody never met here is taken in as dead, or members would fill each
        other up for ever with what each of them has dropped."""
        return len(self._context.view.tombs) >= self._context.settings.tombstones

    # --- contradiction ---

    def restate(self, now: float, **changes: int) -> None:
        """Say again that this node is alive, in a newer version of its record."""
        self._flood.record(self._context.rewrite(**changes), self._context.me, now)
        self._context.counters["refuted"] += 1

    def refute(self, boot: int, incarnation: int, now: float) -> bool:
        """Somebody accuses this version of me: be newer, if it is the present one. True if it is one I never wrote in
        this life: then my own record of that version is wanted, for nobody's mere word moves my boot and
        incarnation."""
        mine = self._context.view.record
        if (boot, incarnation) == (mine.boot, mine.incarnation):
            self._context.worse()
            self.restate(now, incarnation=incarnation + 1)
        return (boot, incarnation) > (mine.boot, mine.incarnation)

    def tell(self, member: Member, version: tuple[int, int], now: float) -> None:
        """Tell a member that this version of it is held dead, here or elsewhere; once a second at most."""
        if now - member.told_at >= TELL_S and not self._context.trust.ledger.is_revoked(member.record.id):
            member.told_at = now
            self._context.send(member.record.id, Buried(*version, self._context.view.record))

    def heal(self, now: float) -> None:
        """Tell one of the dead that we hold it dead: it may live behind a partition that has healed. Every other time
        one that died lately, for among many long dead it would have to wait."""
        view, rng = self._context.view, self._context.rng
        dead = [peer for peer in view.tombs if view.members[peer].rank == DEAD]
        if dead:
            member = view.members[rng.choice(dead[-LATELY:] if rng.random() < 0.5 else dead)]
            self.tell(member, member.version, now)

    def contest(self, member: Member, now: float) -> None:
        """A digest calls dead who is present here at the same version."""
        context, link = self._context, self._context.links.get(member.record.id)
        if link is not None and link.up and now - link.last_ack < context.settings.silent_s:
            self.tell(member, member.version, now)
        elif member.contested_at is None:
            member.contested_at = now + context.settings.contest_s
            context.view.accused.add(member.record.id)

    def on_asked(self, src: str, message: WhoAreYou, now: float) -> None:
        """A member that does not know us (yet): it must hear from us what we are."""
        self._context.send(src, News([self._context.view.record], []))

    def on_buried(self, src: str, message: Buried, now: float) -> None:
        if message.record.id != src:
            self._context.counters["peer_error: speaks for another"] += 1
            return
        self.apply(message.record, src, now)
        if self.refute(message.boot, message.incarnation, now):
            self._context.send(src, Data([], [], [Want(self._context.me, True)]))
        self._context.send(src, News([self._context.view.record], []))


def order(record: Record) -> tuple[int, int, bool]:
    """Of a member's words: the greater ones replace the others."""
    return (record.boot, record.incarnation, record.left)
