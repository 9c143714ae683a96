"""What the lab asks of the system: root, namespaces, the processes in them, and the emulator's program.

A namespace is named `jl<pid>-NODE` after the process that made it, so that labs do not meet, and a lab whose owner died
is recognised and removed by the next one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jupiter_agent.errors import JupiterError, UsageError

NETNS = Path("/run/netns")
TUN = Path("/dev/net/tun")
SOURCE = Path(__file__).with_name("emulator.c")
TOOLS = ("ip", "nsenter", "setpriv")
COMMAND_S = 60.0
CLONE_NEWNET = 0x40000000

_NAME = re.compile(r"jl(\d+)-")
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why no lab can run here; '' when it can."""
    if os.geteuid() != 0:
        return "it makes network namespaces, and only root may"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"missing: {', '.join(missing)} (Debian: iproute2, util-linux)"
    if not TUN.exists():
        return f"{TUN} is missing: this kernel has no TUN driver"
    return "" if _compiler() else "no C compiler (Debian: gcc, libc6-dev)"


def require() -> None:
    """UsageError where no lab can run."""
    if reason := why_not():
        raise UsageError(f"no emulated network here: {reason}", "run it as root on Linux, or without --net")


def run(*command: str, stdin: str = "", check: bool = True) -> str:
    """A command's output; JupiterError when it fails."""
    done = subprocess.run(
        command, input=stdin, text=True, capture_output=True, check=False, timeout=COMMAND_S
    )  # fmt: skip
    if check and done.returncode:
        raise JupiterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def netns(node: str) -> str:
    """The name of the namespace of a node of this process's lab."""
    return f"jl{os.getpid()}-{node}"


def enter(path: str | Path) -> None:
    """Move the calling thread into a network namespace, for good. JupiterError where that is not possible."""
    try:
        target = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise JupiterError(f"cannot enter the network {path}: {error.strerror}") from error
    try:
        if _libc.setns(target, CLONE_NEWNET):
            raise JupiterError(f"cannot enter the network {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(target)


@contextmanager
def inside(path: str | Path) -> Iterator[None]:
    """The calling thread in a network namespace ('': where it is), for the length of a `with` block."""
    if not path:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(path)
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(home)


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_emulator() -> Path:
    """The emulator's program, compiled once per version of its source into the user's cache."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jupiter"
    program = cache / f"netlab-{digest}"
    if not program.exists():
        compiler = _compiler()
        if compiler is None:
            raise UsageError("the emulator cannot be compiled: no C compiler", "Debian: apt-get install gcc libc6-dev")
        cache.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(f".{os.getpid()}")
        run(compiler, "-O2", "-Wall", "-o", str(partial), str(SOURCE))
        partial.rename(program)
    return program


def allow_congestion_control(name: str) -> None:
    """Let namespaces choose this TCP congestion control; the host's own choice stays."""
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    names = allowed.read_text().split()
    if name not in names:
        try:
            allowed.write_text(" ".join([*names, name]))
        except OSError as error:
            raise UsageError(f"this kernel has no TCP congestion control {name!r}") from error


def namespaces() -> list[str]:
    """All labs' namespaces on this machine."""
    with suppress(FileNotFoundError):
        return sorted(name for name in os.listdir(NETNS) if _NAME.match(name))
    return []


def abandoned() -> list[str]:
    """Namespaces whose lab ended without removing them."""
    return [name for name in namespaces() if not Path(f"/proc/{name[2 : name.index('-')]}").exists()]


def pids_in(names: Iterable[str]) -> dict[str, list[int]]:
    """Namespace -> the processes living in it."""
    inode: dict[tuple[int, int], str] = {}
    for name in names:
        with suppress(FileNotFoundError):
            found = (NETNS / name).stat()
            inode[found.st_dev, found.st_ino] = name
    pids: dict[str, list[int]] = {name: [] for name in inode.values()}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            found = os.stat(f"/proc/{pid}/ns/net")
            if (found.st_dev, found.st_ino) in inode:
                pids[inode[found.st_dev, found.st_ino]].append(int(pid))
    return pids


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def remove(names: Sequence[str]) -> None:
    """End every process in these namespaces, then delete them."""
    for _ in range(100):
        left = [pid for pids in pids_in(names).values() for pid in pids]
        if not left:
            break
        signal_all(left, signal.SIGKILL)
        time.sleep(0.02)
    if names:
        run("ip", "-force", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in names), check=False)
