"""What each role may ask of an agent, and say to it: tables, judged where a message arrives.

A call is judged by the role of who brings it: the role in a client's token, or the role of the member that passes it
on. A member can therefore pass on no more than its own role allows: a client that may submit is sent on by a worker, to
a node that may, with its own token in its hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.ids import CLIENT_PREFIX
from jupiter_agent.core.membership import Member
from jupiter_agent.core.messages import Message, auction, supervision
from jupiter_agent.core.messages import jobs as jm
from jupiter_agent.core.messages import profiling as pm
from jupiter_agent.core.messages.control import ASK, Answer, BlobWrite, Call
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.trust import ROLES
from jupiter_agent.core.uploads import refusal
from jupiter_agent.errors import EXIT_UNAUTHORISED, PeerError, UnauthorisedError

READ = frozenset(
    {"get", "describe", "explain", "stats", "log", "logs", "read-log", "events", "results", "diagnose"}
    | {"considered", "runs", "wait"}
)
"""Verbs that change nothing: every role's."""

ADMIN = frozenset({"token", "drain", "forget"})

MAY_SUBMIT = frozenset({"admin", "submit"})
"""Roles that submit and steer jobs, and that may be the home of one."""

JOB_MESSAGES = frozenset(
    kind
    for module in (jm, auction, supervision, pm)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
)

REFERRED = 4
"""So many nodes are named that may do what this one may not"""

FROM_OBSERVERS = frozenset({jm.ChunkRequest, jm.Chunk, jm.Missing, pm.Profiles, pm.ProfilesWanted})
"""Of the messages about jobs, what a member that runs nothing has to say."""

FROM_CLIENTS = frozenset({Call, BlobWrite, jm.ChunkRequest})
"""All that a client has to say: the rest is between members."""

FROM_HOMES = frozenset({jm.Copy})
"""What only those say that may be the home of a job, or a deputy."""


def may_call(role: str, verb: str) -> bool:
    if verb in READ:
        return role in ROLES
    return role == "admin" if verb in ADMIN else role in MAY_SUBMIT


def role_of_client(src: str) -> str:
    """The role in a client's session id; one without is the holder of the cluster's own token."""
    role, colon, _ = src.removeprefix(CLIENT_PREFIX).partition(":")
    return role if colon else "admin"


def may_say(role: str, message: Message) -> bool:
    """Whether a member of this role takes part in this exchange about jobs, saying or hearing it."""
    if type(message) in FROM_HOMES:
        return role in MAY_SUBMIT
    return role != "observer" or type(message) in FROM_OBSERVERS


class Members(Protocol):
    """What is read of the membership machine here."""

    @property
    def self_record(self) -> Record: ...

    def members(self) -> Mapping[str, Member]: ...

    def alive(self) -> list[str]: ...


def forbidden(around: Members, src: str, message: Message) -> list[Effect] | None:
    """The refusal of a call that the role of its sender, or of this node, does not allow; None for what they do.
    PeerError for a message that it is not theirs to exchange."""
    mine, members = around.self_record, around.members()
    member = members.get(src)
    is_client = src.startswith(CLIENT_PREFIX)
    role = role_of_client(src) if is_client else member.record.role if member else ""
    if is_client and type(message) not in FROM_CLIENTS:
        raise PeerError(f"{type(message).__name__}: from a client")
    if isinstance(message, Call | BlobWrite):
        verb = message.verb if isinstance(message, Call) else "submit"
        if not may_call(role, verb):
            hint = "use a token of another role: `jupiter ctl token create --role R`, with one of role admin"
            return [refusal(src, message.seq, UnauthorisedError(f"role {role or 'none'} may not {verb}", hint))]
        if not may_call(mine.role, verb):
            able = [members[node].record for node in around.alive() if may_call(members[node].record.role, verb)]
            hint = f"ask {able[0].name}: --peer {able[0].address}" if able else "start one of role admin or submit"
            error = f"node {mine.name} is of role {mine.role} and may not {verb}"
            body = {ASK: [record.address for record in able[:REFERRED]]}
            return [Send(src, Answer(message.seq, EXIT_UNAUTHORISED, body, error, hint))]
    exchanged = may_say(role, message) and may_say(mine.role, message)
    if type(message) in JOB_MESSAGES and member is not None and src != mine.id and not exchanged:
        raise PeerError(f"{type(message).__name__}: from role {role} to role {mine.role}")
    return None
