"""Which process is which, from /proc: a pid alone proves nothing, numbers are used again.

A process is the one we started when its start time (ticks since boot) is what we noted *and* its command line names the
state folder we gave it: the first tells it from a successor within one boot, the second across boots.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from jupiter_agent.adapters.disk import replace_file

PROC = Path("/proc")
ENDED = ("Z", "X")
"""states of a process that only waits to be reaped"""


@dataclass(frozen=True)
class Started:
    """A process we started: what is written to its pid file."""

    pid: int
    start_ticks: int

    def save(self, path: Path) -> None:
        replace_file(path, json.dumps(asdict(self)))


def load(path: Path) -> Started | None:
    """What a pid file says; None when there is none or it is no pid file."""
    try:
        content = json.loads(path.read_text("utf-8"))
        started = Started(int(content["pid"]), int(content["start_ticks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return started if started.pid > 1 else None


def start_ticks(pid: int, proc: Path = PROC) -> int | None:
    """When a living process started; None when it has ended, reaped or not."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold spaces and brackets
    return None if fields[0].decode() in ENDED else int(fields[19])


def names_folder(pid: int, state_dir: Path, proc: Path = PROC) -> bool:
    """Whether the command line has `--state-dir STATE_DIR`."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (b"--state-dir", os.fsencode(state_dir)) in itertools.pairwise(words)


def is_running(started: Started | None, state_dir: Path, proc: Path = PROC) -> bool:
    """Whether exactly this process still lives."""
    return (
        started is not None
        and start_ticks(started.pid, proc) == started.start_ticks
        and names_folder(started.pid, state_dir, proc)
    )


def send_signal(started: Started | None, state_dir: Path, *numbers: signal.Signals) -> bool:
    """Signal it if it is still itself; a pidfd taken before the check keeps the number from changing hands between."""
    if started is None:
        return False
    try:
        handle = os.pidfd_open(started.pid)
    except OSError:
        return False
    try:
        if not is_running(started, state_dir):
            return False
        for number in numbers:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def kill_marked(variable: str, prefixes: set[str]) -> None:
    """SIGKILL what carries one of these marks in its environment, until nothing does."""
    name = variable.encode() + b"="
    starts = tuple(name + prefix.encode() for prefix in prefixes)
    for _ in range(20):
        found = [pid for pid in _pids() if _has_mark(pid, starts)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdecimal() and int(name) != os.getpid()]


def _has_mark(pid: int, starts: tuple[bytes, ...]) -> bool:
    try:
        environ = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return any(word.startswith(starts) for word in environ.split(b"\0")) and start_ticks(pid) is not None
