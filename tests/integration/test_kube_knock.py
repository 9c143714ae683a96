"""What counts as an agent among addresses that a cluster names."""

from __future__ import annotations

import asyncio

import zmq

from jupiter_agent.adapters.curve import CurvePair, bind_pair, curve_server, curve_socket
from jupiter_agent.adapters.kube_knock import is_open
from jupiter_agent.adapters.ports import JOIN_PORT_OFFSET


def test_a_join_socket_greets_who_knocks() -> None:
    public, secret = zmq.curve_keypair()
    pair = CurvePair(public.decode(), secret.decode())
    with zmq.Context() as context:
        agent = curve_socket(context, zmq.ROUTER, pair)
        join = curve_server(context, pair, b"join", 4096)
        port = bind_pair(agent, join, "127.0.0.1", 0)
        assert asyncio.run(is_open(f"127.0.0.1:{port}"))
        agent.close()
        join.close()
        assert not asyncio.run(is_open(f"127.0.0.1:{port}")), "refused"


def test_a_port_that_takes_any_connection_is_no_agent() -> None:
    """As where a proxy stands in every pod's way: it takes connections to addresses that are nobody's."""

    async def knock(words: bytes) -> bool:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(words)
            await writer.drain()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await is_open(f"127.0.0.1:{port - JOIN_PORT_OFFSET}")

    assert not asyncio.run(knock(b""))
    assert not asyncio.run(knock(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
