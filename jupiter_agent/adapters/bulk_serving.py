"""The serving half of the bulk channel: a bound CURVE ROUTER with a gate of its own, on the bulk thread.

What is asked for is answered in order, a piece of a file each. Who asks for more than the queue of its session holds
loses the rest of it: those who keep to their window never do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import zmq
from zmq.utils import z85

from jupiter_agent.adapters.curve import CurvePair, Socket, curve_server, readable
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.adapters.ports import format_address
from jupiter_agent.core.messages.bulk import Ask, Gone, Knock, Part, from_taker, to_frame
from jupiter_agent.errors import PeerError

DOMAIN = b"jupiter-bulk"
ASK_BYTES = 4096
QUEUE_FRAMES = 256
"""Twice as many as the smallest parts in a full window"""


class BulkServer:
    """Used by one thread once it is bound. `admit`: whether a key (Z85) is a member's."""

    def __init__(
        self, context: zmq.Context[Socket], pair: CurvePair, objects: ObjectStore, admit: Callable[[str], bool],
        counters: Counter[str],
    ) -> None:  # fmt: skip
        self._objects, self._admit, self._counters = objects, admit, counters
        self._gate: Socket = context.socket(zmq.REP)
        self._gate.setsockopt(zmq.LINGER, 0)
        self._gate.bind("inproc://zeromq.zap.01")
        self._sock = curve_server(context, pair, DOMAIN, ASK_BYTES)
        self._sock.set_hwm(QUEUE_FRAMES)
        self.sockets = (self._gate, self._sock)

    def bind(self, host: str) -> int:
        """A port of the kernel's choice on this host; 0 when there is none."""
        try:
            self._sock.bind("tcp://" + format_address(host, 0).removesuffix("0") + "*")
        except zmq.ZMQError:
            return 0
        return int(bytes(self._sock.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").rpartition(b":")[2])

    def close(self) -> None:
        for sock in self.sockets:
            sock.close(0)

    def has_work(self) -> bool:
        return any(map(readable, self.sockets))

    def serve(self, limit: int) -> None:
        """Answer who knocks at the gate, and up to `limit` asks."""
        while readable(self._gate):
            self._judge(self._gate.recv_multipart())
        for _ in range(limit):
            if not readable(self._sock):
                return
            route, frame, *more = self._sock.recv_multipart(copy=False)
            if not more and self._admit(str(frame.get("User-Id"))):
                self._answer(route.bytes, frame.bytes)
            else:
                self._counters["bulk_refused"] += 1

    def _judge(self, parts: list[bytes]) -> None:
        """parts: version, request id, domain, address, identity, mechanism, key (32 bytes)."""
        known = len(parts) == 7 and parts[5] == b"CURVE" and len(parts[6]) == 32
        key = z85.encode(parts[6]).decode() if known else ""
        status = (b"200", b"", key.encode()) if known and self._admit(key) else (b"400", b"not known here", b"")
        request = parts[1] if len(parts) > 1 else b""
        self._gate.send_multipart([b"1.0", request, *status, b""])

    def _answer(self, route: bytes, frame: bytes) -> None:
        try:
            said = from_taker(frame)
        except PeerError:
            self._counters["bulk_garbage"] += 1
            return
        if isinstance(said, Knock):
            self._send([route, to_frame(said)])
            return
        self._send([route, *self._piece(said)])

    def _piece(self, ask: Ask) -> list[bytes]:
        size = self._objects.size(ask.sha256)
        data = self._objects.read_chunk(ask.sha256, ask.offset, ask.length) if size is not None else None
        if size is None or not data:
            return [to_frame(Gone(ask.sha256))]
        self._counters["bulk_bytes_out"] += len(data)
        return [to_frame(Part(ask.sha256, size, ask.offset)), data]

    def _send(self, parts: list[bytes]) -> None:
        try:
            self._sock.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:
            self._counters["bulk_dropped_full"] += 1  # or its session is gone
