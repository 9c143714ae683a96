"""Where a fleet's agents live: addresses of the loopback network, or the namespaces of a lab."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from jupiter_agent.netlab import Lab

PORT = 7421


class Ground(Protocol):
    """A place for agents."""

    lab: Lab | None

    def address(self, name: str) -> str: ...

    def netns(self, name: str) -> str:
        """The path of the agent's network namespace, '' for this one."""

    def advance(self) -> None:
        """Let time go on in it."""

    def __enter__(self) -> Ground: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Loopback:
    """127.64.x.y, one address per agent: nothing else listens there."""

    lab: Lab | None = None

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def address(self, name: str) -> str:
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        return f"127.64.{number // 200}.{number % 200 + 1}:{PORT}"

    def netns(self, name: str) -> str:
        return ""

    def advance(self) -> None:
        pass

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class InLab:
    """The nodes of a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab: Lab | None = lab
        self._lab = lab

    def address(self, name: str) -> str:
        return f"{self._lab.ip(name)}:{PORT}"

    def netns(self, name: str) -> str:
        return str(self._lab.netns_path(name))

    def advance(self) -> None:
        self._lab.advance()

    def __enter__(self) -> InLab:
        self._lab.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lab.close()


def wait_until(ready: Callable[[], bool], limit_s: float, tick: Callable[[], None], step_s: float = 0.1) -> bool:
    """Whether it became so within the limit; `tick` is called meanwhile."""
    deadline = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step_s)
        tick()
    return True
