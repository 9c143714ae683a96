"""The cluster's ledger: tokens issued, tokens and nodes revoked, rotations of the join secret, uses of tokens.

A set that only grows, of entries that prove themselves: the issuer signs all but uses, and a use is the joiner's own
proof with the token's key, so no member can invent one. Two ledgers merge by union: order, repetition and partitions
do not matter. A revocation is for good.

Bounds: `LEDGER_MAX` entries in all. Of one token as many uses are kept as it allows and `SPARE_USES` more, those with
the smallest keys, so that everybody keeps the same.

What it cannot do: uses are counted where they are known. Two parts of a network that is split can let in as many each
as are left; who came in stays, and the next is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from jupiter_agent.core.messages.membership import (
    GRANT,
    LEDGER_MAX,
    NODE_REVOKED,
    ROTATION,
    TOKEN_REVOKED,
    USE,
    Entry,
)

USES_MAX = 1000
SPARE_USES = 16
KEY_BYTES = 8

_ENTRY = b"jupiter entry 1\0"
_encode = msgspec.msgpack.Encoder().encode


def entry_bytes(entry: Entry) -> bytes:
    """What the issuer signs."""
    e = entry
    return _ENTRY + _encode((e.kind, e.subject, e.number, e.data, e.at, e.by))


def key_of(entry: Entry) -> bytes:
    """Two entries with one key say the same."""
    content = entry.data if entry.kind == USE else b""
    text = _encode((entry.kind, entry.subject, entry.number if entry.kind == ROTATION else 0, content))
    return hashlib.blake2b(text, digest_size=KEY_BYTES).digest()


class Issued(NamedTuple):
    """A token as it is printed; of a new one with a role also its id and its grant."""

    text: str
    id: str = ""
    grant: bytes = b""


class Ledger:
    """What was proven and entered. Whoever calls `add` has verified the entry."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._revoked: dict[int, set[str]] = {TOKEN_REVOKED: set(), NODE_REVOKED: set()}
        self._uses: dict[str, set[bytes]] = {}
        self._rotation: Entry | None = None
        self._digest = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, entry: Entry) -> bool:
        return key_of(entry) in self.entries

    def add(self, entry: Entry) -> bool:
        """Whether it is new here and was taken. Grants and uses that find no place count for nothing: whoever lets
        somebody in on a use looks whether it was taken."""
        key = key_of(entry)
        if key in self.entries or (entry.kind == USE and not self._has_room(entry, key)):
            return False
        if len(self.entries) >= LEDGER_MAX and entry.kind in (GRANT, USE):  # a revocation always has a place
            return False
        self.entries[key] = entry
        self._digest ^= int.from_bytes(key)
        if entry.kind in self._revoked:
            self._revoked[entry.kind].add(entry.subject)
        elif entry.kind == USE:
            self._uses.setdefault(entry.subject, set()).add(key)
        elif entry.kind == ROTATION and (self._rotation is None or _order(entry) > _order(self._rotation)):
            self._rotation = entry
        return True

    def _has_room(self, use: Entry, key: bytes) -> bool:
        """Of too many uses those with the smallest keys stay."""
        uses = self._uses.get(use.subject, set())
        if len(uses) < min(use.number, USES_MAX) + SPARE_USES:
            return True
        last = max(uses)
        if key > last:
            return False
        uses.discard(last)
        del self.entries[last]
        self._digest ^= int.from_bytes(last)
        return True

    @property
    def digest(self) -> bytes:
        """Equal for equal ledgers, whatever the order they grew in."""
        return self._digest.to_bytes(KEY_BYTES)

    @property
    def rotation(self) -> Entry | None:
        """The rotation that holds: the last one; of two at the same time the same one everywhere."""
        return self._rotation

    def is_revoked(self, node: str) -> bool:
        return node in self._revoked[NODE_REVOKED]

    def is_token_revoked(self, token: str) -> bool:
        return token in self._revoked[TOKEN_REVOKED]

    def uses(self, token: str) -> list[Entry]:
        return [self.entries[key] for key in self._uses.get(token, ())]

    def of_kind(self, kind: int) -> Iterator[Entry]:
        return (entry for entry in self.entries.values() if entry.kind == kind)

    def keys(self) -> bytes:
        return b"".join(self.entries)

    def keys_of(self, kind: int) -> bytes:
        return b"".join(key for key, entry in self.entries.items() if entry.kind == kind)

    def beyond(self, keys: bytes) -> list[Entry]:
        """What is here and not among these keys."""
        theirs = set(split(keys))
        return [entry for key, entry in self.entries.items() if key not in theirs]

    def lacks_any(self, keys: bytes) -> bool:
        return any(key not in self.entries for key in split(keys))

    def load(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.add(entry)


def split(keys: bytes) -> list[bytes]:
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys) - KEY_BYTES + 1, KEY_BYTES)]


def _order(rotation: Entry) -> tuple[int, str]:
    return rotation.number, rotation.subject
