"""A v5 home script or non-DAG task: no runs; what is delivered goes into its queue, what it writes is told at once."""

from __future__ import annotations

import os

from jupiter_agent.task.itemqueue import ItemQueue
from jupiter_agent.task.v5 import Loop

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

    from jupiter_agent.task.frames import Pipe
    from jupiter_agent.task.serve import Entries


class Resident(Loop):
    """See the module. A file waits outside while an earlier one of its name is in the queue, or in the task's hands."""

    def __init__(self, pipe: Pipe, setup: dict[str, Any], folders: list[str], task: Any) -> None:
        super().__init__(pipe, setup, folders, task)
        self.queue = ItemQueue(self)
        self._outside: list[tuple[str, Entries]] = []
        self._inside: dict[str, int] = {}
        """names in the queue -> number for `release`"""
        self._held = ""
        """the name got last, as long as it is not known to be done"""
        self._made = 0

    def on_request(self, request: Any) -> None:
        for entry in request[1]:
            [name] = self.inward.names([entry])
            self._outside.append((name, [entry]))
        self._let_in()

    def _let_in(self) -> None:
        waiting, self._outside = self._outside, []
        for name, entries in waiting:
            if name in self._inside or name == self._held or any(name == other for other, _ in self._outside):
                self._outside.append((name, entries))
            else:
                self._inside[name] = self.give([name], entries)
                for _, _, data, source in entries:
                    if data is None:
                        self.pipe.write(["taken", os.path.basename(source)])
                self.queue.put(name)

    def on_time(self) -> None:
        for name in self.outward.closed():
            output = self.outward.take(name, self.outward.outputs(0), self._made)
            if output:
                self._made += 1
                self.pipe.write(["made", *output])

    def on_end(self, error: str) -> None:
        from jupiter_agent.task.serve import fail_load, leave

        self.on_time()
        if error:
            fail_load(self.pipe, "error", error)
        self.pipe.write(["ended"])
        leave(0)

    def on_got(self, name: str) -> None:
        with self.lock:
            number = self._inside.pop(name, None)
            self._held = name
            if number is not None:
                self.inward.release(number, [name])
            self._let_in()

    def on_done(self) -> None:
        with self.lock:
            self._held = ""
            self._let_in()

    def on_blocked(self) -> None:
        self.on_done()

    def on_asked(self) -> None:
        if not self._inside:
            self.on_done()
