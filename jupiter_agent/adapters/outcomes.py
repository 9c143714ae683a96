"""What a warm process's answers become: events, after large outputs are in the store. Nothing once it is `silent`."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from jupiter_agent.adapters.answers import FOREIGN, Done, Failed, Made, forged, ingest, inline
from jupiter_agent.adapters.logs import TaskLog
from jupiter_agent.adapters.made import MadeQueue, when_there_is_room
from jupiter_agent.adapters.surroundings import Surroundings
from jupiter_agent.core.effects import StartRun, StartTask
from jupiter_agent.core.events import Event, Produced, RunDone, RunFailed
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import Obj, clipped

Failure = tuple[str, str]
"""(kind, error) of RunFailed"""


class Outcomes:
    """Of one (job, task), over all its processes."""

    def __init__(self, around: Surroundings, effect: StartTask, log: TaskLog) -> None:
        self.silent = False
        self._around, self._log = around, log
        self._job, self._task = effect.job, effect.task.name
        self._children = effect.task.children or [HOME]
        self._storing: set[asyncio.Task[None]] = set()
        self._out = Path()
        self._made: MadeQueue | None = None

    def begin(self, work: Path) -> None:
        """A new process, with its private folder."""
        self._out = work / "out"
        self._made = MadeQueue(self._around.objects, self._out, self._produced, self._log.note, lambda: self.silent)

    def post(self, event: Event) -> None:
        if not self.silent:
            self._around.post(event)

    def failed(self, run: int, failure: Failure, item: str = "") -> None:
        """The answer first: whatever becomes of the log."""
        kind, error = failure
        self.post(RunFailed(run, kind, clipped(error)))
        if item and not self.silent:
            self._log.note(f"item {item}: {kind}: {error}")

    def answered(self, answer: Done | Failed, effect: StartRun) -> None:
        """One of its runs."""
        if isinstance(answer, Failed):
            self.failed(answer.run, (answer.kind, answer.error), effect.item)
        elif error := forged(answer, self._children):
            self.failed(answer.run, ("contract", error), effect.item)
        elif any(data is None for _, _, data, _, _ in answer.outputs):
            task = asyncio.get_running_loop().create_task(self._store(answer))
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)
        else:
            objects = [(children, inline(name, data or b"")) for children, name, data, _, _ in answer.outputs]
            self.post(RunDone(answer.run, objects, answer.seconds, answer.cpu_s, answer.peak_bytes))

    def discard(self, answer: Done) -> None:
        """These outputs were given before."""
        for _, _, data, number, _ in answer.outputs:
            if data is None:
                (self._out / f"{answer.run}.{number}").unlink(missing_ok=True)

    def made(self, answer: Made) -> None:
        """An output that belongs to no run."""
        if self._made:
            self._made.add(answer, self._children)

    async def drain(self) -> None:
        """Until everything that was said is posted: the folder may go then."""
        if self._storing:
            await asyncio.wait(self._storing)
        if self._made:
            await self._made.drain()

    def _produced(self, child: str, obj: Obj) -> None:
        self.post(Produced(self._job, self._task, child, obj))

    async def _store(self, answer: Done) -> None:
        sync = HOME in self._children
        work = partial(ingest, self._around.objects, self._out, answer, sync)
        try:
            objects = await when_there_is_room(work, lambda: self.silent)
        except FOREIGN as error:
            self.failed(answer.run, ("exit", f"an output could not be stored: {error}"))
            return
        self.post(RunDone(answer.run, objects, answer.seconds, answer.cpu_s, answer.peak_bytes))
