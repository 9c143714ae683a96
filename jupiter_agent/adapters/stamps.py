"""When probes leave and come, as near to the wire as this process gets (DESIGN.md 97).

What a probe waits in the loops of both ends, for their turns, journals and decoding, is not the link's. Who asks notes
when the probe is handed to the transport and when the answer comes from it; who answers says how long it had the probe.
That word is believed up to `MOST_S`: it can make a link look faster by no more. What the stack below takes (threads,
encryption, wake-ups) each agent measures once on a socket of its own, and its half of it counts as its own time, too.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.links import LinkEcho, LinkProbe

K = TypeVar("K")

MOST_S = 0.005
ROUNDS, PAUSE_S, PATIENCE_MS = 24, 0.05, 1000
HELD = 256
"""Probes whose times are remembered"""

PROBES = frozenset({LinkProbe, LinkEcho})
"""What is stamped"""


class Stamps:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.own_s = 0.0
        """what the stack of this agent takes of a round trip (`own_time_s`)"""
        self._clock = clock
        self._left: dict[int, float] = {}
        self._came: dict[tuple[str, int], float] = {}

    def leaving(self, dst: str, message: Message) -> Message:
        """The message as it goes to the transport now."""
        if isinstance(message, LinkProbe):
            _note(self._left, message.serial, self._clock())
        elif isinstance(message, LinkEcho):
            came = self._came.pop((dst, message.serial), None)
            dwell_s = max(0.0, self._clock() - came) if came is not None else 0.0
            return replace(message, dwell_s=dwell_s + self.own_s)
        return message

    def came(self, src: str, message: Message) -> Message:
        """The message as the transport gave it just now."""
        if isinstance(message, LinkProbe):
            _note(self._came, (src, message.serial), self._clock())
        elif isinstance(message, LinkEcho):
            left = self._left.pop(message.serial, None)
            took_s = self._clock() - left if left is not None else 0.0
            others_s = min(message.dwell_s, MOST_S) + self.own_s
            return replace(message, took_s=max(took_s - others_s, took_s / 10))
        return message


def _note(times: dict[K, float], key: K, now: float) -> None:
    times.pop(key, None)
    times[key] = now
    if len(times) > HELD:
        del times[next(iter(times))]


def own_time_s(rounds: int = ROUNDS) -> float:
    """Half of a round trip between two encrypted sockets of this process: an agent's share of one between two. Takes
    about a second, nearly all of it asleep: what sleeps between probes is slower than what does not."""
    import zmq

    contexts = zmq.Context(), zmq.Context()
    server, client = contexts[0].socket(zmq.ROUTER), contexts[1].socket(zmq.DEALER)
    public, secret = zmq.curve_keypair()
    server.curve_server, server.curve_publickey, server.curve_secretkey = True, public, secret
    client.curve_serverkey = public
    client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
    times = []
    try:
        endpoint = f"ipc://@jupiter-{secrets.token_hex(8)}"  # an abstract name: no file, no port
        server.bind(endpoint)
        client.connect(endpoint)
        for _ in range(rounds):
            began = time.monotonic()
            client.send(bytes(64))
            if not server.poll(PATIENCE_MS):
                break
            server.send_multipart(server.recv_multipart())
            if not client.poll(PATIENCE_MS):
                break
            client.recv()
            times.append(time.monotonic() - began)
            time.sleep(PAUSE_S)
    except zmq.ZMQError:
        return 0.0  # no such sockets here: the round trips stay as they are
    finally:
        for context in contexts:
            context.destroy(linger=0)
    return min(MOST_S, sorted(times)[len(times) // 4] / 2) if times else 0.0
