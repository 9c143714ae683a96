"""Cheap stand-ins for Ed25519 in simulations: keyed hashes whose "public" key is the secret one.

Nothing here is secure. It has the same failures as the real thing: a wrong key, a changed byte or a foreign issuer is
false.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from jupiter_agent.core.ids import node_id
from jupiter_agent.core.ledger import entry_bytes
from jupiter_agent.core.messages.membership import Entry, Join, Record
from jupiter_agent.core.trust import Trust, admission_bytes
from jupiter_agent.errors import PeerError


def _mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=key, digest_size=32).digest()


@dataclass(frozen=True)
class FakeIdentity:
    """A signing key derived from a name."""

    key: bytes

    @classmethod
    def of(cls, name: str) -> FakeIdentity:
        return cls(hashlib.sha256(name.encode()).digest())

    def sign(self, data: bytes) -> bytes:
        return _mac(self.key, data)

    def verify(self, public_key: bytes, data: bytes, signature: bytes) -> bool:
        return 0 < len(public_key) <= 64 and _mac(public_key, data) == signature


class FakeAuthority:
    """An issuer derived from a cluster's name; with `admin` it holds the secret and can admit."""

    def __init__(self, cluster: str = "sim", admin: bool = True) -> None:
        self._public = hashlib.sha256(b"issuer:" + cluster.encode()).digest()
        self._secret = self._public if admin else b""
        self._door = ""

    def issue(self, record: Record) -> bytes:
        return _mac(self._secret, admission_bytes(record)) if self._secret else b""

    def verify_admission(self, record: Record) -> bool:
        return record.admission == _mac(self._public, admission_bytes(record))

    def export(self) -> bytes:
        return self._secret

    def public(self) -> bytes:
        return self._public

    def request(self, record: Record) -> Join:
        return Join(record)

    def objection(self, request: Join) -> tuple[str, str]:
        return "", ""

    def client(self, grant: bytes) -> tuple[str, str, float]:
        raise PeerError("no grants in simulations")

    def signed_entry(self, kind: int, subject: str, number: int = 0, data: bytes = b"", by: str = "") -> Entry | None:
        entry = Entry(kind, subject, number, data, 0, by)
        return replace(entry, signature=_mac(self._secret, entry_bytes(entry))) if self._secret else None

    def verify_entry(self, entry: Entry) -> bool:
        return entry.signature == _mac(self._public, entry_bytes(entry))

    def use_of(self, request: Join) -> Entry | None:
        return None

    def described(self, grant: Entry) -> dict[str, Any]:
        return {"id": grant.subject}

    def new_secret(self) -> tuple[bytes, str]:
        secret = _mac(self._public, self._door.encode())
        return secret, secret.hex()

    def hand_over(self, role: str) -> bytes:
        return bytes.fromhex(self._door)

    def door(self) -> tuple[str, bool]:
        return self._door, True

    def take_over(self, secret: bytes, door: str) -> bool:
        if secret.hex() != door:
            return False
        self._door = door
        return True

    def adopt(self, public: bytes, secret: bytes) -> bool:
        if public != self._public or (secret and secret != self._public):
            return False
        self._secret = secret or self._secret
        return True


@dataclass(frozen=True)
class FakeSealer:
    """A keyed hash in front of the plain text, with the same key for both ends."""

    curve_key: str

    def seal(self, curve_key: str, data: bytes) -> bytes:
        return _mac(self._key(curve_key), data) + data

    def unseal(self, curve_key: str, sealed: bytes) -> bytes | None:
        mac, data = sealed[:32], sealed[32:]
        return data if mac == _mac(self._key(curve_key), data) else None

    def _key(self, curve_key: str) -> bytes:
        return hashlib.sha256("".join(sorted((self.curve_key, curve_key))).encode()).digest()


def fake_member(name: str, cluster: str = "sim", admin: bool = True) -> tuple[Record, Trust]:
    """An unsigned draft and the keys of a simulated node; name and address are `name`, the role says whether it can
    admit."""
    identity = FakeIdentity.of(name)
    curve = hashlib.sha256(b"curve:" + name.encode()).hexdigest()[:40]
    role = "admin" if admin else "worker"
    draft = Record(node_id(identity.key), name, f"{name}:7000", identity.key, curve, role, boot=1, incarnation=0)
    return draft, Trust(identity, FakeAuthority(cluster, admin), FakeSealer(curve))
