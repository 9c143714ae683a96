"""TCP addresses: their text form, their numeric form, and whether anybody listens there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from jupiter_agent.errors import UnreachableError, UsageError

JOIN_PORT_OFFSET = 1
"""The join socket listens on the agent's port plus this."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT`; port 0 is allowed. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is not an address", "write HOST:PORT, or [IPV6]:PORT")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def join_address(address: str) -> str:
    """Where the join socket of the agent at `address` listens."""
    host, port = parse_address(address)
    return format_address(host, port + JOIN_PORT_OFFSET)


def numeric(address: str) -> str | None:
    """`address` with its IP in canonical form, or None when its host is a name (or it is no address at all)."""
    try:
        host, port = parse_address(address)
        return format_address(str(ipaddress.ip_address(host)), port)
    except (UsageError, ValueError):
        return None


async def resolve(address: str) -> str:
    """The numeric form of an address, asking the resolver off the loop. Raises OSError (unknown) or UsageError."""
    known = numeric(address)
    if known is not None:
        return known
    host, port = parse_address(address)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return format_address(str(found[0][4][0]), port)


def numeric_now(address: str) -> str:
    """As `resolve`, blocking. UnreachableError when the resolver does not know the host."""
    known = numeric(address)
    if known is not None:
        return known
    host, port = parse_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(f"the name {host} is unknown: {error}") from error
    return format_address(str(found[0][4][0]), port)


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


def tcp_check(address: str, limit_s: float) -> str:
    """As `tcp_outcome`, blocking: for programs without a loop. UsageError for what is no address."""
    where = parse_address(address)
    try:
        with socket.create_connection(where, timeout=limit_s):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except (OSError, UnicodeError):
        return "timeout"
