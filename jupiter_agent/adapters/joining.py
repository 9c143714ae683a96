"""The join socket: where strangers who hold the token ask who we are, and ask to be let in.

Both its key pairs are derived from the join secret, so a handshake proves on both sides that the other holds the token.
Small frames, a limited rate, nothing but frames handed to the machine and its answers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Protocol

import zmq

from jupiter_agent.adapters.curve import (
    HANDSHAKE_FAILED,
    STALLED_S,
    AccessKeys,
    Socket,
    bind_join,
    curve_server,
    curve_socket,
    monitor_events,
    readable,
)
from jupiter_agent.adapters.gate import ADMIT, REFUSE
from jupiter_agent.adapters.gauge import Gauge, shut
from jupiter_agent.adapters.ports import JOIN_PORT_OFFSET, join_address
from jupiter_agent.adapters.rates import Rates
from jupiter_agent.adapters.reaching import resolve, tcp_outcome
from jupiter_agent.adapters.sessions import Hub
from jupiter_agent.errors import UsageError

JOIN_PREFIX = "join:"
JOIN_DOMAIN = b"jupiter-join"
JOIN_FRAME_BYTES = 64 * 1024
JOIN_LIMIT_S = 3.0
JOIN_HANDSHAKE_S = 2.0
MAX_PATIENCE = 3.0
"""A handshake over several lossy hops is repeated by TCP after 1, 3 and 7 s"""
RATE_PER_S, BURST = 50.0, 100.0
SOURCE_RATE_PER_S, SOURCE_BURST = 25.0, 50.0
"""of one address: half of all, so that nobody who floods keeps others out"""
_MAX_ASKERS = 256
REBIND_S, REBIND_SELDOM_S = 0.05, 1.0
LET_GO_S = 2.0
"""libzmq lets go of a port within some milliseconds; whoever has it later is another process"""
log = logging.getLogger("jupiter")

OnAnswer = Callable[[bytes | None, str], None]
"""(frame, '') or (None, error) with error refused, timeout or unauthorised."""


class JoinSink(Protocol):
    def on_join(self, src: str, frame: bytes) -> None:
        """A frame from a holder of the join secret; answer with `send(src, ...)`, src is `join:<hex>`."""


class JoinSocket:
    """The serving end."""

    share = 10

    def __init__(self, hub: Hub, keys: AccessKeys, sink: JoinSink) -> None:
        self._hub = hub
        self._sink = sink
        self._client_key = keys.join_client.public
        self._askers: OrderedDict[str, bytes] = OrderedDict()
        self._of_all = Rates(RATE_PER_S, BURST)
        self._of_each = Rates(SOURCE_RATE_PER_S, SOURCE_BURST)
        self._gauge = Gauge()
        self._shut_out = False
        """another process has the port; that was said"""
        self.socket = self._new(keys)
        hub.watch(self)

    def _new(self, keys: AccessKeys) -> Socket:
        hub = self._hub
        sock = curve_server(hub.context, keys.join_server, JOIN_DOMAIN, JOIN_FRAME_BYTES, hub.patience)
        self._monitor = sock.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        return sock

    def rekey(self, keys: AccessKeys, host: str, port: int) -> None:
        """Another door in the place of this one, as soon as libzmq has let go of the port; who was asking, asks again.
        `port`: the agent's."""
        self.close()
        self._askers.clear()
        self._client_key = keys.join_client.public
        self._gauge = Gauge()
        self.socket = self._new(keys)
        self._hub.watch(self)
        self._rebind(self.socket, host, port, self._hub.loop.time())

    def _rebind(self, sock: Socket, host: str, port: int, since: float) -> None:
        """At once, or when the place is free: soon while libzmq lets go of it, seldom while another process has it."""
        if sock.closed or self._hub.closed:
            return
        late = self._hub.loop.time() - since > LET_GO_S
        if bind_join(sock, host, port):
            self._hub.touch(self)
            if self._shut_out:
                log.info("nodes can join at port %d again", port + JOIN_PORT_OFFSET)
            self._shut_out = False
            return
        if late and not self._shut_out:
            self._shut_out = True
            log.error("nobody can join here: another process has taken port %d", port + JOIN_PORT_OFFSET)
        self._hub.counts["join_rebinds"] += 1
        self._hub.loop.call_later(REBIND_SELDOM_S if late else REBIND_S, self._rebind, sock, host, port, since)

    def rule(self, key: str) -> str:
        """Gate rule: one key opens this door, and no other ever will."""
        return ADMIT if key == self._client_key else REFUSE

    def send(self, dst: str, frame: bytes) -> None:
        route = self._askers.get(dst)
        if route is None:
            self._hub.counts["dropped_unknown"] += 1
            return
        try:
            self.socket.send_multipart([route, frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            self._hub.counts["dropped_lost"] += 1
        self._hub.touch(self)

    def drain(self, limit: int) -> bool:
        """Take up to `limit` frames; whether more may be waiting."""
        for _ in range(limit):
            if not readable(self.socket):
                return False
            route, *parts = self.socket.recv_multipart(copy=False)
            self._gauge.passed(int(parts[0].get(zmq.SRCFD)))
            if len(parts) != 1 or len(parts[0]) > JOIN_FRAME_BYTES:
                self._hub.counts["dropped_garbage"] += 1
            elif not self._may_ask(str(parts[0].get("Peer-Address"))):
                self._hub.counts["dropped_join_rate"] += 1
            else:
                self._hub.report(self._sink.on_join, self._asker(route.bytes), parts[0].bytes)
        return True

    def sweep(self) -> None:
        """Cut whoever sends a message without end."""
        for event, fd, _ in monitor_events(self._monitor, 1000):
            (self._gauge.opened if event == zmq.EVENT_ACCEPTED else self._gauge.closed)(fd)
        for fd in self._gauge.overfull(self._hub.is_waiting(self)):
            self._hub.counts["dropped_endless"] += 1
            self._gauge.closed(fd)
            shut(fd, int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]))

    def close(self) -> None:
        self._hub.unwatch(self)
        self.socket.disable_monitor()
        self.socket.close()

    def _asker(self, route: bytes) -> str:
        src = JOIN_PREFIX + route.hex()
        self._askers[src] = route
        self._askers.move_to_end(src)
        if len(self._askers) > _MAX_ASKERS:
            self._askers.popitem(last=False)
        return src

    def _may_ask(self, address: str) -> bool:
        """Its own measure first: what it is refused takes nothing from that of all."""
        now = self._hub.loop.time()
        return self._of_each.take(address, now) and self._of_all.take("", now)


class JoinRequest:
    """The asking end: one frame to the join socket of an agent, one answer."""

    def __init__(self, hub: Hub, keys: AccessKeys, address: str) -> None:
        self._hub = hub
        self._keys = keys
        self._address = address
        self._patience = min(MAX_PATIENCE, hub.patience)
        self._release: list[Callable[[], object]] = []

    async def ask(self, frame: bytes) -> tuple[bytes | None, str]:
        """(answer, '') or (None, error), within `JOIN_LIMIT_S` times the patience. Reachability is judged before
        authorisation."""
        try:
            async with asyncio.timeout(JOIN_LIMIT_S * self._patience):
                outcome = "timeout"
                for address in await resolve(join_address(self._address)):
                    outcome = await tcp_outcome(address, JOIN_LIMIT_S * self._patience)
                    if outcome == "open":
                        return await self._exchange(address, frame)
                return None, outcome
        except (TimeoutError, OSError, UsageError, UnicodeError):
            return None, "timeout"
        finally:
            self.close()

    def close(self) -> None:
        """Give the sockets back, at once and once; must happen before the context ends."""
        while self._release:
            self._release.pop()()

    async def _exchange(self, address: str, frame: bytes) -> tuple[bytes | None, str]:
        loop = self._hub.loop
        opened = loop.time()
        sock, monitor = self._open(address)
        answer: asyncio.Future[tuple[bytes | None, str]] = loop.create_future()

        def look() -> None:
            while not sock.closed and readable(sock) and not answer.done():
                answer.set_result((sock.recv_multipart()[-1], ""))
            events = [] if sock.closed else monitor_events(monitor, 10)
            if events and not answer.done():
                answer.set_result((None, why_no_answer(events, loop.time() - opened)))

        for watched in (sock, monitor):
            loop.add_reader(watched.FD, look)
            self._release.append(partial(loop.remove_reader, watched.FD))
        try:
            sock.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError:  # the connection is lost already
            return None, "timeout"
        loop.call_soon(look)
        return await answer

    def _open(self, address: str) -> tuple[Socket, Socket]:
        sock = curve_socket(self._hub.context, zmq.DEALER, self._keys.join_client)
        sock.setsockopt(zmq.CURVE_SERVERKEY, self._keys.join_server.public.encode())
        sock.setsockopt(zmq.HANDSHAKE_IVL, int(JOIN_HANDSHAKE_S * self._patience * 1000))
        monitor = sock.get_monitor_socket(HANDSHAKE_FAILED | zmq.EVENT_DISCONNECTED)
        self._release += [sock.close, sock.disable_monitor]
        sock.connect("tcp://" + address)
        return sock, monitor


def why_no_answer(events: list[tuple[int, int, str]], elapsed_s: float) -> str:
    """From what the monitor says of a failed exchange, so long after its socket was opened.

    A wrong secret shows as a handshake that the other end breaks off. So does a handshake that took the other end too
    long, but that is never before its own limit; ours is EAGAIN. A session lost later says nothing of secrets.
    """
    broken_off = any(event & HANDSHAKE_FAILED and value != errno.EAGAIN for event, value, _ in events)
    return "unauthorised" if broken_off and elapsed_s < 0.9 * STALLED_S else "timeout"
