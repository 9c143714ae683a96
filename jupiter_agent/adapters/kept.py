"""Large inputs of done runs that may be given again (`replay: N`), kept when the store has dropped them.

They are hard links beside the private folders of the processes (processes.py): they outlive a task's processes on one
node, but neither the agent nor a move.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jupiter_agent.adapters.answers import FOREIGN, ObjectStore
from jupiter_agent.core.effects import StartRun

_numbers = itertools.count()


class Kept:
    """`path` is that of the store for what is kept here, so runs that are given again find it."""

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        """`folder` is removed when the next agent starts."""
        self._objects, self._folder = objects, folder / f"replay-{next(_numbers)}"
        self._users: Counter[bytes] = Counter()

    def path(self, sha256: bytes) -> Path:
        """FileNotFoundError, KeyError or LookupError when it is nowhere."""
        return self._at(sha256) if self._users[sha256] else self._objects.path(sha256)

    def add(self, effect: StartRun) -> None:
        """What the store or the file system refuses is not kept: that run is not given again."""
        for sha256 in _large(effect):
            if not self._users[sha256] and not self._link(sha256):
                continue
            self._users[sha256] += 1

    def drop(self, effect: StartRun | None) -> None:
        for sha256 in _large(effect) if effect else ():
            self._users[sha256] -= 1
            if self._users[sha256] <= 0:
                del self._users[sha256]
                self._at(sha256).unlink(missing_ok=True)

    def clear(self) -> None:
        self._users.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _at(self, sha256: bytes) -> Path:
        return self._folder / sha256.hex()

    def _link(self, sha256: bytes) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._at(sha256).unlink(missing_ok=True)
            os.link(self._objects.path(sha256), self._at(sha256))
        except FOREIGN:
            return False
        return True


def _large(effect: StartRun) -> Iterator[bytes]:
    """Digests of what did not come inside the message, each once."""
    yield from dict.fromkeys(obj.sha256 for _, given in effect.inputs for obj in given if obj.data is None)
