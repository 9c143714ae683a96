"""The queue a v5 task gets: a `queue.Queue` that tells what the task does with it.

Apps tell in different ways that they are through with a file: `task_done()`, or the next `get()`, or, because they wait
with `qsize()` and `sleep`, nothing but asking again. See ledger.py for what follows from which.
"""

from __future__ import annotations

from queue import Empty, Queue

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Protocol

    class Listener(Protocol):
        """All are called in the task's own threads."""

        def on_got(self, name: str) -> None:
            """Before the task sees the name."""

        def on_done(self) -> None: ...

        def on_blocked(self) -> None:
            """It waits for a file, and there is none."""

        def on_asked(self) -> None:
            """It looked whether there is a file."""


class ItemQueue(Queue[str]):
    """`feed` puts files in; whatever user code puts in itself is none of the listener's business."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def get(self, block: bool = True, timeout: float | None = None) -> str:
        if block and not self._qsize():
            self._listener.on_blocked()
        try:
            name = super().get(block, timeout)
        except Empty:
            self._listener.on_asked()
            raise
        self._listener.on_got(name)
        return name

    def task_done(self) -> None:
        self._listener.on_done()
        super().task_done()

    def qsize(self) -> int:
        size = super().qsize()
        self._listener.on_asked()
        return size

    def empty(self) -> bool:
        empty = super().empty()
        self._listener.on_asked()
        return empty
