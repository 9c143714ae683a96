"""Sponsoring: how a member admits others through its join socket.

Whoever completed the handshake there holds the join secret; the record must still be in order. A second node under a
living name, or the same node alive elsewhere, is a conflict: before refusing, the present holder is asked for a sign
of life, so that a node restarted a moment after its death is not turned away.
"""

from __future__ import annotations

from jupiter_agent.core.effects import AdmitClient, Send
from jupiter_agent.core.events import JoinRequested
from jupiter_agent.core.membership import join
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.notary import Notary
from jupiter_agent.core.membership.probe import Prober
from jupiter_agent.core.membership.roster import order
from jupiter_agent.core.messages.membership import Iam, Join, Record, Refused, Welcome, Who
from jupiter_agent.core.trust import check_self_signed
from jupiter_agent.errors import PeerError

RECORDS_MAX = 256
REFERRED = 4
"""So many admins are named to a joiner"""


class Sponsor:
    """The answering side."""

    def __init__(self, context: Context, prober: Prober, notary: Notary) -> None:
        self._context, self._prober, self._notary = context, prober, notary
        self._waiting: dict[tuple[str, str], tuple[Join, str]] = {}
        """(asker, rival) -> its last request, and the reason to refuse it should the rival be alive"""
        self._guests: dict[str, float] = {}
        prober.on_answer["join"] = self._on_rival

    def on_request(self, event: JoinRequested, now: float) -> None:
        context, message = self._context, event.message
        mine = context.view.record
        if isinstance(message, Who):
            if message.grant and not self._let_client_in(event.src, message):
                return
            shown = (mine.sign_key, mine.role, mine.admission, context.trust.authority.public())
            iam = Iam(
                message.seq, mine.id, mine.name, mine.curve_key, mine.protocol, mine.version, *shown, mine.address
            )  # fmt: skip
            context.emit(Send(event.src, iam))
        elif isinstance(message, Join):
            try:
                self._on_join(event.src, message, now)
            except PeerError as error:
                self._refuse(event.src, message.record, join.BAD_RECORD, error.message)
                raise

    def _let_client_in(self, src: str, message: Who) -> bool:
        """An operator whose token is right may open a session; one whose token is not is told why."""
        try:
            self._context.emit(AdmitClient(*self._context.trust.authority.client(message.grant)))
            return True
        except PeerError as error:
            self._context.counters["clients_refused"] += 1
            self._context.emit(Send(src, Refused(error.message, error.hint)))
            return False

    def _on_join(self, src: str, message: Join, now: float) -> None:
        context, record = self._context, message.record
        mine = context.view.record
        check_self_signed(record, context.trust.identity)
        if not overlaps(record.protocol, mine.protocol):
            hint = f"we speak {mine.protocol[0]} to {mine.protocol[1]}, the joiner {record.protocol}"
            self._refuse(src, record, join.PROTOCOL, hint)
        elif record.id == mine.id:
            self._refuse(src, record, join.SELF if record.address == mine.address else join.ID_IN_USE, mine.address)
        elif not context.joined:
            self._refuse(src, record, join.NOT_READY)
        elif (objection := context.trust.authority.objection(message))[0]:
            self._refuse(src, record, *objection)
        else:
            self._check_rivals(src, message, now)

    def _check_rivals(self, src: str, request: Join, now: float) -> None:
        context, record = self._context, request.record
        if record.name == context.view.record.name:
            self._refuse(src, record, join.NAME_TAKEN, context.view.record.address)
            return
        rivals: list[str] = []
        for peer, member in context.view.members.items():
            same_node = peer == record.id and member.record.address != record.address
            same_name = peer != record.id and member.record.name == record.name
            if member.present and (same_node or same_name):
                self._waiting[src, peer] = (request, join.ID_IN_USE if same_node else join.NAME_TAKEN)
                rivals.append(peer)
        for peer in rivals:
            self._prober.ask(peer, ("join", src), now)
        if not rivals:
            self._welcome(src, request, now)

    def _on_rival(self, src: str, peer: str, alive: bool, now: float) -> None:
        waiting = self._waiting.pop((src, peer), None)
        if waiting is None:  # it asked twice and was answered at the first time
            return
        request, reason = waiting
        if alive:
            self._waiting = {pair: other for pair, other in self._waiting.items() if pair[0] != src}
            member = self._context.view.members.get(peer)
            self._refuse(src, request.record, reason, member.record.address if member else "")
        elif all(asker != src for asker, _ in self._waiting):
            self._welcome(src, request, now)

    def _welcome(self, src: str, request: Join, now: float) -> None:
        context, authority, record = self._context, self._context.trust.authority, request.record
        if (objection := authority.objection(request))[0]:  # its token may be used up since it asked
            self._refuse(src, record, *objection)
            return
        if context.has_stolen_key(record):
            self._refuse(src, record, join.KEY_TAKEN, "start it with a new --state-dir")
            return
        admission = authority.issue(record)
        if not admission:
            self._refuse(src, record, join.NO_ISSUER)
            return
        if (use := authority.use_of(request)) is not None:
            self._notary.enter(use, "", now)
            if use not in context.trust.ledger:  # what is not counted is not allowed
                self._refuse(src, record, join.LEDGER_FULL, "a token without a limit of uses still lets nodes in")
                return
        members = context.view.members
        known = members.get(record.id)
        others = [m.record for p, m in members.items() if m.present and p not in (context.me, record.id)]
        context.rng.shuffle(others)
        if known is None:
            self._guests[record.id] = now + context.settings.guest_s
        if known is None or order(record) > order(known.record):  # or a replayed request would move the member
            context.learn(record)
            if known is not None:
                context.expected.add(record.id)
        issuer_key = authority.export() if record.role == "admin" else b""
        boot = known.record.boot if known else 0
        earlier = [known.record] if known else []
        records = [context.view.record, *earlier, *others[:RECORDS_MAX]]
        context.emit(Send(src, Welcome(admission, issuer_key, boot, records, authority.public())))

    def _refuse(self, src: str, record: Record, reason: str, hint: str = "") -> None:
        context = self._context
        context.counters["joins_refused"] += 1
        context.emit(Send(src, Refused(reason, hint, self._able() if reason == join.NO_ISSUER else [])))
        if reason not in join.PASSING:
            context.notice(
                "warning", "join refused", joiner=record.name, address=record.address, reason=reason, hint=hint
            )

    def _able(self) -> list[str]:
        """Addresses of living admins: they can admit whom this node cannot."""
        members = self._context.view.members.values()
        able = [m.record.address for m in members if m.present and m.record.role == "admin" and m.record.address]
        return self._context.rng.sample(able, min(len(able), REFERRED))

    def on_tick(self, now: float) -> None:
        for peer in [peer for peer, until in self._guests.items() if now >= until]:
            del self._guests[peer]
            if peer not in self._context.view.members:
                self._context.forget(peer)


def overlaps(theirs: tuple[int, int], ours: tuple[int, int]) -> bool:
    """Whether two protocol ranges (min, max) have a version in common."""
    return max(theirs[0], ours[0]) <= min(theirs[1], ours[1])
