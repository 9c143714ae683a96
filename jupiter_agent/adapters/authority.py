"""The cluster's issuer over Ed25519: admissions, grants, the ledger's entries, and the keys of the door as they change.

All of it follows from this node's `ClusterKeys`, which change when a sponsor hands out the issuer's key and when the
join secret is rotated; `on_change` keeps them.
"""

from __future__ import annotations

import functools
import hmac
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from nacl.signing import SigningKey

from jupiter_agent.adapters import grants
from jupiter_agent.adapters.curve import AccessKeys
from jupiter_agent.adapters.keys import (
    DOOR_BYTES,
    SECRET_BYTES,
    ClusterKeys,
    derive_access,
    door_access,
    door_mark,
    door_of,
    fingerprint,
    verify_signature,
)
from jupiter_agent.core.ledger import USES_MAX, Ledger, entry_bytes
from jupiter_agent.core.membership.join import EXPIRED, FORBIDDEN, NO_ISSUER, REVOKED, USED_UP
from jupiter_agent.core.messages.membership import USE, Entry, Join, Record
from jupiter_agent.core.trust import admission_bytes
from jupiter_agent.errors import PeerError

_NEW_ONE = "get a new one: `jupiter ctl token create`"


@functools.lru_cache(maxsize=1024)
def _is_admitted(issuer: bytes, data: bytes, admission: bytes) -> bool:
    """Remembered: a member's record is written anew often, and always says the same of its admission."""
    return verify_signature(issuer, data, admission)


class ClusterAuthority:
    """`core.trust.Authority`. `keys` is what this node holds now."""

    def __init__(
        self, keys: ClusterKeys, ledger: Ledger | None = None, on_change: Callable[[ClusterKeys], None] | None = None
    ) -> None:
        self.keys = keys
        self.ledger = Ledger() if ledger is None else ledger
        self._on_change = on_change
        self._door: tuple[ClusterKeys, tuple[str, bool]] | None = None

    def _change(self, keys: ClusterKeys) -> None:
        if keys != self.keys:
            self.keys = keys
            if self._on_change is not None:
                self._on_change(keys)

    # --- admission -----------------------------------------------------------------------------------------------

    def issue(self, record: Record) -> bytes:
        return self._signature(admission_bytes(record))

    def _signature(self, data: bytes) -> bytes:
        secret = self.keys.issuer_secret
        return bytes(SigningKey(secret).sign(data).signature) if secret else b""

    def _is_issued(self, data: bytes, signature: bytes) -> bool:
        return bool(self.keys.issuer) and verify_signature(self.keys.issuer, data, signature)

    def verify_admission(self, record: Record) -> bool:
        return bool(self.keys.issuer) and _is_admitted(self.keys.issuer, admission_bytes(record), record.admission)

    def export(self) -> bytes:
        return self.keys.issuer_secret

    def public(self) -> bytes:
        return self.keys.issuer

    def adopt(self, public: bytes, secret: bytes) -> bool:
        keys = self.keys
        if len(public) != 32 or fingerprint(public) != keys.fingerprint:
            return False
        if secret and (len(secret) != 32 or bytes(SigningKey(secret).verify_key) != public):
            return False
        self._change(replace(keys, issuer=public, issuer_secret=secret or keys.issuer_secret))
        return True

    # --- tokens --------------------------------------------------------------------------------------------------

    def request(self, record: Record) -> Join:
        return Join(record, *self.keys.own().prove(record))

    def objection(self, request: Join) -> tuple[str, str]:
        """A member that was admitted before needs no token again, unless it was revoked."""
        record = request.record
        if self.ledger.is_revoked(record.id):
            return REVOKED, "this node was expelled; a new one needs a new --state-dir and a token"
        if record.admission and self.verify_admission(record):
            return "", ""
        if not request.grant:
            if not self.keys.join_secret:
                return NO_ISSUER, "the cluster's own token is judged by nodes that hold it"
            right = hmac.compare_digest(request.proof, grants.owner_proof(self.keys.join_secret, record))
            return ("", "") if right else (FORBIDDEN, "it does not prove to be the cluster's own")
        try:
            grant = self._checked(request.grant)
        except PeerError as error:
            return error.message, error.hint
        if grant.role not in (record.role, "admin") or not grants.is_joiner(grant, record, request.proof):
            return FORBIDDEN, f"it is for nodes of role {grant.role}"
        users = [_user(use) for use in self.ledger.uses(grant.id)]
        if grant.uses and record.id not in users and len(users) >= grant.uses:
            return USED_UP, _NEW_ONE
        return "", ""

    def client(self, grant: bytes) -> tuple[str, str, float]:
        found = self._checked(grant)
        return found.operator, found.role, min(found.left_s, 10 * 365 * 86400.0)

    def _checked(self, raw: bytes) -> grants.Grant:
        """PeerError says what is wrong with a grant that somebody shows."""
        grant = grants.from_bytes(raw)
        if not self.keys.issuer or not grants.is_issued(grant, self.keys.issuer):
            raise PeerError(FORBIDDEN, "it was not issued by this cluster")
        if grant.expired:
            raise PeerError(EXPIRED, _NEW_ONE)
        if self.ledger.is_token_revoked(grant.id):
            raise PeerError(REVOKED, _NEW_ONE)
        return grant

    # --- the ledger ----------------------------------------------------------------------------------------------

    def signed_entry(self, kind: int, subject: str, number: int = 0, data: bytes = b"", by: str = "") -> Entry | None:
        entry = Entry(kind, subject, number, data, int(time.time()), by)
        signature = self._signature(entry_bytes(entry))
        return msgspec.structs.replace(entry, signature=signature) if signature else None

    def verify_entry(self, entry: Entry) -> bool:
        if entry.kind != USE:
            return self._is_issued(entry_bytes(entry), entry.signature)
        try:
            raw, user = _use_decoder.decode(entry.data)
            grant = grants.from_bytes(raw)
        except (msgspec.MsgspecError, PeerError, ValueError, RecursionError):
            return False
        known = bool(self.keys.issuer) and grants.is_issued(grant, self.keys.issuer)
        counted = (grant.id, grant.uses) == (entry.subject, entry.number) and 0 < grant.uses <= USES_MAX
        return known and counted and grants.is_joiner(grant, _user_record(user), entry.signature)

    def use_of(self, request: Join) -> Entry | None:
        record = request.record
        if not request.grant or (record.admission and self.verify_admission(record)):
            return None
        grant = grants.from_bytes(request.grant)
        if not grant.uses:
            return None
        user = (record.id, record.sign_key, record.curve_key, record.role)
        return Entry(USE, grant.id, grant.uses, msgspec.msgpack.encode((request.grant, user)), signature=request.proof)

    def described(self, grant: Entry) -> dict[str, Any]:
        try:
            found = grants.from_bytes(grant.data)
        except PeerError:
            return {}
        return {"role": found.role, "expires_at": found.expires_at or None, "expired": found.expired}

    # --- the door ------------------------------------------------------------------------------------------------

    def new_secret(self) -> tuple[bytes, str]:
        secret = os.urandom(SECRET_BYTES)
        return secret, door_mark(derive_access(secret))

    def hand_over(self, role: str) -> bytes:
        return self.keys.join_secret if role == "admin" else door_of(self.keys.access())

    def door(self) -> tuple[str, bool]:
        if self._door is None or self._door[0] is not self.keys:  # asked every second, and the keys hardly ever change
            self._door = self.keys, (door_mark(self.keys.access()), bool(self.keys.join_secret))
        return self._door[1]

    def take_over(self, secret: bytes, door: str) -> bool:
        """An admin takes the join secret and needs no grant any more; others the keys of the door."""
        keys = self.keys
        if len(secret) != (SECRET_BYTES if keys.role == "admin" else DOOR_BYTES) or door_mark(_access(secret)) != door:
            return False
        if keys.role == "admin":
            self._change(replace(keys, join_secret=secret, door=b"", token_secret=b"", grant=b""))
        else:
            self._change(replace(keys, door=secret))
        return True


_User = tuple[str, bytes, str, str]
_use_decoder = msgspec.msgpack.Decoder(tuple[bytes, _User])


def _access(secret: bytes) -> AccessKeys:
    return derive_access(secret) if len(secret) == SECRET_BYTES else door_access(secret)


def _user_record(user: _User) -> Record:
    """As much of the joiner's record as its proof is about."""
    node, sign_key, curve_key, role = user
    return Record(node, "", "", sign_key, curve_key, role, 0, 0)


def _user(use: Entry) -> str:
    """The node that came in by this use."""
    return _use_decoder.decode(use.data)[1][0]
