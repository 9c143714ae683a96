"""Taking large objects from one source: what to ask for next, how much at once, when to give up (DESIGN.md 86, 87).

Owns: the objects that are wanted from this source, the parts that were asked for and did not come yet, and the window,
the bytes that may be asked for at once. The source answers in order, so parts are matched first in, first out.

The window follows the delay (Vegas, Brakmo and Peterson 1995): of W bytes on their way, W (1 - base/rtt) wait
somewhere, in a router or in the source's socket; `rtt` is from asking for a part to having it, `base` that of a path
without anything waiting. It doubles each round trip until more waits than two parts and `QUEUE_S` of the rate, then
moves by one part per round trip to keep about that much waiting: gossip and probes that share the bottleneck wait
about so long. `base` is measured again every `DRAIN_S`, with nothing on its way. The length of a part follows the rate.

Must not know: sockets, files, other sources.
"""

from __future__ import annotations

from collections import deque
from math import inf

from msgspec import Struct

from jupiter_agent.core.messages.bulk import PART_BYTES, Ask, Gone, Heard, Knock, Part, Said

LEAST_PART_BYTES = 32 * 1024
PART_S = 0.010
"""A part is about what passes in this time"""
QUEUE_S = 0.020
"""What waits beyond two parts at most, in time at the present rate"""
WINDOW_BYTES = 4 * 1024 * 1024
KNOCK_S = 1.0
DRAIN_S = 60.0
CONNECT_S = 4.0
"""From dialling to the first answer"""
STALL_S = 5.0
IDLE_S = 20.0


class Ended(Struct, frozen=True):
    """An object will get no more parts from here. `error`: '' (all parts are here), missing, size N (what the source
    says), unreachable (no session was ever up), lost."""

    sha256: bytes
    error: str = ""


class Taken(Struct, frozen=True):
    """These bytes, which follow the message, belong into the object."""

    sha256: bytes
    size: int
    offset: int


class _Pull:
    """An object: [0, next) was asked for, [0, here) has come."""

    __slots__ = ("here", "next", "sha256", "size")

    def __init__(self, sha256: bytes, size: int, offset: int) -> None:
        self.sha256, self.size = sha256, size
        self.here = self.next = offset


class _Asked(Struct):
    pull: _Pull
    offset: int
    length: int
    at: float
    waiting: int
    """bytes on their way when it was asked for, itself included"""


class Window:
    """How many bytes may be on their way, from how long they take."""

    def __init__(self) -> None:
        self.base_s = inf
        self.rate_bps = 0.0
        """bytes/s, of what was on its way by how long it took"""
        self.window_bytes = 2 * LEAST_PART_BYTES
        self.part_bytes = LEAST_PART_BYTES
        self._starting = True

    def on_round_trip(self, seconds: float) -> None:
        """Of a word that had nothing in front of it."""
        self.base_s = min(self.base_s, max(1e-5, seconds))

    def renew(self, seconds: float) -> None:
        """The path may have become longer: what was measured with nothing on its way counts alone."""
        self.base_s = max(1e-5, seconds)

    def on_part(self, length: int, waiting: int, seconds: float) -> None:
        """A part came `seconds` after it was asked for, when `waiting` bytes were on their way, itself included."""
        seconds = max(1e-5, seconds)
        self.on_round_trip(seconds)
        self.rate_bps += 0.125 * (waiting / seconds - self.rate_bps) if self.rate_bps else waiting / seconds
        queued = waiting * (1.0 - self.base_s / seconds)
        most = 2 * self.part_bytes + self.rate_bps * QUEUE_S
        if self._starting:
            self._starting = queued <= most
            self.window_bytes += length if self._starting else 0
        elif queued > most:
            self.window_bytes -= max(1, self.part_bytes * length // self.window_bytes)
        elif queued < most / 2:
            self.window_bytes += max(1, self.part_bytes * length // self.window_bytes)
        self._fit()

    def _fit(self) -> None:
        target = min(float(PART_BYTES), self.rate_bps * PART_S)
        self.part_bytes = max(LEAST_PART_BYTES, 1 << max(0, int(target).bit_length() - 1))
        self.window_bytes = min(WINDOW_BYTES, max(2 * self.part_bytes, self.window_bytes))


class Source:
    """One session with one source. `on_*` and `on_deadline` give what ended; `next_said` what to say now."""

    def __init__(self, now: float) -> None:
        self.window = Window()
        self.up = False
        self.waiting_bytes = 0
        """asked for, and not here"""
        self._pulls: dict[bytes, _Pull] = {}
        self._asked: deque[_Asked] = deque()
        self._turn = 0
        self._heard_at = self._used_at = now
        self._opened = now
        self._serial = 0
        self._knocked: float | None = None
        self._knock_quiet = True
        self._knock_at = now
        self._drain_at = now + DRAIN_S

    def want(self, sha256: bytes, size: int, offset: int, now: float) -> None:
        """Take this object from `offset` on (less than its size). Twice is once."""
        if sha256 not in self._pulls:
            self._pulls[sha256] = _Pull(sha256, size, offset)
            self._used_at = now
            if not self._asked:
                self._heard_at = max(self._heard_at, now)

    def drop(self, sha256: bytes) -> None:
        """Do not ask for any more of it; what is on its way is let pass."""
        self._pulls.pop(sha256, None)

    @property
    def wanted(self) -> list[bytes]:
        return list(self._pulls)

    # --- saying ------------------------------------------------------------------------------------------------------

    def next_said(self, now: float) -> list[Said]:
        """All that is to be said now: asking for parts as the window allows, a knock when one is due."""
        said: list[Said] = []
        draining = self.up and now >= self._drain_at
        if self._knock_due(now, draining):
            self._serial += 1
            self._knocked, self._knock_quiet = now, not self._asked
            self._knock_at = now + KNOCK_S
            said.append(Knock(self._serial))
        if not self.up or draining:
            return said
        while (pull := self._next_pull()) is not None:
            length = min(self.window.part_bytes, pull.size - pull.next)
            if self._asked and self.waiting_bytes + length > self.window.window_bytes:
                break
            self._turn += 1
            self.waiting_bytes += length
            self._asked.append(_Asked(pull, pull.next, length, now, self.waiting_bytes))
            said.append(Ask(pull.sha256, pull.next, length))
            pull.next += length
        return said

    def _knock_due(self, now: float, draining: bool) -> bool:
        if self._knocked is not None:
            return False
        return not self._asked if draining else now >= self._knock_at and (not self.up or bool(self._asked))

    def _next_pull(self) -> _Pull | None:
        """In turn the oldest, and the one that needs least: small objects do not wait for large ones."""
        open_ = [pull for pull in self._pulls.values() if pull.next < pull.size]
        if not open_:
            return None
        return open_[0] if self._turn % 2 else min(open_, key=lambda pull: pull.size - pull.next)

    # --- hearing -----------------------------------------------------------------------------------------------------

    def on_heard(self, message: Heard, length: int, now: float) -> tuple[Taken | None, list[Ended]]:
        """A message of the source, and the length of the bytes that follow a `Part`: where they belong, what ended."""
        self._heard_at, self.up = now, True
        if isinstance(message, Knock):
            self._on_knock(message, now)
            return None, []
        self._used_at = now
        asked = self._match(message)
        if asked is None:
            return None, []
        self.waiting_bytes -= asked.length
        pull = self._pulls.get(message.sha256)
        if pull is None or pull is not asked.pull:
            return None, []
        if isinstance(message, Gone):
            return None, self._end(pull, "missing")
        if message.size != pull.size:
            return None, self._end(pull, f"size {message.size}")
        if length != asked.length or asked.offset != pull.here:
            return None, self._end(pull, "lost")  # a part before it never came
        self.window.on_part(length, asked.waiting, now - asked.at)
        pull.here += length
        taken = Taken(pull.sha256, pull.size, asked.offset)
        return taken, self._end(pull, "") if pull.here >= pull.size else []

    def _match(self, message: Part | Gone) -> _Asked | None:
        """The part asked for that this answers; those before it will not come, for answers come in order."""
        for at, asked in enumerate(self._asked):
            of = asked.pull.sha256 == message.sha256
            if of and (isinstance(message, Gone) or message.offset == asked.offset):
                for _ in range(at):
                    self.waiting_bytes -= self._asked.popleft().length
                return self._asked.popleft()
        return None

    def _on_knock(self, message: Knock, now: float) -> None:
        if message.serial != self._serial or self._knocked is None:
            return
        seconds, self._knocked = now - self._knocked, None
        if now >= self._drain_at and self._knock_quiet:
            self.window.renew(seconds)
            self._drain_at = now + DRAIN_S
        elif self._knock_quiet:
            self.window.on_round_trip(seconds)

    def _end(self, pull: _Pull, error: str) -> list[Ended]:
        del self._pulls[pull.sha256]
        return [Ended(pull.sha256, error)]

    # --- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        if not self.up:
            return min(self._opened + CONNECT_S, self._knock_at if self._knocked is None else inf)
        if self._pulls or self._asked:
            return min(self._heard_at + self._stall_s(), self._knock_at if self._knocked is None else inf)
        return self._used_at + IDLE_S

    def on_deadline(self, now: float) -> list[Ended] | None:
        """None: go on. A list: the session is to be closed, and these were not finished."""
        if not self.up and now >= self._opened + CONNECT_S:
            return self.fail()
        if self.up and (self._pulls or self._asked) and now >= self._heard_at + self._stall_s():
            return self.fail()
        if self.up and not self._pulls and not self._asked and now >= self._used_at + IDLE_S:
            return self.fail()
        return None

    def fail(self) -> list[Ended]:
        """The session is gone: what was not finished."""
        error = "lost" if self.up else "unreachable"
        return [ended for pull in list(self._pulls.values()) for ended in self._end(pull, error)]

    def _stall_s(self) -> float:
        """Without a word for so long while something is asked for, the source is taken for gone."""
        part_s = self.window.part_bytes / self.window.rate_bps if self.window.rate_bps else 0.0
        return max(STALL_S, 8.0 * part_s)
