"""Joining: how a node becomes a member, and how islands find each other.

A node that holds the issuer's key, or an admission from an earlier life, is a member at once, alone if need be; any
other asks the join sockets of its seeds until one admits it. Seeds are tried on afterwards as long as they are not
alive in this view (see `seeds`): three agents booting together would stay islands otherwise, and so would a healed
partition. The boot epoch is a counter: a newcomer takes one more than the highest that its sponsor knows.
"""

from __future__ import annotations

import msgspec

from jupiter_agent.core.effects import Halt, SendJoin
from jupiter_agent.core.events import Hint, JoinAnswered, SeedsFound
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.overlay import Overlay
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.membership.seeds import BEACON, OVERHEARD, Seed, SeedSet
from jupiter_agent.core.messages.membership import DEAD, Refused, Welcome
from jupiter_agent.errors import EXIT_FAILED, EXIT_UNAUTHORISED, PeerError

SELF = "this is me"
NOT_READY = "not a member myself yet"
NO_ISSUER = "cannot admit: the cluster's issuer key is not here"
SECRET = "the join secret is not this cluster's"
PROTOCOL = "no common protocol version"
NAME_TAKEN = "the name is taken by a living member"
ID_IN_USE = "the same node is alive at another address"
KEY_TAKEN = "its CURVE key is another node's"
BAD_RECORD = "the record is not in order"
EXPIRED = "the token has expired"
FORBIDDEN = "the token does not allow that"
REVOKED = "it was revoked"
USED_UP = "the token has been used up"
LEDGER_FULL = "the use of the token cannot be counted: the ledger is full"

UNAUTHORISED = frozenset({SECRET, EXPIRED, FORBIDDEN, REVOKED, USED_UP})
"""Reasons that only another token mends."""

PASSING = frozenset({SELF, NOT_READY, NO_ISSUER})
"""Reasons that another seed, or a later try, may mend."""

BOOT_STEP = 1000
"""A sponsor's mere word raises our boot by at most so much: a liar could use the numbers up. What we signed ourselves
in an earlier life is believed whatever it is."""
STRAY_S = 30.0
"""How often the address of one of the dead is tried as if it were a seed: somebody else may have come up there"""

REFERRED = 4
"""So many addresses are taken from one who cannot let us in"""
LONELY_S = 10.0
"""Without any session for so long a member knocks at its seeds' doors again, alive or not: who was cut off right after
it was admitted is known to nobody, and all refuse its key"""
INTRODUCE_S = 0.15
"""for our record to reach everybody from the sponsor before others are called"""


class Joiner:
    """The asking side."""

    def __init__(self, context: Context, roster: Roster, overlay: Overlay, now: float) -> None:
        self._context, self._roster, self._overlay = context, roster, overlay
        settings = context.settings
        self.seeds = SeedSet(settings.eager_s, settings.seed_s, context.rng, now)
        roster.found_by = self.seeds.found_by
        self._stray_at = now
        self._started = False
        self._asking = ""
        self._refusal = ""
        self._company_at = now
        """when there was last a session"""

    def add_seed(self, hint: Hint, now: float) -> None:
        record = self._context.view.record
        if hint.address != record.address and hint.node != record.id:
            self.seeds.add(hint, now)

    def on_found(self, event: SeedsFound, now: float) -> None:
        """A source of discovery speaks; who is new is tried in this round."""
        for hint in event.hints:
            self.add_seed(hint, now)
            if hint.found_by == BEACON and hint.node:
                self._on_beacon(hint.node, now)
        if self._started:
            self._try_next()

    def _on_beacon(self, peer: str, now: float) -> None:
        """It is one hop away. One held dead is told so, and speaks up."""
        self._context.overhear(peer, now)
        member = self._context.view.members.get(peer)
        if member is not None and member.rank == DEAD and self._context.joined:
            self._roster.tell(member, member.version, now)

    def on_tick(self, now: float) -> None:
        context = self._context
        if not self._started:
            self._start(now)
        if context.sessions:
            self._company_at = now
        if now >= self.seeds.due:
            for effect in self.seeds.begin_round(now):
                context.emit(effect)
            if self.seeds.dropped:
                context.counters["seeds_dropped"] = self.seeds.dropped
            if now >= self._stray_at:
                self._stray_at = now + STRAY_S
                self._choose_stray()
            self._asking = ""
            self._try_next()
        for effect in self.seeds.browse(len(context.view.rings) - 1):
            context.emit(effect)

    def _choose_stray(self) -> None:
        """All whom we knew may have started anew elsewhere, and others where they were: no address is given up."""
        view = self._context.view
        addresses = sorted({view.members[peer].record.address for peer in view.tombs} - {view.record.address})
        fresh = [address for address in addresses if address not in self.seeds]
        self.seeds.set_strays([self._context.rng.choice(fresh)] if fresh and self._context.joined else [])

    def _start(self, now: float) -> None:
        context, record = self._context, self._context.view.record
        self._started = True
        if not record.admission or not context.trust.authority.verify_admission(record):
            record = msgspec.structs.replace(record, admission=context.trust.authority.issue(record))
        if record.admission:
            self._enter(record.boot, record.admission)
        elif self.seeds.is_hopeless:
            context.emit(Halt("there is nobody to join: no seed is given, and this node cannot found a cluster"))

    def _enter(self, boot: int, admission: bytes) -> None:
        context = self._context
        context.rewrite(boot=boot, admission=admission)
        context.joined = True

    def _try_next(self) -> None:
        """Ask one seed that is not alive in our view, or any if we have no session at all; its failure brings the next
        at once."""
        view = self._context.view
        lonely = view.clock.now - self._company_at > LONELY_S
        alive = {member.record.address for member in view.members.values() if member.present and not lonely}
        seed = None if self._asking else self.seeds.next(alive, () if lonely else view.rings)
        if seed is not None:
            self._asking = seed.address
            trust = self._context.trust
            record = view.record if self._context.joined else msgspec.structs.replace(view.record, admission=b"")
            self._context.emit(SendJoin(seed.address, trust.authority.request(trust.signed(record))))

    def on_answer(self, event: JoinAnswered, now: float) -> None:
        if self._asking == event.address:
            self._asking = ""
        seed = self.seeds.get(event.address)
        if seed is None:  # its hint has ended meanwhile
            self._try_next()
            return
        if isinstance(event.message, Welcome):
            self._welcomed(seed, event.message, now)
            return
        if isinstance(event.message, Refused):
            self._refused(seed, event.message)
        elif event.error == "unauthorised" and seed.found_by in OVERHEARD:
            self._context.counters["hints_false"] += 1
        elif event.error == "unauthorised":
            self._refused(seed, Refused(SECRET, "check the token"))
        self._try_next()

    def _welcomed(self, seed: Seed, welcome: Welcome, now: float) -> None:
        context, record = self._context, self._context.view.record
        authority = context.trust.authority
        admitted = msgspec.structs.replace(record, admission=welcome.admission)
        if not authority.adopt(welcome.cluster_key, welcome.issuer_key) or not authority.verify_admission(admitted):
            raise PeerError("welcome: another cluster, or a false admission")
        boot = min(welcome.boot, record.boot + BOOT_STEP)
        if not context.joined:
            self._enter(max(record.boot, boot + 1), welcome.admission)
        elif boot > record.boot:
            self._roster.restate(now, boot=boot + 1, incarnation=0)
        for member in welcome.records:
            self._roster.apply(member, "", now)
        if welcome.records:
            seed.peer = welcome.records[0].id
            if seed.peer in context.view.rings and seed.peer != context.me:
                context.view.members[seed.peer].found_by = seed.found_by
                self._overlay.want(seed.peer, now)
                self._overlay.hold_off(now + INTRODUCE_S)

    def _refused(self, seed: Seed, refused: Refused) -> None:
        context = self._context
        if refused.reason == SELF:
            seed.me = True
            return
        if refused.reason in PASSING:
            self._referred(refused)
            return
        if refused.reason == SECRET and context.joined and context.view.clock.now < context.recall_until:
            return
        if not context.joined and seed.configured:
            code = EXIT_UNAUTHORISED if refused.reason in UNAUTHORISED else EXIT_FAILED
            context.emit(Halt(f"{seed.address} refused us: {refused.reason}", _advice(refused), code))
        if refused.reason != self._refusal:
            self._refusal = refused.reason
            context.notice("error", "join refused", address=seed.address, reason=refused.reason, hint=refused.hint)

    def _referred(self, refused: Refused) -> None:
        """A member that cannot let us in names some that can: they are tried in this round. Members need it not."""
        if not self._context.joined:
            self.seeds.add_strays(refused.ask[:REFERRED])


def _advice(refused: Refused) -> str:
    """The sponsor's hint; for a name that is taken it is only where the holder is."""
    if refused.reason != NAME_TAKEN:
        return refused.hint
    return (f"its holder is at {refused.hint}; " if refused.hint else "") + "choose another name: --name NAME"
