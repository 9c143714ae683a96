"""A gauge on connections: how much one takes in without a whole message coming of it.

libzmq limits the size of each part of a message, but gathers parts without bound until the last one has come: whoever
sends parts without end fills the memory, and nothing of it is ever seen here. The kernel counts what each connection
has received, so what grows by more than `MOST_BYTES` while no message comes out of it is cut.
"""

from __future__ import annotations

import os
import socket
import struct

MOST_BYTES = 4 << 20
"""Four times the largest message"""
_RECEIVED_AT, _INFO_BYTES = 128, 136
"""tcpi_bytes_received in Linux's struct tcp_info"""


class Gauge:
    """Of the connections of one socket, by their descriptors."""

    def __init__(self) -> None:
        self._marks: dict[int, int] = {}
        """what each had received when a message last came of it"""
        self._passed: set[int] = set()

    def opened(self, fd: int) -> None:
        self._marks[fd] = 0

    def closed(self, fd: int) -> None:
        self._marks.pop(fd, None)
        self._passed.discard(fd)

    def passed(self, fd: int) -> None:
        """A whole message came from it."""
        self._passed.add(fd)

    def overfull(self, waiting: bool) -> list[int]:
        """Those to be cut, to be asked about once a second. `waiting`: whole messages have not been read yet, so that
        nothing can be said of who sent nothing else."""
        passed, self._passed = self._passed, set()
        found = []
        for fd, mark in list(self._marks.items()):
            now = received_bytes(fd)
            if fd in passed or waiting or now < mark:
                self._marks[fd] = max(now, 0)
            elif now - mark > MOST_BYTES:
                found.append(fd)
        return found


def received_bytes(fd: int) -> int:
    """What came over a TCP connection so far; -1 when it is none (any more), or the system does not say."""
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    except OSError:
        return -1
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        return int(struct.unpack_from("=Q", info, _RECEIVED_AT)[0]) if len(info) >= _INFO_BYTES else -1
    except (OSError, AttributeError):
        return -1
    finally:
        connection.detach()


def shut(fd: int, port: int) -> None:
    """End a connection to our port from below libzmq, which cannot close one of a ROUTER."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            if connection.getsockname()[1] == port:
                connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # closed already, or the number is something else by now
