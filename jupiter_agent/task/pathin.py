"""The folder a v5 task reads from. Files stay for a while after their run: some apps look back at earlier ones."""

from __future__ import annotations

import os
from collections import deque

from jupiter_agent.task.files import INPUT, parent_of, place
from jupiter_agent.task.native import HOME

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from jupiter_agent.task.serve import Entries

KEPT_RUNS, KEPT_BYTES = 16, 64 * 1024 * 1024


class PathIn:
    """Names are `<src>_<task>_<base>`, `src` being `home` for an injected item. Not thread-safe."""

    def __init__(self, folder: str, task: str) -> None:
        self.folder = folder
        self._task = task
        self._owner: dict[str, int] = {}
        self._kept: deque[tuple[int, list[str], int]] = deque()
        self._count = 0

    def names(self, entries: Entries) -> dict[str, str]:
        """File name -> base name, in the order of `entries`."""
        found: dict[str, str] = {}
        for key, base, _, _ in entries:
            src = HOME if parent_of(key) == INPUT else parent_of(key)
            name, number = f"{src}_{self._task}_{base}", 1
            while name in found:  # one parent gave two files of one name
                number += 1
                name = f"{src}_{self._task}_{base}.{number}"
            found[name] = base
        return found

    def put(self, names: list[str], entries: Entries) -> int:
        """Write the files; returns a number for `release`. A file of that name from earlier is replaced."""
        self._count += 1
        for name, (_, _, data, source) in zip(names, entries, strict=True):
            place(os.path.join(self.folder, name), data, source)
            self._owner[name] = self._count
        return self._count

    def release(self, number: int, names: list[str]) -> None:
        """These are done with: kept until newer ones push them out."""
        size = sum(self._size(name) for name in names)
        self._kept.append((number, names, size))
        total = sum(size for _, _, size in self._kept)
        while len(self._kept) > KEPT_RUNS or total > KEPT_BYTES:
            old, names, size = self._kept.popleft()
            total -= size
            for name in names:
                self._remove(old, name)

    def _remove(self, number: int, name: str) -> None:
        if self._owner.get(name) != number:  # a newer file has the name now
            return
        del self._owner[name]
        try:
            os.unlink(os.path.join(self.folder, name))
        except OSError:
            pass

    def _size(self, name: str) -> int:
        try:
            return os.stat(os.path.join(self.folder, name)).st_size
        except OSError:
            return 0
