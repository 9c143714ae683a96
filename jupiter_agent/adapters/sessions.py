"""What the parts of the ZeroMQ transport share: sessions, the directory of peers (also the allow-list), the hub.

A session is one authenticated TCP connection, whoever opened it, used in both directions. A peer may have several: at
most one that we opened, and any that it opened.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import zmq

from jupiter_agent.adapters.curve import Context, Socket, readable
from jupiter_agent.adapters.gate import ADMIT, REFUSE, WAIT
from jupiter_agent.core.ids import CLIENT_PREFIX

log = logging.getLogger("jupiter")
HELLO, GOODBYE = b"hello", b"bye"
"""Our own words to the other transport: two parts, '' and the word; whatever has one part is a frame."""

MAX_CLIENTS = 256
INF = float("inf")

KNOCKS, KNOCK_WINDOW_S, BAN_S = 3, 10.0, 30.0
_send = zmq.backend.Socket.send
"""Without pyzmq's conversions of arguments, which cost more than the sending."""
_LAST = int(zmq.NOBLOCK)
_MORE = _LAST | int(zmq.SNDMORE)

SOUND_S = 2.0
"""A session that lived this long, or delivered a frame, shows that its peer is not in a loop of broken sessions."""


@dataclass(slots=True, eq=False)
class Session:
    """`route` is how its ROUTER calls it; `used` the last time a frame passed, either way."""

    peer: str
    route: bytes
    outgoing: bool
    opened: float
    used: float
    up: bool = False
    endpoint: str = ""
    fd: int = -1
    until: float = float("inf")
    """when the token of the client ends"""


@dataclass(slots=True, eq=False)
class Peer:
    """One entry of the directory and all that is going on with it."""

    id: str
    address: str
    key: str
    out: Session | None = None
    inbound: list[Session] = field(default_factory=list)
    backlog: deque[bytes] = field(default_factory=deque)
    backlog_bytes: int = 0
    failures: int = 0
    not_before: float = 0.0
    retry: asyncio.TimerHandle | None = None

    def is_up(self) -> bool:
        return bool(self.inbound) or (self.out is not None and self.out.up)


class SessionOwner(Protocol):
    """Whom dialer and listener tell. Called from the loop, never from inside a call to them."""

    def session_up(self, session: Session) -> None: ...

    def session_end(self, session: Session, reason: str) -> None: ...

    def session_frame(self, session: Session, frame: bytes) -> None: ...


Turn = Callable[[], None]


class Drained(Protocol):
    """The owner of one socket."""

    share: int
    """frames that one turn takes from it at most: together about a hundred, so that a flood starves no timer"""

    @property
    def socket(self) -> Socket: ...

    def drain(self, limit: int) -> bool:
        """Take up to `limit` frames; whether more may be waiting."""
        ...


class Hub:
    """Loop, context, counters, which sockets are to be looked at, and the queue of what the sink is to be told.

    All sockets are drained by hand. The descriptor of each is edge-triggered: what was told once, or used since, is
    looked at until it has nothing, and all others are left alone, as to look costs a system call.
    """

    def __init__(self, context: Context, counts: Counter[str], patience: float = 1.0) -> None:
        self.patience = patience
        self.loop = asyncio.get_running_loop()
        self.context = context
        self.counts = counts
        self.closed = False
        self._reports: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._used: dict[Drained, None] = {}
        """whose sockets are to be looked at"""
        self._due = False
        self._in_turn = False
        self.around: Callable[[Turn], None] = lambda turn: turn()
        """what turns run inside of: whoever is told something may want to act on it once a turn is over"""

    def watch(self, part: Drained) -> None:
        """Look at its socket when its descriptor says so, until `unwatch`."""
        self.loop.add_reader(part.socket.FD, self._wake, part)

    def unwatch(self, part: Drained) -> None:
        self.loop.remove_reader(part.socket.FD)
        self._used.pop(part, None)

    def touch(self, part: Drained | None = None) -> None:
        """A socket was used: its edge may be gone, so look at it again soon. Or there is something to tell."""
        if part is not None:
            self._used[part] = None
        if not self._due and not self.closed:
            self._due = True
            self.loop.call_soon(self._soon)

    def _wake(self, part: Drained) -> None:
        self._used[part] = None
        self.around(self._turn)

    def _soon(self) -> None:
        self._due = False
        self.around(self._turn)

    def _turn(self) -> None:
        if self.closed:
            return
        self._in_turn = True
        used, self._used = self._used, {}
        try:
            for part in list(used):
                if not part.drain(part.share):
                    del used[part]
            self.flush()
        finally:  # whatever happens, no socket is forgotten that may have more
            self._in_turn = False
            for part in used:
                self.touch(part)

    def send(self, part: Drained, parts: list[bytes], on_lost: Callable[[], None]) -> bool:
        """Send on a ROUTER without waiting; what does not leave is counted, and a lost session told soon."""
        sock = part.socket
        try:
            for word in parts[:-1]:
                _send(sock, word, _MORE)
            _send(sock, parts[-1], _LAST)
        except zmq.ZMQError as error:
            full = error.errno == zmq.EAGAIN
            self.counts["dropped_full" if full else "dropped_lost"] += 1
            if not full:
                self.loop.call_soon(on_lost)
            return False
        finally:
            self.is_waiting(part)  # sending, or trying to, may have taken the edge of what came meanwhile
        return True

    def is_waiting(self, part: Drained) -> bool:
        """Whether there is something to drain, which then will be: to look takes the edge."""
        if found := readable(part.socket):
            self.touch(part)
        return found

    def report(self, callback: Callable[..., None], *args: Any) -> None:
        """Have the sink told on a later turn, in the order of the calls."""
        self._reports.append((callback, args))
        if not self._in_turn:  # a turn ends with telling them
            self.touch()

    def flush(self) -> None:
        """Tell what was due when this was called; what comes up meanwhile waits for the next turn."""
        try:
            for _ in range(len(self._reports)):
                if self.closed:
                    return
                callback, args = self._reports.popleft()
                callback(*args)
        finally:
            if self._reports:
                self.touch()


class Directory:
    """Peers by id and by key. Also the rule of the gate: members and operators come in, others wait, bans hold."""

    def __init__(self, hub: Hub, operator_key: str) -> None:
        self._hub = hub
        self._operator_key = operator_key
        self._by_key: dict[str, str] = {}
        self._knocks: dict[str, deque[float]] = {}
        self._banned: dict[str, float] = {}
        self._barred: dict[str, float] = {}
        self._clients: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self.peers: dict[str, Peer] = {}

    def put(self, peer: Peer) -> None:
        """Enter a peer. Whoever says another's key of itself takes it from nobody: it belongs to the first."""
        self.peers[peer.id] = peer
        owner = self._by_key.setdefault(peer.key, peer.id)
        if owner != peer.id:
            self._hub.counts["keys_of_others"] += 1
            log.warning("member %s has the key of %s in its record: it is not reached", peer.id, owner)

    def drop(self, peer: Peer) -> None:
        """Its key opens nothing any more, unless it is another's; the next that has it gets it."""
        del self.peers[peer.id]
        if self.holds_key(peer):
            for table in (self._by_key, self._knocks, self._banned):
                table.pop(peer.key, None)
            if heir := next((other for other in self.peers.values() if other.key == peer.key), None):
                self._by_key[peer.key] = heir.id

    def holds_key(self, peer: Peer) -> bool:
        """Whether the key of its record is its own."""
        return self._by_key.get(peer.key) == peer.id

    def bar(self, key: str, for_s: float) -> None:
        """Refuse this key for so long, whosever it is."""
        now = self._hub.loop.time()
        self._barred = {known: until for known, until in self._barred.items() if until > now} | {key: now + for_s}

    def owner_of(self, key: str) -> str:
        """The peer id behind an authenticated key, CLIENT_PREFIX for an operator, '' for nobody we know."""
        if key == self._operator_key:
            return CLIENT_PREFIX
        if key in self._by_key:
            return self._by_key[key]
        return f"{CLIENT_PREFIX}{self._clients[key][0]}:" if self.until(key) > self._hub.loop.time() else ""

    def admit_client(self, key: str, role: str, for_s: float) -> None:
        """An operator whose token was seen to be right; those seen longest ago are forgotten, and show it again."""
        self._clients[key] = (role, self._hub.loop.time() + for_s)
        self._clients.move_to_end(key)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)

    def change_operator(self, key: str) -> str:
        """The owner has another key from now on; the one it had."""
        was, self._operator_key = self._operator_key, key
        return was

    def until(self, key: str) -> float:
        """Loop time at which a key ends: of an operator with its token, -inf for one that is not known."""
        return INF if key == self._operator_key or key in self._by_key else self._clients.get(key, ("", -INF))[1]

    def is_peer(self, key: str) -> bool:
        """One look into a dict, which any thread may take."""
        return key in self._by_key

    def rule(self, key: str) -> str:
        """Gate rule of the agent's socket. A member's key that only ever knocks is in a loop: it is banned for 30 s."""
        if key == self._operator_key:
            return ADMIT
        if self._barred.get(key, 0.0) > self._hub.loop.time():
            self._hub.counts["dropped_banned"] += 1
            return REFUSE
        if key not in self._by_key:
            if key in self._clients:
                return ADMIT if self.until(key) > self._hub.loop.time() else REFUSE
            return WAIT
        now = self._hub.loop.time()
        if self._banned.get(key, 0.0) > now:
            self._hub.counts["dropped_banned"] += 1
            return REFUSE
        knocks = self._knocks.setdefault(key, deque(maxlen=KNOCKS))
        if len(knocks) == KNOCKS and now - knocks[0] < KNOCK_WINDOW_S:
            self._banned[key] = now + BAN_S
            knocks.clear()
            self._hub.counts["bans"] += 1
            return REFUSE
        knocks.append(now)
        return ADMIT

    def is_sound(self, key: str) -> None:
        """A session of this key delivered something or lasted: no loop."""
        if key in self._knocks:
            self._knocks[key].clear()
