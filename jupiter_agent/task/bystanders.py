"""Who may still write when a v5 task is done with an item: threads at work, child processes, files that are open.

A thread is at rest when it waits inside the standard library to be told something (a lock, a socket, an empty queue).
All others are at work, but for those that use the task's queue: the ledger knows about them. What was waited for in
vain is a resident (a monitor, a helper process, a log file that stays open): it is not waited for again, until an
output is late after all.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from queue import Queue, SimpleQueue
from weakref import WeakSet

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from types import FrameType

    from jupiter_agent.task.pathout import PathOut

OWN_THREADS = 2
"""the task's and the loop's"""
STILL_S = 2.0
"""a file that did not grow for so long is not being written"""
_LIBRARY = os.path.dirname(threading.__file__)
REST = frozenset(
    os.path.join(_LIBRARY, *name.split("/"))
    for name in (
        "asyncio/base_events.py", "concurrent/futures/process.py", "concurrent/futures/thread.py",
        "multiprocessing/connection.py", "multiprocessing/managers.py", "multiprocessing/pool.py",
        "multiprocessing/queues.py", "multiprocessing/synchronize.py", "queue.py", "selectors.py", "socket.py",
        "socketserver.py", "threading.py",
    )
)  # fmt: skip
"""where threads wait that have nothing to do"""
BEGINNING = frozenset(("_bootstrap", "_bootstrap_inner", "run"))
"""functions of `threading` in which a thread has not come to its own function yet"""
_TICKS = os.sysconf("SC_CLK_TCK")


class Bystanders:
    """`at_work` costs some file reads; `present` says whether it is worth it. Not thread-safe."""

    def __init__(self, out: PathOut) -> None:
        self._out = out
        self._users: WeakSet[threading.Thread] = WeakSet()
        self._residents: set[Hashable] = set()

    def use(self) -> None:
        """The calling thread uses the task's queue."""
        self._users.add(threading.current_thread())

    def present(self) -> bool:
        """Whether there is a thread besides the task's and the loop's, or a child process."""
        return threading.active_count() > OWN_THREADS or any(True for _ in _children())

    def settled(self) -> None:
        """The task begins an item: what is open now is none of its outputs."""
        there, names = self._out.open_names(), {each for each in self._residents if isinstance(each, str)}
        self._residents -= names - there
        self._residents |= there

    def at_work(self, excused: int = 0) -> tuple[set[Hashable], float]:
        """Who is at work, residents aside, and when the youngest of them began, in seconds since boot.

        Workers of a process pool count as old: they stay, and nobody can see whether they rest. `excused`: so many
        threads may be busy with other items; if no more are busy, none counts.
        """
        things: dict[Hashable, float] = {name: time.clock_gettime(time.CLOCK_BOOTTIME) for name in self._growing()}
        threads = [thread for thread in self._busy() if thread not in self._residents]
        if len(threads) > excused:
            things |= {thread: _began(f"self/task/{thread.native_id}")[1] for thread in threads}
        for pid in _children():
            state, began = _began(str(pid))
            if state not in "ZX" and (pid, began) not in self._residents:
                things[pid, began] = began if _is_program(pid) else 0.0
        return set(things), max(things.values(), default=0.0)

    def give_up(self, things: set[Hashable]) -> None:
        """They were waited for in vain."""
        gone = {each for each in self._residents if isinstance(each, threading.Thread) and not each.is_alive()}
        self._residents -= gone
        self._residents |= things
        names = ", ".join(sorted(_title(thing) for thing in things))
        print(f"[jupiter] {names}: still at work long after task_done, not waited for any more", file=sys.stderr)

    def recall(self) -> None:
        """An output was late: somebody not waited for has made it."""
        self._residents.clear()

    def _growing(self) -> Iterator[str]:
        for name in self._out.open_names() - self._residents:
            try:
                age_s = time.time() - os.stat(os.path.join(self._out.folder, name)).st_mtime
            except OSError:
                continue
            if age_s < STILL_S:
                yield name

    def _busy(self) -> Iterator[threading.Thread]:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = frames.get(thread.ident or 0)
            if frame is None or thread is threading.main_thread() or thread in self._users:
                continue
            if isinstance(thread, threading.Timer) or not _rests(frame):
                yield thread


def _rests(frame: FrameType) -> bool:
    """Whether a thread that is here has nothing to do: not if a queue that it waits at has something for it."""
    if frame.f_code.co_name in BEGINNING:
        return False
    at: FrameType | None = frame
    while at is not None and at.f_code.co_filename in REST:
        for name in ("work_queue", "self"):
            queue = at.f_locals.get(name)
            if (isinstance(queue, Queue) and queue.queue) or (isinstance(queue, SimpleQueue) and queue.qsize()):
                return False
        at = at.f_back
    return at is not frame


def _children() -> Iterator[int]:
    """Child processes, those too that ended and were not asked for their exit code. None where the kernel is silent."""
    for thread in threading.enumerate():
        try:
            with open(f"/proc/self/task/{thread.native_id}/children", "rb") as file:
                yield from map(int, file.read().split())
        except OSError:
            continue


def _began(who: str) -> tuple[str, float]:
    """(state letter, seconds since boot when it was started) of a process or thread; ("X", 0.0) when it is gone."""
    try:
        with open(f"/proc/{who}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "X", 0.0
    return fields[0].decode(), int(fields[19]) / _TICKS


def _is_program(pid: int) -> bool:
    """Whether it is another program than this one; not so a fork, and a worker of multiprocessing."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as child, open("/proc/self/cmdline", "rb") as mine:
            line = child.read()
            return line != mine.read() and b"multiprocessing" not in line
    except OSError:
        return False


def _title(thing: Hashable) -> str:
    if isinstance(thing, threading.Thread):
        return f"thread {thing.name}"
    return f"process {thing[0]}" if isinstance(thing, tuple) else f"file {thing}"
