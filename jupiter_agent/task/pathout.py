"""The folder a v5 task writes to: what appears there, and what its names mean.

`<task>_<child>_<base>` goes to that child as `base`, which may contain `_`. The first part is not looked at. A file
that names no child is a line in the log, is counted, and is not passed on.
"""

from __future__ import annotations

import os
import sys

from jupiter_agent.task.errors import ContractError
from jupiter_agent.task.files import children_of
from jupiter_agent.task.inotify import watch
from jupiter_agent.task.native import HOME, Outputs

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

    from jupiter_agent.task.native import Output


class PathOut:
    """Closed files wait here under their names until they are taken. Not thread-safe."""

    def __init__(self, setup: dict[str, Any], folder: str) -> None:
        self.folder = folder
        self.refused = 0
        self._setup = setup
        self._children = {**dict.fromkeys(children_of(setup)), **setup["extra"].get("aliases", {})}
        self._watch = watch(folder)
        self.fd = self._watch.fd

    def closed(self) -> list[str]:
        """Names of files closed since the last call."""
        return self._watch.closed()

    def open_names(self) -> set[str]:
        """New files here that somebody has still open, as far as is known after `closed`."""
        return self._watch.open_names

    def outputs(self, run: int) -> Outputs:
        return Outputs(self._setup, run, self.folder)

    def base(self, name: str) -> str:
        return name.split("_", 2)[-1]

    def take(self, name: str, outputs: Outputs, number: int) -> Output | None:
        """The file as an object for its child; it leaves the folder. None for what is gone, or names no child."""
        path = os.path.join(self.folder, name)
        if not os.path.isfile(path):  # renamed or removed meanwhile
            return None
        _, _, rest = name.partition("_")
        child, _, base = rest.partition("_")
        if child not in self._children or not base:
            self._refuse(name)
            return None
        try:
            output = outputs.from_path(path, [self._children[child] or child], number, base)
        except ContractError as error:
            self._refuse(name, str(error))
            return None
        if os.path.lexists(path):
            os.unlink(path)
        return output

    def _refuse(self, name: str, why: str = "") -> None:
        self.refused += 1
        names = ", ".join(child for child in self._children if child != HOME or len(self._children) == 1)
        why = why or f"it names no child; write <task>_<child>_<name>, the children are {names or HOME}"
        print(f"[jupiter] {name!r} is not passed on: {why} ({self.refused} such files so far)", file=sys.stderr)
        try:
            os.unlink(os.path.join(self.folder, name))
        except OSError:
            pass
