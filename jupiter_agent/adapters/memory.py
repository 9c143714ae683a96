"""The transport contract in virtual time: a shared `Network` with delay, loss, partitions and hosts that die.

A `Network` owns the clock and a heap of what is to happen; each `MemoryTransport` is one agent's end of it. A pair of
agents has at most one session, whoever opened it; frames on it keep their order. What a real network does to us is
modelled where it matters to the machines: an unreachable or silent host answers nothing (a connect times out after 2
s, a session is lost after `lost_after_s`), a closed port refuses at once, a key that is not on the allow-list is
asked to try again every 0.5 s, a stopped process (SIGSTOP) still has an open port. Loss drops single frames, which is
worse than TCP ever does; doubled and late frames stand for those of sessions that were opened anew.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from jupiter_agent.adapters.transport import Sink

CONNECT_TIMEOUT_S = 2.0
HANDSHAKE_RETRY_S = 0.5
IDLE_S = 10.0
PENDING_FRAMES = 64
LATE_S = 2.5

UP, STOPPED, CLOSED, SILENT = "up", "stopped", "closed", "silent"

JoinHandler = Callable[[bytes, Callable[[bytes], None]], None]
"""(request frame, answer with a frame)"""


@dataclass(eq=False)
class Session:
    """One authenticated connection between two ends; `kept` by those that called `connect`."""

    ends: tuple[MemoryTransport, MemoryTransport]
    kept: set[str] = field(default_factory=set)
    used_at: float = 0.0
    last_arrival: dict[str, float] = field(default_factory=dict)
    open: bool = True

    def other(self, end: MemoryTransport) -> MemoryTransport:
        return self.ends[1] if self.ends[0] is end else self.ends[0]


class Network:
    """Virtual time and everything between the agents. All randomness comes from `rng`, so that a seed replays
    exactly."""

    def __init__(
        self, rng: random.Random, delay_s: tuple[float, float] = (0.0005, 0.003), lost_after_s: float = 5.0
    ) -> None:
        self.rng = rng
        self.delay_s = delay_s
        self.lost_after_s = lost_after_s
        self.now = 0.0
        self.loss = 0.0
        self.duplicate = 0.0
        """share of frames that arrive twice, the second time up to `LATE_S` later"""
        self.reorder = 0.0
        """share of frames that arrive up to `LATE_S` later, behind younger ones"""
        self.link_delay_s: dict[tuple[str, str], float] = {}
        self.link_loss: dict[tuple[str, str], float] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.rejecting: set[str] = set()
        """addresses whose host refuses new connections, although the agent lives and its sessions go on"""
        self.counters: Counter[str] = Counter()
        self._groups: dict[str, int] = {}
        self._ends: dict[str, MemoryTransport] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # --- time ---

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now + seconds, action)

    def step(self, limit: float) -> bool:
        """Do the next thing that is due by `limit`; False, with the clock at `limit`, when there is none."""
        if not self._due or self._due[0][0] > limit:
            self.now = max(self.now, limit)
            return False
        self.now, _, action = heapq.heappop(self._due)
        action()
        return True

    # --- hosts and faults (by address) ---

    def attach(self, peer: str, address: str, curve_key: str, sink: Sink) -> MemoryTransport:
        """A (re)started agent at an address; its former self there is gone."""
        end = MemoryTransport(self, peer, address, curve_key, sink)
        self._ends[address] = end
        return end

    def end(self, address: str) -> MemoryTransport | None:
        return self._ends.get(address)

    def partition(self, *groups: Iterable[str]) -> None:
        """Only addresses of the same group reach each other; those in no group form one together."""
        self._groups = {address: number for number, group in enumerate(groups, 1) for address in group}
        self.after(self.lost_after_s, self._lose_unreachable)

    def heal(self) -> None:
        self._groups = {}
        self.cuts.clear()

    def moved(self, old: str, new: str) -> None:
        """A host has another address now: it stays on its side of a partition."""
        self._groups[new] = self._groups.get(old, 0)

    def cut(self, src: str, dst: str) -> None:
        """Nothing passes from `src` to `dst` any more; their session is lost when the heartbeats miss it."""
        self.cuts.add((src, dst))
        self.after(self.lost_after_s, self._lose_unreachable)

    def reaches(self, src: str, dst: str) -> bool:
        return self._groups.get(src, 0) == self._groups.get(dst, 0) and (src, dst) not in self.cuts

    def both_ways(self, a: str, b: str) -> bool:
        return self.reaches(a, b) and self.reaches(b, a)

    def crash(self, address: str, how: str = CLOSED) -> None:
        """The process ends. `closed`: its host says so at once; `silent`: nothing is heard of the host any more."""
        end = self._ends[address]
        end.state = how
        if how == CLOSED:
            for session in list(end.sessions.values()):
                self.drop(session, "lost", self.delay(address, address))
        self.after(self.lost_after_s, self._lose_unreachable)

    def _lose_unreachable(self) -> None:
        for end in list(self._ends.values()):
            for session in list(end.sessions.values()):
                other = session.other(end)
                if SILENT in (end.state, other.state) or not self.both_ways(end.address, other.address):
                    self.drop(session, "lost", 0.0)

    def drop(self, session: Session, reason: str, after_s: float) -> None:
        if not session.open:
            return
        session.open = False
        for end in session.ends:
            self.after(after_s, lambda end=end: end.session_gone(session, reason))  # type: ignore[misc]

    def delay(self, src: str, dst: str) -> float:
        return self.link_delay_s.get((src, dst)) or self.rng.uniform(*self.delay_s)

    def lost(self, src: str, dst: str) -> bool:
        loss = self.link_loss.get((src, dst), self.loss)
        return not self.reaches(src, dst) or (loss > 0 and self.rng.random() < loss)

    def on_sent(self, src: str, dst: str, size: int) -> None:
        """Every frame passes here as it leaves, and with size 0 every session as it opens: for networks that count."""

    def happens(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance

    # --- join sockets ---

    def ask_join(self, src: str, address: str, frame: bytes, answer: Callable[[bytes | None, str], None]) -> None:
        """A request to the join socket at an address; `answer` gets a frame, or None and an error."""
        end = self._ends.get(address)
        trip = 4 * self.delay(src, address)
        if end is None or end.state == CLOSED:
            self.after(trip, lambda: answer(None, "refused"))
        elif end.state != UP or end.on_join is None or not self.both_ways(src, address):
            self.after(CONNECT_TIMEOUT_S, lambda: answer(None, "timeout"))
        else:
            handler, answered = end.on_join, [False]

            def once(reply: bytes | None, error: str = "") -> None:
                if not answered[0]:
                    answered[0] = True
                    self.after(trip / 4, lambda: answer(reply, error))

            self.after(trip, lambda: handler(frame, once))
            self.after(CONNECT_TIMEOUT_S, lambda: once(None, "timeout"))


class MemoryTransport:
    """One agent's end: the contract of `adapters/transport.py`."""

    def __init__(self, network: Network, peer: str, address: str, curve_key: str, sink: Sink) -> None:
        self.network, self.peer, self.address, self.curve_key, self.sink = network, peer, address, curve_key, sink
        self.state = UP
        self.sessions: dict[str, Session] = {}
        self.directory: dict[str, tuple[str, str]] = {}
        self.on_join: JoinHandler | None = None
        self._keep: dict[str, int] = {}
        self._barred: dict[str, float] = {}
        self._pending: dict[str, list[bytes]] = {}
        self._opening: set[str] = set()
        self._counts: Counter[str] = Counter()

    # --- the contract ---

    def learn(self, peer: str, address: str, curve_key: str) -> None:
        self.directory[peer] = (address, curve_key)

    def forget(self, peer: str) -> None:
        self.directory.pop(peer, None)
        self._keep.pop(peer, None)
        if peer in self.sessions:
            self.network.drop(self.sessions[peer], "closed", 0.0)

    def ban(self, peer: str, for_s: float) -> None:
        if peer in self.directory:
            self._barred[self.directory[peer][1]] = self.network.now + for_s
        self.forget(peer)

    def connect(self, peer: str) -> None:
        self._keep.setdefault(peer, 0)
        if peer in self.sessions:
            self.sessions[peer].kept.add(self.peer)
        else:
            self._open(peer)

    def disconnect(self, peer: str) -> None:
        self._keep.pop(peer, None)
        session = self.sessions.get(peer)
        if session is not None:
            session.kept.discard(self.peer)
            if not session.kept:
                self.network.drop(session, "closed", 0.0)

    def send(self, peer: str, frame: bytes) -> None:
        session = self.sessions.get(peer)
        if session is not None:
            self._transmit(session, frame)
        elif peer not in self.directory:
            self._counts["dropped_unknown"] += 1
        else:
            pending = self._pending.setdefault(peer, [])
            if len(pending) < PENDING_FRAMES:
                pending.append(frame)
            else:
                self._counts["dropped_full"] += 1
            self._open(peer)

    def test_port(self, peer: str, address: str) -> None:
        network, target = self.network, self.network.end(address)
        if not network.both_ways(self.address, address) or (target is not None and target.state == SILENT):
            network.after(CONNECT_TIMEOUT_S, lambda: self._report_port(peer, "timeout"))
        else:
            closed = target is None or target.state == CLOSED or address in network.rejecting
            outcome = "refused" if closed else "open"
            network.after(2 * network.delay(self.address, address), lambda: self._report_port(peer, outcome))

    def counters(self) -> dict[str, int]:
        return {**self._counts, "sessions": len(self.sessions)}

    def close(self) -> None:
        self.state = CLOSED
        for session in list(self.sessions.values()):
            self.network.drop(session, "lost", self.network.delay(self.address, self.address))

    # --- sessions ---

    def admits(self, peer: str, curve_key: str) -> bool:
        known = self.directory.get(peer, ("", ""))[1] == curve_key
        return known and self._barred.get(curve_key, 0.0) <= self.network.now

    def _open(self, peer: str) -> None:
        if peer in self._opening or peer not in self.directory or self.state != UP:
            return
        self._opening.add(peer)
        network, (address, _) = self.network, self.directory[peer]
        target = network.end(address)
        trip = network.delay(self.address, address)
        if not network.both_ways(self.address, address) or (target is not None and target.state in {SILENT, STOPPED}):
            network.after(CONNECT_TIMEOUT_S, lambda: self._failed(peer, "timeout"))
        elif target is None or target.state == CLOSED or address in network.rejecting:
            network.after(2 * trip, lambda: self._failed(peer, "refused"))
        else:
            deadline = network.now + CONNECT_TIMEOUT_S
            network.after(4 * trip, lambda: self._handshake(peer, target, deadline))

    def _handshake(self, peer: str, target: MemoryTransport, deadline: float) -> None:
        network = self.network
        if CLOSED in {self.state, target.state}:
            self._failed(peer, "refused")
        elif peer in self.sessions:
            self._opening.discard(peer)
        elif target.state != UP or not network.both_ways(self.address, target.address):
            self._failed(peer, "timeout")
        elif self.directory.get(peer, ("", ""))[1] != target.curve_key:
            self._failed(peer, "handshake")
        elif target.admits(self.peer, self.curve_key):
            self._opening.discard(peer)
            self._established(target)
        elif network.now < deadline:
            network.after(HANDSHAKE_RETRY_S, lambda: self._handshake(peer, target, deadline))
        else:
            self._failed(peer, "handshake")

    def _established(self, target: MemoryTransport) -> None:
        session = Session((self, target), used_at=self.network.now)
        self.network.on_sent(self.address, target.address, 0)
        for end in session.ends:
            other = session.other(end)
            end.sessions[other.peer] = session
            if other.peer in end._keep:
                end._keep[other.peer] = 0
                session.kept.add(end.peer)
            end.sink.on_up(other.peer)
        for end in session.ends:
            for frame in end._pending.pop(session.other(end).peer, []):
                end._transmit(session, frame)
        self.network.after(IDLE_S, lambda: self._close_idle(session))

    def _failed(self, peer: str, reason: str) -> None:
        self._opening.discard(peer)
        self._counts["dropped_unreachable"] += len(self._pending.pop(peer, []))
        if self.state != UP or peer in self.sessions:
            return
        self.sink.on_down(peer, reason)
        self._reopen(peer)

    def _reopen(self, peer: str) -> None:
        if peer in self._keep:
            pause = min(5.0, 0.5 * 2 ** min(8, self._keep[peer]))
            self._keep[peer] += 1
            self.network.after(pause, lambda: self._open(peer) if self._wanted(peer) else None)

    def _wanted(self, peer: str) -> bool:
        return peer in self._keep and peer not in self.sessions

    def session_gone(self, session: Session, reason: str) -> None:
        peer = session.other(self).peer
        if self.sessions.get(peer) is not session:
            return
        del self.sessions[peer]
        if self.state in {UP, STOPPED}:
            self.sink.on_down(peer, reason)
            self._reopen(peer)

    def _close_idle(self, session: Session) -> None:
        if session.open and not session.kept and self.network.now - session.used_at >= IDLE_S:
            self.network.drop(session, "closed", 0.0)
        elif session.open:
            self.network.after(IDLE_S, lambda: self._close_idle(session))

    def _transmit(self, session: Session, frame: bytes) -> None:
        network, target = self.network, session.other(self)
        session.used_at = network.now
        self._count("out", frame)
        network.on_sent(self.address, target.address, len(frame))
        if network.lost(self.address, target.address):
            return
        arrival = network.now + network.delay(self.address, target.address)
        if network.happens(network.reorder):
            network.after(network.rng.uniform(0.0, LATE_S), lambda: target._arrived(self, frame))
            return
        arrival = max(arrival, session.last_arrival.get(target.peer, 0.0))
        session.last_arrival[target.peer] = arrival
        network.at(arrival, lambda: target._arrived(self, frame))
        if network.happens(network.duplicate):
            network.at(arrival + network.rng.uniform(0.0, LATE_S), lambda: target._arrived(self, frame))

    def _arrived(self, src: MemoryTransport, frame: bytes) -> None:
        if self.state in {UP, STOPPED} and self.network.reaches(src.address, self.address):
            self._count("in", frame)
            self.sink.on_frame(src.peer, frame)

    def _report_port(self, peer: str, outcome: str) -> None:
        if self.state in {UP, STOPPED}:
            self.sink.on_port(peer, outcome)

    def _count(self, way: str, frame: bytes) -> None:
        self._counts[f"frames_{way}"] += 1
        self._counts[f"bytes_{way}"] += len(frame)
