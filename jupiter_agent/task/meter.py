"""What a run used: CPU seconds, its children's included, and the most memory that its process held meanwhile.

The kernel's high-water mark is set back before each run, where we may; with several runs at once the marks and the
seconds of children are shared, and a run is given the CPU time of its own thread alone.
"""

from __future__ import annotations

import os
import resource
import time

CLEAR = b"5"
"""written into clear_refs: forget the high-water mark"""
MARK = b"VmHWM:"


class Meter:
    """Of one slot. `alone`: no other run is inside this process."""

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._cpu_s = 0.0
        self._clear = self._status = -1
        if alone:
            try:
                self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
                self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                pass

    def begin(self) -> None:
        """A run begins."""
        if self._clear >= 0:
            try:
                os.pwrite(self._clear, CLEAR, 0)
            except OSError:
                pass
        self._cpu_s = cpu_s() if self._alone else time.thread_time()

    def used(self) -> tuple[float, int]:
        """(CPU seconds since then, bytes)"""
        passed = (cpu_s() if self._alone else time.thread_time()) - self._cpu_s
        return max(0.0, passed), self._peak()

    def _peak(self) -> int:
        """Of this process, or of a child that was larger in this run or before."""
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        try:
            status = os.pread(self._status, 4096, 0) if self._status >= 0 else b""
            at = status.index(MARK) + len(MARK)
            return max(int(status[at : status.index(b"kB", at)]) * 1024, largest)
        except (OSError, ValueError):
            return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, largest)


def cpu_s() -> float:
    """Of this process and of its children that it waited for."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def peak_bytes() -> int:
    """The most that this process or one of its children held, ever."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
