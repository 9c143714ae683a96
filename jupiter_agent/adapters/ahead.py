"""When the process of a task may start ahead of its first item: not while too many others want the cores.

It saves the first item the start of an interpreter. Where many tasks are mapped onto a crowded machine at once (a fleet
of agents on few cores, a node that just got a large job), their starts would keep every agent on it from answering for
seconds; who has no item yet can wait.
"""

from __future__ import annotations

import asyncio
import os
import random

from jupiter_agent.adapters.machine import runnable

CROWDED = 4
"""Processes that want a core, per core, above which nothing starts ahead"""
LOOK_AGAIN_S, LOOK_AGAIN_MAX_S = 0.5, 4.0
AT_MOST_S = 20.0
"""After so long it starts whatever others do"""


def is_crowded() -> bool:
    """Now, on this machine; where nobody can say, it is not."""
    count = runnable()
    return count is not None and count > CROWDED * len(os.sched_getaffinity(0))


async def until_calm(wanted: asyncio.Event) -> None:
    """Returns when there is room, when the process is `wanted` now, or after `AT_MOST_S`."""
    loop = asyncio.get_running_loop()
    deadline, pause_s = loop.time() + AT_MOST_S, LOOK_AGAIN_S
    while not wanted.is_set() and loop.time() < deadline and is_crowded():
        try:
            await asyncio.wait_for(wanted.wait(), pause_s * random.uniform(0.5, 1.5))
        except TimeoutError:
            pause_s = min(LOOK_AGAIN_MAX_S, 2 * pause_s)
