"""CURVE sockets: key pairs, the options every socket of ours carries, monitor events, free ports.

Options that cost others days: LINGER 0 (a dead peer must not hold up the end), small high-water marks (memory is mark
times frame size per peer), ROUTER_MANDATORY (an error instead of a silent drop), no HANDOVER (an identity could be
stolen), RECONNECT_IVL -1 (libzmq would hammer on, we decide when), heartbeats (a path that died silently ends within
6 s although TCP would wait for minutes; membership finds its own silent links itself, so they need not be frequent:
at 1.5 s they were three of five packets of an idle agent).
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import zmq

from jupiter_agent.adapters.ports import JOIN_PORT_OFFSET, format_address
from jupiter_agent.errors import UsageError

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

MAX_FRAME_BYTES = 1 << 20
CURVE_OVERHEAD_BYTES = 64
"""What an encrypted frame may carry on top (16 of MAC, 16 of nonce and name, 1 of flags; rounded up)."""

QUEUE_FRAMES = 256
CONNECT_TIMEOUT_S = 2.0
HEARTBEAT_S = 3.0
SESSION_HEARTBEAT_S, SELDOM_HEARTBEAT_S = 10.0, 60.0
"""Of sessions between agents, which ask for signs of life themselves, and more often; and the most that patience makes
of it. Each heartbeat wakes up both ends."""
STALLED_S = 3.0

HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
"""Numbers: what asks a hundred times a second pays twice as much for the names of an enumeration."""

_PORTS = range(20_000, 32_766)
"""Below Linux's ephemeral ports (32768 on), where an outgoing connection of anyone could already sit."""


@dataclass(frozen=True, slots=True)
class CurvePair:
    """A CURVE25519 key pair, both halves as 40 characters of Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"CurvePair({self.public})"


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """What whoever holds the join secret can derive: both ends of the join socket, and the operator's own key."""

    join_server: CurvePair
    join_client: CurvePair
    operator: CurvePair


def connect_timeout_s(patience: float) -> float:
    """How long a TCP connect may take: where packets get lost the kernel has to send the first one anew, after 1 and
    3 s."""
    return CONNECT_TIMEOUT_S * max(1.0, patience / 2)


def curve_socket(
    context: Context,
    kind: int,
    pair: CurvePair,
    max_bytes: int = MAX_FRAME_BYTES,
    patience: float = 1.0,
    heartbeat_s: float = HEARTBEAT_S,
) -> Socket:
    """A socket with our options and keys, neither bound nor connected. `patience` stretches heartbeats and the time
    after which a silent session is given up."""
    sock = context.socket(kind)
    ms = 1000
    stalled = int(STALLED_S * patience * ms)
    seldom = max(heartbeat_s, min(SELDOM_HEARTBEAT_S, heartbeat_s * patience * max(1.0, patience / 2)))
    heartbeat = int(seldom * ms)
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.SNDHWM, QUEUE_FRAMES),
        (zmq.RCVHWM, QUEUE_FRAMES),
        (zmq.MAXMSGSIZE, max_bytes + CURVE_OVERHEAD_BYTES),
        (zmq.RECONNECT_IVL, -1),
        (zmq.CONNECT_TIMEOUT, int(connect_timeout_s(patience) * ms)),
        (zmq.TCP_MAXRT, max(5 * ms, stalled)),
        (zmq.HEARTBEAT_IVL, heartbeat),
        (zmq.HEARTBEAT_TIMEOUT, stalled),
        (zmq.HEARTBEAT_TTL, 2 * max(stalled, heartbeat)),
        (zmq.BACKLOG, 256),
        (zmq.IPV6, 1),
    ):
        sock.setsockopt(option, value)
    if kind == zmq.ROUTER:
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
    sock.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
    sock.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
    return sock


def curve_server(
    context: Context,
    pair: CurvePair,
    domain: bytes,
    max_bytes: int,
    patience: float = 1.0,
    heartbeat_s: float = HEARTBEAT_S,
) -> Socket:
    """A ROUTER that admits whom the gate of ZAP `domain` admits; half-open connections end after `STALLED_S`."""
    sock = curve_socket(context, zmq.ROUTER, pair, max_bytes, patience, heartbeat_s)
    sock.setsockopt(zmq.CURVE_SERVER, 1)
    sock.setsockopt(zmq.ZAP_DOMAIN, domain)
    sock.setsockopt(zmq.HANDSHAKE_IVL, int(STALLED_S * patience * 1000))
    return sock


def monitor_events(monitor: Socket, limit: int) -> list[tuple[int, int, str]]:
    """Up to `limit` pending (event, value, endpoint)."""
    events: list[tuple[int, int, str]] = []
    while len(events) < limit and readable(monitor):
        head, endpoint = monitor.recv_multipart()[:2]
        event, value = struct.unpack("=Hi", head)
        events.append((event, value, endpoint.decode(errors="replace")))
    return events


def readable(sock: Socket) -> bool:
    """Whether a message is waiting. Must be asked after every send and receive: the descriptor is edge-triggered."""
    return bool(int(sock.getsockopt(_EVENTS)) & _POLLIN)


def bind_pair(agent: Socket, join: Socket, host: str, port: int) -> int:
    """Bind both sockets to `port` and the one after it; port 0 picks a free pair. The port, or UsageError."""
    if port:
        _bind(agent, host, port)
        _bind(join, host, port + JOIN_PORT_OFFSET)
        return port
    for _ in range(200):
        port = random.choice(_PORTS)
        if _try_bind(agent, host, port) is None:
            if _try_bind(join, host, port + JOIN_PORT_OFFSET) is None:
                return port
            agent.unbind(_endpoint(host, port))
    _bind(agent, host, port)  # says why not
    raise UsageError(f"no two neighbouring ports are free on {host}", "name one with --bind HOST:PORT")


def bind_join(join: Socket, host: str, port: int) -> bool:
    """Bind a join socket beside the agent's `port`; False while the one before it still has the place."""
    return _try_bind(join, host, port + JOIN_PORT_OFFSET) is None


def _bind(sock: Socket, host: str, port: int) -> None:
    error = _try_bind(sock, host, port)
    if error is None:
        return
    if error.errno == zmq.EADDRINUSE:
        raise UsageError(
            f"port {port} on {host} is taken (an agent uses its port and the one after it)",
            "choose another with --bind HOST:PORT, or a free pair with --bind HOST:0",
        )
    raise UsageError(f"cannot listen on {format_address(host, port)}: {error}", "name an address of this machine")


def _try_bind(sock: Socket, host: str, port: int) -> zmq.ZMQError | None:
    try:
        sock.bind(_endpoint(host, port))
    except zmq.ZMQError as error:
        return error
    return None


def _endpoint(host: str, port: int) -> str:
    return "tcp://" + format_address(host, port)
