"""The warm process of one (job, task): started before the first item where there is room for it (ahead.py), restarted
when it ends by itself.

    starting --ready--> ready --ends--> starting (at once, if it had worked; otherwise after a back-off)
    starting --ends--> broken (runs fail with the reason) --back-off 0.2 s x 4, max 10 s--> starting

Runs wait while it starts; `parallel` of them are inside at once, and only those have a timeout running. Every run gets
one answer, unless the task is stopped. What comes from the process is untrusted: user code can write to its socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.ahead import until_calm
from jupiter_agent.adapters.answers import (
    FOREIGN,
    GARBAGE,
    Back,
    Broken,
    Done,
    Ended,
    Failed,
    Made,
    Ready,
    Taken,
    Window,
    decode,
    entries_of,
)
from jupiter_agent.adapters.inputs import Shown
from jupiter_agent.adapters.kept import Kept
from jupiter_agent.adapters.limits import environment
from jupiter_agent.adapters.logs import LogPipe, TaskLog
from jupiter_agent.adapters.outcomes import Failure, Outcomes
from jupiter_agent.adapters.processes import Child, Frames, Order, describe_exit, remove
from jupiter_agent.adapters.runs import Attempt, Runs
from jupiter_agent.adapters.setup import Place, serve_setup
from jupiter_agent.adapters.surroundings import Surroundings
from jupiter_agent.adapters.watch import Watched
from jupiter_agent.core.effects import Deliver, StartRun, StartTask
from jupiter_agent.core.events import TaskDown, TaskEnded, TaskUp
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import TaskError

BACKOFF_S, BACKOFF_FACTOR, MAX_BACKOFF_S = 0.2, 4.0, 10.0
HANG_UP_S = 0.2
"""between the end of a pipe and the end of its process"""
DRAIN_S = 5.0
"""for the kernel to end a process that was killed"""


class WarmProcess:
    """See the module. `stop` ends it for good; nothing is posted afterwards."""

    def __init__(self, around: Surroundings, effect: StartTask, log: TaskLog) -> None:
        self.effect = effect
        self._around = around
        self._spec = effect.task
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._title = spec_title(effect.task)
        self._allowed = around.limits.of(effect.task, around.spawner.folder)
        self._runs = Runs(self._allowed.seconds, self._on_late, effect.task.extra.get("replay", 0))
        self._kept = Kept(around.objects, around.spawner.folder)
        self._child: Child | None = None
        self._work = Path()
        self._shown = Shown(self._work, False)
        self._outcomes = Outcomes(around, effect, log)
        self._deliveries: deque[Deliver] = deque()
        self._ready = self._disturbed = self._finished = False
        self._broken: Failure | None = None
        self._excess = ""
        """the limit that this process exceeded, for which it is ended"""
        self._proven = False
        """this process was given an item: its end is the item's doing, not a reason to wait"""
        self._failures = 0
        self._held = False
        self._stopped = asyncio.Event()
        self._wanted = asyncio.Event()
        """something waits for a process, or it is to stop"""
        if effect.task.extra.get("role"):
            self._wanted.set()  # a program that makes its items itself
        self._life = self._loop.create_task(self._live())

    # --- from the runner -----------------------------------------------------------------------------------------

    def run(self, effect: StartRun) -> None:
        if self._broken and not self._ready:
            self._loop.call_soon(self._outcomes.failed, effect.run, self._broken)
        else:
            self._runs.push(effect)
            self._wanted.set()
            self._dispatch()

    def deliver(self, effect: Deliver) -> None:
        if self._finished:
            self._log.attach()
            self._log.note(f"{len(effect.objects)} files from {effect.src} came after the script had ended")
            self._log.detach()
            return
        self._deliveries.append(effect)
        self._wanted.set()
        self._dispatch()

    def hold(self, held: bool) -> None:
        """Read no more from its processes, or read on."""
        self._held = held
        if self._child and self._ready:
            self._child.frames.hold(held)

    async def stop(self) -> None:
        """SIGTERM, the grace, SIGKILL; then its folder is removed."""
        self._stopped.set()
        self._wanted.set()
        self._outcomes.silent = True
        self._runs.stop()
        if self._child:
            self._end(self._child)
        await asyncio.wait([self._life], timeout=self._around.limits.grace_s + DRAIN_S)
        self._kept.clear()

    # --- life ----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._log.attach()
        try:
            await until_calm(self._wanted)
            while not self._stopped.is_set() and not self._finished:
                await self._live_once()
                if self._failures and not self._finished:
                    await self._back_off()
        finally:
            self._log.detach()

    async def _live_once(self) -> None:
        self._ready = self._proven = self._disturbed = False
        self._broken, self._excess = None, ""
        self._runs.reset(max(1, self._spec.parallel) if self._spec.contract != "v5" else 1)
        try:
            output = LogPipe(self._log)
        except OSError as error:
            self._lost(("error", f"the process of {self._spec.name} could not be started: {error}"), str(error))
            return
        try:
            child = await self._start(output)
        except TaskError as error:
            output.close()
            self._lost(("contract", error.message), error.message)
            return
        except FOREIGN as error:
            output.close()
            self._lost(("error", f"the process of {self._spec.name} could not be started: {error}"), str(error))
            return
        self._child = child
        if self._stopped.is_set():
            self._end(child)
        limit = self._around.limits.load_s
        timer = self._loop.call_later(limit, self._give_up_loading, limit)
        await child.ended.wait()
        await child.frames.drain()
        told = self._around.watch.ran_out_of_memory()
        status = await child.reap()
        timer.cancel()
        self._around.watch.drop(child.pid)
        self._child = None
        output.close()
        await self._outcomes.drain()
        await self._loop.run_in_executor(None, remove, self._work)
        self._ended(status, told)

    async def _start(self, output: LogPipe) -> Child:
        around = self._around
        frames = Frames(self._on_frame, self._on_hang_up)
        try:
            folder = around.bundles(self.effect.bundle)
            python = await self._unless_stopped(around.requirements.python(folder))
            child, self._work = await around.spawner.start(frames, self._order(output, folder, python))
        finally:
            output.close_write_end()
        self._shown = Shown(self._work / "in", child.keepers > 0)
        self._outcomes.begin(self._work)
        around.watch.add(Watched(child.pid, self._work, self._allowed, self._on_excess, child.keepers))
        place = Place(folder, self._work, self._allowed, around.limits.namespaces, child.keepers > 0)
        frames.send(serve_setup(self.effect, around.limits.held_s, place))
        return child

    def _order(self, output: LogPipe, folder: Path, python: str) -> Order:
        job, task = self.effect.job, self._spec.name
        cpus = self._allowed.cpus if "cpus" in self._spec.extra.get("limits", {}) else 1

        def environ(home: Path, mark: str) -> dict[str, str]:
            return environment(home, job, task, self.effect.app, mark, cpus)

        readable = (folder.resolve(), Path(python).parent.parent)
        return Order(job, task, output.write_fd, environ, python, readable)

    async def _unless_stopped(self, work: Coroutine[Any, Any, str]) -> str:
        """TaskError when the task is stopped meanwhile."""
        doing, stopped = self._loop.create_task(work), self._loop.create_task(self._stopped.wait())
        try:
            await asyncio.wait([doing, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise TaskError("stopped")
            return doing.result()
        finally:
            doing.cancel()
            stopped.cancel()

    def _end(self, child: Child) -> None:
        child.terminate()
        self._loop.call_later(self._around.limits.grace_s, self._kill, child)

    def _kill(self, child: Child) -> None:
        if child is self._child:
            child.kill()

    def _give_up_loading(self, limit: float) -> None:
        if not self._ready and self._child:
            self._broken = ("timeout", f"{self._title}: not loaded within {limit:g} s")
            self._kill(self._child)

    def _on_excess(self, excess: str) -> None:
        if self._child:
            self._excess = f"over its limit: {excess}"
            self._kill(self._child)

    async def _back_off(self) -> None:
        pause = min(MAX_BACKOFF_S, BACKOFF_S * BACKOFF_FACTOR ** (self._failures - 1))
        try:
            await asyncio.wait_for(self._stopped.wait(), pause)
        except TimeoutError:
            pass

    def _ended(self, status: int, out_of_memory: bool) -> None:
        """Say so, and answer what was inside."""
        why = self._excess or (
            "disturbed its pipe to the agent" if self._disturbed else describe_exit(status, out_of_memory)
        )
        if self._ready:
            for attempt in self._runs.empty(given_back=self._broken is not None and not self._disturbed):
                self._outcomes.failed(attempt.effect.run, self._verdict(attempt, why), attempt.effect.item)
            if not self._runs.remembers():
                self._kept.clear()
            self._failures = 0 if self._proven or self._finished else self._failures + 1
            self._down(self._broken[1] if self._broken else why)
        else:
            kind = "exit" if status < 0 or self._excess else "error"
            what = why if self._excess else f"the process {why} while loading"
            self._lost(self._broken or (kind, f"{self._title}: {what}"), why)

    def _verdict(self, attempt: Attempt, why: str) -> Failure:
        if attempt.late:
            return ("timeout", f"{self._title}: TimeoutError: not done within {self._allowed.seconds:g} s")
        return ("exit", f"{self._title}: {why if self._excess else f'the process {why}'}")

    def _lost(self, failure: Failure, why: str) -> None:
        """It never got ready: what waits fails now, and what comes until the next try."""
        self._broken = failure
        self._failures += 1
        for effect in self._runs.refuse():
            self._outcomes.failed(effect.run, failure)
        self._down(f"{failure[1]}" if failure[1] else why)

    def _down(self, error: str) -> None:
        if self._stopped.is_set():
            return
        if self._finished:
            self._outcomes.post(TaskEnded(self.effect.job, self._spec.name))
        else:
            self._log.note(f"the process ended: {error}")
            self._outcomes.post(TaskDown(self.effect.job, self._spec.name, error))

    # --- runs ----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if not self._ready or self._broken or not self._child:
            return
        while self._deliveries:
            self._hand_over(self._deliveries.popleft())
        while effect := self._runs.next():
            try:
                objects = self._shown.of(self._around.objects if effect.run >= 0 else self._kept)
                entries = list(entries_of(effect.inputs, objects))
            except FOREIGN as error:
                if effect.run >= 0:  # else it is but replayed
                    why = f"an input is not in the store: {error}"
                    self._loop.call_soon(self._outcomes.failed, effect.run, ("exit", why))
                continue
            self._runs.enter(effect)
            self._proven = True
            self._child.frames.send([effect.run, effect.item, entries])

    def _hand_over(self, effect: Deliver) -> None:
        try:
            entries = list(entries_of([(effect.src, effect.objects)], self._shown.of(self._around.objects)))
        except FOREIGN as error:
            self._log.note(f"files from {effect.src} could not be delivered: {error}")
            return
        assert self._child
        self._proven = True
        self._child.frames.send(["deliver", entries])

    def _on_late(self) -> None:
        if self._child:
            self._kill(self._child)

    # --- from the process ----------------------------------------------------------------------------------------

    def _on_hang_up(self) -> None:
        """It ends, or user code closed our socket."""
        if self._child:
            self._loop.call_later(HANG_UP_S, self._cut_off, self._child)

    def _cut_off(self, child: Child) -> None:
        if child is self._child and not child.ended.is_set():
            self._disturbed = True
            child.frames.close()
            self._kill(child)

    def _on_frame(self, frame: bytes) -> None:
        if self._stopped.is_set():
            return
        try:
            answer = decode(frame)
        except GARBAGE:
            if self._child:
                self._cut_off(self._child)
            return
        if isinstance(answer, Ready):
            self._ready = True
            self.hold(self._held)
            self._outcomes.post(TaskUp(self.effect.job, self._spec.name))
        elif isinstance(answer, Broken):
            self._broken = (answer.kind, answer.error)
            self._on_hang_up()
        elif isinstance(answer, Done | Failed):
            self._on_answer(answer)
        else:
            self._on_other(answer)
        self._dispatch()

    def _on_answer(self, answer: Done | Failed) -> None:
        effect = self._runs.leave(answer.run)
        if effect is None:
            return
        self._shown.drop(effect.inputs)
        if answer.run >= 0:
            self._outcomes.answered(answer, effect)
            if isinstance(answer, Done):
                self._remember(effect)
        elif isinstance(answer, Done):
            self._outcomes.discard(answer)
        else:
            self._log.note(f"earlier items are not given again: {answer.error}")
            self._runs.forget()
            self._kept.clear()

    def _remember(self, effect: StartRun) -> None:
        """For `replay`."""
        forgotten = self._runs.remember(effect)
        if forgotten is not effect:
            self._kept.add(effect)
            self._kept.drop(forgotten)

    def _on_other(self, answer: Window | Back | Made | Taken | Ended) -> None:
        """What v5 tasks and programs say."""
        if isinstance(answer, Taken):
            self._shown.release(answer.file)
            return
        if isinstance(answer, Window):
            self._runs.widen(answer.runs)
        elif isinstance(answer, Back):
            self._runs.give_back(answer.run)
        elif isinstance(answer, Made):
            self._proven = True
            self._outcomes.made(answer)
        elif self._spec.extra.get("role"):
            self._ready, self._finished = False, True
            self._on_hang_up()
        elif self._child:
            self._cut_off(self._child)


def spec_title(spec: TaskSpec) -> str:
    """What errors begin with: the script, or the program."""
    return spec.script or (spec.command[0] if spec.command else spec.name)
