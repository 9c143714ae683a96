"""Messages between agents, and between `jupiter ctl` and an agent: typed, decoded straight from MessagePack.

Every message is an array with its tag first, so fields may be added at the end: an older peer ignores them, a newer one
fills in the default. Tags are never used again.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

MAX_OBJECT_BYTES = 1 << 38
"""What an object store takes at most as one object"""

FETCHED_BYTES = 64 * 1024
"""Objects up to this size travel inside messages; larger ones are fetched by digest, in chunks."""

Count: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""Epochs, sequences, offsets, bytes: what sums and doubles still hold exactly"""
Boot: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 31)]
Size: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_OBJECT_BYTES)]
"""Bytes of one object"""
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]
"""A duration, or wall time since the epoch"""


class Message(Struct, frozen=True, array_like=True):
    """Base of all messages. Subclasses set an integer `tag`: 1-29 membership, 30-59 jobs, 60-69 and 80-89
    control, 70-79 profiling, 90-99 bulk."""
