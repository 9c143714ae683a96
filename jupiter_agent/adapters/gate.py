"""The gate: answers libzmq's questions who may come in (ZAP, RFC 27), inline on the loop, from a live allow-list.

CURVE without a ZAP handler admits any client, so the gate is bound before the first server socket. A known key gets 200
and becomes the connection's User-Id, the only identity we ever believe. A well-formed key we do not know (yet: records
travel by gossip, and a joiner often knocks before its record arrives) waits here for up to `PATIENCE_S` and then gets
300, a temporary refusal that its handshake limit ends; 400 would make some clients never come back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import zmq
from zmq.utils import z85

from jupiter_agent.adapters.curve import Context, readable

PATIENCE_S = 0.4
MAX_WAITING, MAX_WAITING_EACH = 64, 32
"""keys that wait: of all addresses, and of one"""

ADMIT, WAIT, REFUSE = "admit", "wait", "refuse"
Rule = Callable[[str], str]
"""Z85 public key -> ADMIT, WAIT (unknown so far) or REFUSE (banned, or it can never become known)."""


class Knock(NamedTuple):
    """A handshake that waits until its key is known, or `deadline`."""

    domain: bytes
    key: str
    address: bytes
    deadline: float


class Gate:
    """One per ZeroMQ context; a rule per ZAP domain."""

    def __init__(self, context: Context, counts: Counter[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._counts = counts
        self._rules: dict[bytes, Rule] = {}
        self._waiting: dict[tuple[bytes, bytes], Knock] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sock = context.socket(zmq.ROUTER)
        self._sock.setsockopt(zmq.LINGER, 0)
        self._sock.bind("inproc://zeromq.zap.01")
        self._loop.add_reader(self._sock.FD, self._drain)
        self._loop.call_soon(self._drain)  # the edge of before the reader was there

    def admit_by(self, domain: bytes, rule: Rule) -> None:
        """Ask `rule` about every key that knocks at a socket of this domain."""
        self._rules[domain] = rule

    def recheck(self) -> None:
        """The allow-list grew: let in who was waiting for it."""
        for (envelope, request), knock in list(self._waiting.items()):
            if self._rules[knock.domain](knock.key) == ADMIT:
                del self._waiting[envelope, request]
                self._answer(envelope, request, knock.key, admitted=True)
        self._drain()

    def close(self) -> None:
        self._loop.remove_reader(self._sock.FD)
        if self._timer is not None:
            self._timer.cancel()
        self._sock.close(0)

    def _drain(self) -> None:
        for _ in range(100):
            if self._sock.closed or not readable(self._sock):
                return
            self._ask(self._sock.recv_multipart())
        self._loop.call_soon(self._drain)

    def _ask(self, parts: list[bytes]) -> None:
        """parts: envelope, '', version, request id, domain, address, identity, mechanism, key (32 bytes)."""
        if len(parts) < 4:
            return
        envelope, request = parts[0], parts[3]
        if len(parts) != 9 or parts[7] != b"CURVE" or len(parts[8]) != 32 or parts[4] not in self._rules:
            self._answer(envelope, request, "", admitted=False)
            return
        key = z85.encode(parts[8]).decode()
        verdict = self._rules[parts[4]](key)
        if verdict == WAIT and self._has_room(parts[5]):
            self._waiting[envelope, request] = Knock(parts[4], key, parts[5], self._loop.time() + PATIENCE_S)
            if self._timer is None:
                self._timer = self._loop.call_later(PATIENCE_S, self._expire)
        else:
            self._answer(envelope, request, key, admitted=verdict == ADMIT)

    def _has_room(self, address: bytes) -> bool:
        """Strangers from one address leave room for those from others."""
        same = sum(knock.address == address for knock in self._waiting.values())
        return len(self._waiting) < MAX_WAITING and same < MAX_WAITING_EACH

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for (envelope, request), knock in list(self._waiting.items()):
            if knock.deadline <= now:
                del self._waiting[envelope, request]
                self._answer(envelope, request, knock.key, admitted=False)
        if self._waiting:
            first = min(knock.deadline for knock in self._waiting.values())
            self._timer = self._loop.call_at(first, self._expire)
        self._drain()

    def _answer(self, envelope: bytes, request: bytes, key: str, *, admitted: bool) -> None:
        self._counts["handshakes_admitted" if admitted else "dropped_unknown_key"] += 1
        status = (b"200", b"", key.encode()) if admitted else (b"300", b"not known here", b"")
        self._sock.send_multipart([envelope, b"", b"1.0", request, *status, b""])
