"""Ports of this machine: which are free, and who holds one that is not."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

from jupiter_agent.errors import UsageError

PORTS = range(20000, 32000, 2)
"""Of local agents: below 32768, where the kernel takes the ports of clients from."""


def port_of(bind: str) -> int:
    return int(bind.rpartition(":")[2])


def is_free(port: int) -> bool:
    """An agent needs PORT and PORT+1."""
    for number in (port, port + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as zmq does: TIME_WAIT is no obstacle
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                return False
    return True


def free_ports(taken: set[int]) -> Iterator[int]:
    """From a random place on, so that two clusters started at once rarely want the same."""
    begin = random.randrange(len(PORTS))
    for index in range(len(PORTS)):
        port = PORTS[(begin + index) % len(PORTS)]
        if port not in taken and is_free(port):
            yield port
    raise UsageError("no free ports between 20000 and 32000", "stop something")


def holder(port: int) -> tuple[int | None, str] | None:
    """(pid, command) of who listens on a port; None when nobody does. What another user runs has no pid for us."""
    import psutil

    for entry in psutil.net_connections("tcp"):
        if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port:
            return entry.pid, _command(entry.pid)
    return None


def _command(pid: int | None) -> str:
    import psutil

    try:
        return " ".join(psutil.Process(pid).cmdline()[:4]) if pid else "a process of another user"
    except psutil.Error:
        return "a process that has just ended"
