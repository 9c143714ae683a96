"""The files of an object store: taking one in, syncing one, and finding those that are whole at a start."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from jupiter_agent.adapters.partial import Partial, hash_range
from jupiter_agent.errors import TaskError

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]{1,18})\Z")


def sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def hash_file(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Digest and state of a regular file that a task made: no link is followed, no fifo waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOENT, errno.ENXIO, errno.EACCES}:
            raise TaskError(f"{path.name}: not a file that can be read: {error.strerror}") from error
        raise
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise TaskError(f"{path.name}: not a regular file")
        if seen.st_size > most:
            raise TaskError(f"{path.name}: {seen.st_size} bytes, an object may have {most}")
        return hash_range(fd, 0, seen.st_size, hashlib.sha256()).digest(), seen
    finally:
        os.close(fd)


def move(path: Path, fresh: Path, seen: os.stat_result, sha256: bytes) -> None:
    """Rename a file that is still as it was hashed, or copy it, hash the copy and remove it."""
    now = path.lstat()
    if any(getattr(now, what) != getattr(seen, what) for what in ("st_ino", "st_dev", "st_size", "st_mtime_ns")):
        raise TaskError(f"{path.name}: it changed while it was stored")
    try:
        if seen.st_nlink > 1:
            raise OSError(errno.EXDEV, "has other links")
        path.rename(fresh)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            shutil.copyfile(path, fresh, follow_symlinks=False)
            if hash_file(fresh, seen.st_size)[0] != sha256:
                raise TaskError(f"{path.name}: it changed while it was stored") from error
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        path.unlink()


def stored(folder: Path) -> Iterator[tuple[bytes, int]]:
    """Whole objects; those that a power cut left short are removed."""
    for shard in folder.iterdir():
        if len(shard.name) == 2:
            for entry in os.scandir(shard):
                match = _NAME.match(entry.name)
                if match and entry.stat(follow_symlinks=False).st_size == int(match[2]):
                    yield bytes.fromhex(match[1]), int(match[2])
                else:
                    os.unlink(entry)


def left_over(incoming: Path, now: float) -> Iterator[tuple[bytes, Partial]]:
    """Partials that came in order; everything else in the folder is removed."""
    for path in sorted(incoming.iterdir()):
        match = _NAME.match(path.name)
        if match and not path.with_name(path.name + ".holes").exists():
            length = path.stat().st_size
            if length < int(match[2]):
                yield bytes.fromhex(match[1]), Partial(path, int(match[2]), now, prefix=length)
                continue
        path.unlink()  # a partial before its marker, which sorts behind it
