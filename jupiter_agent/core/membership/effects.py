"""What membership tells the rest of its own agent: effects that the composition routes to other machines."""

from __future__ import annotations

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.messages import Message


class MemberChanged(Effect, frozen=True):
    """A member entered this state, or came back with another boot. Never about this node itself."""

    peer: str
    state: str
    """alive, suspect, dead, left"""
    boot: int


class ProfileChanged(Effect, frozen=True):
    """A newer value of an owner-versioned key is on the board (this node's own included)."""

    peer: str
    key: str


class Delivered(Effect, frozen=True):
    """A message for this node that came through others, for another machine than membership."""

    src: str
    message: Message


class Joined(Effect, frozen=True):
    """This node is a member with this boot and admission: store both; `boot` + 1 is the next draft's boot."""

    boot: int
    admission: bytes
