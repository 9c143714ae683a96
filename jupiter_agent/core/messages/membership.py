"""Membership messages: records, joining, probes, events and digests (DESIGN.md, sections 3 and 4)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from jupiter_agent.core.messages import Boot, Count, Message

PROTOCOL_MIN, PROTOCOL_MAX = 1, 1

ALIVE, SUSPECT, DEAD, LEFT = range(4)
"""States of a member, in their order of precedence at equal boot and incarnation."""

SUSPECTED, REFUSED, VOUCHED = range(3)
"""Kinds of `Claim`."""

RELAY_BYTES = 900_000
"""Limit of what is sealed in one `Relayed`: with the rest of it, it fits into a frame"""

RELAYS = 4
"""So many members may pass one message on."""

VALUE_BYTES = 2048
"""Limit of one published value."""

KEYS_MAX = 64
"""How many keys of one owner a digest line or a wish may name"""

Short: TypeAlias = Annotated[str, Meta(max_length=64)]
Text: TypeAlias = Annotated[str, Meta(max_length=256)]
Key: TypeAlias = Annotated[bytes, Meta(max_length=64)]
"""Ed25519 keys and signatures, with room"""


class Record(Struct, frozen=True, array_like=True):
    """What a member says of itself. `admission` is the cluster issuer's signature over (id, sign_key, curve_key, role);
    `signature` the node's own over everything before it. Owner-authored order: boot, incarnation, then left."""

    id: Short
    name: Short
    address: Text
    """host:port where its agent listens"""
    sign_key: Key
    """Ed25519 public key, 32 bytes"""
    curve_key: Short
    """CURVE public key, 40 characters of Z85"""
    role: Short
    boot: Boot
    incarnation: Count
    left: bool = False
    protocol: tuple[Count, Count] = (PROTOCOL_MIN, PROTOCOL_MAX)
    version: Short = ""
    admission: Annotated[bytes, Meta(max_length=1024)] = b""
    signature: Key = b""


class Who(Message, frozen=True, tag=1):
    """To a join socket: who listens here? Answered by `Iam`. `grant`: of the token whose operator asks, if it has one;
    its key is let in then."""

    seq: Count = 0
    grant: Annotated[bytes, Meta(max_length=512)] = b""


class Iam(Message, frozen=True, tag=2):
    """Answer to `Who`: enough to open an authenticated session with this agent, and to refuse a foreign protocol."""

    seq: Count
    id: Short
    name: Short
    curve_key: Short
    protocol: tuple[Count, Count]
    version: Short
    sign_key: Key = b""
    role: Short = ""
    admission: Annotated[bytes, Meta(max_length=1024)] = b""
    cluster_key: Key = b""
    """the issuer's public key: with it the admission shows that a member answers, and with which key"""
    address: Text = ""
    """where it listens itself: behind a Service the caller's other connection may come to another agent"""


class Join(Message, frozen=True, tag=3):
    """To a join socket: admit me. `record` is self-signed, without admission."""

    record: Record
    grant: Annotated[bytes, Meta(max_length=512)] = b""
    """of the token that lets it in; empty: the cluster's own token"""
    proof: Annotated[bytes, Meta(max_length=64)] = b""
    """that the joiner holds that token, bound to the joiner's id, keys and role"""


class Welcome(Message, frozen=True, tag=4):
    """Answer to `Join`: the record's admission, the issuer's secret key for role admin (32 bytes, else empty), the
    members known here, and the highest boot epoch this cluster has seen of the joiner."""

    admission: Annotated[bytes, Meta(max_length=1024)]
    issuer_key: Key
    boot: Boot
    records: Annotated[list[Record], Meta(max_length=1024)]
    cluster_key: Key = b""
    """the issuer's public key"""


class Refused(Message, frozen=True, tag=5):
    """Answer to `Join` or to a hello: why not (protocol versions without overlap, a name conflict, ...)."""

    reason: Text
    hint: Annotated[str, Meta(max_length=1024)] = ""
    ask: Annotated[list[Text], Meta(max_length=16)] = []
    """addresses of members that can decide it"""


class Held(Struct, frozen=True, array_like=True):
    """One line of a digest: which version of a member, and of its published keys, the sender holds."""

    id: Short
    boot: Count
    incarnation: Count
    state: Count
    keys: Annotated[dict[Short, Count], Meta(max_length=KEYS_MAX)] = {}
    """key -> version, all of boot `boot_of_keys`"""
    boot_of_keys: Count = 0


class Want(Struct, frozen=True, array_like=True):
    """Asks for what a digest showed to be newer: the record, and these keys."""

    id: Short
    record: bool
    keys: Annotated[list[Short], Meta(max_length=KEYS_MAX)] = []


class Claim(Struct, frozen=True, array_like=True):
    """What member `by` says of another, signed by `by`: suspected (its own checks failed), refused (the host answers,
    the port is closed) or vouched (it answered a ping sent after the accusation)."""

    kind: Count
    subject: Short
    boot: Count
    incarnation: Count
    by: Short
    signature: Key = b""


class Value(Struct, frozen=True, array_like=True):
    """A published key, signed by its owner. `data` is the MessagePack of a dict; order is (boot, version)."""

    owner: Short
    key: Short
    boot: Count
    version: Count
    data: Annotated[bytes, Meta(max_length=VALUE_BYTES)]
    signature: Key = b""


class Hello(Message, frozen=True, tag=6):
    """First on every new session, from both sides: who I am and, where I want the link, all I hold up to `upto`."""

    protocol: tuple[Count, Count]
    record: Record
    want: bool
    upto: Count
    held: Annotated[list[Held], Meta(max_length=4096)]


class Ping(Message, frozen=True, tag=7):
    """Answered by `Ack`. `ok`: my last ping was answered; `want`: keep this link; `held`: what changed here since you
    confirmed, up to place `upto` of my log; `seen`: the place of your log I have seen."""

    seq: Count
    ok: bool
    want: bool
    upto: Count
    seen: Count
    held: Annotated[list[Held], Meta(max_length=1024)] = []


class Ack(Message, frozen=True, tag=8):
    """Answer to `Ping`, with my own news and what I want of the pinger's."""

    seq: Count
    upto: Count
    seen: Count
    held: Annotated[list[Held], Meta(max_length=1024)] = []
    want: Annotated[list[Want], Meta(max_length=1024)] = []


class Range(Message, frozen=True, tag=9):
    """All I hold of the ids in [lo, hi): absence inside the range is information (hi '' is the end)."""

    lo: Short
    hi: Short
    held: Annotated[list[Held], Meta(max_length=1024)]


class News(Message, frozen=True, tag=10):
    """Flooded on first sight: members' records, and claims about members."""

    records: Annotated[list[Record], Meta(max_length=64)]
    claims: Annotated[list[Claim], Meta(max_length=64)]


class Data(Message, frozen=True, tag=11):
    """Answer to a `Want`, and wishes of the sender's own; `held` says what the sender knows to be over (dead)."""

    records: Annotated[list[Record], Meta(max_length=64)]
    values: Annotated[list[Value], Meta(max_length=64)]
    want: Annotated[list[Want], Meta(max_length=1024)] = []
    held: Annotated[list[Held], Meta(max_length=1024)] = []


class Check(Message, frozen=True, tag=12):
    """I get no answer from `subject`: do you?"""

    subject: Short


class Checked(Message, frozen=True, tag=13):
    """Yes, `subject` answers me."""

    subject: Short


class Buried(Message, frozen=True, tag=14):
    """To a member that speaks although it is held dead here (or is said to be elsewhere), at this version of its:
    refute it by a newer one. `record` is the sender's own, in case it is held dead there too."""

    boot: Count
    incarnation: Count
    record: Record


class Relayed(Message, frozen=True, tag=15):
    """From `src` to `dst` through members that have a link: to be passed on at most `ttl` times more. `sealed` is a
    `Sealed`, boxed by `src` for `dst`; relays can delay or drop it, not read or change it."""

    src: Short
    dst: Short
    ttl: Annotated[int, Meta(ge=0, le=RELAYS)]
    sealed: Annotated[bytes, Meta(max_length=RELAY_BYTES)]


class Sealed(Struct, frozen=True, array_like=True):
    """What a relayed message says to its receiver: the frame of a message, bound to sender, receiver, both boots and a
    sequence number that no two messages of this sender and boot share."""

    src: Short
    dst: Short
    boot: Boot
    dst_boot: Boot
    seq: Count
    frame: bytes


class WhoAreYou(Message, frozen=True, tag=16):
    """To one whose record is not known here: tell me, in `News`. Smaller than whatever it answers."""


GRANT, TOKEN_REVOKED, NODE_REVOKED, ROTATION, USE = range(5)
"""Kinds of `Entry`."""

LEDGER_MAX = 16384
"""So many entries are kept"""


class Entry(Struct, frozen=True, array_like=True):
    """One line of the cluster's ledger, signed by the issuer; a use is signed by the token that was used."""

    kind: Annotated[int, Meta(ge=0, le=USE)]
    subject: Short
    """token id, node id, or of a rotation the fingerprint of the new door"""
    number: Count
    """uses a token allows (0: any number), or the number of a rotation"""
    data: Annotated[bytes, Meta(max_length=1024)] = b""
    at: Count = 0
    """wall seconds"""
    by: Short = ""
    """node whose operator asked for it"""
    signature: Key = b""


class LedgerDigest(Message, frozen=True, tag=20):
    """On a new session, and now and then: what all my entries come to. Answered by `LedgerKeys` by who holds others."""

    digest: Key
    count: Count


class LedgerKeys(Message, frozen=True, tag=21):
    """All entries I hold, by their keys of 8 bytes each. `ask`: tell me yours as well, if I hold some you lack."""

    keys: Annotated[bytes, Meta(max_length=8 * LEDGER_MAX)]
    ask: bool


class Entries(Message, frozen=True, tag=22):
    """Entries of the ledger: news, flooded on first sight, or what the receiver lacks."""

    entries: Annotated[list[Entry], Meta(max_length=64)]


class SecretWanted(Message, frozen=True, tag=23):
    """I lack what opens the cluster's door since this rotation (0: I am an admin, and hold no join secret)."""

    number: Count


class Secret(Message, frozen=True, tag=24):
    """Answer, to a member: the join secret (32 bytes, to admins), or the keys of the door."""

    number: Count
    secret: Annotated[bytes, Meta(max_length=96)]
