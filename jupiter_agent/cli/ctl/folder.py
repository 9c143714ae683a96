"""Files of a folder, each once it is complete: it stayed the same for a while, and nobody has it open for writing.

Only the folder's own regular files count; hidden ones are what others are still writing. A name comes again when its
content changed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

from jupiter_agent.errors import UsageError

Look = tuple[int, int, int]
"""inode, size, time of the last change (ns)"""


class Folder:
    """Poll `complete()`; what it returned is not returned again before it changes."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UsageError(f"--watch-dir {path}: no such folder", "make it first, then put files into it")
        self._path = path
        self._seen: dict[str, Look] = {}
        self._given: dict[str, Look] = {}

    def complete(self) -> list[Path]:
        """In name order, those that are new or changed and were already as they are at the last call.

        UsageError when the folder is gone.
        """
        now = dict(self._looks())
        steady = [name for name, look in now.items() if self._seen.get(name) == look != self._given.get(name)]
        ready = [name for name in sorted(steady) if not is_being_written(self._path / name)]
        self._seen = now
        self._given = {name: look for name, look in self._given.items() if name in now}
        self._given |= {name: now[name] for name in ready}
        return [self._path / name for name in ready]

    def _looks(self) -> Iterator[tuple[str, Look]]:
        try:
            entries = list(os.scandir(self._path))
        except OSError as error:
            raise UsageError(f"--watch-dir {self._path}: {error.strerror}", "is it still there?") from error
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:
                continue  # gone already
            if stat.S_ISREG(status.st_mode) and not entry.name.startswith("."):
                yield entry.name, (status.st_ino, status.st_size, status.st_mtime_ns)


def is_being_written(path: Path) -> bool:
    """Whether some process has it open for writing: no read lease is given then. False where leases are unknown."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # for the reader to meet again, and to say
    try:
        fcntl.fcntl(number, fcntl.F_SETSIG, signal.SIGURG)  # who opens it meanwhile must not end us with SIGIO
        fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # another user's file, or a file system without leases: that it stays the same must do
    finally:
        os.close(number)
    return False
