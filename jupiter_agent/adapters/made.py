"""Outputs that belong to no run: reported in the order they were made, though large ones are stored first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jupiter_agent.adapters.answers import FOREIGN, Made, ObjectStore, forged, ingest
from jupiter_agent.core.messages.jobs import Obj
from jupiter_agent.errors import CapacityError

AGAIN_S = 1.0
"""Between two tries to store an output on a full disk"""

Taken = list[tuple[list[str], Obj]]


async def when_there_is_room(work: Callable[[], Taken], gives_up: Callable[[], bool]) -> Taken:
    """Store outputs in a thread; on a full disk wait: the run is done, and must not fail for that."""
    while True:
        try:
            return await asyncio.get_running_loop().run_in_executor(None, work)
        except CapacityError:
            if gives_up():
                raise
            await asyncio.sleep(AGAIN_S)


class MadeQueue:
    """Of one process. `report` is given child and object."""

    def __init__(
        self,
        objects: ObjectStore,
        out: Path,
        report: Callable[[str, Obj], None],
        refuse: Callable[[str], None],
        gives_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._objects, self._out, self._report, self._refuse = objects, out, report, refuse
        self._gives_up = gives_up
        self._waiting: deque[Made] = deque()
        self._worker: asyncio.Task[None] | None = None

    def add(self, made: Made, children: list[str]) -> None:
        if error := forged(made, children):
            self._refuse(error)
            return
        self._waiting.append(made)
        if self._worker is None or self._worker.done():
            self._pass_small()
        if self._waiting and (self._worker is None or self._worker.done()):
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def drain(self) -> None:
        if self._worker:
            await asyncio.wait([self._worker])

    def _pass_small(self) -> None:
        while self._waiting and self._waiting[0].data is not None:
            self._hand_over(ingest(self._objects, self._out, self._waiting.popleft()))

    async def _work(self) -> None:
        while self._waiting:
            made = self._waiting[0]
            try:
                taken = await when_there_is_room(partial(ingest, self._objects, self._out, made), self._gives_up)
            except FOREIGN as error:
                self._refuse(f"an output could not be stored: {error}")
                taken = []
            self._waiting.popleft()
            self._hand_over(taken)
            self._pass_small()

    def _hand_over(self, taken: list[tuple[list[str], Obj]]) -> None:
        for children, obj in taken:
            for child in children:
                self._report(child, obj)
