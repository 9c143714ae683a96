"""An agent in a pod, reached from outside of the cluster: its two ports as two ports of this machine's loopback.

Each connection to them becomes one to the pod, through the API server and the node's kubelet (as `kubectl port-forward`
does). What passes is encrypted between us and the agent.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from jupiter_agent.cli.k8s.tunnel import CHUNK, Tunnel
from jupiter_agent.cli.ports import free_ports
from jupiter_agent.errors import JupiterError, UnreachableError, UsageError
from jupiter_agent.k8s.manifests import AGENT_PORT, JOIN_PORT

BACKLOG = 16

Connect = Callable[[int], Tunnel]
"""by the port of the pod; JupiterError"""


class Forward:
    """Listens until it is closed. `address` is what a client of the agent is told."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._closed = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.error: JupiterError | None = None
        """why the pod could not be reached, the last time"""
        port, self._listeners = _listen()
        self.address = f"127.0.0.1:{port}"
        for listener, target in zip(self._listeners, (AGENT_PORT, JOIN_PORT), strict=True):
            threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()

    def close(self) -> None:
        self._closed = True
        with self._lock:
            ending, self._open = self._open, set()
        for each in [*self._listeners, *ending]:
            _end(each)

    def _accept(self, listener: socket.socket, port: int) -> None:
        while not self._closed:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near, port), daemon=True).start()

    def _serve(self, near: socket.socket, port: int) -> None:
        """The pod is called when there is something to say: who only looks whether the port is open costs nothing."""
        far: Tunnel | None = None
        with self._lock:
            self._open.add(near)
        try:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (first := near.recv(CHUNK)) and not self._closed:
                far = self._connect(port)
                far.carry(near, first)
        except JupiterError as error:
            self.error = error
        except (OSError, ValueError, _websocket_error()):
            pass  # either end is gone
        finally:
            with self._lock:
                self._open.discard(near)
            _end(near)
            if far is not None:
                if far.error:
                    self.error = UnreachableError(f"nobody listens there: {far.error}", "`jupiter k8s status`")
                far.close()


def _websocket_error() -> type[Exception]:
    """What the library raises when the far end breaks off."""
    from websocket import WebSocketException

    return WebSocketException


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()


def _listen() -> tuple[int, list[socket.socket]]:
    """On two ports in a row, as an agent has them."""
    for port in free_ports(set()):
        listeners: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                listeners.append(socket.create_server(("127.0.0.1", number), backlog=BACKLOG))
            return port, listeners
        except OSError:  # somebody was faster
            for listener in listeners:
                listener.close()
    raise UsageError("no free ports between 20000 and 32000", "stop something")
