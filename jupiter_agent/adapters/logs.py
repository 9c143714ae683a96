"""Task logs: what user code prints, a time in front of each line, kept up to a cap and counted beyond it.

Output comes through one pipe per process (stdout and stderr, so their order is kept). Beyond the cap it is spliced to
/dev/null inside the kernel: 100 MB of prints cost neither memory nor disk and do not hold up the task. The last line of
a cut log says how much is missing and is rewritten in place. What the disk does not take is counted as lost like that,
and said when it takes something again; nothing here ever raises for the disk's sake.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

READ_BYTES = 128 * 1024
PIPE_BYTES = 1024 * 1024
PAUSE_S = 0.005
"""between two reads: a task that prints a million lines must not wake the agent a million times"""
CUT = "the log is cut here; {:015d} bytes that followed were counted, not kept\n"
REFUSED = "[jupiter] the disk was full: {} bytes that came here were not kept\n"
_CUT = re.compile(rb"the log is cut here; (\d{15}) bytes that followed were counted, not kept\n\Z")
_CUT_BYTES = len(CUT.format(0))


def _now() -> bytes:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode() + b"Z "


class TaskLog:
    """The log of one (job, task), across restarts of its process. Open while something is attached to it."""

    def __init__(self, path: Path, cap: int, now: Callable[[], bytes] = _now) -> None:
        self.path = path
        self._cap = cap
        self._now = now
        self._fd = -1
        self._users = 0
        self._size = 0
        self._lost: int | None = None
        """bytes not kept; None: not cut yet"""
        self._in_line = False
        self.refused_bytes = 0
        """bytes that the disk did not take, not yet told in the log"""

    def attach(self) -> None:
        self._users += 1
        if self._users > 1:
            return
        try:
            self._open()
        except OSError:  # what comes is counted, and each write tries again
            self.close()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.lseek(self._fd, 0, os.SEEK_END)
        tail = os.pread(self._fd, _CUT_BYTES, max(0, self._size - _CUT_BYTES))
        cut = _CUT.search(tail)
        self._lost = int(cut[1]) if cut else None
        self._in_line = bool(tail) and not tail.endswith(b"\n")

    def detach(self) -> None:
        self._users -= 1
        if not self._users:
            self.close()

    def close(self) -> None:
        """Let go of the file; a later write opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def full(self) -> bool:
        return self._lost is not None

    def write(self, data: bytes) -> None:
        """Output of the task, as it comes: a chunk may end in the middle of a line."""
        try:
            if self._fd < 0 and self._users:
                self._open()
            if self.refused_bytes:
                self._whole((("\n" if self._in_line else "") + REFUSED.format(self.refused_bytes)).encode())
                self.refused_bytes = 0
            self._whole(data)
        except OSError:
            self.refused_bytes += len(data)

    def _whole(self, data: bytes) -> None:
        """Write it, or leave the log as it was. OSError."""
        size, in_line = self._size, self._in_line
        try:
            self._write(data)
        except OSError:
            self._size, self._in_line = size, in_line
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
            raise

    def _write(self, data: bytes) -> None:
        if self._lost is not None:
            self.lose(len(data))
            return
        stamp = self._now()
        body = data.replace(b"\n", b"\n" + stamp)
        if not self._in_line:
            body = stamp + body
        self._in_line = not data.endswith(b"\n")
        if not self._in_line:
            body = body[: -len(stamp)]
        if self._size + len(body) <= self._cap:
            self._put(body)
        else:
            self._cut(body)

    def note(self, text: str) -> None:
        """A line of ours, on a line of its own."""
        self.write((("\n" if self._in_line else "") + f"[jupiter] {text}\n").encode())

    def lose(self, count: int) -> None:
        """Count `count` bytes that are not kept."""
        assert self._lost is not None
        self._lost += count
        try:
            os.pwrite(self._fd, CUT.format(self._lost).encode(), self._size - _CUT_BYTES)
        except OSError:  # the count in the file lags behind until the next time
            pass

    def _cut(self, body: bytes) -> None:
        kept = body[: max(0, self._cap - self._size)]
        self._put(kept + b"\n" if kept and not kept.endswith(b"\n") else kept)
        self._put(CUT.format(0).encode())
        self._lost = 0
        self.lose(len(body) - len(kept))

    def _put(self, body: bytes) -> None:
        while body:
            written = os.write(self._fd, body)
            self._size += written
            body = body[written:]


class LogPipe:
    """Carries one process's output from its pipe to its log, on the loop."""

    def __init__(self, log: TaskLog) -> None:
        self._log = log
        self._read_fd, self.write_fd = os.pipe()
        log.attach()
        os.set_blocking(self._read_fd, False)
        try:
            fcntl.fcntl(self._read_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # the user's pipes have enough memory already: prints wait a little more often
            pass
        self._null = -1
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._listen()

    def close_write_end(self) -> None:
        """The process has its copy."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> None:
        """Take what is left and end. Call it when the process is gone."""
        self.close_write_end()
        self._loop.remove_reader(self._read_fd)
        self._open = False
        try:
            for _ in range(PIPE_BYTES // READ_BYTES + 1):
                if not self._take():
                    break
        except OSError:  # somebody has it open still
            pass
        os.close(self._read_fd)
        if self._null >= 0:
            os.close(self._null)
        self._log.detach()

    def _listen(self) -> None:
        if self._open:
            self._loop.add_reader(self._read_fd, self._read)

    def _read(self) -> None:
        self._loop.remove_reader(self._read_fd)
        try:
            more = self._take()
        except OSError:  # nothing there yet, or no descriptor left for /dev/null: look again
            more = 1
        if more:
            self._loop.call_later(PAUSE_S, self._listen)

    def _take(self) -> int:
        """One piece; how many bytes it had, 0 at the end of file."""
        return self._splice() if self._log.full else self._copy()

    def _copy(self) -> int:
        data = os.read(self._read_fd, READ_BYTES)
        if data:
            self._log.write(data)
        return len(data)

    def _splice(self) -> int:
        if self._null < 0:
            self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        count = os.splice(self._read_fd, self._null, PIPE_BYTES)
        if count:
            self._log.lose(count)
        return count
