"""Who may speak for whom: what is signed, in which canonical bytes, and how a record is judged.

Two signatures make a member. Its *admission*, by the cluster's issuer, binds (id, sign_key, curve_key, role) and
outlives restarts; its *own* signature covers everything it says of itself, so nobody else can move it, age it or make
it leave. The id is the fingerprint of the signing key. Every signed text starts with its purpose, so that one can
never pass for another.

The machines see keys only through `Identity` and `Authority`: Ed25519 in `adapters/keys.py`, keyed hashes in
`sim/trust.py`.

Fields added to `Record` after `signature` are outside the signature by construction: an older peer drops them when it
passes a record on, and could not check a signature over what it does not know.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from jupiter_agent.core.ids import is_node_name, node_id
from jupiter_agent.core.ledger import Ledger
from jupiter_agent.core.messages.membership import Claim, Entry, Join, Record, Value
from jupiter_agent.errors import OffenceError, PeerError

ROLES = ("admin", "submit", "worker", "observer")

_Z85_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_Z85 = re.compile(f"[{re.escape(_Z85_DIGITS)}]{{40}}\\Z")
_HOST = re.compile(r"[^\s\x00-\x1f\x7f\[\]:]+\Z|\[[0-9a-fA-F:.]+(%[0-9A-Za-z_.-]+)?\]\Z")

_RECORD = b"jupiter record 1\0"
_ADMISSION = b"jupiter admission 1\0"
_CLAIM = b"jupiter claim 1\0"
_VALUE = b"jupiter value 1\0"
_encode = msgspec.msgpack.Encoder().encode


class Identity(Protocol):
    """This node's signing key, and the check of anybody's."""

    def sign(self, data: bytes) -> bytes: ...

    def verify(self, public_key: bytes, data: bytes, signature: bytes) -> bool:
        """Never raises: keys and signatures of a wrong length are simply false."""


class Authority(Protocol):
    """The cluster's issuer. Every agent can check admissions; those of role admin hold the secret key and can issue."""

    def issue(self, record: Record) -> bytes:
        """The issuer's signature over `admission_bytes(record)`, or b"" where the secret key is not held."""

    def verify_admission(self, record: Record) -> bool: ...

    def export(self) -> bytes:
        """The issuer's secret key (32 bytes), or b"" where it is not held."""

    def public(self) -> bytes:
        """The issuer's public key, or b"" while only its fingerprint (from a token) is known."""

    def adopt(self, public: bytes, secret: bytes) -> bool:
        """Take over what a sponsor handed out at joining; False, and nothing changed, if it is not this cluster's
        key."""

    def request(self, record: Record) -> Join:
        """Asks for admission, with what proves that this node holds a token of that role."""

    def objection(self, request: Join) -> tuple[str, str]:
        """Why the token shown does not let this record in, and a hint; ("", "") when it does."""

    def client(self, grant: bytes) -> tuple[str, str, float]:
        """(CURVE key, role, seconds from now) of the operator whose token this is. PeerError if it opens nothing."""

    def signed_entry(self, kind: int, subject: str, number: int = 0, data: bytes = b"", by: str = "") -> Entry | None:
        """A new entry of the ledger, or None where the issuer's secret key is not held."""

    def verify_entry(self, entry: Entry) -> bool:
        """Whether the issuer signed it or, of a use, whoever held the token."""

    def use_of(self, request: Join) -> Entry | None:
        """The entry to make when this request is granted; None where its token can be used any number of times."""

    def described(self, grant: Entry) -> dict[str, Any]:
        """What `token list` shows of a token."""

    def new_secret(self) -> tuple[bytes, str]:
        """(a new join secret, fingerprint of its door)"""

    def hand_over(self, role: str) -> bytes:
        """What opens the door today, for a member of this role: the join secret to admins, where it is held."""

    def door(self) -> tuple[str, bool]:
        """(fingerprint of the keys of the door in use, whether the join secret is held)"""

    def take_over(self, secret: bytes, door: str) -> bool:
        """Use this secret (as handed over) from now on; False, and nothing changed, unless it is of this door."""


class Sealer(Protocol):
    """Boxes that only this node and one peer can make and open: what relays carry."""

    def seal(self, curve_key: str, data: bytes) -> bytes:
        """For the holder of this key, from this node."""

    def unseal(self, curve_key: str, sealed: bytes) -> bytes | None:
        """What the holder of this key sealed for this node; None for anything else. Never raises."""


def record_bytes(record: Record) -> bytes:
    """What the member signs: all fields before `signature`, in their order, as one MessagePack array."""
    r = record
    fields = (r.id, r.name, r.address, r.sign_key, r.curve_key, r.role, r.boot, r.incarnation, r.left)
    return _RECORD + _encode((*fields, r.protocol, r.version, r.admission))


def admission_bytes(record: Record) -> bytes:
    """What the issuer signs: (id, sign_key, curve_key, role)."""
    return _ADMISSION + _encode((record.id, record.sign_key, record.curve_key, record.role))


def claim_bytes(claim: Claim) -> bytes:
    """What an accuser or voucher signs."""
    return _CLAIM + _encode((claim.kind, claim.subject, claim.boot, claim.incarnation, claim.by))


def value_bytes(value: Value) -> bytes:
    """What the owner of a published key signs."""
    return _VALUE + _encode((value.owner, value.key, value.boot, value.version, value.data))


@functools.lru_cache(maxsize=1024)
def is_curve_key(text: str) -> bool:
    """Whether it is the Z85 of 32 bytes: eight groups of five digits, each less than 2**32. Members' records come again
    and again, so what was found is kept."""
    if not _Z85.match(text):
        return False
    groups = (text[at : at + 5] for at in range(0, 40, 5))
    return all(
        functools.reduce(lambda n, digit: n * 85 + _Z85_DIGITS.index(digit), group, 0) < 1 << 32 for group in groups
    )


def is_address(text: str) -> bool:
    """Whether it is HOST:PORT or [IPV6]:PORT that can be dialled; a name may still stand for nothing."""
    host, _, port = text.rpartition(":")
    return bool(_HOST.match(host)) and port.isascii() and port.isdigit() and 0 < int(port) < 65536


def check_self_signed(record: Record, identity: Identity) -> None:
    """PeerError unless id, names and own signature are right, and a transport can use key and address: all that can be
    asked of one who is not yet admitted."""
    if node_id(record.sign_key) != record.id:
        raise OffenceError("record: the id is not the key's fingerprint")
    if not is_node_name(record.name) or record.role not in ROLES:
        raise OffenceError("record: bad name or role")
    if not identity.verify(record.sign_key, record_bytes(record), record.signature):
        raise OffenceError("record: bad signature")
    if not is_curve_key(record.curve_key) or not is_address(record.address):
        error = OffenceError("record: bad key or address")
        error.by = record.id  # whoever passed it on may have been of another opinion
        raise error


def verify_record(record: Record, identity: Identity, authority: Authority) -> None:
    """PeerError unless the record is its member's own word and the member is admitted to this cluster."""
    check_self_signed(record, identity)
    if not authority.verify_admission(record):
        raise OffenceError("record: not admitted")


@dataclass(frozen=True)
class Trust:
    """A node's own key and its cluster's issuer, as the machines get them."""

    identity: Identity
    authority: Authority
    sealer: Sealer | None = None
    """None: this node sends and takes nothing through others"""
    ledger: Ledger = field(default_factory=Ledger)

    def signed(self, record: Record) -> Record:
        """The same record with this node's signature."""
        return msgspec.structs.replace(record, signature=self.identity.sign(record_bytes(record)))

    def verify(self, record: Record) -> None:
        """PeerError for whoever is no member, or is one no longer."""
        self._refuse_revoked(record)
        verify_record(record, self.identity, self.authority)

    def _refuse_revoked(self, record: Record) -> None:
        if self.ledger.is_revoked(record.id):
            raise PeerError("record: the node was revoked")

    def signed_claim(self, claim: Claim) -> Claim:
        return msgspec.structs.replace(claim, signature=self.identity.sign(claim_bytes(claim)))

    def verify_claim(self, claim: Claim, by: Record) -> None:
        self._refuse_revoked(by)
        if claim.by != by.id or not self.identity.verify(by.sign_key, claim_bytes(claim), claim.signature):
            raise OffenceError("claim: bad signature")

    def signed_value(self, value: Value) -> Value:
        return msgspec.structs.replace(value, signature=self.identity.sign(value_bytes(value)))

    def verify_value(self, value: Value, owner: Record) -> None:
        self._refuse_revoked(owner)
        if value.owner != owner.id or not self.identity.verify(owner.sign_key, value_bytes(value), value.signature):
            raise OffenceError("value: bad signature")
