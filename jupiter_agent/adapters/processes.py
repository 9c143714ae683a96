"""Task processes as the agent sees them: start one, talk to it in frames, notice its end, end it with all its children.

Processes are started by one thread that lives as long as the spawner: the kernel ties a death signal to the *thread*
that started the process, and fork + exec would hold up the loop for a few milliseconds. The same thread begins with
what an agent that was killed left here, and with trying the sandbox.

In a sandbox the process we start is bubblewrap; its child is the first process of the namespace, and ends it. Without
one, children stay in the session and group of the task unless they leave on purpose; see proctree.py for those.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jupiter_agent.adapters.proctree import become_reaper, disown, end_orphans, mark_of, spawn, tree
from jupiter_agent.adapters.sandbox import Sandbox, make_folders

BOOT = "from jupiter_agent.task.main import main; main()"
OPTIONS = ("-I", "-X", "utf8", "-c", BOOT)
HEADER_BYTES = 4
MAX_FRAME = 16 * 1024 * 1024
DRAIN_S = 1.0
"""for what is left in the socket of a process that has ended; a child of it may keep the socket open"""
MAX_SWEEPS = 50
SWEEP_PAUSE_S = 0.002
KEEPERS = 2
"""processes of the sandbox: bubblewrap, and the first one inside"""
BY_SIGNAL = 128
"""bubblewrap's exit code for a signal, less its number"""


class Frames(asyncio.Protocol):
    """The agent's end of the socket. A frame over MAX_FRAME ends the connection and is reported as an empty one."""

    def __init__(self, on_frame: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._held = False
        self._lost = asyncio.Event()

    def hold(self, held: bool) -> None:
        """Read no more, so that the process waits when the socket is full; or read on."""
        if held == self._held or self._transport is None or self._transport.is_closing():
            return
        self._held = held
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def drain(self) -> None:
        """The process has ended: read what it said while nothing was read."""
        if self._held:
            self.hold(False)
            try:
                await asyncio.wait_for(self._lost.wait(), DRAIN_S)
            except TimeoutError:
                pass

    def send(self, value: Any) -> None:
        body = msgspec.msgpack.encode(value)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(body).to_bytes(HEADER_BYTES, "big") + body)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEADER_BYTES and self._transport and not self._transport.is_closing():
            end = HEADER_BYTES + int.from_bytes(buffer[:HEADER_BYTES], "big")
            if end > MAX_FRAME:
                self.close()
                self._on_frame(b"")
                return
            if len(buffer) < end:
                return
            frame = bytes(buffer[HEADER_BYTES:end])
            del buffer[:end]
            self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._on_lost()


class Child:
    """A running process. `ended` is set once it has ended; until `reap` it keeps its number."""

    def __init__(self, popen: subprocess.Popen[bytes], frames: Frames, is_closed: bool) -> None:
        """`is_closed`: it is the keeper of a sandbox."""
        self.pid = popen.pid
        self.frames = frames
        self.keepers = KEEPERS if is_closed else 0
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._pidfd = os.pidfd_open(popen.pid)
        self._loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.ended.set()

    def terminate(self) -> None:
        """SIGTERM to the task's processes; the keeper of a sandbox would end it at once."""
        if self.keepers:
            self._loop.run_in_executor(None, self._terminate_inside)
        else:
            self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the group, and so to all of a sandbox."""
        self._signal_group(signal.SIGKILL)

    def _terminate_inside(self) -> None:
        for pid in list(tree(self.pid))[self.keepers :]:
            try:
                os.kill(pid, signal.SIGTERM)
            except OSError:
                pass

    def _signal_group(self, number: signal.Signals) -> None:
        """To the whole process group. The leader is not reaped before `reap`, so its number cannot be another's."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    async def reap(self) -> int:
        """Wait for the end, end whatever it left behind, and return its exit status (negative: a signal)."""
        await self.ended.wait()
        self.kill()
        self.frames.close()
        status = await self._loop.run_in_executor(None, self._clear_up)
        return BY_SIGNAL - status if self.keepers and BY_SIGNAL < status < BY_SIGNAL + signal.NSIG else status

    def _clear_up(self) -> int:
        status = self._popen.wait()
        disown(self.pid)
        end_orphans()
        return status


@dataclass(frozen=True)
class Order:
    """What is to be started. `environ` is given the private folder's `home` and the mark; `output` is an fd."""

    job: str
    task: str
    output: int
    environ: Callable[[Path, str], dict[str, str]]
    python: str = sys.executable
    readable: tuple[Path, ...] = ()
    """folders it needs beyond what every process does"""


class Spawner:
    """Starts task processes. `folder` becomes the place of their private folders; what was there is removed."""

    def __init__(self, folder: Path, sandbox: Callable[[], Sandbox] = Sandbox) -> None:
        """`sandbox` is asked once, in a thread."""
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "spawner")
        self._lifeline = (-1, -1)
        self._prefix = ""
        self._count = 0
        self.sandbox: Future[Sandbox] = self._thread.submit(sandbox)
        self._begun = self._thread.submit(self._take_over)

    async def start(self, frames: Frames, order: Order) -> tuple[Child, Path]:
        """A process and its private folder."""
        loop = asyncio.get_running_loop()
        self._count += 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                work = self.folder / f"{self._count}-{order.task}"
                popen = await loop.run_in_executor(
                    self._thread, self._spawn, order, work, f"{self._count}", theirs.fileno()
                )
            except BaseException:
                ours.close()
                raise
        await loop.create_unix_connection(lambda: frames, sock=ours)
        return Child(popen, frames, self.sandbox.result().is_closed), work

    def close(self) -> None:
        """All its processes have ended."""
        self._thread.shutdown()
        for fd in self._lifeline:
            if fd >= 0:
                os.close(fd)
        self._lifeline = (-1, -1)

    def _take_over(self) -> None:
        """End and remove what an agent that was killed left here; the mark names this folder, whatever its path."""
        become_reaper()
        if self.folder.exists():
            entry = self.folder.stat()
            kill_marked(f"{entry.st_dev}-{entry.st_ino}-")
            for old in self.folder.iterdir():
                remove(old)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        entry = self.folder.stat()
        self._prefix = f"{entry.st_dev}-{entry.st_ino}-"
        self._lifeline = os.pipe()

    def _spawn(self, order: Order, work: Path, number: str, sock: int) -> subprocess.Popen[bytes]:
        self._begun.result()
        sandbox = self.sandbox.result()
        make_folders(work)
        mark = self._prefix + number
        environment = order.environ(work / "home", mark)
        if order.python != sys.executable:
            environment["PATH"] = f"{Path(order.python).parent}:{environment['PATH']}"
        words = [order.python, *OPTIONS, str(sock), str(self._lifeline[0]), order.job, order.task]
        return spawn(
            sandbox.command(words, work, order.readable), mark, stdin=subprocess.DEVNULL, stdout=order.output,
            stderr=order.output, pass_fds=(sock, self._lifeline[0]), cwd=work, env=environment,
        )  # fmt: skip


def remove(folder: Path) -> None:
    """A folder with all that is in it, also what a task made unreadable. What the disk refuses stays."""

    def again(function: Callable[[str], None], path: str, _: object) -> None:
        try:
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)
            else:
                function(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=again)


def kill_marked(mark: str) -> None:
    """SIGKILL every process whose mark begins with `mark`. Looks again until none is left: one may fork meanwhile."""
    for _ in range(MAX_SWEEPS):
        if not sum(_kill_if_marked(pid, mark) for pid in _pids()):
            return
        time.sleep(SWEEP_PAUSE_S)


def _kill_if_marked(pid: int, mark: str) -> bool:
    if not mark_of(pid).startswith(mark):
        return False
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not mark_of(pid).startswith(mark):  # the number was given to another process meanwhile
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _pids() -> list[int]:
    me = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != me]


def describe_exit(status: int, out_of_memory: bool = False) -> str:
    """'exited with code 3', or 'was killed by SIGSEGV'."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    why = " (the kernel ran out of memory)" if out_of_memory else " (out of memory?)"
    return f"was killed by {name}" + (why if status == -signal.SIGKILL else "")
