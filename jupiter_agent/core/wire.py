"""Frames: one message each, MessagePack arrays with the tag first, decoded straight into typed messages.

Whatever arrives becomes a `Message` or a `PeerError` with one of the reasons below; nothing else is ever raised.
Types, lengths and the bounds that fields state are checked by msgspec while decoding, other numbers by the rule of
core/bounds.py. A new message needs nothing here as long as its fields are plain types.
"""

from __future__ import annotations

import typing
from functools import reduce
from operator import or_

import msgspec

from jupiter_agent.core.bounds import struct_checker
from jupiter_agent.core.messages import Message, auction, bulk, control, jobs, links, membership, profiling, supervision
from jupiter_agent.errors import CapacityError, PeerError

MAX_BYTES = 1 << 20

OVERSIZE = "oversize frame"
MALFORMED = "malformed frame"
UNKNOWN = "unknown message"
SENSELESS = "number without meaning"


def _messages() -> dict[int, type[Message]]:
    found = [
        kind
        for module in (membership, jobs, auction, control, bulk, supervision, links, profiling)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    ]
    by_tag = {kind.__struct_config__.tag: kind for kind in found}
    assert len(by_tag) == len(found), "a tag is used twice"
    return typing.cast(dict[int, type[Message]], by_tag)


MESSAGES = _messages()
"""tag -> message"""

_checks = {kind: struct_checker(kind) for kind in MESSAGES.values()}
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(reduce(or_, MESSAGES.values()))


def encode(message: Message) -> bytes:
    """One frame. CapacityError if it would be too large for any peer to take, or a number in it is."""
    try:
        frame = _encoder.encode(message)
    except OverflowError as error:
        raise CapacityError(f"{type(message).__name__}: {error}") from None
    if len(frame) > MAX_BYTES:
        raise CapacityError(f"{type(message).__name__} of {len(frame)} bytes is over the frame limit")
    return frame


def decode(frame: bytes) -> Message:
    """The message in a frame from outside; PeerError (`message` is one of the four reasons) for anything else."""
    if len(frame) > MAX_BYTES:
        raise PeerError(OVERSIZE)
    try:
        message = _decoder.decode(frame)
        check = _checks[type(message)]
        if check is None or check(message):
            return message
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise PeerError(UNKNOWN if _tag(frame) not in MESSAGES else MALFORMED) from error
    raise PeerError(SENSELESS)


def _tag(frame: bytes) -> int:
    """The tag of what looks like a message, else that of some known one (then the frame is malformed, not unknown)."""
    known = next(iter(MESSAGES))
    at = 1 if frame and frame[0] & 0xF0 == 0x90 else 3 if frame[:1] == b"\xdc" else len(frame)
    return frame[at] if len(frame) > at and frame[at] < 0x80 else known
