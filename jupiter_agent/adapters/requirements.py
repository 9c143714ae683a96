"""What an app's `requirements.txt` asks for, in a virtual environment made once per content and kept.

    folder/<digest>/            the environment; `.complete` in it when pip was through
    folder/<digest>.lock        held while it is made, also against another agent with this state folder

It sees everything the agent's own environment has (numpy is there without being installed again), and what it installs
itself comes first. Wheels in the app's folder `wheels/` are all there is to install from, when there is one.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import shutil
import site
import sys
import venv
from pathlib import Path

from jupiter_agent.errors import TaskError

FILE, WHEELS = "requirements.txt", "wheels"
DONE = ".complete"
INSTALL_S = 900.0
LAST_LINES, LINE = 4, 300
KEPT = ("PATH", "LANG", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
KEPT_PREFIXES = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class Requirements:
    """The environments of one agent. One `python` per content is at work; others of that content wait for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making: dict[str, asyncio.Task[Path]] = {}

    async def python(self, app: Path) -> str:
        """The interpreter for this app's tasks. TaskError with pip's last lines."""
        if not (app / FILE).is_file():
            return sys.executable
        loop = asyncio.get_running_loop()
        wanted = await loop.run_in_executor(None, digest, app)
        if not wanted:
            return sys.executable
        path = self._folder / wanted
        if not (path / DONE).exists():
            task = self._making.get(wanted)
            if task is None:
                task = self._making[wanted] = loop.create_task(self._make(app, path))
                task.add_done_callback(lambda _: self._making.pop(wanted, None))
            await asyncio.shield(task)
        return str(path / "bin" / "python")

    async def close(self) -> None:
        """End what is being made."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _make(self, app: Path, path: Path) -> Path:
        loop = asyncio.get_running_loop()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = await loop.run_in_executor(None, _lock, path.with_suffix(".lock"))
        try:
            if not (path / DONE).exists():
                await loop.run_in_executor(None, create, path)
                await self._install(app, path)
                (path / DONE).touch()
        finally:
            os.close(lock)
        return path

    async def _install(self, app: Path, path: Path) -> None:
        child = await asyncio.create_subprocess_exec(
            *pip(app, path), cwd=path, env=_environment(), process_group=0,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(INSTALL_S):
                output, _ = await child.communicate()
        except TimeoutError as error:
            raise TaskError(f"{FILE}: pip was not through within {INSTALL_S:g} s") from error
        finally:
            if child.returncode is None:
                os.killpg(child.pid, 9)
                await child.wait()
        if child.returncode:
            raise TaskError(f"{FILE}: {last_lines(output)}")


def digest(app: Path) -> str:
    """Of what decides the environment; '' when the app asks for nothing."""
    try:
        text = (app / FILE).read_bytes()
    except FileNotFoundError:
        return ""
    if not any(line.strip() and not line.lstrip().startswith(b"#") for line in text.splitlines()):
        return ""
    parts = [text, sys.version.encode(), sys.executable.encode(), *map(os.fsencode, site.getsitepackages())]
    for wheel in sorted((app / WHEELS).glob("*")):
        if wheel.is_file():
            parts += [wheel.name.encode(), hashlib.sha256(wheel.read_bytes()).digest()]
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()[:32]


def create(path: Path) -> None:
    """An empty environment in which everything of ours can be imported. Blocks."""
    shutil.rmtree(path, ignore_errors=True)
    venv.EnvBuilder(symlinks=True, with_pip=not _have_pip()).create(path)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    ours = [entry for entry in site.getsitepackages() if Path(entry).is_dir()]
    lines = "".join(f"import site; site.addsitedir({entry!r})\n" for entry in ours)
    (path / "lib" / version / "site-packages" / "jupiter-agent-environment.pth").write_text(lines)


def pip(app: Path, path: Path) -> list[str]:
    """The command that installs into it."""
    python = str(path / "bin" / "python")
    begin = [sys.executable, "-m", "pip", "--python", python] if _have_pip() else [python, "-m", "pip"]
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--no-cache-dir", "--no-warn-script-location"]
    offline = ["--no-index", "--find-links", str(app / WHEELS)] if (app / WHEELS).is_dir() else []
    return [*begin, "install", *quiet, *offline, "-r", str(app / FILE)]


def last_lines(output: bytes) -> str:
    """What pip said in the end, in one line."""
    lines = [" ".join(line.split())[:LINE] for line in output.decode(errors="replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(("[notice]", "WARNING"))]
    return " | ".join(told[-LAST_LINES:]) or "pip failed and said nothing"


def _have_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}


def _lock(path: Path) -> int:
    """Blocks until nobody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd
