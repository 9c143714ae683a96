"""Discovery by multicast beacon: who is one radio hop away, where no server and no name can be relied on.

Every few seconds an agent sends one small datagram to a multicast group, on every interface: its address and id, with
a MAC under a key that whoever holds a token of the cluster has (it follows from the keys of the join socket). Who
hears one of its own cluster has a hint; it proves nothing, and costs a dial at most.

    4 bytes  "JUB1"
    8 bytes  fingerprint of the cluster, its first half: others' beacons are passed over without a MAC
    8 bytes  id of the sender
    4 + 4    boot of the sender, and how many beacons it has sent since: never less than what was heard before
    1 + n    its address, host:port
    16       keyed BLAKE2b over all that

There are no clocks in it: nodes in the field disagree on the time. A replay to one who heard the sender before is
dropped by the counter; to one who never did it names an address where the sender once was.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from jupiter_agent.adapters.ports import parse_address
from jupiter_agent.adapters.rates import Rates
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.errors import PeerError, UsageError

SOURCE = "beacon"
EVERY_S = 5.0
MAX_BYTES = 200
ADDRESS_BYTES = 120
RATE_PER_S, BURST = 50.0, 100.0
SOURCE_RATE_PER_S, SOURCE_BURST = 2.0, 10.0
"""of one sending host; several agents may share it"""
MOST_SENDERS = 1024
MOST_INTERFACES = 16

_MAGIC = b"JUB1"
_HEAD = struct.Struct("!4s8s8sIIB")
MAC_BYTES = 16
_KEY_LABEL = b"jupiter 1 beacon"

log = logging.getLogger("jupiter")


@dataclass(frozen=True)
class Beacon:
    """What one datagram says."""

    node: str
    address: str
    boot: int
    count: int


@dataclass(frozen=True)
class Seal:
    """What makes beacons of one cluster, and tells them from others'."""

    cluster: bytes
    """fingerprint of the issuer's key"""
    key: bytes

    def __repr__(self) -> str:
        return f"Seal({self.cluster.hex()})"


def beacon_key(door: bytes) -> bytes:
    """From the secrets of the join socket, which every holder of a token has (`keys.door_of`)."""
    return hashlib.blake2b(_KEY_LABEL, key=hashlib.sha256(door).digest(), digest_size=32).digest()


def encode(beacon: Beacon, seal: Seal) -> bytes:
    """UsageError for an address that is too long."""
    address = beacon.address.encode()
    if len(address) > ADDRESS_BYTES:
        raise UsageError(f"{beacon.address} is too long for a beacon", f"--advertise one of {ADDRESS_BYTES} bytes")
    node, cluster = bytes.fromhex(beacon.node), seal.cluster[:8]
    head = _HEAD.pack(_MAGIC, cluster, node, beacon.boot & 0xFFFFFFFF, beacon.count & 0xFFFFFFFF, len(address))
    return _sealed(head + address, seal.key)


def decode(datagram: bytes, seal: Seal) -> Beacon | None:
    """What it says; None when it is of another cluster. PeerError: "beacon: garbage" or "beacon: forged"."""
    if not _HEAD.size + MAC_BYTES < len(datagram) <= MAX_BYTES or not datagram.startswith(_MAGIC):
        raise PeerError("beacon: garbage")
    _, cluster, node, boot, count, size = _HEAD.unpack_from(datagram)
    if len(datagram) != _HEAD.size + size + MAC_BYTES:
        raise PeerError("beacon: garbage")
    if cluster != seal.cluster[:8]:
        return None
    body = datagram[:-MAC_BYTES]
    if not hmac.compare_digest(_mac(body, seal.key), datagram[-MAC_BYTES:]):
        raise PeerError("beacon: forged")
    try:
        address = body[_HEAD.size :].decode("ascii")
        _, port = parse_address(address)
    except (UnicodeDecodeError, UsageError):
        raise PeerError("beacon: garbage") from None
    if not 0 < port < 65535 or not address.isprintable():
        raise PeerError("beacon: garbage")
    return Beacon(node.hex(), address, boot, count)


def _sealed(body: bytes, key: bytes) -> bytes:
    return body + _mac(body, key)


def _mac(body: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(body, key=key, digest_size=MAC_BYTES).digest()


class Ear:
    """What is made of datagrams that come in: at most so many, each at most once."""

    def __init__(self, me: str, seal: Seal) -> None:
        self.seal = seal
        self.counters: Counter[str] = Counter()
        self._me = me
        self._of_each = Rates(SOURCE_RATE_PER_S, SOURCE_BURST)
        self._of_all = Rates(RATE_PER_S, BURST)
        self._heard: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def take(self, datagram: bytes, host: str, now: float) -> Hint | None:
        """The hint in a datagram from this host; None, and counted why, if it has none."""
        if not (self._of_each.take(host, now) and self._of_all.take("", now)):
            self.counters["beacon_rate"] += 1
            return None
        try:
            beacon = decode(datagram, self.seal)
        except PeerError as error:
            self.counters[error.message.replace(": ", "_")] += 1
            return None
        if beacon is None:
            self.counters["beacon_foreign"] += 1
        elif beacon.node != self._me and self._is_newer(beacon):
            self.counters["beacon_heard"] += 1
            return Hint(beacon.address, SOURCE, beacon.node)
        return None

    def _is_newer(self, beacon: Beacon) -> bool:
        order = (beacon.boot, beacon.count)
        if order <= self._heard.get(beacon.node, (-1, -1)):
            self.counters["beacon_replayed"] += 1
            return False
        self._heard[beacon.node] = order
        self._heard.move_to_end(beacon.node)
        if len(self._heard) > MOST_SENDERS:
            self._heard.popitem(last=False)
        return True


class BeaconSocket(asyncio.DatagramProtocol):
    """Sends this agent's beacon, and posts what it hears. `mine` is asked before each beacon."""

    def __init__(
        self, group: str, ear: Ear, mine: Callable[[], Beacon], post: Callable[[SeedsFound], None], rng: Random
    ) -> None:
        self._group = parse_address(group)
        self._ear, self._mine, self._post, self._rng = ear, mine, post, rng
        self._loop = asyncio.get_running_loop()
        self._joined: set[int] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._sock: socket.socket | None = None
        self._due: asyncio.TimerHandle | None = None

    @property
    def counters(self) -> Counter[str]:
        return self._ear.counters

    async def start(self) -> None:
        """OSError where there are no such sockets."""
        sock = self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            sock.bind(self._group)
            sock.setblocking(False)
            self._transport, _ = await self._loop.create_datagram_endpoint(lambda: self, sock=sock)
        except OSError:
            sock.close()
            raise
        self._send()

    def close(self) -> None:
        if self._due is not None:
            self._due.cancel()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        hint = self._ear.take(data, addr[0], self._loop.time())
        if hint is not None:
            self._post(SeedsFound((hint,)))

    def error_received(self, exc: Exception) -> None:
        self.counters["beacon_errors"] += 1

    def _send(self) -> None:
        """On every interface; radios come and go, so they are looked at each time."""
        self._due = self._loop.call_later(EVERY_S * self._rng.uniform(0.8, 1.2), self._send)
        datagram = encode(self._mine(), self._ear.seal)
        sock = self._sock
        assert sock is not None
        for index in interfaces():
            try:
                self._join(sock, index)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _mreqn("0.0.0.0", index))
                sock.sendto(datagram, self._group)
                self.counters["beacon_sent"] += 1
            except OSError:  # down, without an address, or not made for multicast
                self._joined.discard(index)
                self.counters["beacon_unsent"] += 1

    def _join(self, sock: socket.socket, index: int) -> None:
        if index not in self._joined:
            try:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _mreqn(self._group[0], index))
            except OSError as error:
                if error.errno != 98:  # EADDRINUSE: it is a member there
                    raise
            self._joined.add(index)


def interfaces() -> list[int]:
    """Indices of those that may lead to others; loopback only where there is nothing else."""
    found = socket.if_nameindex()
    return [index for index, name in found if name != "lo"][:MOST_INTERFACES] or [index for index, _ in found]


def _mreqn(group: str, index: int) -> bytes:
    return struct.pack("4s4si", socket.inet_aton(group), b"\0\0\0\0", index)
