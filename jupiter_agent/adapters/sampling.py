"""A sample run: the whole DAG once, on one sample, in one process, at most for its budget (answered by `Profiled`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from jupiter_agent.adapters.answers import FOREIGN, GARBAGE, Spent
from jupiter_agent.adapters.inputs import Shown
from jupiter_agent.adapters.limits import environment
from jupiter_agent.adapters.logs import LogPipe, TaskLog
from jupiter_agent.adapters.processes import Child, Frames, Order, describe_exit, remove
from jupiter_agent.adapters.setup import Place, process_setup
from jupiter_agent.adapters.surroundings import Surroundings
from jupiter_agent.adapters.watch import Watched
from jupiter_agent.core.effects import ProfileApp
from jupiter_agent.core.events import Profiled
from jupiter_agent.core.ids import HOME, is_item_name
from jupiter_agent.core.messages import Size
from jupiter_agent.core.messages.jobs import INLINE_BYTES, TaskSpec, clipped

TITLE = "-profile"
"""stands for the task's name: in `ps`, in JUPITER_TASK and for its log; no task has such a name"""


class Measured(Struct, array_like=True, tag="measured"):
    """A task ran; `home` stands for the injection of the sample."""

    task: str
    seconds: Spent
    sizes: dict[str, Size]
    """child -> bytes"""
    cpu_s: Spent = 0.0
    bytes_in: Size = 0


class Spoilt(Struct, array_like=True, tag="spoilt"):
    """A task failed."""

    task: str
    error: str


class Finished(Struct, array_like=True, tag="finished"):
    """The DAG ran to its end."""

    makespan_s: Spent = 0.0


_decode = msgspec.msgpack.Decoder(Measured | Spoilt | Finished).decode


class SampleRun:
    """One sample run. `stop` ends it unanswered."""

    def __init__(
        self, around: Surroundings, effect: ProfileApp, tasks: Sequence[TaskSpec], sample: str, log: TaskLog
    ) -> None:
        """`sample`: path inside the bundle of the app's own first sample, or ''."""
        self.effect = effect
        self._around = around
        self._tasks = {task.name: task for task in tasks}
        self._own_sample = sample
        self._log = log
        self._seconds: dict[str, float] = {}
        self._edge_bytes: dict[str, int] = {}
        self._errors: list[str] = []
        self._spoilt: dict[str, str] = {}
        self._used: dict[str, tuple[float, int]] = {}
        self._makespan_s = 0.0
        self._finished = self._stopped = self._disturbed = False
        self._child: Child | None = None
        self.life = asyncio.get_running_loop().create_task(self._live())

    async def stop(self) -> None:
        self._stopped = True
        self._kill()
        await asyncio.wait([self.life])

    def _kill(self) -> None:
        if self._child:
            self._child.kill()

    async def _live(self) -> None:
        try:
            await self._run()
        except FOREIGN as error:
            self._errors.append(str(error))
        if not self._stopped:
            self._around.post(self._profiled())

    def _profiled(self, goes_on: bool = False) -> Profiled:
        complete = self._finished and not self._errors and not self._spoilt
        why = "; ".join([*self._errors, *(f"{task}: {error}" for task, error in self._spoilt.items())])
        lacking = {task: self._errors[-1] for task in self._tasks if task not in self._seconds and self._errors}
        return Profiled(
            self.effect.job, dict(self._seconds), dict(self._edge_bytes), complete, why, dict(self._used),
            {**lacking, **self._spoilt}, self._makespan_s, goes_on,
        )  # fmt: skip

    def _tell_first(self) -> None:
        if not self._stopped:
            self._around.post(self._profiled(goes_on=True))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        output = LogPipe(self._log)
        job, work, status = self.effect.job, None, 0
        budget = None
        first = loop.call_later(self.effect.first_s, self._tell_first) if self.effect.first_s else None
        try:
            folder = self._around.bundles(self.effect.bundle).resolve()
            frames = Frames(self._on_frame, self._kill)
            python = await self._around.requirements.python(folder)
            readable = (folder, Path(python).parent.parent)
            order = Order(
                job,
                TITLE,
                output.write_fd,
                lambda home, mark: environment(home, job, TITLE, "", mark),
                python,
                readable,
            )
            self._child, work = await self._around.spawner.start(frames, order)
            allowed = self._around.limits.of(None, self._around.spawner.folder)
            self._around.watch.add(Watched(self._child.pid, work, allowed, self._on_excess, self._child.keepers))
            budget = loop.call_later(self.effect.budget_s, self._expire)
            if self._stopped:
                self._kill()
            else:
                place = Place(folder, work, allowed, self._around.limits.namespaces, self._child.keepers > 0)
                frames.send(await loop.run_in_executor(None, self._setup, place))
        except FOREIGN:
            self._kill()
            raise
        finally:
            output.close_write_end()
            if self._child:
                status = await self._child.reap()
                self._around.watch.drop(self._child.pid)
                self._child = None
            for timer in (budget, first):
                if timer:
                    timer.cancel()
            output.close()
            if work:
                await loop.run_in_executor(None, remove, work)
        if not self._finished and not self._errors:
            self._errors.append(f"the process {describe_exit(status)}")

    def _on_excess(self, excess: str) -> None:
        self._errors.append(f"over its limit: {excess}")
        self._kill()

    def _setup(self, place: Place) -> dict[str, Any]:
        """In a thread: it may write the sample."""
        name, path = self._sample(place)
        tasks = [
            {"name": t.name, "script": t.script, "contract": t.contract, "children": t.children, "parents": t.parents,
             "params": t.params, "command": t.command, "extra": t.extra}
            for t in self._tasks.values()
        ]  # fmt: skip
        return {
            "mode": "profile",
            "job": self.effect.job,
            "tasks": tasks,
            "budget_s": self.effect.budget_s,
            "task_s": self.effect.task_s,
            "sample": str(path),
            "sample_name": name,
            "parallel": 1,
            "inline_bytes": INLINE_BYTES,
            **process_setup(place),
        }

    def _sample(self, place: Place) -> tuple[str, Path]:
        folder, work, sample = place.app_folder, place.work, self.effect.sample
        shown = Shown(work / "in", place.is_closed)
        if sample is None:
            path = (folder / self._own_sample).resolve()
            if not self._own_sample or not path.is_relative_to(folder) or not path.is_file():
                raise FileNotFoundError("there is no sample to run")
            return path.name, path
        if not is_item_name(sample.name):
            raise LookupError(f"{sample.name!r} is no file name")
        if sample.data is None:
            return sample.name, shown.of(self._around.objects).path(sample.sha256)
        path = work / "sample"
        path.write_bytes(sample.data)
        return sample.name, path

    def _expire(self) -> None:
        self._errors.append(f"stopped after {self.effect.budget_s:g} s")
        self._kill()

    def _on_frame(self, frame: bytes) -> None:
        if self._disturbed:  # more of it may have come before it ended
            return
        try:
            report = _decode(frame)
        except GARBAGE:
            self._disturbed = True
            self._errors.append("it disturbed its pipe to the agent")
            self._kill()
            return
        if isinstance(report, Finished):
            self._finished, self._makespan_s = True, report.makespan_s
        elif isinstance(report, Spoilt):
            self._spoilt[report.task] = clipped(report.error)
        elif report.task in self._tasks or report.task == HOME:
            if report.task != HOME:
                self._seconds[report.task] = report.seconds
                self._used[report.task] = (report.cpu_s, report.bytes_in)
            for child, size in report.sizes.items():
                self._edge_bytes[f"{report.task}>{child}"] = size
