"""The transport over ZeroMQ: one bound ROUTER, one dialling ROUTER, the join socket; CURVE on all, one gate.

Which peers there are, which sessions are kept, on which session a frame leaves, and when to dial again is decided here;
`dialer` and `listener` hold the sockets. Frames for a peer without a session wait in its backlog (bounded) until one is
up, and are dropped and counted when it cannot be opened. All descriptors are drained by hand on the loop, in turns of
at most about 100 frames, so that a flood starves no timer.

Two sessions opened crosswise are one too many: the one opened by the smaller key stays.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from jupiter_agent.adapters.curve import MAX_FRAME_BYTES, AccessKeys, CurvePair, bind_pair
from jupiter_agent.adapters.dialer import Dialer
from jupiter_agent.adapters.gate import Gate
from jupiter_agent.adapters.joining import JOIN_DOMAIN, JOIN_PREFIX, JoinRequest, JoinSink, JoinSocket, OnAnswer
from jupiter_agent.adapters.listener import DOMAIN, Listener
from jupiter_agent.adapters.ports import format_address, numeric, parse_address
from jupiter_agent.adapters.reaching import resolve, tcp_outcome
from jupiter_agent.adapters.sessions import Directory, Hub, Peer, Session, Turn
from jupiter_agent.adapters.transport import Sink
from jupiter_agent.core.ids import CLIENT_PREFIX
from jupiter_agent.errors import UsageError

BACKOFF_S, MAX_BACKOFF_S = 0.5, 5.0
HANDSHAKE_S, MAX_HANDSHAKE_S = 1.0, 3.0
BACKLOG_FRAMES, BACKLOG_BYTES = 256, 8 << 20
PORT_TEST_S = 2.0
SWEEP_S = 1.0


class AgentSink(Sink, JoinSink, Protocol):
    """All that is told by this transport."""


@dataclass(frozen=True, slots=True)
class Limits:
    """On-demand sessions: how many, and how long they may be idle. Who passes on the news of a job has one with each
    node that takes part; to open them anew each time costs more than all else."""

    on_demand: int = 128
    idle_s: float = 10.0
    clients: int = 64
    patience: float = 1.0
    """how slow the network may be: a factor on the times after which a silent session or a handshake is given up"""


PROFILE_LIMITS = {"lan": Limits(), "wan": Limits(patience=2.0), "manet": Limits(16, idle_s=60.0, patience=6.0)}
"""`manet`: a handshake is a dozen packets, each of which crosses several lossy hops; it is waited for, and what was
opened is kept"""


class ZmqTransport:
    """`adapters.transport.Transport`, plus the join socket. Needs a running loop; UsageError for a bad `bind`."""

    def __init__(
        self, sink: AgentSink, pair: CurvePair, access: AccessKeys, bind: str, limits: Limits | None = None
    ) -> None:
        host, port = parse_address(bind)
        self._host = host
        self._sink = sink
        self._public = pair.public
        self._access = access
        self._limits = limits or Limits()
        self._kept: set[str] = set()
        self._clients: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: set[JoinRequest] = set()
        self._counts: Counter[str] = Counter()
        self._hub = Hub(zmq.Context(io_threads=1), self._counts, self._limits.patience)
        self._directory = Directory(self._hub, access.operator.public)
        self._gate = Gate(self._hub.context, self._counts)
        self._listener = Listener(self._hub, pair, self._directory, self)
        self._dialer = Dialer(self._hub, pair, self)
        self._join = JoinSocket(self._hub, access, sink)
        self._gate.admit_by(DOMAIN, self._directory.rule)
        self._gate.admit_by(JOIN_DOMAIN, self._join.rule)
        self._sweeper = self._hub.loop.call_later(SWEEP_S, self._sweep)
        try:
            self._listener.port = bind_pair(self._listener.socket, self._join.socket, host, port)
        except UsageError:
            self.close()
            raise
        self.address = format_address(host, self._listener.port)
        for part in (self._listener, self._dialer, self._join):
            self._hub.touch(part)

    def run_turns_inside(self, around: Callable[[Turn], None]) -> None:
        """`around` is called with each turn, and runs it: it may act at once on what the sink was told."""
        self._hub.around = around

    # --- what the contract asks for ------------------------------------------------------------------------------

    def learn(self, peer: str, address: str, curve_key: str) -> None:
        known = self._directory.peers.get(peer)
        if known is not None and known.key != curve_key:
            self._drop(known, "closed")
            known = None
        if known is None:
            known = Peer(peer, address, curve_key)
            self._directory.put(known)
            self._gate.recheck()
        elif known.address != address:
            known.address = address
            known.failures, known.not_before = 0, 0.0
            if known.retry is not None:
                known.retry.cancel()
                known.retry = None
            if known.out is not None:
                self._hang_up(known, known.out)
        if peer in self._kept or known.backlog:
            self._want(known)

    def admit_client(self, curve_key: str, role: str, for_s: float) -> None:
        """Let an operator's key in for so long; its sessions are called `client:ROLE:...` and end with that time."""
        self._directory.admit_client(curve_key, role, for_s)
        self._gate.recheck()

    def expire_client(self, curve_key: str) -> None:
        """Whoever calls with this key calls no more: its sessions end within a second."""
        self._directory.admit_client(curve_key, "", 0.0)
        self._listener.expire(curve_key)

    def rekey(self, access: AccessKeys) -> None:
        """The join secret has changed: another owner's key, another door."""
        self._access = access
        self._listener.expire(self._directory.change_operator(access.operator.public))
        self._join.rekey(access, self._host, self._listener.port)

    def forget(self, peer: str) -> None:
        self._kept.discard(peer)
        known = self._directory.peers.get(peer)
        if known is not None:
            self._drop(known, "closed")

    def ban(self, peer: str, for_s: float) -> None:
        known = self._directory.peers.get(peer)
        if known is not None and self._directory.holds_key(known):
            self._directory.bar(known.key, for_s)
        self.forget(peer)

    def connect(self, peer: str) -> None:
        self._kept.add(peer)
        known = self._directory.peers.get(peer)
        if known is not None:
            self._want(known)

    def disconnect(self, peer: str) -> None:
        self._kept.discard(peer)
        known = self._directory.peers.get(peer)
        if known is not None and known.out is not None:
            known.out.used = self._hub.loop.time()

    def send(self, peer: str, frame: bytes) -> None:
        if len(frame) > MAX_FRAME_BYTES:
            self._counts["dropped_oversize"] += 1
            return
        if peer.startswith(JOIN_PREFIX):
            self._join.send(peer, frame)
            return
        known = self._directory.peers.get(peer)
        session = self._clients.get(peer) if known is None else self._route(known)
        if session is not None:
            self._send_on(session, frame)
        elif known is None:
            self._counts["dropped_unknown"] += 1
        elif len(known.backlog) >= BACKLOG_FRAMES or known.backlog_bytes + len(frame) > BACKLOG_BYTES:
            self._counts["dropped_full"] += 1
        else:
            known.backlog.append(frame)
            known.backlog_bytes += len(frame)
            self._want(known)

    def test_port(self, peer: str, address: str) -> None:
        async def test() -> None:
            self._hub.report(self._sink.on_port, peer, await tcp_outcome(address, PORT_TEST_S))

        self._spawn(test())

    def join_request(self, address: str, frame: bytes, on_answer: OnAnswer) -> None:
        """Send one frame to the join socket of the agent at `address`; `on_answer` is called once, within 3 s."""
        request = JoinRequest(self._hub, self._access, address)
        self._requests.add(request)

        async def ask() -> None:
            answer, error = await request.ask(frame)
            self._requests.discard(request)
            self._hub.report(on_answer, answer, error)

        self._spawn(ask())

    def place(self, peer: str) -> tuple[str, str] | None:
        """A peer's address and key, as last learned."""
        known = self._directory.peers.get(peer)
        return None if known is None else (known.address, known.key)

    def admits(self, key: str) -> bool:
        """Whether this is a peer's key. From any thread."""
        return self._directory.is_peer(key)

    def counters(self) -> dict[str, int]:
        peers = self._directory.peers.values()
        sessions = sum(len(p.inbound) + (p.out is not None and p.out.up) for p in peers) + len(self._clients)
        return {"sessions": sessions, **self._counts}

    def close(self) -> None:
        if self._hub.closed:
            return
        self._hub.closed = True
        self._sweeper.cancel()
        for peer in self._directory.peers.values():
            if peer.retry is not None:
                peer.retry.cancel()
        for task in self._tasks:
            task.cancel()
        for request in self._requests:
            request.close()
        self._dialer.close()
        self._listener.close()
        self._join.close()
        self._gate.close()
        self._hub.context.destroy(linger=0)

    # --- what dialer and listener tell ---------------------------------------------------------------------------

    def session_up(self, session: Session) -> None:
        if session.peer.startswith(CLIENT_PREFIX):
            self._clients[session.peer] = session
            if len(self._clients) > self._limits.clients:
                oldest = min(self._clients.values(), key=lambda s: s.used)
                del self._clients[oldest.peer]
                self._listener.end(oldest)
            return
        peer = self._directory.peers[session.peer]
        first = len(peer.inbound) + (peer.out is not None and peer.out.up) == (1 if session.outgoing else 0)
        if not session.outgoing:
            peer.inbound.append(session)
        peer.failures, peer.not_before = 0, 0.0
        if first:
            self._hub.report(self._sink.on_up, peer.id)
        while peer.backlog:
            self._send_on(session, peer.backlog.popleft())
        peer.backlog_bytes = 0
        self._trim()

    def session_end(self, session: Session, reason: str) -> None:
        if self._clients.pop(session.peer, None) is not None:
            return
        peer = self._directory.peers.get(session.peer)
        if peer is None or (session is not peer.out and session not in peer.inbound):
            return
        self._remove(peer, session)
        if session.outgoing and not session.up:
            peer.failures += 1
        peer.not_before = self._hub.loop.time() + self._back_off_s(peer)
        if not peer.is_up():
            if peer.out is None:
                self._drop_backlog(peer, reason)
            self._hub.report(self._sink.on_down, peer.id, reason)
            if peer.id in self._kept:
                self._want(peer)

    def session_frame(self, session: Session, frame: bytes) -> None:
        if session.peer not in self._directory.peers and session.peer not in self._clients:
            self._counts["dropped_late"] += 1
            return
        session.used = self._hub.loop.time()
        self._counts["frames_in"] += 1
        self._counts["bytes_in"] += len(frame)
        self._hub.report(self._sink.on_frame, session.peer, frame)

    # --- choosing and opening ------------------------------------------------------------------------------------

    def _route(self, peer: Peer) -> Session | None:
        """The session frames leave on: of two opened crosswise the one that stays."""
        out = peer.out if peer.out is not None and peer.out.up else None
        if peer.inbound and (out is None or peer.key < self._public):
            return peer.inbound[-1]
        return out

    def _send_on(self, session: Session, frame: bytes) -> None:
        if (self._dialer if session.outgoing else self._listener).send(session, frame):
            session.used = self._hub.loop.time()
            self._counts["frames_out"] += 1
            self._counts["bytes_out"] += len(frame)

    def _want(self, peer: Peer) -> None:
        """A session is wanted: dial unless there is one, or one is on its way."""
        if peer.is_up() or peer.out is not None or peer.retry is not None or self._hub.closed:
            return
        wait = peer.not_before - self._hub.loop.time()
        if wait > 0:
            peer.retry = self._hub.loop.call_later(wait, self._retry, peer)
        else:
            self._dial(peer)

    def _retry(self, peer: Peer) -> None:
        peer.retry = None
        if self._directory.peers.get(peer.id) is peer and (peer.backlog or peer.id in self._kept):
            self._want(peer)

    def _dial(self, peer: Peer) -> None:
        session = peer.out = self._dialer.new(peer.id)
        if not self._directory.holds_key(peer):  # who answers to that key is another
            self._hub.loop.call_soon(self.session_end, session, "handshake")
            return
        handshake_s = min(MAX_HANDSHAKE_S, HANDSHAKE_S * (1 + peer.failures)) * self._limits.patience
        address = numeric(peer.address)
        if address is not None:
            self._dialer.dial(session, address, peer.key, handshake_s)
            return

        async def resolve_and_dial() -> None:
            try:
                found = await resolve(peer.address)
            except (OSError, UsageError, UnicodeError):
                self.session_end(session, "timeout")
                return
            if peer.out is session:
                self._dialer.dial(session, found[peer.failures % len(found)], peer.key, handshake_s)

        self._spawn(resolve_and_dial())

    def _back_off_s(self, peer: Peer) -> float:
        return min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(peer.failures, 8)) * self._limits.patience

    # --- ending --------------------------------------------------------------------------------------------------

    def _remove(self, peer: Peer, session: Session) -> None:
        if session is peer.out:
            peer.out = None
        else:
            peer.inbound.remove(session)

    def _drop_backlog(self, peer: Peer, reason: str) -> None:
        if peer.backlog:
            self._counts["dropped_" + reason] += len(peer.backlog)
            peer.backlog.clear()
            peer.backlog_bytes = 0

    def _hang_up(self, peer: Peer, session: Session) -> None:
        """End a session we opened; tell the sink if it was the last."""
        self._dialer.hang_up(session)
        self._remove(peer, session)
        if session.up and not peer.is_up():
            self._hub.report(self._sink.on_down, peer.id, "closed")

    def _drop(self, peer: Peer, reason: str) -> None:
        """Everything about a peer ends, and its key opens nothing any more."""
        was_up = peer.is_up()
        self._directory.drop(peer)
        if peer.retry is not None:
            peer.retry.cancel()
        if peer.out is not None:
            self._dialer.hang_up(peer.out)
        for session in peer.inbound:
            self._listener.end(session)
        self._drop_backlog(peer, reason)
        peer.out, peer.inbound = None, []
        if was_up:
            self._hub.report(self._sink.on_down, peer.id, reason)

    def _trim(self) -> None:
        """On-demand sessions are few: the least recently used one goes."""
        extra = [p.out for p in self._directory.peers.values() if p.out and p.out.up and p.id not in self._kept]
        for session in sorted(extra, key=lambda s: s.used)[: max(0, len(extra) - self._limits.on_demand)]:
            self._hang_up(self._directory.peers[session.peer], session)

    def _sweep(self) -> None:
        """Close what was opened on demand and idles, and the spare one of two opened crosswise."""
        self._sweeper = self._hub.loop.call_later(min(SWEEP_S, self._limits.idle_s / 2), self._sweep)
        for part in (self._listener, self._dialer, self._join):
            part.sweep()
        now = self._hub.loop.time()
        for session in [s for s in self._clients.values() if s.until < now]:
            del self._clients[session.peer]
            self._listener.end(session)
        for peer in self._directory.peers.values():
            out = peer.out
            if out is None or not out.up:
                continue
            idle = peer.id not in self._kept and now - out.used > self._limits.idle_s
            spare = bool(peer.inbound) and peer.key < self._public and now - out.opened > SWEEP_S
            if idle or spare:
                self._hang_up(peer, out)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._hub.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
