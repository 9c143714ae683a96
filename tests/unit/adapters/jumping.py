"""A loop whose time is a number: it waits for nobody, the clock goes to when the next thing is due."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Jump(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            self.now += timeout or 0.0
        return found


class Jumping(asyncio.SelectorEventLoop):
    """Waits for nobody: the clock goes to when the next thing is due."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=Jumping) as runner:
        return runner.run(work())
