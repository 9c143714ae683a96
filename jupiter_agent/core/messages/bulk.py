"""Bulk messages: where an agent serves large objects, and the frames on that channel (DESIGN.md 86)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from jupiter_agent.core.messages import Count, Message, Size
from jupiter_agent.errors import PeerError

PART_BYTES = 512 * 1024
"""What is sent at most as one part"""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class BulkWanted(Message, frozen=True, tag=90):
    """On the control channel: where do you serve large objects? Answered by `BulkAt`."""


class BulkAt(Message, frozen=True, tag=91):
    """This port, on the host of my address; 0: nowhere, ask for chunks here."""

    port: Annotated[int, Meta(ge=0, le=65535)]


class Ask(Message, frozen=True, tag=92):
    """Send me this part of an object. Parts come in the order they were asked for."""

    sha256: Digest
    offset: Count
    length: Annotated[int, Meta(ge=1, le=PART_BYTES)]


class Part(Message, frozen=True, tag=93):
    """The head of a part, whose bytes are the next frame; `size` is the whole object's."""

    sha256: Digest
    size: Size
    offset: Count


class Gone(Message, frozen=True, tag=94):
    """I have no such object, or no such part of it."""

    sha256: Digest


class Knock(Message, frozen=True, tag=95):
    """Answered by the same, behind all parts asked for before: a round trip, and a sign of life."""

    serial: Count


Heard = Part | Gone | Knock
"""What a source says"""
Said = Ask | Knock
"""What is said to a source"""

_encode = msgspec.msgpack.Encoder().encode
_heard: msgspec.msgpack.Decoder[Heard] = msgspec.msgpack.Decoder(Heard)
_said: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def to_frame(message: Heard | Said) -> bytes:
    return _encode(message)


def from_source(frame: bytes) -> Heard:
    """PeerError for anything that is no message of a source."""
    try:
        return _heard.decode(frame)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PeerError("malformed bulk frame") from error


def from_taker(frame: bytes) -> Said:
    """PeerError for anything that is no message to a source."""
    try:
        return _said.decode(frame)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PeerError("malformed bulk frame") from error
