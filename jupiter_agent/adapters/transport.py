"""The transport contract: frames between authenticated identities (zmq and memory, one conformance suite).

A transport moves opaque frames (bytes). It knows a directory (peer id -> address, key), also its allow-list, keeps
the sessions it was told to keep, opens others on demand, and reports what happens through a `Sink`. It never blocks and
never raises for a peer's fault: what cannot be delivered is dropped and counted.
"""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Where a transport reports; called on the loop's thread, never from inside a call of the transport's methods."""

    def on_frame(self, src: str, frame: bytes) -> None: ...

    def on_up(self, peer: str) -> None:
        """The first session with this peer is authenticated, whoever opened it (or it was reopened after a loss)."""

    def on_down(self, peer: str, reason: str) -> None:
        """The last session is gone, or could not be opened. reason: lost, closed, refused, timeout, handshake."""

    def on_port(self, peer: str, outcome: str) -> None:
        """Answer to `test_port`: open, refused, timeout."""


class Transport(Protocol):
    """What the agent needs of a network."""

    def learn(self, peer: str, address: str, curve_key: str) -> None:
        """Enter or change a peer: where it listens (host:port) and the key it must show. Idempotent."""

    def forget(self, peer: str) -> None:
        """Take it out of directory and allow-list; its sessions end."""

    def ban(self, peer: str, for_s: float) -> None:
        """Forget it, and refuse its key for so long, whoever learns it meanwhile."""

    def connect(self, peer: str) -> None:
        """Keep a session until `disconnect`, reopening it after a loss (0.5 s x 2^n, at most 5 s)."""

    def disconnect(self, peer: str) -> None:
        """The session need not be kept; one used on demand closes when idle."""

    def send(self, peer: str, frame: bytes) -> None:
        """Best effort, ordered per session; opens a session on demand. Unknown peers are dropped and counted."""

    def test_port(self, peer: str, address: str) -> None:
        """One plain TCP connect with a 2 s limit; answered by `Sink.on_port`."""

    def counters(self) -> dict[str, int]:
        """frames_in, frames_out, bytes_in, bytes_out, sessions, dropped_<reason>..."""

    def close(self) -> None:
        """End everything; nothing is reported afterwards."""
