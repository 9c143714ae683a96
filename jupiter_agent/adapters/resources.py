"""Resource profilers of third parties: the entry point group `jupiter.resource_profilers`.

    def profiler(folder: str) -> Profiler          # `folder`: the agent's state folder, on the disk that matters

    [project.entry-points."jupiter.resource_profilers"]
    mine = "my_package:profiler"

An agent with `resource_profiler = "mine"` calls it once, and `read(now)` every two seconds on its loop: it must return
at once. What it returns goes over the built-in readings, name by name; `fits` says what may be in it. A reading that
does not fit, and one that raises, counts as none and is said once. `conforms` is the conformance test for its author.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from jupiter_agent.adapters.plugins import load
from jupiter_agent.core.published import Shown

GROUP = "jupiter.resource_profilers"
BUILT_IN = "builtin"
MAX_BYTES = 1024
QUICK_S = 0.05
"""for a reading; the loop stands still meanwhile"""


class Profiler(Protocol):
    """What an entry point's function gives."""

    def read(self, now: float) -> Mapping[str, Any]:
        """Names and values: plain data; `now` is a clock of seconds that only grows."""


def find(name: str) -> Callable[[str], Profiler] | None:
    """The function behind a name; None for the built-in. UsageError for one that is not installed or does not load."""
    return None if name in ("", BUILT_IN) else load(GROUP, "resource profiler", name, BUILT_IN)


def fits(values: Any) -> str:
    """Why a reading cannot be published; '' when it can."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        return "it is no map with names as keys"
    try:
        size = len(msgspec.msgpack.encode(dict(values)))
        msgspec.convert(dict(values), Shown)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return str(error)
    return f"{size} bytes are too many, at most {MAX_BYTES}" if size > MAX_BYTES else ""


class Guarded:
    """A third party's profiler behind the rules. `say` is told what is wrong, each thing once."""

    def __init__(self, inner: Profiler, say: Callable[[str], None]) -> None:
        self._inner, self._say = inner, say
        self._said: set[str] = set()

    def read(self, now: float) -> dict[str, Any]:
        try:
            values = self._inner.read(now)
        except Exception as error:  # noqa: BLE001 - foreign code
            return self._refuse(f"{type(error).__name__}: {error}")
        wrong = fits(values)
        return self._refuse(wrong) if wrong else dict(values)

    def _refuse(self, why: str) -> dict[str, Any]:
        if why not in self._said and len(self._said) < 100:
            self._said.add(why)
            self._say(f"a reading of the resource profiler is left out: {why}")
        return {}


def conforms(profiler: Callable[[str], Profiler], folder: str, clock: Callable[[], float]) -> None:
    """Raise AssertionError where an entry point breaks the contract. For tests of whoever writes one."""
    inner = profiler(folder)
    for _ in range(3):
        began = clock()
        values = inner.read(began)
        took = clock() - began
        wrong = fits(values)
        assert not wrong, f"read() gives what cannot be published: {wrong}"
        assert took < QUICK_S, f"read() took {took:.3f} s: the agent stands still meanwhile"
