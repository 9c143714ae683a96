"""A runner with a throw-away store around it, and the questions the tests ask of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from jupiter_agent.adapters.limits import MARK
from jupiter_agent.adapters.runner import Limits, Runner
from jupiter_agent.adapters.sandbox import find
from jupiter_agent.core.effects import StartRun, StartTask
from jupiter_agent.core.events import Event, RunDone, RunFailed, TaskUp
from jupiter_agent.core.messages.jobs import INLINE_BYTES, Obj, TaskSpec

WAIT_S = 10.0
ISOLATION = os.environ.get("JUPITER_TEST_ISOLATION", "none")
"""what test runs without another wish have: the same tests hold in a sandbox (`auto`)"""

with tempfile.TemporaryDirectory() as _folder:
    _WORKS = find("auto", Path(_folder)).is_closed
in_bubblewrap = pytest.mark.skipif(not _WORKS, reason="bubblewrap does not work on this machine")
BOTH = pytest.mark.parametrize("isolation", ["none", pytest.param("bwrap", marks=in_bubblewrap)])

E = TypeVar("E", bound=Event)


class FakeStore:
    """A folder of files named by digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def path(self, sha256: bytes) -> Path:
        path = self.folder / sha256.hex()
        if not path.exists():
            raise FileNotFoundError(path)
        return path

    def ingest_file(self, path: Path, sync: bool = False) -> tuple[bytes, int]:
        digest, size = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_size
        path.rename(self.folder / digest.hex())
        return digest, size

    def sync(self, digests: Iterable[bytes]) -> None: ...

    def put(self, name: str, data: bytes) -> Obj:
        digest = hashlib.sha256(data).digest()
        if len(data) <= INLINE_BYTES:
            return Obj(name, digest, len(data), data)
        (self.folder / digest.hex()).write_bytes(data)
        return Obj(name, digest, len(data))

    def get(self, obj: Obj) -> bytes:
        data = self.path(obj.sha256).read_bytes() if obj.data is None else obj.data
        assert hashlib.sha256(data).digest() == obj.sha256
        assert len(data) == obj.size
        return data


class Bench:
    """One runner and the app it runs; made by `on_bench`."""

    def __init__(self, folder: Path, limits: Limits, isolation: str = "") -> None:
        self.app = folder / "app"
        self.app.mkdir()
        self.folder = folder / "tasks"
        self.store = FakeStore(folder / "store")
        self.events: list[Event] = []
        self._news = asyncio.Event()
        mode = isolation or ISOLATION
        self.runner = Runner(
            self._post, self.folder, self._bundle, self.store, limits, lambda: find(mode, folder, [folder / "models"])
        )
        self._runs = 0

    def _post(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def _bundle(self, digest: bytes) -> Path:
        if digest != b"bundle":
            raise FileNotFoundError("no such bundle")
        return self.app

    def script(self, body: str, name: str = "t.py") -> str:
        (self.app / name).write_text(textwrap.dedent(body))
        return name

    def file(self, name: str, data: str | bytes, mode: int = 0o644) -> Path:
        """A file of the app."""
        path = self.app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(textwrap.dedent(data).encode() if isinstance(data, str) else data)
        path.chmod(mode)
        return path

    def begin(self, spec: TaskSpec, job: str = "j", params: dict[str, str] | None = None) -> None:
        self.runner.start_task(StartTask(job, spec, b"bundle", "app", params or {}))

    def give(self, *files: tuple[str, str, bytes], task: str = "t", item: str = "") -> int:
        """One item of files (parent, name, data) in this order; its run number."""
        self._runs += 1
        inputs: list[tuple[str, list[Obj]]] = []
        for parent, name, data in files:
            if not inputs or inputs[-1][0] != parent:
                inputs.append((parent, []))
            inputs[-1][1].append(self.store.put(name, data))
        self.runner.start_run(StartRun(self._runs, "j", task, item or f"item{self._runs}", inputs))
        return self._runs

    async def outputs(self, run: int) -> list[tuple[str, str, bytes]]:
        """What a run gave: (children, name, data), children '' for all."""
        done = await self.answer(run)
        assert isinstance(done, RunDone), done
        return [(" ".join(children), obj.name, self.store.get(obj)) for children, obj in done.outputs]

    def start(self, body: str, job: str = "j", task: str = "t", **spec: Any) -> None:
        script = self.script(body, f"{task}.py")
        params = spec.pop("job_params", {})
        self.runner.start_task(StartTask(job, TaskSpec(task, script, **spec), b"bundle", "app", params))

    def send(self, data: bytes | list[tuple[str, list[Obj]]] = b"", job: str = "j", task: str = "t") -> int:
        """One item; its run number."""
        self._runs += 1
        inputs = [("input", [self.store.put("in.bin", data)])] if isinstance(data, bytes) else data
        self.runner.start_run(StartRun(self._runs, job, task, f"item{self._runs}", inputs))
        return self._runs

    async def answer(self, run: int, wait_s: float = WAIT_S) -> Any:
        return await self.event(lambda e: isinstance(e, RunDone | RunFailed) and e.run == run, wait_s)

    async def run(self, data: bytes | list[tuple[str, list[Obj]]] = b"", job: str = "j", task: str = "t") -> Any:
        """The answer to one item: what it gave when that is one value, else the whole event."""
        answer = await self.answer(self.send(data, job, task))
        if isinstance(answer, RunDone) and len(answer.outputs) == 1:
            return self.store.get(answer.outputs[0][1])
        return answer

    async def event(self, which: Callable[[Any], bool], wait_s: float = WAIT_S) -> Any:
        """The first event, already here or to come, for which this holds."""
        async with asyncio.timeout(wait_s):
            while True:
                for event in self.events:
                    if which(event):
                        return event
                self._news.clear()
                await self._news.wait()

    async def up(self, count: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            while sum(isinstance(e, TaskUp) for e in self.events) < count:
                self._news.clear()
                await self._news.wait()

    def log(self, job: str = "j", task: str = "t") -> str:
        return self.runner.read_log(job, task, 0, 1 << 30)[0].decode()

    async def logged(self, words: str) -> str:
        async with asyncio.timeout(WAIT_S):
            while words not in self.log():
                await asyncio.sleep(0.01)
        return self.log()


def task_processes() -> list[psutil.Process]:
    """Every process on this machine that a task started, other test runs' included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and MARK in process.environ():
                found.append(process)
        except psutil.Error:
            pass
    return found


def left_of(folder: Path) -> list[psutil.Process]:
    """Task processes whose private folder is in this one."""
    found = []
    for process in task_processes():
        try:
            if process.environ().get("HOME", "").startswith(f"{folder}/"):
                found.append(process)
        except psutil.Error:
            pass
    return found


def tasks_of(folder: Path) -> list[psutil.Process]:
    """The same without the keepers of sandboxes."""
    return [process for process in left_of(folder) if process.name() != "bwrap"]


def on_bench(
    tmp_path: Path, test: Callable[[Bench], Awaitable[None]], limits: Limits | None = None, isolation: str = "",
    wait_s: float = 2.5 * WAIT_S,
) -> None:  # fmt: skip
    """Run `test`, close the runner and assert that nothing is left: no process, no folder, no descriptor."""

    async def body() -> None:
        before = set(os.listdir("/proc/self/fd"))
        bench = Bench(tmp_path, limits or Limits(), isolation)
        try:
            async with asyncio.timeout(wait_s):
                await test(bench)
        finally:
            async with asyncio.timeout(WAIT_S):
                await bench.runner.close()
        assert left_of(bench.folder) == []
        if (bench.folder / ".work").exists():
            assert list((bench.folder / ".work").iterdir()) == []
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= len(before)

    asyncio.run(body())
