"""Files: what the disk answers in our terms, and folders whose entries survive a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupiter_agent.errors import CapacityError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EFBIG}


@contextmanager
def capacity(doing: str) -> Iterator[None]:
    """A full disk, quota or file table becomes CapacityError; other faults of the disk pass as OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise CapacityError(f"{doing}: {error.strerror}", "free space or raise the limit") from error
        raise


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """`os.write` until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(path: Path, text: str, sync: bool = False) -> None:
    """Put a small file in the place of another, whole or not at all, readable by its owner only. OSError.

    `sync`: durable when this returns.
    """
    aside = path.with_name(f".{path.name}.new")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    aside.replace(path)
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make created, renamed and removed names of a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
