"""Looks at running task processes, and has those ended that use more than they may.

The kernel bounds each process (task/harden.py); what a task's processes use together, and the bytes in its private
folder, nobody bounds but this. It looks a few times a second, in a thread, as long as there is something to look at.
So a task may exceed a limit for the time between two looks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jupiter_agent.adapters.limits import Allowed, beside_agent, ends_together, machine_memory, size
from jupiter_agent.adapters.proctree import reap_orphans, usage

log = logging.getLogger("jupiter")

LOOK_S, LOOK_SHARE = 0.25, 40.0
"""least pause between two looks, and how much longer than the look itself it is: at most a fortieth of a core"""
DISK_S, DISK_SHARE = 0.5, 20.0
"""least seconds between two looks at a folder, and how much longer than the look itself the pause is"""
_INPUTS = "in"


@dataclass
class Watched:
    """A process with the folder it fills. `on_excess` is called once, on the loop, with what was exceeded."""

    pid: int
    work: Path
    allowed: Allowed
    on_excess: Callable[[str], None]
    keepers: int = 0
    """processes of the sandbox itself"""
    next_disk: float = 0.0


class Watch:
    """Of one runner."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}
        self._earlier_kills = self._oom_kills = 0
        """what `oom_kills` said at the last look but one, and at the last"""
        self._looking: asyncio.Task[None] | None = None
        if ends_together():
            log.warning(
                "where memory runs out the kernel ends this agent with its tasks, as memory.oom.group is 1; "
                "a process of a task may reserve %s at most", size(beside_agent(machine_memory())),
            )  # fmt: skip

    def add(self, watched: Watched) -> None:
        self._watched[watched.pid] = watched
        if self._looking is None or self._looking.done():
            self._earlier_kills = self._oom_kills = oom_kills()
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def drop(self, pid: int) -> None:
        self._watched.pop(pid, None)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel ended something, on this machine, for want of memory lately: since the last look but one,
        as the last may have come between that end and the question."""
        return oom_kills() > self._earlier_kills

    async def close(self) -> None:
        self._watched.clear()
        if self._looking:
            await asyncio.wait([self._looking])

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        took = 0.0
        while self._watched:
            await asyncio.sleep(max(LOOK_S, took * LOOK_SHARE))
            self._earlier_kills, self._oom_kills = self._oom_kills, oom_kills()
            found, took = await loop.run_in_executor(None, _look_at, list(self._watched.values()))
            for watched, excess in found:
                if self._watched.get(watched.pid) is watched:
                    self.drop(watched.pid)
                    watched.on_excess(excess)


def oom_kills() -> int:
    """How often the kernel did so; 0 where it does not tell."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def _look_at(every: list[Watched]) -> tuple[list[tuple[Watched, str]], float]:
    """Who exceeds what, and the CPU seconds it took to see it."""
    began = time.thread_time()
    reap_orphans()
    found = [(watched, excess) for watched in every if (excess := _excess(watched))]
    return found, time.thread_time() - began


def _excess(watched: Watched) -> str:
    allowed = watched.allowed
    most = allowed.processes + watched.keepers
    used = usage(watched.pid, most, allowed.memory)
    if used.processes > most:
        return f"more than {allowed.processes} processes (limits: processes)"
    if used.memory_bytes > allowed.memory:
        return f"more than {size(allowed.memory)} of memory (limits: memory)"
    now = time.monotonic()
    if now >= watched.next_disk:
        full = disk_bytes(watched.work, allowed.scratch) > allowed.scratch
        watched.next_disk = time.monotonic() + max(DISK_S, (time.monotonic() - now) * DISK_SHARE)
        if full:
            return f"more than {size(allowed.scratch)} in its folder (limits: disk)"
    return ""


def disk_bytes(folder: Path, enough: int = 1 << 62) -> int:
    """Blocks of all files below, without its inputs; it stops looking when it has seen more than `enough`."""
    total, waiting = 0, [str(folder)]
    while waiting and total <= enough:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    elif entry.name != _INPUTS or entry.path != f"{folder}/{_INPUTS}":
                        waiting.append(entry.path)
        except OSError:  # it went away meanwhile
            pass
    return total
