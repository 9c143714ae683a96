"""Joining: how a node becomes a member, and how islands find each other.

A node that holds the issuer's key, or an admission from an earlier life, is a member at once, alone if need be; any
other asks the join sockets of its seeds until one admits it. Seeds are tried on afterwards as long as they are not
alive in this view (every second at first, then every 9 s): three agents booting together would stay islands
otherwise, and so would a healed partition. The boot epoch is a counter: a newcomer takes one more than the highest
that its sponsor knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from jupiter_agent.core.effects import Halt, SendJoin
from jupiter_agent.core.events import JoinAnswered
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.overlay import Overlay
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.messages.membership import Refused, Welcome
from jupiter_agent.errors import EXIT_FAILED, EXIT_UNAUTHORISED, PeerError

SELF = "this is me"
NOT_READY = "not a member myself yet"
NO_ISSUER = "cannot admit: the cluster's issuer key is not here"
SECRET = "the join secret is not this cluster's"
PROTOCOL = "no common protocol version"
NAME_TAKEN = "the name is taken by a living member"
ID_IN_USE = "the same node is alive at another address"
BAD_RECORD = "the record is not in order"
EXPIRED = "the token has expired"
FORBIDDEN = "the token does not allow that"

UNAUTHORISED = frozenset({SECRET, EXPIRED, FORBIDDEN})
"""Reasons that only another token mends."""

PASSING = frozenset({SELF, NOT_READY, NO_ISSUER})
"""Reasons that another seed, or a later try, may mend."""

BOOT_STEP = 1000
"""A sponsor's mere word raises our boot by at most so much: a liar could use the numbers up. What we signed ourselves
in an earlier life is believed whatever it is."""
STRAY_S = 30.0
"""How often the address of one of the dead is tried as if it were a seed: somebody else may have come up there"""

INTRODUCE_S = 0.15
"""for our record to reach everybody from the sponsor before others are called"""


@dataclass
class Seed:
    """An address somebody gave us, and who turned out to live there."""

    address: str
    found_by: str
    peer: str = ""
    tried: bool = False
    me: bool = False


class Joiner:
    """The asking side."""

    def __init__(self, context: Context, roster: Roster, overlay: Overlay, now: float) -> None:
        self._context, self._roster, self._overlay = context, roster, overlay
        self._seeds: dict[str, Seed] = {}
        self._strays: dict[str, Seed] = {}
        self._stray_at = now
        self._born = now
        self._started = False
        self._asking = ""
        self._refusal = ""
        self.due = now

    def add_seed(self, address: str, found_by: str) -> None:
        if address not in self._seeds and address != self._context.view.record.address:
            self._seeds[address] = Seed(address, found_by)
            self._roster.hints.setdefault(address, found_by)

    def on_tick(self, now: float) -> None:
        if not self._started:
            self._start(now)
        if now >= self.due:
            eager, later = self._context.settings.seed_s
            pause = eager if now < self._born + self._context.settings.eager_s else later
            self.due = now + pause * self._context.rng.uniform(0.7, 1.3)
            for seed in self._seeds.values():
                seed.tried = False
            if now >= self._stray_at:
                self._stray_at = now + STRAY_S
                self._choose_stray()
            self._asking = ""
            self._try_next()

    def _choose_stray(self) -> None:
        """All whom we knew may have started anew elsewhere, and others where they were: no address is given up."""
        view = self._context.view
        addresses = sorted({view.members[peer].record.address for peer in view.tombs} - {view.record.address})
        fresh = [address for address in addresses if address not in self._seeds]
        chosen = [self._context.rng.choice(fresh)] if fresh and self._context.joined else []
        self._strays = {address: Seed(address, "remembered") for address in chosen}

    def _start(self, now: float) -> None:
        context, record = self._context, self._context.view.record
        self._started = True
        if not record.admission or not context.trust.authority.verify_admission(record):
            record = msgspec.structs.replace(record, admission=context.trust.authority.issue(record))
        if record.admission:
            self._enter(record.boot, record.admission)
        elif not self._seeds:
            context.emit(Halt("there is nobody to join: no seed is given, and this node cannot found a cluster"))

    def _enter(self, boot: int, admission: bytes) -> None:
        context = self._context
        context.rewrite(boot=boot, admission=admission)
        context.joined = True

    def _try_next(self) -> None:
        """Ask one seed that is not alive in our view; its failure brings the next at once."""
        view = self._context.view
        alive = {member.record.address for member in view.members.values() if member.present}
        open_seeds = [
            seed
            for seed in [*self._seeds.values(), *self._strays.values()]
            if not seed.tried and not seed.me and seed.peer not in view.rings and seed.address not in alive
        ]
        if open_seeds and not self._asking:
            seed = self._context.rng.choice(open_seeds)
            seed.tried, self._asking = True, seed.address
            trust = self._context.trust
            record = view.record if self._context.joined else msgspec.structs.replace(view.record, admission=b"")
            self._context.emit(SendJoin(seed.address, trust.authority.request(trust.signed(record))))

    def on_answer(self, event: JoinAnswered, now: float) -> None:
        seed = self._seeds.get(event.address) or self._strays.get(event.address)
        if seed is None:
            return
        if self._asking == event.address:
            self._asking = ""
        if isinstance(event.message, Welcome):
            self._welcomed(seed, event.message, now)
            return
        if isinstance(event.message, Refused):
            self._refused(seed, event.message)
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
            return
        if context.view.size() == 1 and not (context.joined and refused.reason in (EXPIRED, FORBIDDEN)):
            code = EXIT_UNAUTHORISED if refused.reason in UNAUTHORISED else EXIT_FAILED
            context.emit(Halt(f"{seed.address} refused us: {refused.reason}", _advice(refused), code))
        if refused.reason != self._refusal:
            self._refusal = refused.reason
            context.notice("error", "join refused", address=seed.address, reason=refused.reason, hint=refused.hint)


def _advice(refused: Refused) -> str:
    """The sponsor's hint; for a name that is taken it is only where the holder is."""
    if refused.reason != NAME_TAKEN:
        return refused.hint
    return (f"its holder is at {refused.hint}; " if refused.hint else "") + "choose another name: --name NAME"
