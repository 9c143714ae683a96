"""Network profilers of third parties: the entry point group `jupiter.network_profilers`.

    def profiler(folder: str) -> Profiler          # `folder`: the agent's state folder

    [project.entry-points."jupiter.network_profilers"]
    mine = "my_package:profiler"

An agent with `network_profiler = "mine"` sends no probes of its own (it still answers others'; pings and transfers
still count). It calls the function once, and `read(now, peers)` every two seconds on its loop, which must return at
once: whatever takes time belongs into threads or processes of the profiler's own. `peers` maps the names of the living
members to their addresses, HOST:PORT. A reading is a list of measurements, each about one peer:

    ("rtt", peer, seconds)                 there and back
    ("lost", peer)                         a probe without an answer
    ("bytes", peer, count, seconds)        so many bytes from there to here, after a round trip to ask for them

What does not fit, or is about nobody known, is left out and said once. `conforms` is the conformance test.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from jupiter_agent.adapters.plugins import load
from jupiter_agent.core.events import LinkMeasured
from jupiter_agent.core.messages import Size

GROUP = "jupiter.network_profilers"
BUILT_IN = "builtin"
MOST = 1000
"""Measurements in one reading"""
QUICK_S = 0.05
EVERY_S = 2.0

log = logging.getLogger("jupiter")

_Time = Annotated[float, Meta(gt=0, le=1e4)]
_SHAPES: dict[str, Any] = {
    "rtt": tuple[Literal["rtt"], str, _Time],
    "lost": tuple[Literal["lost"], str],
    "bytes": tuple[Literal["bytes"], str, Size, _Time],
}


class Profiler(Protocol):
    """What an entry point's function gives."""

    def read(self, now: float, peers: Mapping[str, str]) -> Iterable[tuple[Any, ...]]:
        """Measurements since the last call; `now` is a clock of seconds that only grows."""


def find(name: str) -> Callable[[str], Profiler] | None:
    """The function behind a name; None for the built-in. UsageError for one that is not installed or does not load."""
    return None if name in ("", BUILT_IN) else load(GROUP, "network profiler", name, BUILT_IN)


def measured(rows: Any, peers: Mapping[str, str]) -> tuple[list[LinkMeasured], list[str]]:
    """The measurements in a reading, and what is wrong with the others."""
    good: list[LinkMeasured] = []
    wrong: list[str] = []
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | Mapping):
        return good, ["it is no list of measurements"]
    for number, row in enumerate(rows):
        if number >= MOST:
            wrong.append(f"more than {MOST} measurements at once")
            break
        try:
            kind = row[0]
            fit = msgspec.convert(tuple(row), _SHAPES[kind])
        except (msgspec.ValidationError, KeyError, IndexError, TypeError) as error:
            wrong.append(f"no measurement: {type(error).__name__}: {error}"[:200])
            continue
        if fit[1] not in peers:
            wrong.append(f"nobody is called {fit[1]!r}"[:200])
            continue
        size, seconds = (fit[2], fit[3]) if kind == "bytes" else (0, fit[2] if kind == "rtt" else 0.0)
        good.append(LinkMeasured(fit[1], size, seconds))
    return good, wrong


class Guarded:
    """A third party's profiler behind the rules. `say` is told what is wrong, each thing once."""

    def __init__(self, inner: Profiler, say: Callable[[str], None]) -> None:
        self._inner, self._say = inner, say
        self._said: set[str] = set()

    def read(self, now: float, peers: Mapping[str, str]) -> list[LinkMeasured]:
        try:
            good, wrong = measured(self._inner.read(now, dict(peers)), peers)
        except Exception as error:  # noqa: BLE001 - foreign code
            good, wrong = [], [f"{type(error).__name__}: {error}"]
        for why in wrong:
            if why not in self._said and len(self._said) < 100:
                self._said.add(why)
                self._say(f"a reading of the network profiler is left out: {why}")
        return good


class Members(Protocol):
    """Who there is (core/peer.py)."""

    me: str

    def alive(self) -> list[str]: ...

    def name(self, node: str) -> str: ...

    def address(self, node: str) -> str: ...


async def measure(profiler: Profiler, members: Members, post: Callable[[LinkMeasured], None]) -> None:
    """Ask it for ever, and post what it measured."""
    guarded = Guarded(profiler, log.warning)
    while True:
        peers = {members.name(node): members.address(node) for node in members.alive() if node != members.me}
        for each in guarded.read(asyncio.get_running_loop().time(), peers):
            post(each)
        await asyncio.sleep(EVERY_S)


def conforms(profiler: Callable[[str], Profiler], folder: str, clock: Callable[[], float]) -> None:
    """Raise AssertionError where an entry point breaks the contract. For tests of whoever writes one."""
    inner = profiler(folder)
    peers = {"node2": "127.0.0.1:9", "node3": "127.0.0.1:10"}
    for known in (peers, {}, peers):
        began = clock()
        rows = inner.read(began, dict(known))
        took = clock() - began
        _, wrong = measured(rows, known)
        assert not wrong, f"read() gives what is no measurement of these peers: {wrong[0]}"
        assert took < QUICK_S, f"read() took {took:.3f} s: the agent stands still meanwhile"
