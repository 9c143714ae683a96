"""When probes leave and come, as near to the wire as this process gets (DESIGN.md 97).

What a probe waits in the loops of both ends, for their turns, journals and decoding, is not the link's. Who asks notes
when the probe is handed to the transport and when the answer comes from it; who answers says how long it had the probe.
That word is believed up to `MOST_S`: it can make a link look faster by no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.links import LinkEcho, LinkProbe

K = TypeVar("K")

MOST_S = 0.005
HELD = 256
"""Probes whose times are remembered"""

PROBES = frozenset({LinkProbe, LinkEcho})
"""What is stamped"""


class Stamps:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[int, float] = {}
        self._came: dict[tuple[str, int], float] = {}

    def leaving(self, dst: str, message: Message) -> Message:
        """The message as it goes to the transport now."""
        if isinstance(message, LinkProbe):
            _note(self._left, message.serial, self._clock())
        elif isinstance(message, LinkEcho):
            came = self._came.pop((dst, message.serial), None)
            return replace(message, dwell_s=max(0.0, self._clock() - came) if came is not None else 0.0)
        return message

    def came(self, src: str, message: Message) -> Message:
        """The message as the transport gave it just now."""
        if isinstance(message, LinkProbe):
            _note(self._came, (src, message.serial), self._clock())
        elif isinstance(message, LinkEcho):
            left = self._left.pop(message.serial, None)
            took_s = self._clock() - left - min(message.dwell_s, MOST_S) if left is not None else 0.0
            return replace(message, took_s=max(0.0, took_s))
        return message


def _note(times: dict[K, float], key: K, now: float) -> None:
    times.pop(key, None)
    times[key] = now
    if len(times) > HELD:
        del times[next(iter(times))]
