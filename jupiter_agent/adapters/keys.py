"""Keys: what a node and a cluster own, what follows from the join secret, and the token that carries it.

A node has an Ed25519 key (its id is that key's fingerprint) and a CURVE pair. A cluster has an issuer (Ed25519; the
secret half only on nodes of role admin) and a join secret of 32 random bytes, from which both ends of the join socket
and the operator key of `jupiter ctl` are derived by keyed BLAKE2b with a label each. `token` prints what a newcomer
needs: the fingerprint of the issuer's key, the join secret, where to knock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import zmq
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey
from zmq.utils import z85

from jupiter_agent.adapters import grants
from jupiter_agent.adapters.curve import AccessKeys, CurvePair
from jupiter_agent.adapters.grants import Pass
from jupiter_agent.adapters.ports import parse_address
from jupiter_agent.core.ids import node_id
from jupiter_agent.errors import PeerError, UsageError

FINGERPRINT_BYTES = 16
SECRET_BYTES = 32
TOKEN_PREFIX = "jup1."
MAX_SEEDS = 16
_TOKEN_VERSION, _GRANT_VERSION, _FOUNDING_VERSION = 1, 2, 3
DOOR_BYTES = 96
CHECK_BYTES = 4
_HINT = "print a whole one with `jupiter ctl token create` on a node of the cluster"


# --- signatures ------------------------------------------------------------------------------------------------


class NodeIdentity:
    """`core.trust.Identity` over Ed25519."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public: bytes = bytes(self._key.verify_key)
        self.id = node_id(self.public)

    def sign(self, data: bytes) -> bytes:
        return bytes(self._key.sign(data).signature)

    def verify(self, public_key: bytes, data: bytes, signature: bytes) -> bool:
        return verify_signature(public_key, data, signature)


def verify_signature(public_key: bytes, data: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(public_key).verify(data, signature)
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def fingerprint(public_key: bytes) -> bytes:
    """What a token says of the issuer: the first 16 bytes of the SHA-256 of its public key."""
    return hashlib.sha256(public_key).digest()[:FINGERPRINT_BYTES]


def issuer_of(secret: bytes) -> bytes:
    """The public half of an issuer's key."""
    return bytes(SigningKey(secret).verify_key)


# --- making and deriving ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """A node's secrets: the seed of its Ed25519 key (32 bytes) and its CURVE pair."""

    seed: bytes
    curve: CurvePair

    @classmethod
    def new(cls) -> NodeKeys:
        public, secret = zmq.curve_keypair()
        return cls(os.urandom(32), CurvePair(public.decode(), secret.decode()))

    def __repr__(self) -> str:
        return f"NodeKeys({self.curve.public})"


@dataclass(frozen=True, slots=True)
class ClusterKeys:
    """A cluster as one node knows it. `issuer` and `issuer_secret` are empty until (unless) they were handed over."""

    fingerprint: bytes
    join_secret: bytes
    seeds: tuple[str, ...] = ()
    issuer: bytes = b""
    issuer_secret: bytes = b""
    door: bytes = b""
    """where the join secret is not held: the secrets of the join socket's two pairs and the operator's public key"""
    token_secret: bytes = b""
    grant: bytes = b""

    @property
    def role(self) -> str:
        """of this node"""
        return grants.from_bytes(self.grant).role if self.grant else "admin"

    def access(self) -> AccessKeys:
        return door_access(self.door) if self.door else derive_access(self.join_secret)

    def own(self) -> Pass:
        return Pass(self.token_secret if self.grant else self.join_secret, self.grant)

    @classmethod
    def found(cls) -> ClusterKeys:
        """A new cluster with its own issuer."""
        secret = os.urandom(32)
        public = issuer_of(secret)
        return cls(fingerprint(public), os.urandom(SECRET_BYTES), (), public, secret)

    def __repr__(self) -> str:
        return f"ClusterKeys({self.fingerprint.hex()})"


@lru_cache(maxsize=8)
def derive_access(join_secret: bytes) -> AccessKeys:
    """The three CURVE pairs that follow from a join secret."""
    server, client, operator = (_derive(join_secret, label) for label in (b"join server", b"join client", b"operator"))
    return AccessKeys(server, client, operator)


def _derive(secret: bytes, label: bytes) -> CurvePair:
    raw = hashlib.blake2b(b"jupiter 1 " + label, key=secret, digest_size=32).digest()
    text = z85.encode(raw)
    return CurvePair(zmq.curve_public(text).decode(), text.decode())


def door_of(access: AccessKeys) -> bytes:
    """What of these keys a token with a role carries: the door's, and whom to take for the owner."""
    parts = (access.join_server.secret, access.join_client.secret, access.operator.public)
    return b"".join(bytes(z85.decode(part)) for part in parts)


def door_access(door: bytes, operator: CurvePair | None = None) -> AccessKeys:
    """The inverse of `door_of`; the owner's secret stays unknown. `operator`: this side's own pair instead."""
    texts = [z85.encode(door[at : at + 32]) for at in (0, 32, 64)]
    server, client = (CurvePair(zmq.curve_public(text).decode(), text.decode()) for text in texts[:2])
    return AccessKeys(server, client, operator or CurvePair(texts[2].decode(), ""))


# --- tokens ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """What a newcomer or an operator needs. `seeds`: addresses (host:port) of agents."""

    fingerprint: bytes
    join_secret: bytes
    seeds: tuple[str, ...] = ()
    door: bytes = b""
    secret: bytes = b""
    grant: bytes = b""
    """the last three are of a token with a role; it has no join secret"""
    issuer_secret: bytes = b""
    """of a founding token: whoever starts with it needs nobody who is there already"""

    def access(self) -> AccessKeys:
        """The keys this token opens doors with."""
        if self.grant:
            return door_access(self.door, grants.operator_pair(self.secret))
        return derive_access(self.join_secret)

    def __repr__(self) -> str:
        return f"Token({self.fingerprint.hex()}, {self.seeds})"


def door_mark(access: AccessKeys) -> str:
    """What a rotation of the ledger says of the new door."""
    return hashlib.sha256(b"jupiter door" + door_of(access)).hexdigest()[:32]


def granted(own: Token, issuer_secret: bytes, role: str, expires_s: float, uses: int = 0) -> Token:
    """A new token of this role for the cluster of `own`. UsageError where the issuer's key is not held."""
    if not issuer_secret:
        raise UsageError("this node cannot issue tokens", "ask a node of role admin")
    secret = os.urandom(SECRET_BYTES)
    expires_at = int(time.time() + expires_s) + 1 if expires_s else 0
    door = own.door or door_of(own.access())
    grant = grants.to_bytes(grants.issue(issuer_secret, secret, role, expires_at, uses))
    return Token(own.fingerprint, b"", own.seeds, door, secret, grant)


def founding_token(keys: ClusterKeys) -> Token:
    """For agents that are all started at once, none of them first, as a DaemonSet does: each is a member from the
    start, and they find each other. It holds the issuer's key, as every node of role admin does."""
    return Token(keys.fingerprint, keys.join_secret, keys.seeds, issuer_secret=keys.issuer_secret)


def plain_token(token: Token) -> Token:
    """The same cluster's token without the issuer's key: what is handed to others."""
    return replace(token, issuer_secret=b"")


def encode_token(token: Token) -> str:
    """`jup1.` and the base64url of version, fingerprint, join secret (in a founding token the issuer's secret, too),
    seeds (comma separated) and a checksum."""
    seeds = ",".join(token.seeds[:MAX_SEEDS]).encode()
    if token.grant:
        head = bytes([_GRANT_VERSION]) + token.fingerprint + token.door + token.secret
        body = head + len(token.grant).to_bytes(2, "big") + token.grant + seeds
    elif token.issuer_secret:
        body = bytes([_FOUNDING_VERSION]) + token.fingerprint + token.join_secret + token.issuer_secret + seeds
    else:
        body = bytes([_TOKEN_VERSION]) + token.fingerprint + token.join_secret + seeds
    return TOKEN_PREFIX + base64.urlsafe_b64encode(body + _check(body)).rstrip(b"=").decode()


def is_token(text: str) -> bool:
    """Whether a `--join` argument claims to be a token (or else is an address)."""
    return text.strip().startswith("jup") and "." in text and ":" not in text


def decode_token(text: str) -> Token:
    """The inverse of `encode_token`. UsageError says what is wrong with garbage, a part of a token, a foreign one."""
    text = "".join(text.split())
    prefix, dot, payload = text.partition(".")
    if not dot or not prefix.startswith("jup"):
        raise UsageError("this is not a token", f"a token starts with {TOKEN_PREFIX!r}; {_HINT}")
    if prefix + dot != TOKEN_PREFIX:
        raise UsageError(f"this token is of another version ({prefix!r}, here {TOKEN_PREFIX!r})", _HINT)
    try:
        raw = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise UsageError("the token is damaged", _HINT) from None
    body, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
    if len(body) < 1 + FINGERPRINT_BYTES + SECRET_BYTES or _check(body) != check:
        raise UsageError("the token is damaged or was cut short", _HINT)
    if body[0] == _GRANT_VERSION:
        return _decode_granted(body)
    if body[0] == _FOUNDING_VERSION:
        return _decode_founding(body)
    if body[0] != _TOKEN_VERSION:
        raise UsageError(f"this token is of another version ({body[0]}, here {_TOKEN_VERSION})", _HINT)
    at = 1 + FINGERPRINT_BYTES
    return Token(body[1:at], body[at : at + SECRET_BYTES], _seeds(body[at + SECRET_BYTES :]))


def _decode_granted(body: bytes) -> Token:
    """A token with a role: version, fingerprint, door, secret, length and bytes of the grant, seeds."""
    at = 1 + FINGERPRINT_BYTES
    door, secret = body[at : at + DOOR_BYTES], body[at + DOOR_BYTES : at + DOOR_BYTES + SECRET_BYTES]
    at += DOOR_BYTES + SECRET_BYTES
    size = int.from_bytes(body[at : at + 2], "big")
    grant = body[at + 2 : at + 2 + size]
    try:
        found = grants.from_bytes(grant)
    except PeerError:
        raise UsageError("the token is damaged or was cut short", _HINT) from None
    if len(grant) != size or found.operator != grants.operator_pair(secret).public:
        raise UsageError("the token is damaged", _HINT)
    return Token(body[1 : 1 + FINGERPRINT_BYTES], b"", _seeds(body[at + 2 + size :]), door, secret, grant)


def _decode_founding(body: bytes) -> Token:
    """Version, fingerprint, join secret, issuer's secret, seeds."""
    at = 1 + FINGERPRINT_BYTES
    join_secret, secret = body[at : at + SECRET_BYTES], body[at + SECRET_BYTES : at + 2 * SECRET_BYTES]
    if len(secret) != SECRET_BYTES or fingerprint(issuer_of(secret)) != body[1:at]:
        raise UsageError("the token is damaged", _HINT)
    return Token(body[1:at], join_secret, _seeds(body[at + 2 * SECRET_BYTES :]), issuer_secret=secret)


def _seeds(raw: bytes) -> tuple[str, ...]:
    seeds = [seed for seed in raw.decode(errors="replace").split(",") if seed]
    for seed in seeds:
        parse_address(seed)
    return tuple(seeds)


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"jupiter token" + body).digest()[:CHECK_BYTES]
