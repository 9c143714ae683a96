"""The three pages an agent shows to orchestrators: /healthz, /readyz, /metrics. GET only, one request a connection.

Without a token it listens on loopback only. With one it may listen anywhere, and whoever is not on loopback must show
it (`Authorization: Bearer ...`). With `open_health` the first two pages need none: they say one word, and a kubelet has
no token to show. Requests are small, must arrive within `REQUEST_S`, and few are served at once: when more come, who
has been there longest goes. A probe takes milliseconds, so nobody who holds connections open can make it fail.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

import h11

from jupiter_agent.adapters.ports import format_address, parse_address
from jupiter_agent.errors import UsageError

MAX_HEADER_BYTES = 8 * 1024
REQUEST_S = 5.0
MAX_CONNECTIONS = 32
_CHUNK = 4096

HEALTH = (b"/healthz", b"/readyz")

Checks = tuple[Callable[[], bool], Callable[[], str], Callable[[], str]]
"""healthy; why not ready, or ''; metrics in Prometheus text"""


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Pages:
    checks: Checks
    token: str
    open_health: bool = False
    open: dict[asyncio.StreamWriter, None] = field(default_factory=dict)
    """connections, oldest first"""

    def answer(self, request: h11.Request, remote: str) -> _Response:
        """What to say to a whole request from `remote` (an IP address)."""
        path = request.target.split(b"?", 1)[0]
        is_open = self.open_health and path in HEALTH
        if not is_open and not _is_loopback(remote) and not self._authorised(request):
            return _Response(401, "a token is needed\n", extra=(("www-authenticate", "Bearer"),))
        if request.method != b"GET":
            return _Response(405, "GET only\n", extra=(("allow", "GET"),))
        healthy, unready, metrics = self.checks
        if path == b"/healthz":
            return _Response(200, "ok\n") if healthy() else _Response(503, "the agent's loop does not run\n")
        if path == b"/readyz":
            why = unready()
            return _Response(503, why + "\n") if why else _Response(200, "ok\n")
        if path == b"/metrics":
            return _Response(200, metrics(), "text/plain; version=0.0.4; charset=utf-8")
        return _Response(404, "there are /healthz, /readyz and /metrics\n")

    def _authorised(self, request: h11.Request) -> bool:
        shown = dict(request.headers).get(b"authorization", b"")
        return bool(self.token) and hmac.compare_digest(shown, b"Bearer " + self.token.encode())


async def serve(address: str, checks: Checks, token: str = "", open_health: bool = False) -> asyncio.Server:
    """Listen on HOST:PORT (port 0: any free one). UsageError if that is not possible or not safe."""
    host, port = parse_address(address)
    if not token and not open_health and not _is_loopback(host):
        hint = "give it a token (`http_token` in the file, or JUPITER_HTTP_TOKEN), or use --http 127.0.0.1:PORT"
        raise UsageError(f"--http {address} is not loopback", hint)
    pages = _Pages(checks, token, open_health)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(pages.open) >= MAX_CONNECTIONS:
            oldest = next(iter(pages.open))
            del pages.open[oldest]
            oldest.transport.abort()
        pages.open[writer] = None
        try:
            async with asyncio.timeout(REQUEST_S):
                await _serve_one(reader, writer, pages)
        except (TimeoutError, OSError):
            pass  # a slow or vanished client is its own fault
        finally:
            pages.open.pop(writer, None)
            writer.transport.abort()

    try:
        return await asyncio.start_server(on_connection, host, port, limit=MAX_HEADER_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {format_address(host, port)}: {error.strerror}", "choose another with --http HOST:PORT"
        ) from error


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pages: _Pages) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
    remote = str(writer.get_extra_info("peername")[0])
    try:
        request = await _request(reader, connection)
        if request is None:
            return
        response = pages.answer(request, remote)
    except h11.RemoteProtocolError as error:
        response = _Response(error.error_status_hint, "this is not a request we understand\n")
    if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return
    body = response.body.encode()
    headers = [("content-type", response.kind), ("content-length", str(len(body))), ("connection", "close")]
    writer.write(connection.send(h11.Response(status_code=response.status, headers=[*headers, *response.extra])) or b"")
    writer.write(connection.send(h11.Data(data=body)) or b"")
    await writer.drain()
    writer.write_eof()
    while await reader.read(_CHUNK):  # until the client has closed: an abort now could cost it the answer
        pass


async def _request(reader: asyncio.StreamReader, connection: h11.Connection) -> h11.Request | None:
    """The head of the request, or None if the client left."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(_CHUNK))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
