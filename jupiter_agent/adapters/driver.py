"""The driver: the only place where a machine meets a clock.

Due deadlines are served before the inbox (the other way round a flood of messages starves every timer), at most
`BATCH` events a turn, then the loop gets its chance. Time is the loop's monotonic clock. An exception in the machine is
a broken invariant: the driver stops and says so; whoever started it stops the agent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.events import Event

BATCH = 32
POLL_S = 0.001
"""While events come, the machine is asked at most so often what will be due: asking costs as much as a small event"""


class Machine(Protocol):
    """What can be driven."""

    def on_event(self, event: Event, now: float) -> list[Effect]: ...

    def on_deadline(self, now: float) -> list[Effect]: ...

    def next_deadline(self) -> float:
        """Loop time; infinity when nothing will be due."""


Perform = Callable[[list[Effect]], None]
OnCrash = Callable[[BaseException], None]


class Driver:
    """Runs one machine on a loop. `perform` may `post` at once; that is served in a later step."""

    def __init__(self, loop: asyncio.AbstractEventLoop, machine: Machine, perform: Perform, on_crash: OnCrash) -> None:
        self._loop = loop
        self._machine = machine
        self._perform = perform
        self._on_crash = on_crash
        self._inbox: deque[Event] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._serving = self._wanted = False
        """in `serving`; a turn was asked for meanwhile"""
        self._stopped = self._paused = False
        self._due, self._asked_at, self._stale = float("inf"), float("-inf"), True
        """the machine's next deadline as of then; whether anything happened since that may have changed it"""
        self._armed_for = float("inf")
        self.last_turn = loop.time()
        """when the machine was last served"""

    def start(self) -> None:
        """Serve what is due, and from then on by itself."""
        self._schedule()

    def serving(self, work: Callable[[], None]) -> None:
        """Do `work`, and serve what it posts in this same turn of the loop: another one would cost as much as a small
        event. From the loop itself, never from inside of what this driver calls."""
        self._serving, self._wanted = True, False
        try:
            work()
        finally:
            self._serving = False
            if self._wanted and not self._scheduled:
                self._turn()

    def post(self, event: Event) -> None:
        """Have the machine told of this event on a later turn. From the loop's thread."""
        self._inbox.append(event)
        self._schedule()

    def stop(self) -> None:
        """The machine is not called any more."""
        self._stopped = True
        self._inbox.clear()
        self._disarm()

    def pause(self, paused: bool) -> None:
        """Leave the machine alone for a while; what is posted waits."""
        self._paused = paused
        if not paused:
            self._schedule()

    def backlog(self) -> int:
        return len(self._inbox)

    def _schedule(self) -> None:
        if self._stopped or self._paused:
            return
        if self._serving:
            self._wanted = True
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._paused or self._stopped:
            return
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001  # whatever it is, the machine's state is no longer to be trusted
            self.stop()
            self._on_crash(error)
        if not (self._stopped or self._paused):
            self._rearm()

    def _serve(self) -> None:
        now = self.last_turn = self._loop.time()
        self._look(now)
        if self._due <= now:
            self._stale, self._asked_at = True, float("-inf")
            self._act(self._machine.on_deadline(now))
        for _ in range(min(BATCH, len(self._inbox))):
            if self._inbox and not self._paused:  # perform may have stopped us, and cleared the inbox
                self._stale = True
                self._act(self._machine.on_event(self._inbox.popleft(), self._loop.time()))

    def _act(self, effects: list[Effect]) -> None:
        if effects:
            self._perform(effects)

    def _rearm(self) -> None:
        now = self._loop.time()
        self._look(now)
        due = min(self._due, self._asked_at + POLL_S) if self._stale else self._due
        if self._inbox or due <= now:
            self._schedule()
        elif due != self._armed_for:
            self._disarm()
            if due < float("inf"):
                self._armed_for, self._timer = due, self._loop.call_at(due, self._expire)

    def _look(self, now: float) -> None:
        """Ask what will be due, unless that is known, or was asked just now."""
        if self._stale and now - self._asked_at >= POLL_S:
            self._due, self._asked_at, self._stale = self._machine.next_deadline(), now, False

    def _expire(self) -> None:
        """Served at once: another turn of the loop would cost as much as the deadline."""
        self._disarm()
        if not self._scheduled:
            self._turn()

    def _disarm(self) -> None:
        self._armed_for = float("inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
