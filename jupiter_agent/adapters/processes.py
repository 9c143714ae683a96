"""Task processes as the agent sees them: start one, talk to it in frames, notice its end, end it with all its children.

Processes are started by one thread that lives as long as the spawner: the kernel ties a death signal to the *thread*
that started the process, and fork + exec would hold up the loop for a few milliseconds.

Children of a task stay in its session and group unless they leave on purpose; those are found in /proc by a mark in
their environment (which a fork inherits). Only a process that leaves the session *and* starts another program with a
clean environment escapes: keeping that in needs a cgroup or a PID namespace, that is, a container.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from jupiter_agent.adapters.limits import MARK

BOOT = "from jupiter_agent.task.main import main; main()"
OPTIONS = ("-I", "-X", "utf8", "-c", BOOT)
HEADER_BYTES = 4
MAX_FRAME = 16 * 1024 * 1024
MAX_SWEEPS = 50
SWEEP_PAUSE_S = 0.002


class Frames(asyncio.Protocol):
    """The agent's end of the socket. A frame over MAX_FRAME ends the connection and is reported as an empty one."""

    def __init__(self, on_frame: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

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
        self._on_lost()


class Child:
    """A running process. `ended` is set once it has ended; until `reap` it keeps its number."""

    def __init__(self, popen: subprocess.Popen[bytes], mark: str, frames: Frames) -> None:
        self.pid = popen.pid
        self.frames = frames
        self._popen = popen
        self._mark = mark
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._pidfd = os.pidfd_open(popen.pid)
        self._loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.ended.set()

    def signal_group(self, number: signal.Signals) -> None:
        """To the whole process group. The leader is not reaped before `reap`, so its number cannot be another's."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    async def reap(self) -> int:
        """Wait for the end, end whatever it left behind, and return its exit status (negative: a signal)."""
        await self.ended.wait()
        self.signal_group(signal.SIGKILL)
        await self._loop.run_in_executor(None, kill_marked, self._mark, self.pid)
        self.frames.close()
        return self._popen.wait()


class Spawner:
    """Starts task processes. `folder` becomes the place of their private folders; what was there is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "spawner")
        self._lifeline = (-1, -1)
        self._prefix = ""
        self._count = 0

    async def start(
        self, frames: Frames, environ: Callable[[Path, str], dict[str, str]], title: tuple[str, str], output: int,
        python: str = sys.executable,
    ) -> tuple[Child, Path]:  # fmt: skip
        """A process and its private folder. `environ` is given that folder's `home` and the mark; `output` an fd."""
        loop = asyncio.get_running_loop()
        self._count += 1
        number = self._count
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                work = await loop.run_in_executor(self._thread, self._prepare, number, title[1])
                mark = f"{self._prefix}{number}"
                environment = environ(work / "home", mark)
                if python != sys.executable:
                    environment["PATH"] = f"{Path(python).parent}:{environment['PATH']}"
                words = [python, *OPTIONS, str(theirs.fileno()), str(self._lifeline[0]), *title]
                popen = await loop.run_in_executor(
                    self._thread, self._spawn, words, theirs.fileno(), output, environment, work
                )
            except BaseException:
                ours.close()
                raise
        await loop.create_unix_connection(lambda: frames, sock=ours)
        return Child(popen, mark, frames), work

    def close(self) -> None:
        """All its processes have ended."""
        self._thread.shutdown()
        for fd in self._lifeline:
            if fd >= 0:
                os.close(fd)
        self._lifeline = (-1, -1)

    def _prepare(self, number: int, task: str) -> Path:
        if not self._prefix:
            self._take_over()
        work = self.folder / f"{number}-{task}"
        for part in ("home", "out"):
            (work / part).mkdir(parents=True, mode=0o700)
        return work

    def _take_over(self) -> None:
        """End and remove what an agent that was killed left here; the mark names this folder, whatever its path."""
        if self.folder.exists():
            entry = self.folder.stat()
            kill_marked(f"{entry.st_dev}-{entry.st_ino}-")
            for old in self.folder.iterdir():
                shutil.rmtree(old, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        entry = self.folder.stat()
        self._prefix = f"{entry.st_dev}-{entry.st_ino}-"
        self._lifeline = os.pipe()

    def _spawn(
        self, words: list[str], sock: int, output: int, environment: dict[str, str], work: Path
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            pass_fds=(sock, self._lifeline[0]), cwd=work, env=environment, start_new_session=True,
        )  # fmt: skip


def kill_marked(mark: str, session: int = 0) -> None:
    """SIGKILL every process of this session, or whose mark is (or, ending with `-`, starts with) `mark`.

    Looks again until none is left: a process may fork meanwhile. Blocks for some milliseconds: call it in a thread.
    """
    for _ in range(MAX_SWEEPS):
        if not sum(_kill_if_ours(pid, mark, session) for pid in _pids()):
            return
        time.sleep(SWEEP_PAUSE_S)


def _kill_if_ours(pid: int, mark: str, session: int) -> bool:
    if not _belongs(pid, mark, session):
        return False
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _belongs(pid, mark, session):  # the number was given to another process meanwhile
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


def _belongs(pid: int, mark: str, session: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, _, _, sid = file.read().rpartition(b")")[2].split()[:4]
        if state in b"ZX":
            return False
        if session and int(sid) == session:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            values = file.read().split(b"\0")
    except (OSError, ValueError):
        return False
    wanted = f"{MARK}={mark}".encode()
    return any(value == wanted or (mark.endswith("-") and value.startswith(wanted)) for value in values)


def describe_exit(status: int) -> str:
    """'exited with code 3', or 'was killed by SIGSEGV'."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory?)" if status == -signal.SIGKILL else "")
