"""Grants: what a token with a role lets its holder do, signed by the cluster's issuer.

Such a token carries a secret of its own. Two keys follow from it: an Ed25519 key that signs for the nodes joining with
the token, and the CURVE pair that `jupiter ctl` speaks with. The grant binds both public halves to a role and an
expiry; any agent can check it with the issuer's public key, so a grant need not be known before it is shown.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import msgspec
import zmq
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey
from zmq.utils import z85

from jupiter_agent.adapters.curve import CurvePair
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.trust import ROLES, admission_bytes
from jupiter_agent.errors import PeerError

GRANT_BYTES = 512
_GRANT = b"jupiter grant 1\0"
_JOINER = b"jupiter joiner 1\0"


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """`expires_at`: wall seconds, 0 for never."""

    role: str
    expires_at: int
    sign_key: bytes
    operator: str
    signature: bytes = b""
    uses: int = 0
    """how many nodes may join with it, 0 for any number"""

    @property
    def id(self) -> str:
        """What `token list` calls it."""
        return hashlib.sha256(self.sign_key).hexdigest()[:16]

    @property
    def expired(self) -> bool:
        return 0 < self.expires_at <= time.time()

    @property
    def left_s(self) -> float:
        """How long it holds on."""
        return self.expires_at - time.time() if self.expires_at else float("inf")


_decoder = msgspec.msgpack.Decoder(Grant)


def to_bytes(grant: Grant) -> bytes:
    return msgspec.msgpack.encode(grant)


def from_bytes(raw: bytes) -> Grant:
    """PeerError for anything but a well-formed grant. Its signature is not looked at."""
    if not 0 < len(raw) <= GRANT_BYTES:
        raise PeerError("grant: none, or too large")
    try:
        grant = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError("grant: malformed") from error
    if (
        grant.role not in ROLES
        or len(grant.sign_key) != 32
        or len(grant.operator) != 40
        or min(grant.expires_at, grant.uses) < 0
    ):
        raise PeerError("grant: senseless")
    return grant


def issue(issuer_secret: bytes, secret: bytes, role: str, expires_at: int, uses: int = 0) -> Grant:
    """A grant for the holder of `secret` (32 bytes)."""
    sign_key = bytes(SigningKey(_seed(secret)).verify_key)
    grant = Grant(role, expires_at, sign_key, operator_pair(secret).public, uses=uses)
    return msgspec.structs.replace(grant, signature=bytes(SigningKey(issuer_secret).sign(_text(grant)).signature))


def is_issued(grant: Grant, issuer: bytes) -> bool:
    return _verify(issuer, _text(grant), grant.signature)


def operator_pair(secret: bytes) -> CurvePair:
    """What `jupiter ctl` speaks with."""
    text = z85.encode(hashlib.blake2b(b"jupiter 2 operator", key=secret, digest_size=32).digest())
    return CurvePair(zmq.curve_public(text).decode(), text.decode())


def sign_joiner(secret: bytes, record: Record) -> bytes:
    """The token's holder lets this node in: its id, keys and role, so nobody else can use the words."""
    return bytes(SigningKey(_seed(secret)).sign(_JOINER + admission_bytes(record)).signature)


def is_joiner(grant: Grant, record: Record, proof: bytes) -> bool:
    return _verify(grant.sign_key, _JOINER + admission_bytes(record), proof)


def owner_proof(join_secret: bytes, record: Record) -> bytes:
    """The same by a holder of the cluster's own token, which is not derived from what others hold."""
    return hashlib.blake2b(_JOINER + admission_bytes(record), key=join_secret, digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class Pass:
    """What this node shows when it asks to be let in. `secret`: its token's, or the join secret without a grant."""

    secret: bytes = b""
    grant: bytes = b""

    def prove(self, record: Record) -> tuple[bytes, bytes]:
        """(grant, proof)"""
        if not self.secret:
            return b"", b""
        proof = sign_joiner if self.grant else owner_proof
        return self.grant, proof(self.secret, record)

    def __repr__(self) -> str:
        return "Pass()"


def _seed(secret: bytes) -> bytes:
    return hashlib.blake2b(b"jupiter 2 joiner", key=secret, digest_size=32).digest()


def _text(grant: Grant) -> bytes:
    fields = (grant.role, grant.expires_at, grant.sign_key, grant.operator, grant.uses)
    return _GRANT + msgspec.msgpack.encode(fields)


def _verify(public: bytes, data: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(public).verify(data, signature)
    except (CryptoError, ValueError, TypeError):
        return False
    return True
