"""Asking a resolver and a port without holding up the loop (apart from `ports`, which programs without a loop use)."""

from __future__ import annotations

import asyncio
import socket

from jupiter_agent.adapters.ports import format_address, numeric, parse_address
from jupiter_agent.errors import UsageError


async def resolve(address: str) -> list[str]:
    """The numeric forms of an address, asking the resolver off the loop. OSError (unknown name) or UsageError."""
    known = numeric(address)
    if known is not None:
        return [known]
    host, port = parse_address(address)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [format_address(str(place[0]), port) for *_, place in found]


async def tcp_outcome(address: str, limit_s: float) -> str:
    """One plain TCP connect: open, refused or timeout (anything else that kept it from opening counts as timeout)."""
    loop = asyncio.get_running_loop()
    try:
        host, port = parse_address(address)
        async with asyncio.timeout(limit_s):
            transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
    except ConnectionRefusedError:
        return "refused"
    except (OSError, UsageError, UnicodeError):
        return "timeout"
    transport.abort()
    return "open"
