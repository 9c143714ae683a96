"""Two worlds for the transport conformance suite: ZeroMQ over loopback, and memory in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from jupiter_agent.adapters.curve import AccessKeys, CurvePair
from jupiter_agent.adapters.memory import MemoryTransport, Network
from jupiter_agent.adapters.transport import Transport
from jupiter_agent.adapters.zeromq import Limits, ZmqTransport


def new_pair() -> CurvePair:
    public, secret = zmq.curve_keypair()
    return CurvePair(public.decode(), secret.decode())


class Node:
    """One agent's end: its transport, and everything it was told, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pair = new_pair()
        self.address = ""
        self.transport: Transport
        self.told: list[tuple[Any, ...]] = []
        self.inside: str = ""

    def on_frame(self, src: str, frame: bytes) -> None:
        self._tell("frame", src, frame)

    def on_up(self, peer: str) -> None:
        self._tell("up", peer)

    def on_down(self, peer: str, reason: str) -> None:
        self._tell("down", peer, reason)

    def on_port(self, peer: str, outcome: str) -> None:
        self._tell("port", peer, outcome)

    def on_join(self, src: str, frame: bytes) -> None:
        self._tell("join", src, frame)
        self.transport.send(src, b"answer to " + frame)

    def _tell(self, *what: Any) -> None:
        assert not self.inside, f"{what} was reported from inside {self.inside}"
        self.told.append(what)

    def frames(self) -> list[bytes]:
        return [what[2] for what in self.told if what[0] == "frame"]

    def heard(self, *what: Any) -> int:
        """How often something that starts like `what` was told."""
        return sum(each[: len(what)] == what for each in self.told)

    def do(self, method: str, *args: Any) -> None:
        """Call the transport; whatever it reports must come later."""
        self.inside = method
        try:
            getattr(self.transport, method)(*args)
        finally:
            self.inside = ""

    def learn(self, other: Node, address: str = "", key: str = "") -> None:
        self.do("learn", other.name, address or other.address, key or other.pair.public)

    def send(self, other: Node, frame: bytes) -> None:
        self.do("send", other.name, frame)


class Rig(Protocol):
    """A world with nodes in it."""

    idle_s: float

    def node(self, name: str) -> Node: ...

    def restart(self, node: Node, move: bool = False) -> None:
        """Start it again after `stop`, with its old key: at its old address, or `move`d to a new one."""

    def stop(self, node: Node) -> None: ...

    def run(self, until: Callable[[], object], limit_s: float = 10.0) -> None:
        """Until it is true; AssertionError when it is not within `limit_s`."""

    def run_for(self, seconds: float) -> None: ...

    def close(self) -> None: ...


def introduce(*nodes: Node) -> None:
    for a in nodes:
        for b in nodes:
            if a is not b:
                a.learn(b)


class ZmqRig:
    """Real sockets on loopback, real time."""

    idle_s = 0.6

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.access = AccessKeys(new_pair(), new_pair(), new_pair())
        self._running: list[Node] = []

    def node(self, name: str) -> Node:
        node = Node(name)
        self._start(node, "127.0.0.1:0")
        return node

    def _start(self, node: Node, bind: str) -> None:
        async def build() -> ZmqTransport:
            return ZmqTransport(node, node.pair, self.access, bind, Limits(on_demand=4, idle_s=self.idle_s))

        transport = self.loop.run_until_complete(build())
        node.transport, node.address = transport, transport.address
        self._running.append(node)

    def restart(self, node: Node, move: bool = False) -> None:
        self._start(node, "127.0.0.1:0" if move else node.address)

    def stop(self, node: Node) -> None:
        node.transport.close()
        self._running.remove(node)

    def run(self, until: Callable[[], object], limit_s: float = 10.0) -> None:
        async def wait() -> None:
            async with asyncio.timeout(limit_s):
                while not until():
                    await asyncio.sleep(0.005)

        try:
            self.loop.run_until_complete(wait())
        except TimeoutError:
            raise AssertionError(f"not within {limit_s} s; {[n.told[-5:] for n in self._running]}") from None

    def run_for(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        for node in self._running:
            node.transport.close()
        self.run_for(0.01)
        self.loop.close()


class MemoryRig:
    """The simulated network."""

    idle_s = 10.0

    def __init__(self) -> None:
        self.network = Network(random.Random(1))
        self._hosts = 0

    def node(self, name: str) -> Node:
        node = Node(name)
        self.restart(node, move=True)
        return node

    def restart(self, node: Node, move: bool = False) -> None:
        if move:
            self._hosts += 1
            node.address = f"10.0.0.{self._hosts}:7000"
        node.transport = self.network.attach(node.name, node.address, node.pair.public, node)

    def stop(self, node: Node) -> None:
        assert isinstance(node.transport, MemoryTransport)
        node.transport.close()

    def run(self, until: Callable[[], object], limit_s: float = 10.0) -> None:
        end = self.network.now + limit_s
        while not until():
            assert self.network.step(end), f"not within {limit_s} s"

    def run_for(self, seconds: float) -> None:
        end = self.network.now + seconds
        while self.network.step(end):
            pass

    def close(self) -> None:
        pass
