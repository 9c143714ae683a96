"""Outgoing sessions: one client ROUTER for all of them, so each costs one descriptor.

Every connect gets a routing id never used before and the server key it must find; frames on that id can come from
nobody else. libzmq may not reconnect by itself. Its monitor names sessions by endpoint only, and may speak of one we
have just given up, so an endpoint serves one session at a time and rests `REST_S` before the next.
"""

from __future__ import annotations

import logging

import zmq

from jupiter_agent.adapters.curve import (
    HANDSHAKE_FAILED,
    SESSION_HEARTBEAT_S,
    CurvePair,
    Socket,
    connect_timeout_s,
    curve_socket,
    monitor_events,
    readable,
)
from jupiter_agent.adapters.gauge import Gauge
from jupiter_agent.adapters.sessions import GOODBYE, HELLO, Hub, Session, SessionOwner

log = logging.getLogger("jupiter")
REST_S = 0.1
BAD_KEYS = 64
_EVENTS = zmq.EVENT_CONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED


class Dialer:
    """Opens, feeds and ends sessions; knows nothing of peers but the id it is given."""

    share = 50

    def __init__(self, hub: Hub, pair: CurvePair, owner: SessionOwner) -> None:
        self._hub = hub
        self._owner = owner
        self._serial = 0
        self._by_route: dict[bytes, Session] = {}
        self._by_endpoint: dict[str, Session] = {}
        self._free_at: dict[str, float] = {}
        self._bad_keys: set[str] = set()
        """that were logged"""
        self._gauge = Gauge()
        self.socket: Socket = curve_socket(
            hub.context, zmq.ROUTER, pair, patience=hub.patience, heartbeat_s=SESSION_HEARTBEAT_S
        )
        self._monitor = self.socket.get_monitor_socket(_EVENTS | HANDSHAKE_FAILED)
        hub.watch(self)
        hub.loop.add_reader(self._monitor.FD, self._drain_events)
        hub.loop.call_soon(self._drain_events)  # the edge of before the reader was there

    def new(self, peer: str) -> Session:
        """A session that `dial` will open once the address is known in numbers."""
        self._serial += 1
        now = self._hub.loop.time()
        return Session(peer, b"d%d" % self._serial, outgoing=True, opened=now, used=now)

    def dial(self, session: Session, address: str, server_key: str, handshake_s: float) -> None:
        """Start connecting to a numeric address; the owner hears session_up or session_end."""
        endpoint = "tcp://" + address
        now = self._hub.loop.time()
        rest = self._free_at.get(endpoint, 0.0) - now
        self._by_route[session.route] = session
        session.endpoint = endpoint
        if rest > 0:
            self._hub.loop.call_later(rest, self._connect, session, server_key, handshake_s)
        else:
            self._connect(session, server_key, handshake_s)

    def _connect(self, session: Session, server_key: str, handshake_s: float) -> None:
        if self._hub.closed or session.route not in self._by_route:
            return
        endpoint = session.endpoint
        if endpoint in self._by_endpoint:  # another peer is (being) reached there: it cannot be this one too
            self._hub.loop.call_soon(self._give_up, session, "handshake")
            return
        try:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
        except zmq.ZMQError:  # what its record calls a key is none
            self._note_bad_key(session.peer, server_key)
            self._hub.loop.call_soon(self._give_up, session, "handshake")
            return
        self._free_at.pop(endpoint, None)
        self._by_endpoint[endpoint] = session
        session.opened = self._hub.loop.time()
        self.socket.setsockopt(zmq.CONNECT_ROUTING_ID, session.route)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, int(handshake_s * 1000))
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError:
            self._hub.loop.call_soon(self._give_up, session, "timeout")
        self._hub.touch(self)

    def _note_bad_key(self, peer: str, key: str) -> None:
        self._hub.counts["dials_without_key"] += 1
        if key not in self._bad_keys and len(self._bad_keys) < BAD_KEYS:
            self._bad_keys.add(key)
            log.warning("member %s cannot be dialled: %r is no CURVE key", peer, key)

    def send(self, session: Session, frame: bytes) -> bool:
        """False: dropped and counted (its queue is full, or the session is already gone)."""
        return self._send(session, [session.route, frame])

    def hang_up(self, session: Session) -> None:
        """End a session politely: the other side hears that it was closed. The owner is not told."""
        if session.up and self._send(session, [session.route, b"", GOODBYE]):
            connected = self._release(session, REST_S)
            self._hub.loop.call_later(REST_S, self._cut, session, connected)  # lets the goodbye leave
        else:
            self._cut(session, self._release(session, 0.0))

    def drain(self, limit: int) -> bool:
        """Take up to `limit` frames; whether more may be waiting."""
        sock = self.socket
        for _ in range(limit):
            if not readable(sock):
                return False
            route = sock.recv()
            frame = sock.recv()
            more = sock.recv_multipart() if sock.getsockopt(zmq.RCVMORE) else None
            session = self._by_route.get(route)
            if session is None:
                self._hub.counts["dropped_late"] += 1
            elif more is None:
                self._gauge.passed(session.fd)
                self._is_up(session)
                self._owner.session_frame(session, frame)
            elif frame == b"" and more == [GOODBYE]:
                self._give_up(session, "closed")
        return True

    def sweep(self) -> None:
        """Cut whoever sends a message without end."""
        for fd in self._gauge.overfull(self._hub.is_waiting(self)):
            self._hub.counts["dropped_endless"] += 1
            for session in [session for session in self._by_endpoint.values() if session.fd == fd]:
                self._give_up(session, "lost")

    def close(self) -> None:
        self._hub.unwatch(self)
        self._hub.loop.remove_reader(self._monitor.FD)
        self.socket.disable_monitor()
        self.socket.close()

    def _drain_events(self) -> None:
        if self._hub.closed:
            return
        events = monitor_events(self._monitor, 100)
        if events:
            self.drain(100)  # what a lost session still delivered comes before its loss
        for event, fd, endpoint in events:
            session = self._by_endpoint.get(endpoint)
            if session is not None:
                self._on_event(session, event, fd)
        if len(events) == 100:
            self._hub.loop.call_soon(self._drain_events)
        self._hub.touch(self)

    def _on_event(self, session: Session, event: int, fd: int) -> None:
        if event == zmq.EVENT_CONNECTED:
            session.fd = fd
            self._gauge.opened(fd)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._is_up(session)
        elif event == zmq.EVENT_CLOSED:
            if session.fd < 0:
                fast = self._hub.loop.time() - session.opened < connect_timeout_s(self._hub.patience) * 0.9
                self._give_up(session, "refused" if fast else "timeout")
        elif event == zmq.EVENT_DISCONNECTED and session.fd not in (-1, fd):
            return  # an earlier session to the same endpoint
        else:
            self._give_up(session, "lost" if session.up else "handshake")

    def _is_up(self, session: Session) -> None:
        if not session.up and self._by_endpoint.get(session.endpoint) is session:
            session.up = True
            self._send(session, [session.route, b"", HELLO])
            self._owner.session_up(session)

    def _give_up(self, session: Session, reason: str) -> None:
        if session.route in self._by_route:
            self._cut(session, self._release(session, 0.0))
            self._owner.session_end(session, reason)

    def _release(self, session: Session, extra_s: float) -> bool:
        """From here on monitor events for this endpoint mean nothing. Whether this session had the endpoint."""
        if self._by_endpoint.get(session.endpoint) is not session:
            return False
        del self._by_endpoint[session.endpoint]
        self._gauge.closed(session.fd)
        now = self._hub.loop.time()
        if len(self._free_at) > 256:
            self._free_at = {e: t for e, t in self._free_at.items() if t > now}
        self._free_at[session.endpoint] = now + REST_S + extra_s
        return True

    def _cut(self, session: Session, connected: bool) -> None:
        if self._by_route.pop(session.route, None) is None or self._hub.closed or not connected:
            return
        try:
            self.socket.disconnect(session.endpoint)
        except zmq.ZMQError:
            pass  # libzmq gave the endpoint up before we did
        self._hub.touch(self)  # the disconnect completes when the socket is next looked at

    def _send(self, session: Session, parts: list[bytes]) -> bool:
        return self._hub.send(self, parts, lambda: self._give_up(session, "lost"))
