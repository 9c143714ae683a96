"""Messages between agents, and between `jupiter ctl` and an agent: typed, decoded straight from MessagePack.

Every message is an array with its tag first, so fields may be added at the end: an older peer ignores them, a newer one
fills in the default. Tags are never used again.
"""

from __future__ import annotations

from msgspec import Struct


class Message(Struct, frozen=True, array_like=True):
    """Base of all messages. Subclasses set an integer `tag`: 1-29 membership, 30-59 jobs, 60-89 control."""
