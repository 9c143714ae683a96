"""The control client of `jupiter ctl`: blocking calls to one agent, moving on to the next address when it dies.

A call that was sent is repeated elsewhere only when its verb is idempotent; what was not sent may go to anybody.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import zmq

from jupiter_agent.adapters.keys import Token, decode_token
from jupiter_agent.adapters.link import Link, LostError, first_reachable, open_link
from jupiter_agent.core.messages.control import ASK, Answer, BlobWrite, Call
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, Chunk, ChunkRequest, Missing
from jupiter_agent.errors import (
    EXIT_OK,
    EXIT_TIMEOUT,
    EXIT_UNAUTHORISED,
    CapacityError,
    JupiterError,
    UnauthorisedError,
    UnreachableError,
)

MOST_REFERRED = 4
WINDOW = 4
"""Parts of an object under way at once: 1 MiB."""

STALL_S = 30.0
MISSING_PAUSE_S, MISSING_LIMIT_S = 0.2, 10.0

IDEMPOTENT = frozenset(
    {"get", "describe", "explain", "stats", "log", "logs", "events", "wait", "results", "plan", "close", "cancel"}
    | {"considered", "forget", "drain"}
)

_T = TypeVar("_T")


class _ElsewhereError(UnauthorisedError):
    """This agent's role does not allow what was asked, and nothing was done; these may do it."""

    def __init__(self, answer: Answer, addresses: list[str]) -> None:
        super().__init__(answer.error, answer.hint)
        self.addresses = addresses


class Client:
    """Not for several threads. Errors are JupiterErrors with message, hint and exit code for the user."""

    def __init__(self, addresses: list[str], token: Token) -> None:
        self._context = zmq.Context(io_threads=1)
        self._addresses = addresses
        self._token = token
        self._seq = 0
        self._link: Link | None = None

    @classmethod
    def open(cls, addresses: list[str], token: str) -> Client:
        """A client of the first agent that takes us. UnreachableError, UnauthorisedError, UsageError."""
        reachable = first_reachable(addresses)
        client = cls(reachable + addresses[: len(addresses) - len(reachable)], decode_token(token))
        try:
            client._connected()
        except BaseException:
            client.close()
            raise
        return client

    @property
    def address(self) -> str:
        """Whom we talk to, in numbers; '' for nobody."""
        return self._link.address if self._link is not None else ""

    def close(self) -> None:
        self._hang_up()
        self._context.destroy(linger=0)

    def call(self, verb: str, args: dict[str, Any], timeout_s: float = 30.0) -> Any:
        """The answer's body. A refusal raises a JupiterError with the agent's error, hint and exit code."""
        deadline = time.monotonic() + timeout_s

        def once(link: Link) -> Answer:
            self._seq += 1
            link.send(Call(self._seq, verb, args))
            return self._answer(link, {self._seq}, deadline, f"{verb}: no answer within {timeout_s:g} s")

        return self._repeat(once, verb, idempotent=verb in IDEMPOTENT).body

    def write_blob(self, content: Path | bytes) -> bytes:
        """Upload a file or bytes into the agent's store; the SHA-256 (32 bytes), verified there."""
        with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").digest()
            size = source.seek(0, SEEK_END)  # in-memory files are digested without moving

            def once(link: Link) -> None:
                source.seek(0)
                self._upload(link, source, digest, size)

            self._repeat(once, "upload", idempotent=True)
        return digest

    def read_blob(self, sha256: bytes, size: int, sink: BinaryIO) -> None:
        """Download an object in order into `sink`. JupiterError when nobody has it or it is not what was named."""
        download = _Download(sha256, size, sink)
        self._repeat(download.run, "download", idempotent=True)

    # --- sessions ------------------------------------------------------------------------------------------------

    def _repeat(self, once: Callable[[Link], _T], verb: str, *, idempotent: bool) -> _T:
        """Do it; when the agent dies meanwhile and it may be repeated, do it again at the next, each address once."""
        sent_on = False
        for left in reversed(range(max(2, len(self._addresses)) + 1)):
            link = self._connected()
            try:
                return once(link)
            except _ElsewhereError as error:
                if sent_on or not error.addresses:
                    raise
                sent_on = True
                self._hang_up()
                self._addresses = list(dict.fromkeys([*error.addresses, *self._addresses]))
            except LostError as error:
                self._hang_up()
                self._addresses.append(self._addresses.pop(0))
                if not idempotent:
                    hint = "whether it was done is not known; look with `jupiter ctl get jobs` before doing it again"
                    raise UnreachableError(f"{error.message} during {verb}", hint) from error
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _connected(self) -> Link:
        """The session, opened anew if need be: every address once, in order. The most telling error is raised."""
        if self._link is not None:
            try:
                self._link.check()
                return self._link
            except LostError:
                self._hang_up()
        errors: list[JupiterError] = []
        for _ in range(len(self._addresses)):
            try:
                self._link = open_link(self._context, self._addresses[0], self._token)
                return self._link
            except JupiterError as error:
                errors.append(error)
                self._addresses.append(self._addresses.pop(0))
        raise _most_telling(errors, self._addresses)

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _answer(self, link: Link, seqs: set[int], deadline: float, late: str) -> Answer:
        """The first answer to one of `seqs`; late ones of earlier calls are skipped."""
        while True:
            message = link.receive(deadline)
            if message is None:
                raise JupiterError(late, "it may still be done; ask again later", EXIT_TIMEOUT)
            if isinstance(message, Answer) and message.seq in seqs:
                if message.exit_code != EXIT_OK:
                    body = message.body if isinstance(message.body, dict) else {}
                    if isinstance(ask := body.get(ASK), list) and message.exit_code == EXIT_UNAUTHORISED:
                        raise _ElsewhereError(message, [str(address) for address in ask[:MOST_REFERRED]])
                    raise JupiterError(message.error, message.hint, message.exit_code)
                return message

    def _upload(self, link: Link, source: BinaryIO, digest: bytes, size: int) -> None:
        offset, waiting, more = 0, set[int](), True
        while more or waiting:
            while more and len(waiting) < WINDOW:
                data = source.read(CHUNK_BYTES)
                self._seq += 1
                link.send(BlobWrite(self._seq, digest, size, offset, data))
                waiting.add(self._seq)
                offset += len(data)
                more = bool(data) and offset < size
            answer = self._answer(link, waiting, time.monotonic() + STALL_S, "the upload came to a halt")
            waiting.discard(answer.seq)


class _Download:
    """One object on its way; survives a change of the agent it comes from."""

    def __init__(self, sha256: bytes, size: int, sink: BinaryIO) -> None:
        self._sha256, self._size, self._sink = sha256, size, sink
        self._hash = hashlib.sha256()
        self._written = 0
        self._parts: dict[int, bytes] = {}
        self._missing_since: float | None = None

    def run(self, link: Link) -> None:
        self._parts.clear()
        asked, waiting, missing = self._written, 0, False
        while self._written < self._size:
            while not missing and asked < self._size and asked - self._written < WINDOW * CHUNK_BYTES:
                link.send(ChunkRequest(self._sha256, asked, min(CHUNK_BYTES, self._size - asked)))
                asked += CHUNK_BYTES
                waiting += 1
            message = link.receive(time.monotonic() + STALL_S)
            if message is None:
                raise LostError(f"the agent at {link.address} sends nothing")
            if not isinstance(message, Chunk | Missing) or message.sha256 != self._sha256:
                continue
            waiting -= 1
            if isinstance(message, Chunk):
                self._take(message)
            else:
                missing = True
            if missing and waiting == 0:
                self._wait_for_it()
                asked, missing = self._written, False
                self._parts.clear()
        if self._hash.digest() != self._sha256:
            raise JupiterError("what arrived is not what was asked for", "its node's store is damaged: ask another")

    def _take(self, chunk: Chunk) -> None:
        if len(chunk.data) != min(CHUNK_BYTES, self._size - chunk.offset):
            raise JupiterError("the object has another size than was said", "ask another agent: --peer")
        self._missing_since = None
        if chunk.offset >= self._written:
            self._parts[chunk.offset] = chunk.data
        while part := self._parts.pop(self._written, b""):
            self._sink.write(part)
            self._hash.update(part)
            self._written += len(part)

    def _wait_for_it(self) -> None:
        """The agent does not have it (yet: it may be on its way there)."""
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        if now - self._missing_since > MISSING_LIMIT_S:
            raise CapacityError(f"the agent does not have object {self._sha256.hex()[:12]}", "ask another one: --peer")
        time.sleep(MISSING_PAUSE_S)


def _most_telling(errors: list[JupiterError], addresses: list[str]) -> JupiterError:
    """A refused key before a foreign protocol before silence."""
    for kind in (UnauthorisedError, JupiterError):
        for error in errors:
            if isinstance(error, kind) and not isinstance(error, UnreachableError):
                return error
    if len(errors) == 1:
        return errors[0]
    return UnreachableError(f"no agent answers at {', '.join(addresses)}")
