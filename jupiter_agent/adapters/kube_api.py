"""The Kubernetes API server as a pod's own process may ask it: HTTPS with the pod's token and CA, one request a
connection. The `kubernetes` package would cost every agent 34 MiB for good (DESIGN.md 102).

The kubelet replaces the token every hour: its file is read again for each request.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import h11

from jupiter_agent.adapters.pod import Account
from jupiter_agent.adapters.ports import format_address, parse_address
from jupiter_agent.adapters.reaching import resolve
from jupiter_agent.errors import JupiterError

CONNECT_S, ANSWER_S = 5.0, 10.0
MOST_BYTES = 16 * 1024 * 1024
"""of an answer: 1,000 agents take 0.3 MB"""
MOST_LINE = 2 * 1024 * 1024
MOST_HEAD = 64 * 1024
KEEPALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A server that is gone without a word is noticed after 35 s, also in a watch, where nothing may come for minutes"""
_READ = 64 * 1024


class KubeError(JupiterError):
    """The API server did not do what was asked. `status`: of HTTP; 0 when it was not reached or spoke nonsense."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """Requests of one account. Everything that fails is a `KubeError`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._context: ssl.SSLContext | None = None

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The object at a path."""
        body = bytearray()
        try:
            async with asyncio.timeout(CONNECT_S + ANSWER_S), self._asked(path, query or {}) as stream:
                async for part in stream:
                    body += part
                    if len(body) > MOST_BYTES:
                        raise KubeError(0, f"the answer to {path} is too long")
        except TimeoutError:
            raise KubeError(0, "no answer in time") from None
        return _object(bytes(body))

    async def watch(
        self, path: str, query: Mapping[str, str], limit_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> None:
        """Tell each event, until the server ends the watch (which it does in time) or `limit_s` is over."""
        rest = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s), self._asked(path, {**query, "watch": "1"}) as stream:
                async for part in stream:
                    *lines, rest = (rest + part).split(b"\n")
                    if len(rest) > MOST_LINE:
                        raise KubeError(0, f"an event of {path} is too long")
                    for line in lines:
                        if line.strip():
                            on_event(_object(line))

    @asynccontextmanager
    async def _asked(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of the answer to one GET, as it comes; KubeError for any status but 200."""
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await self._connect()
            try:
                writer.write(connection.send(self._request(path, query)) or b"")
                writer.write(connection.send(h11.EndOfMessage()) or b"")
                await writer.drain()
                async with asyncio.timeout(ANSWER_S):
                    status = await _head(reader, connection)
                    if status != 200:
                        raise KubeError(status, await _refusal(reader, connection, status))
                yield _body(reader, connection)
            finally:
                writer.transport.abort()
        except TimeoutError:
            raise KubeError(0, "no answer in time") from None
        except (OSError, h11.ProtocolError, ValueError) as error:  # ssl.SSLError is an OSError
            raise KubeError(0, _reason(error)) from error

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        account = self._account
        if self._context is None:
            self._context = _trusting(account.folder / "ca.crt")
        place = (await resolve(format_address(account.host, account.port)))[0]  # some clouds give the server a name
        reader, writer = await asyncio.open_connection(
            *parse_address(place), ssl=self._context, server_hostname=account.host
        )
        plain = writer.get_extra_info("socket")
        if plain is not None:
            with suppress(OSError):
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in KEEPALIVE:
                    plain.setsockopt(socket.IPPROTO_TCP, option, value)
        return reader, writer

    def _request(self, path: str, query: Mapping[str, str]) -> h11.Request:
        account = self._account
        token = (account.folder / "token").read_text("ascii").strip()
        target = quote(path) + ("?" + urlencode(query) if query else "")
        headers = [
            ("host", format_address(account.host, account.port)),
            ("authorization", f"Bearer {token}"),
            ("accept", "application/json"),
            ("user-agent", "jupiter-agent"),
            ("connection", "close"),
        ]
        return h11.Request(method="GET", target=target, headers=headers)


def _trusting(ca: Path) -> ssl.SSLContext:
    """Whom this CA vouches for. Not by the letter of RFC 5280, as Python has it since 3.13: clusters have CAs without
    key identifiers, which every other client of theirs takes."""
    context = ssl.create_default_context(cafile=str(ca))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def _next(reader: asyncio.StreamReader, connection: h11.Connection) -> Any:
    """The next part of the answer. KubeError when the server left in the middle of it."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        data = await reader.read(_READ)
        if not data and connection.their_state is h11.SEND_RESPONSE:
            raise KubeError(0, "it broke the answer off")
        connection.receive_data(data)
    return event


async def _head(reader: asyncio.StreamReader, connection: h11.Connection) -> int:
    event = await _next(reader, connection)
    while isinstance(event, h11.InformationalResponse):
        event = await _next(reader, connection)
    if not isinstance(event, h11.Response):
        raise KubeError(0, "it closed the connection")
    return int(event.status_code)


async def _body(reader: asyncio.StreamReader, connection: h11.Connection) -> AsyncIterator[bytes]:
    while isinstance(event := await _next(reader, connection), h11.Data):
        yield bytes(event.data)


async def _refusal(reader: asyncio.StreamReader, connection: h11.Connection, status: int) -> str:
    """What the server says of a request it did not grant: a Status object, or whatever came."""
    body = bytearray()
    with suppress(KubeError, h11.ProtocolError):
        async for part in _body(reader, connection):
            body += part
            if len(body) > MOST_HEAD:
                break
    with suppress(ValueError):
        said = json.loads(bytes(body))
        if isinstance(said, dict) and isinstance(said.get("message"), str):
            return f"{status}: {said['message'][:500]}"
    return f"{status}: {bytes(body[:200]).decode('utf-8', 'replace').strip()}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KubeError(0, f"what it says is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise KubeError(0, "what it says is no object")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not from the pod's CA: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
