"""The runner: performs the task effects of the executor with processes, and answers with events.

    folder/<job>/logs/<task>.log     what the task printed (logs.py)
    folder/.work/<n>-<task>/         private folders of the running processes (processes.py), removed with them
    folder/.requirements/            environments of apps with a requirements.txt (requirements.py)

It owns one WarmProcess per (job, task) and the sample runs; it decides nothing. All methods belong to the loop's thread
and return at once; what takes time (starting, hashing, ending) happens in tasks of its own and in threads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from jupiter_agent.adapters.answers import ObjectStore
from jupiter_agent.adapters.limits import Limits
from jupiter_agent.adapters.logs import TaskLog
from jupiter_agent.adapters.processes import Spawner
from jupiter_agent.adapters.requirements import Requirements
from jupiter_agent.adapters.retention import expire_logs
from jupiter_agent.adapters.sampling import TITLE, SampleRun
from jupiter_agent.adapters.sandbox import Sandbox
from jupiter_agent.adapters.surroundings import Surroundings
from jupiter_agent.adapters.warm import WarmProcess
from jupiter_agent.adapters.watch import Watch
from jupiter_agent.core.effects import Deliver, HoldTask, ProfileApp, StartRun, StartTask, StopTask
from jupiter_agent.core.events import Event, Profiled, RunFailed, TaskDown
from jupiter_agent.core.ids import is_item_name
from jupiter_agent.core.messages.jobs import TaskSpec

__all__ = ["Limits", "ObjectStore", "Runner"]


class Runner:
    """Runs task processes. Events are posted on the loop, never from inside a method of this class."""

    def __init__(
        self,
        post: Callable[[Event], None],
        folder: Path,
        bundles: Callable[[bytes], Path],
        objects: ObjectStore,
        limits: Limits | None = None,
        sandbox: Callable[[], Sandbox] = Sandbox,
    ) -> None:
        """`bundles`: digest -> folder of the unpacked app; OSError or LookupError when it is not there.

        `sandbox` is asked once, in a thread; what an agent that was killed left in `folder` is ended and removed.
        """
        self._folder = folder.resolve()
        self._limits = limits or Limits()
        self._spawner = Spawner(self._folder / ".work", sandbox)
        self._watch = Watch()
        self._requirements = Requirements(self._folder / ".requirements")
        self._around = Surroundings(
            post, self._spawner, self._requirements, bundles, objects, self._limits, self._watch
        )  # fmt: skip
        self._post = post
        self._tasks: dict[tuple[str, str], WarmProcess] = {}
        self._samples: dict[str, SampleRun] = {}
        self._logs: WeakValueDictionary[tuple[str, str], TaskLog] = WeakValueDictionary()
        self._ending: set[asyncio.Task[None]] = set()

    async def sandbox(self) -> Sandbox:
        """What task processes run in."""
        return await asyncio.wrap_future(self._spawner.sandbox)

    def start_task(self, effect: StartTask) -> None:
        """A process that has this very description goes on; one with another (a new bundle) is replaced."""
        key = (effect.job, effect.task.name)
        if not all(map(_is_plain, key)):
            self._soon(TaskDown(*key, f"{key} cannot name a folder"))
            return
        old = self._tasks.get(key)
        if old and old.effect == effect:
            return
        if old:
            self._background(old.stop())
        self._tasks[key] = WarmProcess(self._around, effect, self._log(*key))

    def start_run(self, effect: StartRun) -> None:
        if effect.after_s:
            later = msgspec.structs.replace(effect, after_s=0.0)
            asyncio.get_running_loop().call_later(effect.after_s, self.start_run, later)
            return
        process = self._tasks.get((effect.job, effect.task))
        if process:
            process.run(effect)
        else:
            self._soon(RunFailed(effect.run, "exit", f"{effect.task} of job {effect.job} has no process here"))

    def deliver(self, effect: Deliver) -> None:
        process = self._tasks.get((effect.job, effect.task))
        if process:
            process.deliver(effect)

    def hold(self, effect: HoldTask) -> None:
        """Read no more of what this process says, or read on."""
        process = self._tasks.get((effect.job, effect.task))
        if process:
            process.hold(effect.held)

    def stop_task(self, effect: StopTask) -> None:
        """Its log stays. A stopped job's sample run ends, too."""
        for key in [k for k in self._tasks if k[0] == effect.job and effect.task in ("", k[1])]:
            self._background(self._tasks.pop(key).stop())
        if not effect.task and effect.job in self._samples:
            self._background(self._samples.pop(effect.job).stop())

    def profile(self, effect: ProfileApp, tasks: Sequence[TaskSpec], samples: Sequence[str] = ()) -> None:
        """`tasks` and `samples` are the AppSpec's; a second request for the same job replaces the first."""
        if not _is_plain(effect.job):
            self._soon(Profiled(effect.job, {}, {}, False, "the job's name cannot name a folder"))
            return
        old = self._samples.pop(effect.job, None)
        if old:
            self._background(old.stop())
        log = self._log(effect.job, TITLE)
        run = SampleRun(self._around, effect, tasks, samples[0] if samples else "", log)
        self._samples[effect.job] = run
        run.life.add_done_callback(lambda _: self._forget(run))

    def read_log(self, job: str, task: str, offset: int, length: int) -> tuple[bytes, int]:
        """(data, size of the log now); (b"", 0) when there is none. The sample run's task is `-profile`."""
        if not (_is_plain(job) and _is_plain(task)):
            return b"", 0
        try:
            fd = os.open(self._log_path(job, task), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b"", 0
        try:
            return os.pread(fd, max(0, length), max(0, offset)), os.fstat(fd).st_size
        finally:
            os.close(fd)

    def expire(self, wall: float, full: bool) -> None:
        """Remove logs of jobs that ran here long ago."""
        busy = {job for job, _ in self._tasks} | set(self._samples)
        expire_logs(self._folder, busy, wall, full)

    async def close(self) -> None:
        """End every process. Nothing is posted afterwards."""
        for job in {job for job, _ in self._tasks} | set(self._samples):
            self.stop_task(StopTask(job))
        while self._ending:
            await asyncio.wait(self._ending)
        await self._watch.close()
        await self._requirements.close()
        self._spawner.close()

    def _forget(self, run: SampleRun) -> None:
        if self._samples.get(run.effect.job) is run:
            del self._samples[run.effect.job]

    def _log(self, job: str, task: str) -> TaskLog:
        log = self._logs.get((job, task))
        if log is None:
            log = self._logs[job, task] = TaskLog(self._log_path(job, task), self._limits.log_bytes)
        return log

    def _log_path(self, job: str, task: str) -> Path:
        return self._folder / job / "logs" / f"{task}.log"

    def _soon(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._post, event)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _is_plain(name: str) -> bool:
    return is_item_name(name) and not name.startswith(".")
