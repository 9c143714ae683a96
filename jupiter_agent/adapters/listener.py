"""Incoming sessions: the bound CURVE ROUTER.

Who speaks is read from every single frame's User-Id, which the gate set to the authenticated key; routing ids are only
return addresses. A session begins with its first frame and ends with the other side's goodbye or when the monitor says
its descriptor (read from that first frame) was closed.
"""

from __future__ import annotations

import os

import zmq

from jupiter_agent.adapters.curve import (
    MAX_FRAME_BYTES,
    SESSION_HEARTBEAT_S,
    CurvePair,
    curve_server,
    monitor_events,
    readable,
)
from jupiter_agent.adapters.gauge import Gauge, shut
from jupiter_agent.adapters.sessions import GOODBYE, HELLO, SOUND_S, Directory, Hub, Session, SessionOwner
from jupiter_agent.core.ids import CLIENT_PREFIX

DOMAIN = b"jupiter"
ENDLESS_BAN_S = 60.0


class Listener:
    """Sessions that others opened: members by their id, operators as `client:<hex>`."""

    share = 50

    def __init__(self, hub: Hub, pair: CurvePair, directory: Directory, owner: SessionOwner) -> None:
        self._hub = hub
        self._directory = directory
        self._owner = owner
        self._serial = int.from_bytes(os.urandom(6), "big") << 16
        self._sessions: dict[bytes, tuple[str, Session]] = {}
        self._by_fd: dict[int, Session] = {}
        self._gauge = Gauge()
        self._spoke: set[int] = set()
        """descriptors of open connections that delivered a frame"""
        self.port = 0
        """set by whoever binds the socket"""
        self.socket = curve_server(hub.context, pair, DOMAIN, MAX_FRAME_BYTES, hub.patience, SESSION_HEARTBEAT_S)
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_ACCEPTED)
        hub.watch(self)
        hub.loop.add_reader(self._monitor.FD, self._drain_events)
        hub.loop.call_soon(self._drain_events)  # the edge of before the reader was there

    def send(self, session: Session, frame: bytes) -> bool:
        """False: dropped and counted (its queue is full, or the session is already gone)."""
        return self._send(session, [session.route, frame])

    def end(self, session: Session) -> None:
        """Say goodbye and shut the connection. The owner is not told."""
        self._send(session, [session.route, b"", GOODBYE])
        self._forget(session)
        self._hub.loop.call_later(1.0, self._shut, session.fd)

    def expire(self, key: str) -> None:
        """The sessions of this key end with the owner's next sweep."""
        for known, session in self._sessions.values():
            if known == key:
                session.until = 0.0

    def sweep(self) -> None:
        """Cut whoever sends a message without end; its key is refused for a while."""
        for fd in self._gauge.overfull(self._hub.is_waiting(self)):
            self._hub.counts["dropped_endless"] += 1
            self._gauge.closed(fd)
            session = self._by_fd.get(fd)
            if session is not None:
                self._directory.bar(self._sessions[session.route][0], ENDLESS_BAN_S)
                self._finish(session, "lost")
            self._shut(fd)

    def drain(self, limit: int) -> bool:
        """Take up to `limit` frames; whether more may be waiting."""
        sock = self.socket
        for _ in range(limit):
            if not readable(sock):
                return False
            route = sock.recv()
            frame = sock.recv(copy=False)
            more = sock.recv_multipart() if frame.more else None
            self._on_message(route, frame, more)
        return True

    def close(self) -> None:
        self._hub.unwatch(self)
        self._hub.loop.remove_reader(self._monitor.FD)
        self.socket.disable_monitor()
        self.socket.close()

    def _on_message(self, route: bytes, frame: zmq.Frame, more: list[bytes] | None) -> None:
        key = str(frame.get("User-Id"))
        known = self._sessions.get(route)
        if known is None or known[0] != key:
            session = self._begin(route, key, int(frame.get(zmq.SRCFD)))
            if session is None:
                self._hub.counts["dropped_unknown"] += 1
                return
        else:
            session = known[1]
        self._gauge.passed(session.fd)
        if more is None:
            self._directory.is_sound(key)
            self._owner.session_frame(session, frame.bytes)
        elif more == [GOODBYE]:
            self._finish(session, "closed")
        elif more != [HELLO]:
            self._hub.counts["dropped_garbage"] += 1

    def _begin(self, route: bytes, key: str, fd: int) -> Session | None:
        """A first frame. Whatever stood under this route or descriptor before has ended without our noticing."""
        self._spoke.add(fd)
        owner = self._directory.owner_of(key)
        for old in (self._sessions.get(route, (key, None))[1], self._by_fd.get(fd)):
            if old is not None:
                self._finish(old, "lost")
        if not owner:
            return None
        if owner.startswith(CLIENT_PREFIX):
            self._serial += 1
            owner += f"{self._serial:x}"
        now = self._hub.loop.time()
        session = Session(owner, route, outgoing=False, opened=now, used=now, up=True, fd=fd)
        session.until = self._directory.until(key)
        self._sessions[route] = (key, session)
        self._by_fd[fd] = session
        self._owner.session_up(session)
        return session

    def _forget(self, session: Session) -> str:
        key, _ = self._sessions.pop(session.route, ("", None))
        if self._by_fd.get(session.fd) is session:
            del self._by_fd[session.fd]
        if key and self._hub.loop.time() - session.opened > SOUND_S:
            self._directory.is_sound(key)
        return key

    def _finish(self, session: Session, reason: str) -> None:
        if self._forget(session):
            self._owner.session_end(session, reason)

    def _drain_events(self) -> None:
        if self._hub.closed:
            return
        events = monitor_events(self._monitor, 100)
        if events:
            self.drain(100)  # what a lost session still delivered comes before its loss
        for event, fd, _ in events:
            if event == zmq.EVENT_ACCEPTED:
                self._gauge.opened(fd)
                continue
            self._gauge.closed(fd)
            if fd in self._by_fd:
                self._finish(self._by_fd[fd], "lost")
            if fd in self._spoke:
                self._spoke.discard(fd)
            else:
                self._hub.counts["handshakes_failed"] += 1
        if len(events) == 100:
            self._hub.loop.call_soon(self._drain_events)
        self._hub.touch(self)

    def _shut(self, fd: int) -> None:
        """libzmq cannot close one connection of a ROUTER, so end it from below if the other side did not."""
        if self._hub.closed or fd < 0 or fd in self._by_fd:
            return
        shut(fd, self.port)

    def _send(self, session: Session, parts: list[bytes]) -> bool:
        return self._hub.send(self, parts, lambda: self._finish(session, "lost"))
