"""One agent of a fleet: the very agent, and a line in a common file for whatever its membership concludes.

    [monotonic time, name, "start", id] | "joined" | ["alive"|"suspect"|"dead"|"left"|"profile", id]

On SIGUSR2 it publishes a new value of a key that only the bench uses. `python -m jupiter_agent.bench.traced JSON`
starts one as a process of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jupiter_agent import config
from jupiter_agent.agent import Agent, set_up_logging
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.membership import Joined, MemberChanged, ProfileChanged

KEY = "bench"
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Order:
    """How one agent is to be started. `netns`: the path of its network namespace, or ''."""

    name: str
    folder: str
    trace: str
    netns: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


class Trace:
    """Lines appended whole: the file is shared by all agents of the fleet."""

    def __init__(self, path: str, name: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._name = name

    def note(self, what: str, *rest: str) -> None:
        os.write(self._fd, json.dumps([round(time.monotonic(), 4), self._name, what, *rest]).encode() + b"\n")

    def effects(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, MemberChanged):
                self.note(effect.state, effect.peer)
            elif isinstance(effect, ProfileChanged):
                if effect.key == KEY:
                    self.note("profile", effect.peer)
            elif isinstance(effect, Joined):
                self.note("joined")


def watch(agent: Agent, trace: Trace) -> None:
    """Let membership's conclusions go by the trace."""
    membership = agent.machine.membership

    def seen(method: Callable[..., list[Effect]]) -> Callable[..., list[Effect]]:
        def call(*args: Any) -> list[Effect]:
            effects = method(*args)
            trace.effects(effects)
            return effects

        return call

    for name in ("on_event", "on_deadline"):
        setattr(membership, name, seen(getattr(membership, name)))


async def live(order: Order) -> None:
    """Until the agent has left."""
    loop = asyncio.get_running_loop()
    trace = Trace(order.trace, order.name)
    given = {"name": order.name, "state_dir": order.folder, **order.settings}
    agent = Agent(config.load(given, {}))
    watch(agent, trace)
    published = 0

    def publish() -> None:
        nonlocal published
        published += 1
        agent.machine.membership.publish(KEY, {"value": published}, loop.time())
        trace.note("profile", agent.machine.me)

    loop.add_signal_handler(signal.SIGUSR2, publish)
    trace.note("start", agent.machine.me)
    await agent.run()


def end_with_parent() -> None:
    """SIGKILL when the process that started this one ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(order: Order) -> None:
    set_up_logging("info")
    asyncio.run(live(order))


if __name__ == "__main__":
    end_with_parent()
    main(Order(**json.loads(sys.argv[1])))
