"""Processes as trees, read from /proc: whose children are whose, what a tree uses, and ending what a task left behind.

The agent is the reaper of its descendants: whatever loses its parent, whatever its session and environment, becomes a
child of the agent. A child that `spawn` did not start belongs to the task whose session it is in, or whose
mark is in its environment; once that task has ended, it was left behind. So was one that hides both. Processes in a
namespace of their own need none of this: they end with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jupiter_agent.adapters.limits import MARK

PR_SET_CHILD_SUBREAPER = 36
MAX_SWEEPS = 200
PAUSE_S = 0.005
_PAGE = os.sysconf("SC_PAGESIZE")
_OWN: dict[int, str] = {}
"""what `spawn` started and nobody waited for yet, with its mark"""
_LOCK = threading.Lock()
"""held while a process is started, and while it is judged who was left behind"""


def spawn(words: Sequence[str], mark: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process of our own, in a session of its own."""
    with _LOCK:
        popen = subprocess.Popen(words, start_new_session=True, **options)
        _OWN[popen.pid] = mark
    return popen


def disown(pid: int) -> None:
    """It was waited for: its number may be another's."""
    with _LOCK:
        _OWN.pop(pid, None)


def become_reaper() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """SIGKILL what tasks left behind, with all its descendants. Blocks for some milliseconds: call it in a thread."""
    for _ in range(MAX_SWEEPS):
        with _LOCK:
            orphans = [pid for pid in _adopted() if not _is_alive_for(pid)]
            for pid in orphans:
                _end_tree(pid)
        if not orphans:
            return
        time.sleep(PAUSE_S)


def reap_orphans() -> None:
    """Wait for those that ended by themselves while their task lives."""
    with _LOCK:
        for pid in _adopted():
            _wait(pid)


def _adopted() -> list[int]:
    return [pid for pid in children(os.getpid()) if pid not in _OWN and _session(pid) not in (0, _OURS)]


def _is_alive_for(pid: int) -> bool:
    """Whether its task has not ended."""
    return _session(pid) in _OWN or mark_of(pid) in _OWN.values()


def mark_of(pid: int) -> str:
    """What is in its environment; '' when nothing is, or it is not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for value in file.read().split(b"\0"):
                name, _, mark = value.partition(b"=")
                if name == MARK.encode():
                    return mark.decode(errors="replace")
    except OSError:
        pass
    return ""


_OURS = os.getsid(0)


def _end_tree(top: int) -> None:
    """All are stopped first, until nobody new appears: what forks faster than it is killed would never end.

    `top` is our child and not waited for, so that its number is its own.
    """
    seen: set[int] = set()
    while new := [pid for pid in tree(top) if pid not in seen]:
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        seen.update(new)
    for pid in seen:
        _signal(pid, signal.SIGKILL)
    _wait(top)


def _wait(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def children(pid: int) -> list[int]:
    """Direct children, of whichever thread."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        return found if _HAS_CHILDREN else _children_by_parent(pid)
    except OSError:
        pass
    return found


_HAS_CHILDREN = os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


def _children_by_parent(pid: int) -> list[int]:
    """Where the kernel lists no children."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _stat(int(name), 1) == pid]


def tree(pid: int, limit: int = 1 << 20) -> Iterator[int]:
    """A process and its descendants, parents first; at most `limit`."""
    waiting = [pid]
    while waiting and limit > 0:
        pid = waiting.pop(0)
        limit -= 1
        yield pid
        waiting += children(pid)


def _session(pid: int) -> int:
    """0 when it is gone."""
    return _stat(pid, 3)


def _stat(pid: int, field: int) -> int:
    """A number behind the name in /proc/PID/stat: 1 the parent, 3 the session; 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[field])
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(frozen=True)
class Usage:
    """Of a tree of processes."""

    processes: int
    memory_bytes: int


def usage(pid: int, most_processes: int, most_memory: int) -> Usage:
    """What a tree uses. Beyond `most_processes` nobody is counted; memory that is shared counts once where it matters.

    Resident pages are quick to read and count what is shared twice; only where their sum is too much, each process is
    asked for its proportional share.
    """
    pids = list(tree(pid, most_processes + 1))
    memory = sum(map(_resident, pids))
    if memory > most_memory and len(pids) > 1:
        memory = sum(map(_proportional, pids))
    return Usage(len(pids), memory)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return _resident(pid)
