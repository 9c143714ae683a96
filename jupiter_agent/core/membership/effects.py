"""What membership tells the rest of its own agent: effects that the composition routes to other machines."""

from __future__ import annotations

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.membership import Entry


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


class Recorded(Effect, frozen=True):
    """The ledger has a new entry: keep it, and end the sessions of operators whose token it revokes."""

    entry: Entry


class Rekeyed(Effect, frozen=True):
    """The keys of the door have changed: serve the join socket and know the owner by the new ones."""
