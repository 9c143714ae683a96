"""Which files of one folder were closed after writing, or renamed in: the kernel's notices, or a look at the folder.

A user may have few inotify instances (often 128); a node with more processes than that falls back to looking. `Scan`
then takes a file as closed when it is new or changed and this process does not have it open; what other processes are
still writing it cannot know.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
Q_OVERFLOW, ONLYDIR, ISDIR = 0x4000, 0x1000000, 0x40000000
WATCHED = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | ONLYDIR
READ_BYTES = 64 * 1024
_EVENT = struct.Struct("iIII")


class Watch:
    """`closed()` gives names in the order of closing; `open_names` are those created and not closed yet."""

    def __init__(self, folder: str) -> None:
        """OSError when the kernel gives no instance."""
        libc = ctypes.CDLL(None, use_errno=True)
        self.open_names: set[str] = set()
        self._folder = folder
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(folder), WATCHED) < 0:
            error = ctypes.get_errno()
            self.close()
            raise OSError(error, os.strerror(error), folder)

    def closed(self) -> list[str]:
        """What was closed since the last call; a file closed twice is there twice."""
        found: list[str] = []
        while data := self._read():
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                name = os.fsdecode(data[at - length : at].rstrip(b"\0"))
                if mask & Q_OVERFLOW:
                    found += _by_age(self._folder)
                elif not mask & ISDIR:
                    self._note(mask, name, found)
        return found

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _note(self, mask: int, name: str, found: list[str]) -> None:
        if mask & CREATE:
            self.open_names.add(name)
            return
        self.open_names.discard(name)
        if mask & (CLOSE_WRITE | MOVED_TO):
            found.append(name)

    def _read(self) -> bytes:
        try:
            return os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""


class Scan:
    """The same without inotify."""

    fd = -1

    def __init__(self, folder: str) -> None:
        self.open_names: set[str] = set()
        self._folder = folder
        self._seen: dict[str, tuple[int, int, int]] = {}

    def closed(self) -> list[str]:
        found = []
        self.open_names = _open_here(self._folder)
        there = _by_age(self._folder)
        for name in there:
            try:
                info = os.stat(os.path.join(self._folder, name))
            except OSError:
                continue
            state = (info.st_mtime_ns, info.st_size, info.st_ino)
            if name not in self.open_names and self._seen.get(name) != state:
                self._seen[name] = state
                found.append(name)
        self._seen = {name: state for name, state in self._seen.items() if name in there}
        return found

    def close(self) -> None: ...


def watch(folder: str) -> Watch | Scan:
    """The best there is."""
    try:
        return Watch(folder)
    except (OSError, AttributeError):  # no instance left; a libc without inotify
        return Scan(folder)


def _by_age(folder: str) -> list[str]:
    """Names of the files, the one written first at first; times are coarse, so ties go by inode."""
    aged = []
    for entry in os.scandir(folder):
        try:
            if not entry.is_dir(follow_symlinks=False):
                info = entry.stat()
                aged.append((info.st_mtime_ns, info.st_ino, entry.name))
        except OSError:
            continue
    return [name for _, _, name in sorted(aged)]


def _open_here(folder: str) -> set[str]:
    """Files of the folder that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            at, _, name = os.readlink(f"/proc/self/fd/{fd}").rpartition("/")
        except OSError:
            continue
        if at == folder:
            found.add(name)
    return found
