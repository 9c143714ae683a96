"""A v5 home script or non-DAG task: no runs; what is delivered goes into its queue, what it writes is told at once."""

from __future__ import annotations

from jupiter_agent.task.itemqueue import ItemQueue
from jupiter_agent.task.v5 import Loop

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

    from jupiter_agent.task.frames import Pipe


class Resident(Loop):
    """See the module. A delivered file stays until newer ones push it out, however long it waits in the queue."""

    def __init__(self, pipe: Pipe, setup: dict[str, Any], folders: list[str], task: Any) -> None:
        super().__init__(pipe, setup, folders, task)
        self.queue = ItemQueue(self)
        self._waiting: list[tuple[str, int]] = []
        self._made = 0

    def on_request(self, request: Any) -> None:
        _, entries = request
        names = list(self.inward.names(entries))
        number = self.give(names, entries)
        for name in names:
            self._waiting.append((name, number))
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
            for n, (waiting, number) in enumerate(self._waiting):
                if waiting == name:
                    del self._waiting[n]
                    self.inward.release(number, [name])
                    return

    def on_done(self) -> None: ...

    def on_blocked(self) -> None: ...

    def on_asked(self) -> None: ...
