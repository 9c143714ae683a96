"""An object that is still arriving: one file, how much of it is there, and the hash of that.

Bytes count when they extend the prefix, and are hashed then; what lies below the prefix is never written again, so what
was hashed is what is stored. While there are holes a file `NAME.holes` lies beside it: without one its length is its
prefix, also after a restart.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from jupiter_agent.adapters.disk import write_all

MAX_HOLES = 1024
PIECE = 1024 * 1024


@dataclass
class Partial:
    """Bytes [0, prefix) are there; `later` are disjoint intervals beyond it, sorted. `hashed` covers the prefix."""

    path: Path
    size: int
    touched: float
    prefix: int = 0
    hashed: hashlib._Hash | None = None
    """None: not hashed yet, after a restart"""
    later: list[tuple[int, int]] = field(default_factory=list)

    @property
    def marker(self) -> Path:
        return self.path.with_name(self.path.name + ".holes")

    def put(self, offset: int, data: bytes | memoryview) -> bool:
        """Write what is new of these bytes; False when that would leave too many holes."""
        end = offset + len(data)
        if end <= self.prefix:
            return True
        later = _merged([*self.later, (offset, end)]) if offset > self.prefix else list(self.later)
        if len(later) > MAX_HOLES:
            return False
        if later and not self.later:
            self.marker.touch(mode=0o600)  # before the hole is there
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            hashed = self.hashed or hash_range(fd, 0, self.prefix, hashlib.sha256())
            start = max(offset, self.prefix)
            os.lseek(fd, start, os.SEEK_SET)
            new = memoryview(data)[start - offset :]
            write_all(fd, new)
            if start == self.prefix:
                hashed.update(new)
                self.prefix = end
            while later and later[0][0] <= self.prefix:
                hash_range(fd, self.prefix, later[0][1], hashed)
                self.prefix = max(self.prefix, later.pop(0)[1])
        finally:
            os.close(fd)
        self.hashed = hashed
        if self.later and not later:
            self.marker.unlink(missing_ok=True)
        self.later = later
        return True

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.marker.unlink(missing_ok=True)


def _merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted and disjoint; touching ones become one."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def hash_range(fd: int, start: int, end: int, into: hashlib._Hash) -> hashlib._Hash:
    """Feed the file's bytes [start, end) into a hash."""
    while start < end and (piece := os.pread(fd, min(PIECE, end - start), start)):
        into.update(piece)
        start += len(piece)
    return into
