"""Control messages: `jupiter ctl` to an agent, and agent to agent when the asked one passes a call on."""

from __future__ import annotations

from typing import Any

from jupiter_agent.core.messages import Count, Message, Size

HERE = "_here"
"""An argument that another agent adds when it passes a call on: answer it here or not at all."""


class Call(Message, frozen=True, tag=60):
    """One verb with its arguments (plain data, checked by the verb's own table). `seq` pairs it with its `Answer`."""

    seq: Count
    verb: str
    args: dict[str, Any] = {}


ASK = "ask"
"""In the body of a refusal: addresses of nodes that may do it; the client asks there by itself"""


class Answer(Message, frozen=True, tag=61):
    """`exit_code` 0: `body` is the JSON shape of DESIGN 10; else `error` and `hint` are for the user."""

    seq: Count
    exit_code: Count
    body: Any = None
    error: str = ""
    hint: str = ""


class BlobWrite(Message, frozen=True, tag=62):
    """Client to agent: part of an object (a bundle, an input); each is answered by an `Answer` with the next offset."""

    seq: Count
    sha256: bytes
    size: Size
    offset: Count
    data: bytes


class LogChunk(Message, frozen=True, tag=63):
    """Part of a task's log as kept on its node; `end`: the size of the log now."""

    seq: Count
    offset: Count
    end: Count
    data: bytes
