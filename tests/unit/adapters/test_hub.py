"""The hub: no socket is forgotten that has more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from jupiter_agent.adapters.curve import Socket, readable
from jupiter_agent.adapters.sessions import Hub


class Part:
    share = 50

    def __init__(self, hub: Hub, sock: Socket) -> None:
        self.socket, self.got = sock, list[bytes]()
        hub.watch(self)
        hub.touch(self)

    def drain(self, limit: int) -> bool:
        for _ in range(limit):
            if not readable(self.socket):
                return False
            self.got.append(self.socket.recv_multipart()[-1])
        return True


@contextmanager
def rig() -> Iterator[tuple[Hub, Part, Socket]]:
    context: zmq.Context[Socket] = zmq.Context()
    hub = Hub(context, Counter())
    server, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    server.setsockopt(zmq.ROUTER_MANDATORY, 1)
    client.connect(f"tcp://127.0.0.1:{server.bind_to_random_port('tcp://127.0.0.1')}")
    part = Part(hub, server)
    try:
        yield hub, part, client
    finally:
        hub.closed = True
        hub.unwatch(part)
        client.close(0)
        server.close(0)
        context.term()


async def until(part: Part, count: int) -> None:
    async with asyncio.timeout(5):
        while len(part.got) < count:
            await asyncio.sleep(0.01)


def test_a_failed_send_loses_nothing_that_came_meanwhile() -> None:
    async def story() -> None:
        with rig() as (hub, part, client):
            client.send(b"first")
            await until(part, 1)
            client.send(b"second")
            time.sleep(0.2)  # it comes while the loop is busy
            assert not hub.send(part, [b"nobody", b"x"], lambda: None)
            await until(part, 2)

    asyncio.run(story())


def test_a_sink_that_raises_strands_no_socket() -> None:
    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with rig() as (hub, part, client):
            part.share = 1
            client.send(b"first")
            await until(part, 1)
            hub.report(raising)
            for word in (b"a", b"b", b"c"):
                client.send(word)
            await until(part, 4)

    def raising() -> None:
        raise RuntimeError("a sink")

    asyncio.run(story())
