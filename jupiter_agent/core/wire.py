"""Frames: one message each, MessagePack arrays with the tag first, decoded straight into typed messages.

Whatever arrives becomes a `Message` or a `PeerError` with one of the reasons below; nothing else is ever raised.
Types and lengths are checked by msgspec while decoding. Numbers are checked here, by checkers built once from the
type hints: every float is finite, and no typed number is negative (sizes, offsets, epochs, seconds), save the few
fields where a sign means something. A new message needs nothing here as long as its fields are plain types.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeAlias

import msgspec

from jupiter_agent.core.messages import Message, control, jobs, membership
from jupiter_agent.errors import CapacityError, PeerError

MAX_BYTES = 1 << 20

OVERSIZE = "oversize frame"
MALFORMED = "malformed frame"
UNKNOWN = "unknown message"
SENSELESS = "number without meaning"

SIGNED_FIELDS = frozenset({"seed", "weights", "basis"})
"""Fields whose numbers may be negative."""

Checker: TypeAlias = Callable[[Any], bool]


def _messages() -> dict[int, type[Message]]:
    found = [
        kind
        for module in (membership, jobs, control)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    ]
    by_tag = {kind.__struct_config__.tag: kind for kind in found}
    assert len(by_tag) == len(found), "a tag is used twice"
    return typing.cast(dict[int, type[Message]], by_tag)


def _finite(value: Any) -> bool:
    """For untyped places: finite floats in plain data of any depth (the decoder has limited the depth)."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value)) and all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return value is None or isinstance(value, bool | int | str | bytes)


def _number(hint: Any, signed: bool) -> Checker | None:
    if hint is float:
        return math.isfinite if signed else lambda value: 0.0 <= value < math.inf
    if hint is int:
        return None if signed else lambda value: value >= 0
    return None


def _checker(hint: Any, signed: bool = False) -> Checker | None:
    """The check of values of this type, or None where there is nothing to check."""
    if hint is Any:
        return _finite
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct_checker(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        limited = any(isinstance(a, msgspec.Meta) and a.ge is not None for a in args[1:])
        return _checker(args[0], signed or limited)
    if origin is None:
        return _number(hint, signed)
    inner = [_checker(arg, signed) for arg in args]
    if not any(inner):
        return None
    return _compound(origin, args, inner)


def _compound(origin: Any, args: tuple[Any, ...], inner: list[Checker | None]) -> Checker:
    if origin in {typing.Union, types.UnionType} and len(args) == 2 and type(None) in args:
        some = next(check for check in inner if check)
        return lambda value: value is None or some(value)
    if origin is dict:
        of_key, of_value = (check or _anything for check in inner)
        return lambda value: all(map(of_key, value)) and all(map(of_value, value.values()))
    if origin is list or (origin is tuple and args[-1] is Ellipsis):
        each = inner[0] or _anything
        return lambda value: all(map(each, value))
    if origin is tuple:
        checks = [check or _anything for check in inner]
        return lambda value: all(check(part) for check, part in zip(checks, value, strict=True))
    raise TypeError(f"no check is known for fields of type {origin}")


def _anything(_: Any) -> bool:
    return True


def _struct_checker(kind: type[msgspec.Struct]) -> Checker | None:
    hints = typing.get_type_hints(kind, include_extras=True)
    checks = [(name, _checker(hints[name], name in SIGNED_FIELDS)) for name in kind.__struct_fields__]
    needed = [(name, check) for name, check in checks if check]
    if not needed:
        return None
    return lambda value: all(check(getattr(value, name)) for name, check in needed)


MESSAGES = _messages()
"""tag -> message"""

_checks = {kind: _struct_checker(kind) for kind in MESSAGES.values()}
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(reduce(or_, MESSAGES.values()))


def encode(message: Message) -> bytes:
    """One frame. CapacityError if it would be too large for any peer to take."""
    frame = _encoder.encode(message)
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
