"""Membership messages: records, joining, probes, events and digests (DESIGN.md, sections 3 and 4)."""

from __future__ import annotations

from msgspec import Struct

from jupiter_agent.core.messages import Message

PROTOCOL_MIN, PROTOCOL_MAX = 1, 1


class Record(Struct, frozen=True, array_like=True):
    """What a member says of itself. `admission` is the cluster issuer's signature over (id, sign_key, curve_key, role);
    `signature` the node's own over everything before it. Owner-authored order: boot, incarnation, then left."""

    id: str
    name: str
    address: str
    """host:port where its agent listens"""
    sign_key: bytes
    """Ed25519 public key, 32 bytes"""
    curve_key: str
    """CURVE public key, 40 characters of Z85"""
    role: str
    boot: int
    incarnation: int
    left: bool = False
    protocol: tuple[int, int] = (PROTOCOL_MIN, PROTOCOL_MAX)
    version: str = ""
    admission: bytes = b""
    signature: bytes = b""


class Who(Message, frozen=True, tag=1):
    """To a join socket: who listens here? Answered by `Iam`."""

    seq: int = 0


class Iam(Message, frozen=True, tag=2):
    """Answer to `Who`: enough to open an authenticated session with this agent, and to refuse a foreign protocol."""

    seq: int
    id: str
    name: str
    curve_key: str
    protocol: tuple[int, int]
    version: str


class Join(Message, frozen=True, tag=3):
    """To a join socket: admit me. `record` is self-signed, without admission."""

    record: Record


class Welcome(Message, frozen=True, tag=4):
    """Answer to `Join`: the record's admission, the issuer's secret key for role admin (32 bytes, else empty), the
    members known here, and the highest boot epoch this cluster has seen of the joiner."""

    admission: bytes
    issuer_key: bytes
    boot: int
    records: list[Record]


class Refused(Message, frozen=True, tag=5):
    """Answer to `Join` or to a hello: why not (protocol versions without overlap, a name conflict, ...)."""

    reason: str
    hint: str = ""
