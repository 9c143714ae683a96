"""Large inputs of one process, shown in its private folder: a sandbox shows it nothing else of the object store.

They are hard links, in a folder that is read-only inside; where the file system has none, copies.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from jupiter_agent.adapters.answers import Inputs, Paths


class Shown:
    """The inputs of the runs inside."""

    def __init__(self, folder: Path, is_closed: bool) -> None:
        """Outside a sandbox nothing is done: the store is seen."""
        self._folder, self._is_closed = folder, is_closed
        self._users: Counter[str] = Counter()

    def of(self, objects: Paths) -> Paths:
        """What `objects` has, shown."""
        return _Shower(self, objects) if self._is_closed else objects

    def show(self, sha256: bytes, source: Path) -> Path:
        name = sha256.hex()
        path = self._folder / name
        if not self._users[name]:
            try:
                os.link(source, path)
            except FileExistsError:
                pass
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, path)
        self._users[name] += 1
        return path

    def drop(self, inputs: Inputs) -> None:
        """The run that had these is over."""
        for _, given in inputs:
            for obj in given:
                if obj.data is None:
                    self.release(obj.sha256.hex())

    def release(self, name: str) -> None:
        """One user less of what is shown under this name; others are ignored."""
        if name not in self._users:
            return
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name]
            (self._folder / name).unlink(missing_ok=True)


class _Shower:
    def __init__(self, shown: Shown, objects: Paths) -> None:
        self._shown, self._objects = shown, objects

    def path(self, sha256: bytes) -> Path:
        """As in `Paths`."""
        return self._shown.show(sha256, self._objects.path(sha256))
