"""The notary: spreads the ledger, and sees to what its entries ask for (DESIGN.md 71 and 104).

Entries are flooded on first sight. On a new session, and every `COMPARE_S` with one neighbour, the digests of both
ledgers are compared, and what either lacks is sent. A revoked node is buried at once, its sessions end and its key is
forgotten. After a rotation each member asks others for what opens the door now: the join secret for admins, its keys
for the rest; what it gets must fit the fingerprint that the issuer signed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupiter_agent.core.effects import Forget, Halt
from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.effects import Recorded, Rekeyed
from jupiter_agent.core.membership.member import NEVER
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.membership import (
    LEDGER_MAX,
    NODE_REVOKED,
    ROTATION,
    USE,
    Entries,
    Entry,
    LedgerDigest,
    LedgerKeys,
    Secret,
    SecretWanted,
)
from jupiter_agent.errors import EXIT_UNAUTHORISED, OffenceError, PeerError

COMPARE_S = 30.0
ASK_S = 2.0
ANSWER_S = 1.0
PER_MESSAGE = 32
KEYS_BYTES = 8 * LEDGER_MAX
REVOKED_BYTES = 8 * 128
"""So much a rotation says of the revocations before it, by their keys: the last 128"""


class Notary:
    """Keeps `trust.ledger` in step with everybody's."""

    def __init__(self, context: Context, roster: Roster, now: float) -> None:
        self._context, self._roster = context, roster
        self._ledger, self._authority = context.trust.ledger, context.trust.authority
        self._compare_at = now + COMPARE_S
        self._ask_at = now
        self._answered: dict[str, float] = {}
        """who was sent entries lately"""
        self.handlers: dict[type[Message], Callable[[str, Any, float], None]] = {
            LedgerDigest: self._on_digest,
            LedgerKeys: self._on_keys,
            Entries: self._on_entries,
            SecretWanted: self._on_wanted,
            Secret: self._on_secret,
        }

    # --- entries -------------------------------------------------------------------------------------------------

    def enter(self, entry: Entry, src: str, now: float) -> bool:
        """Take an entry in, and tell everybody, if it is new here. PeerError, and nothing changed, if it is forged."""
        context = self._context
        if entry in self._ledger:
            return False
        if not self._authority.verify_entry(entry):
            raise OffenceError("ledger: an entry nobody may have made")
        if not self._ledger.add(entry):
            return False
        for link in context.overlay_links():
            if link.peer != src:
                context.send(link.peer, Entries([entry]))
        context.emit(Recorded(entry))
        if entry.kind == NODE_REVOKED:
            self._expel(entry.subject, now)
        elif entry.kind == USE and (used := len(self._ledger.uses(entry.subject))) > entry.number:
            context.notice("warning", "token used too often", token=entry.subject, uses=used, allowed=entry.number)
        elif entry.kind == ROTATION:
            self._ask_at = now
            context.notice("info", "join secret rotated", number=entry.number)
        return True

    def _expel(self, node: str, now: float) -> None:
        """A member no longer: dead for everybody, and nobody on any socket of ours."""
        context = self._context
        member = context.view.members.get(node)
        if node == context.me:
            hint = "ask an admin why; a new node needs a new --state-dir and a token"
            context.emit(Halt("this node was revoked by its cluster", hint, EXIT_UNAUTHORISED))
            return
        if member is not None and member.present:
            self._roster.bury(member, now, "revoked")
        context.emit(Forget(node))  # known here or not: it may be a guest, or remembered; its key stays its own

    def greet(self, peer: str) -> None:
        """On a new session."""
        if len(self._ledger):
            self._context.send(peer, LedgerDigest(self._ledger.digest, len(self._ledger)))

    def _on_digest(self, src: str, message: LedgerDigest, now: float) -> None:
        if message.digest != self._ledger.digest:
            self._context.send(src, LedgerKeys(self._ledger.keys()[:KEYS_BYTES], ask=True))

    def _on_keys(self, src: str, message: LedgerKeys, now: float) -> None:
        """Small words with a large answer: each member gets one now and then."""
        if now < self._answered.get(src, NEVER) + ANSWER_S:
            raise PeerError("ledger: asked for again too soon")
        self._answered = {peer: when for peer, when in self._answered.items() if now < when + ANSWER_S}
        self._answered[src] = now
        lacking = self._ledger.beyond(message.keys)
        for at in range(0, len(lacking), PER_MESSAGE):
            self._context.send(src, Entries(lacking[at : at + PER_MESSAGE]))
        if message.ask and self._ledger.lacks_any(message.keys):
            self._context.send(src, LedgerKeys(self._ledger.keys()[:KEYS_BYTES], ask=False))

    def _on_entries(self, src: str, message: Entries, now: float) -> None:
        for entry in message.entries:
            self.enter(entry, src, now)

    # --- what opens the door -------------------------------------------------------------------------------------

    def rotate(self, by: str, now: float) -> bool:
        """A new join secret, in use here from now on. False where the issuer's key is not held."""
        secret, mark = self._authority.new_secret()
        last = self._ledger.rotation
        out = self._ledger.keys_of(NODE_REVOKED)[-REVOKED_BYTES:]
        entry = self._authority.signed_entry(ROTATION, mark, last.number + 1 if last else 1, out, by)
        if entry is None or not self._authority.take_over(secret, mark):
            return False
        self.enter(entry, "", now)
        self._rekeyed()
        return True

    def _rekeyed(self) -> None:
        """The neighbours need it, too."""
        self._context.emit(Rekeyed())
        for link in self._context.overlay_links():
            self._hand_over(link.peer)

    def _wanted(self) -> SecretWanted | None:
        """What this node still has to ask for."""
        rotation = self._ledger.rotation
        mark, whole = self._authority.door()
        if rotation is not None and rotation.subject != mark:
            return SecretWanted(rotation.number)
        return None if whole or self._context.view.record.role != "admin" else SecretWanted(0)

    def _on_wanted(self, src: str, message: SecretWanted, now: float) -> None:
        """Only members have sessions; each gets what its admission says."""
        if src not in self._context.view.members or self._ledger.is_revoked(src):
            raise PeerError("secret: asked for by a stranger")
        self._hand_over(src)

    def _hand_over(self, peer: str) -> None:
        """Nothing while this node lacks the secret itself, or a revocation that the rotation was made after."""
        member, rotation = self._context.view.members.get(peer), self._ledger.rotation
        if member is None or self._ledger.is_revoked(peer):
            return
        if rotation and (rotation.subject != self._authority.door()[0] or self._ledger.lacks_any(rotation.data)):
            return
        secret = self._authority.hand_over(member.record.role)
        if secret:
            self._context.send(peer, Secret(rotation.number if rotation else 0, secret))

    def _on_secret(self, src: str, message: Secret, now: float) -> None:
        rotation = self._ledger.rotation
        if self._wanted() is None:
            return
        if not self._authority.take_over(message.secret, rotation.subject if rotation else self._authority.door()[0]):
            raise PeerError("secret: not what the issuer announced")
        self._rekeyed()

    def on_tick(self, now: float) -> None:
        context = self._context
        if self._ledger.is_revoked(context.me):
            self._expel(context.me, now)
        if now >= self._compare_at and len(self._ledger):
            self._compare_at = now + COMPARE_S * context.rng.uniform(0.7, 1.3)
            links = context.live_links()
            if links:
                self.greet(context.rng.choice(links).peer)
        if now >= self._ask_at and (wanted := self._wanted()) is not None:
            self._ask_at = now + ASK_S * context.rng.uniform(0.7, 1.3)
            if peers := self._holders():
                context.send(context.rng.choice(peers), wanted)

    def _holders(self) -> list[str]:
        """Who can have it: admins for an admin, anybody for others."""
        view, admin = self._context.view, self._context.view.record.role == "admin"
        return [
            peer
            for peer, member in view.members.items()
            if member.present and peer != view.me and (not admin or member.record.role == "admin")
        ]
