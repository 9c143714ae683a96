"""The bulk channel: large objects from store to store, on sockets and a thread of their own (DESIGN.md 86).

A flooded bulk link delays nothing on the control channel: another TCP connection, another libzmq context with its own
I/O thread, and reading, hashing and writing off the loop. Nothing of it exists before the first object is asked for.
The thread serves what others ask for (a bound CURVE ROUTER) and runs one `core.bulk.Source` per agent it takes from (a
CURVE DEALER each). Who may come in is asked of the directory of the control channel, at the handshake and again at
every ask. What is finished, or not, is told as events on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

import zmq

from jupiter_agent.adapters.bulk_serving import BulkServer
from jupiter_agent.adapters.curve import HANDSHAKE_FAILED, CurvePair, Socket, curve_socket, monitor_events, readable
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.core.bulk import Ended, Source, Taken
from jupiter_agent.core.events import BulkEnded, Event, ObjectStored
from jupiter_agent.core.messages.bulk import PART_BYTES, from_source, to_frame
from jupiter_agent.errors import CapacityError, PeerError

log = logging.getLogger("jupiter")

TURN_PARTS = 16
TICK_S = 0.5
QUEUE_FRAMES = 256


class Wanted(NamedTuple):
    """An object to take from the agent that listens for this at `endpoint` (HOST:PORT) with `key`."""

    sha256: bytes
    size: int
    peer: str
    endpoint: str
    key: str


class _Session:
    """A source, its socket, and since when each object is taken from it."""

    def __init__(self, source: Source, sock: Socket, monitor: Socket) -> None:
        self.source, self.sock, self.monitor = source, sock, monitor
        self.up_at = 0.0
        """when the source was first heard: opening a session is not moving bytes"""
        self.began: dict[bytes, tuple[float, int]] = {}
        """digest -> when it was first asked for here, and how much of it was here then"""


class BulkChannel:
    """All methods are for the loop's thread; `post` is called there. `admit`: whether a key (Z85) is a member's."""

    def __init__(
        self,
        pair: CurvePair,
        objects: ObjectStore,
        post: Callable[[Event], None],
        admit: Callable[[str], bool],
        host: str,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._pair, self._objects, self._post, self._admit, self._host = pair, objects, post, admit, host
        self._loop = asyncio.get_running_loop()
        self._orders: deque[Wanted | bytes] = deque()
        self._thread: threading.Thread | None = None
        self._closing = self._dead = False
        self._port = 0
        self._busy_since: float | None = None
        self._sessions: dict[tuple[str, str], _Session] = {}

    @property
    def port(self) -> int:
        """Where this agent serves; it begins to with the first question. 0: it cannot."""
        self._start()
        return 0 if self._dead else self._port

    def take(self, wanted: Wanted) -> None:
        """Answered by `ObjectStored` or by `BulkEnded` with an error; `BulkEnded` also says what was measured."""
        self._start()
        self._order(wanted)

    def drop(self, sha256: bytes) -> None:
        """Nobody wants this object any longer."""
        if self._thread is not None:
            self._order(sha256)

    def close(self) -> None:
        """Ends the thread; nothing is told afterwards."""
        if self._thread is None or self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(5.0)
        os.close(self._wake)

    def _order(self, order: Wanted | bytes) -> None:
        self._orders.append(order)
        if self._dead:
            self._refuse_orders()
        else:
            os.eventfd_write(self._wake, 1)

    def _start(self) -> None:
        if self._thread is not None or self._closing:
            return
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[Socket] = zmq.Context(io_threads=1)
        self._server = BulkServer(self._context, self._pair, self._objects, self._admit, self.counters)
        self._port = self._server.bind(self._host)
        self._thread = threading.Thread(target=self._run, name="bulk", daemon=True)
        self._thread.start()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._wait()
                self._take_orders()
                self._server.serve(TURN_PARTS)
                now = time.monotonic()
                for key in list(self._sessions):
                    self._work(key, now)
                self._count_busy()
        except Exception as error:  # noqa: BLE001  # the agent goes on by the control channel; it must not hang on this
            log.critical("the bulk channel stops: %s: %s", type(error).__name__, error)
            self._dead = True
            for key, session in self._sessions.items():
                self._tell(key, session, session.source.fail())
            self._refuse_orders()
        finally:
            for session in self._sessions.values():
                _close(session)
            self._server.close()
            self._context.destroy(linger=0)

    def _count_busy(self) -> None:
        """The time in which any object was on its way."""
        now = time.monotonic()
        if self._busy_since is not None:
            self.counters["bulk_busy_us"] += round(1e6 * (now - self._busy_since))
        self._busy_since = now if any(session.source.wanted for session in self._sessions.values()) else None

    def _wait(self) -> None:
        """Until a socket has something, an order came, or the next deadline."""
        if any(readable(session.sock) for session in self._sessions.values()) or self._server.has_work():
            return
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        for sock in self._server.sockets:
            poller.register(sock, zmq.POLLIN)
        due = time.monotonic() + TICK_S
        for session in self._sessions.values():
            poller.register(session.sock, zmq.POLLIN)
            poller.register(session.monitor, zmq.POLLIN)
            due = min(due, session.source.next_deadline())
        poller.poll(max(0, int(1000 * (due - time.monotonic())) + 1))

    def _take_orders(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        now = time.monotonic()
        while self._orders:
            order = self._orders[0]
            if isinstance(order, bytes):
                for session in self._sessions.values():
                    session.source.drop(order)
            else:
                key = (order.peer, order.endpoint)
                session = self._sessions.get(key) or self._open(order, now)
                offset = self._objects.partial_offset(order.sha256)
                session.began.setdefault(order.sha256, (now, offset))
                session.source.want(order.sha256, order.size, min(offset, max(0, order.size - 1)), now)
            self._orders.popleft()

    def _open(self, wanted: Wanted, now: float) -> _Session:
        sock = curve_socket(self._context, zmq.DEALER, self._pair, PART_BYTES + 1024)
        sock.set_hwm(QUEUE_FRAMES)
        events = HANDSHAKE_FAILED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
        session = _Session(Source(now), sock, sock.get_monitor_socket(events))
        self._sessions[wanted.peer, wanted.endpoint] = session
        try:
            sock.setsockopt(zmq.CURVE_SERVERKEY, wanted.key.encode())
            sock.connect("tcp://" + wanted.endpoint)
        except zmq.ZMQError:  # or its key is none
            self.counters["bulk_bad_addresses"] += 1  # nobody answers there: unreachable in the end
        self.counters["bulk_sessions"] += 1
        return session

    def _work(self, key: tuple[str, str], now: float) -> None:
        """Take what arrived, ask for more; close what is over."""
        session = self._sessions[key]
        for _ in range(TURN_PARTS):
            if not readable(session.sock):
                break
            self._hear(key, session)
        over = session.source.on_deadline(time.monotonic())
        if over is None and monitor_events(session.monitor, 20):
            over = session.source.fail()
        if over is not None:
            self._tell(key, session, over)
            del self._sessions[key]
            _close(session)
            return
        for said in session.source.next_said(time.monotonic()):
            try:
                session.sock.send(to_frame(said), zmq.NOBLOCK)
            except zmq.Again:
                self.counters["bulk_dropped_full"] += 1

    def _hear(self, key: tuple[str, str], session: _Session) -> None:
        head, *rest = session.sock.recv_multipart(copy=False)
        try:
            message = from_source(head.bytes)
        except PeerError:
            self.counters["bulk_garbage"] += 1
            return
        data = rest[0].buffer if rest else memoryview(b"")
        if not session.source.up:
            session.up_at = time.monotonic()
        taken, ended = session.source.on_heard(message, len(data), time.monotonic())
        if taken is not None and not self._write(session, taken, data):
            ended = [Ended(taken.sha256, "refused")]
        self._tell(key, session, ended)

    def _write(self, session: _Session, taken: Taken, data: memoryview) -> bool:
        """False: the store refused it, which was told; it takes no more of this object from here."""
        self.counters["bulk_bytes_in"] += len(data)
        try:
            written = self._objects.write_chunk(taken.sha256, taken.size, taken.offset, data)
        except (CapacityError, OSError) as error:
            self._report(ObjectStored(taken.sha256, taken.size, str(error)))
        else:
            if written.state == "stored":
                self._report(ObjectStored(taken.sha256, taken.size))
            elif written.error:
                self._report(ObjectStored(taken.sha256, taken.size, written.error))
            if not written.error:
                return True
        session.source.drop(taken.sha256)
        return False

    # --- telling -----------------------------------------------------------------------------------------------------

    def _tell(self, key: tuple[str, str], session: _Session, ended: list[Ended]) -> None:
        now = time.monotonic()
        for each in ended:
            began, offset = session.began.pop(each.sha256, (now, 0))
            began = max(began, session.up_at)
            if each.error == "refused":
                continue
            moved = self._objects.partial_offset(each.sha256) - offset
            error = each.error or ("" if self._objects.has(each.sha256) else "lost")
            self._report(BulkEnded(each.sha256, key[0], max(0, moved), max(1e-6, now - began), error))

    def _refuse_orders(self) -> None:
        """Nobody works on them any more."""
        while self._orders:
            order = self._orders.popleft()
            if isinstance(order, Wanted):
                self._report(BulkEnded(order.sha256, order.peer, 0, 1e-6, "unreachable"))

    def _report(self, event: Event) -> None:
        if not self._closing:
            self._loop.call_soon_threadsafe(self._post, event)


def _close(session: _Session) -> None:
    session.sock.disable_monitor()
    session.monitor.close(0)
    session.sock.close(0)
