"""TCP addresses: their text form, their numeric form, and whether anybody listens there."""

from __future__ import annotations

import ipaddress
import socket

from jupiter_agent.errors import UsageError

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


def first_open(address: str, limit_s: float) -> str | None:
    """One plain TCP connect, blocking: the address in numbers if somebody listens there (a name may stand for several),
    else None. UsageError for what is no address."""
    where = parse_address(address)
    try:
        with socket.create_connection(where, timeout=limit_s) as connection:
            host, port = connection.getpeername()[:2]
            return format_address(host, port)
    except (OSError, UnicodeError):
        return None
