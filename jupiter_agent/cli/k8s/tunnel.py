"""One connection to a port of a pod, through the API server: a websocket of channels, as `kubectl port-forward` uses.

A port has a channel for data and one for errors; the first frame of each is the port's number. One thread carries both
ways, for a TLS connection bears no two. (The library has such a thread, too; it dies of a reset of the near end.)
"""

from __future__ import annotations

import select
import socket
from typing import Any

CHUNK = 256 * 1024
DATA, ERROR = 0, 1
BINARY, CLOSE = 0x2, 0x8


class Tunnel:
    """`websocket`: of the websocket-client library, connected to `.../portforward?ports=N`."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._begun: set[int] = set()
        self.error = ""
        """what the node says of the port"""

    def carry(self, near: socket.socket, first: bytes = b"") -> None:
        """Between it and the pod, until either end is closed. `first`: what was read from `near` already. OSError."""
        far = self._websocket.sock
        if first:
            self._send(first)
        while not self.error:
            pending = getattr(far, "pending", lambda: 0)()
            ready = [far] if pending else select.select([near, far], [], [])[0]
            if near in ready:
                if not (data := near.recv(CHUNK)):
                    return
                self._send(data)
            if far in ready and not self._receive(near):
                return

    def _send(self, data: bytes) -> None:
        self._websocket.send_binary(bytes([DATA]) + data)

    def _receive(self, near: socket.socket) -> bool:
        """One frame; False at the end."""
        kind, frame = self._websocket.recv_data_frame(True)
        if kind == CLOSE:
            return False
        if kind != BINARY or not frame.data:
            return True
        channel, data = frame.data[0], frame.data[1:]
        if channel not in self._begun:
            self._begun.add(channel)  # the port's number
        elif channel == DATA:
            near.sendall(data)
        else:
            self.error += data.decode("utf-8", "replace")
        return True

    def close(self) -> None:
        self._websocket.shutdown()
