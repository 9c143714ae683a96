"""The runs of one warm process: those that wait for it, and those inside, each with its time running."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from jupiter_agent.core.effects import StartRun

MAX_ROOM = 64


@dataclass
class Attempt:
    """A run inside. `late`: its time was up, and its process is being killed for it."""

    effect: StartRun
    timer: asyncio.TimerHandle | None
    late: bool = False


class Runs:
    """`on_late` is called when the time of a run inside is up."""

    def __init__(self, timeout_s: float | None, on_late: Callable[[], None], replay: int = 0) -> None:
        """`replay`: so many runs that were done are given to a process that starts again, for the state they make."""
        self._timeout_s, self._on_late = timeout_s, on_late
        self._done: deque[StartRun] = deque(maxlen=replay)
        self._waiting: deque[StartRun] = deque()
        self._inside: dict[int, Attempt] = {}
        self._backs: list[StartRun] = []
        self._room = 1

    def push(self, effect: StartRun) -> None:
        self._waiting.append(effect)

    def next(self) -> StartRun | None:
        """The next to enter, taken from those that wait; None when there is no room, or nothing."""
        return self._waiting.popleft() if self._waiting and len(self._inside) < self._room else None

    def enter(self, effect: StartRun) -> None:
        timer = None
        if self._timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(self._timeout_s, self._expire, effect.run)
        self._inside[effect.run] = Attempt(effect, timer)

    def leave(self, run: int) -> StartRun | None:
        """It was answered; None when it is not inside, or the answer is late."""
        attempt = self._inside.get(run)
        if attempt is None or attempt.late:
            return None
        del self._inside[run]
        _cancel(attempt)
        return attempt.effect

    def remember(self, effect: StartRun) -> StartRun | None:
        """It was done. The one that is forgotten for it, if any: this very one where nothing is given again."""
        forgotten = self._done[0] if len(self._done) == self._done.maxlen and self._done else None
        self._done.append(effect)
        return forgotten if self._done else effect

    def remembers(self) -> bool:
        """Whether there is something to give again."""
        return bool(self._done)

    def forget(self) -> None:
        """What was done does harm when it is done again."""
        self._done.clear()

    def give_back(self, run: int) -> None:
        """It was not begun: the next process gets it."""
        effect = self.leave(run)
        if effect and run >= 0:
            self._backs.append(effect)

    def widen(self, room: int) -> None:
        """Let so many be inside at once from now on."""
        self._room = min(max(self._room, room), MAX_ROOM)

    def reset(self, room: int) -> None:
        """A new process. What is replayed comes first, under negative numbers."""
        self._room = room
        arrived = sorted(self._done, key=lambda effect: effect.run)  # a task may be done with them in another order
        replayed = [msgspec.structs.replace(effect, run=-number) for number, effect in enumerate(arrived, 1)]
        self._waiting.extendleft(reversed(replayed))

    def empty(self, given_back: bool) -> list[Attempt]:
        """The process is gone: those that were inside; with `given_back` only the late ones, the rest waits again.

        A replay that did not survive is not tried again.
        """
        if any(run < 0 for run in self._inside):
            self.forget()
        self._waiting = deque(effect for effect in self._waiting if effect.run >= 0)
        for run in [run for run in self._inside if run < 0]:
            _cancel(self._inside.pop(run))
        inside = list(self._inside.values())
        if given_back:
            for attempt in inside:
                self.give_back(attempt.effect.run)
            inside = [attempt for attempt in inside if attempt.late]
        for attempt in inside:
            _cancel(attempt)
        self._inside.clear()
        self._waiting.extendleft(reversed(self._backs))
        self._backs.clear()
        return inside

    def refuse(self) -> list[StartRun]:
        """Those that wait, which no longer do."""
        waiting = [effect for effect in self._waiting if effect.run >= 0]
        self._waiting.clear()
        return waiting

    def stop(self) -> None:
        self._waiting.clear()
        for attempt in self._inside.values():
            _cancel(attempt)

    def _expire(self, run: int) -> None:
        self._inside[run].late = True
        self._on_late()


def _cancel(attempt: Attempt) -> None:
    if attempt.timer:
        attempt.timer.cancel()
