"""What can be wrong with a machine for an agent and its tasks, judged without one (`jupiter ctl doctor`).

A check is ok, wrong, or ok with a hint: a remark on what would be better. Every hint says how to mend it.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jupiter_agent.adapters import sandbox
from jupiter_agent.cli.units import size

MIB = 1024 * 1024
OPEN_FILES, OPEN_FILES_WISHED = 256, 4096
MEMORY, MEMORY_WISHED = 128 * MIB, 512 * MIB
SHM_WISHED = 64 * MIB
LIBRARIES = ("zmq", "msgspec", "nacl.signing", "psutil", "numpy", "networkx", "yaml")
PYTHON = (3, 11)
SANE_TIME_S = 1_700_000_000
"""November 2023: a clock before it was never set"""
TIME_ERROR = 5
"""what adjtimex(2) answers when nothing keeps the clock right"""


@dataclass(frozen=True)
class Check:
    """`hint` with ok=True is a remark; what is not ok always has one."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    @property
    def status(self) -> str:
        return "wrong" if not self.ok else "note" if self.hint else "ok"


def machine() -> Iterator[Check]:
    """Every check of this machine, in the order people read them."""
    for check in MACHINE:
        yield check()


def bounded(name: str, detail: str, value: float, bounds: tuple[float, float], hint: str) -> Check:
    """Wrong below the first bound, a remark below the second."""
    least, wished = bounds
    return Check(name, value >= least, detail, hint if value < wished else "")


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, PYTHON))
    return Check("python", sys.version_info >= PYTHON, f"{version} at {sys.executable}", ""
                 if sys.version_info >= PYTHON else f"install Python {wanted} or newer")  # fmt: skip


def libraries() -> Check:
    missing = []
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken library may raise anything
            missing.append(f"{name} ({error})")
    if missing:
        return Check(
            "libraries", False, f"cannot be loaded: {', '.join(missing)}", "pip install --upgrade jupiter-agent"
        )
    import zmq

    if not zmq.has("curve"):
        return Check("libraries", False, "this libzmq has no encryption (CURVE)", "pip install --force-reinstall pyzmq")
    return Check("libraries", True, f"all load; libzmq {zmq.zmq_version()} with encryption")


def open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = float("inf") if soft == resource.RLIM_INFINITY else soft
    more = "" if hard == soft else f"; up to {hard} may be asked for"
    hint = "raise it: `ulimit -n 65536`, or LimitNOFILE= of the service"
    return bounded("open files", f"{soft} a process{more}", limit, (OPEN_FILES, OPEN_FILES_WISHED), hint)


def memory() -> Check:
    import psutil

    found = psutil.virtual_memory()
    detail = f"{size(found.available)} of {size(found.total)} available"
    return bounded("memory", detail, found.available, (MEMORY, MEMORY_WISHED), "stop something, or add swap")


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    hint = "tasks that use shared memory may fail: mount a tmpfs there (containers: --shm-size=256m)"
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Check("shared memory", True, f"{folder} is missing or cannot be written", hint)
    free = shutil.disk_usage(folder).free
    return bounded("shared memory", f"{size(free)} free in {folder}", free, (0, SHM_WISHED), hint)


def clock() -> Check:
    now = time.time()
    if now < SANE_TIME_S:
        shown = time.strftime("%Y-%m-%d", time.gmtime(now))
        return Check("clock", False, f"it says {shown}", "set it: `timedatectl set-ntp true`, or install chrony")
    if _adjtimex() == TIME_ERROR:
        hint = "times of different nodes will not compare: `timedatectl set-ntp true`, or install chrony (on the host)"
        return Check("clock", True, "nothing says that it is kept right", hint)
    return Check("clock", True, "kept right by the system")


def _adjtimex() -> int:
    """The clock's state as the kernel knows it; -1 where it does not say."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))
    except (OSError, AttributeError):
        return -1


def isolation() -> Check:
    """What an agent of this user would run tasks in."""
    with tempfile.TemporaryDirectory() as folder:
        found = sandbox.find(sandbox.AUTO, Path(folder))
    if found.is_closed:
        return Check("isolation", True, "bubblewrap works here: tasks see nothing of agents, homes and other tasks")
    return Check("isolation", True, f"tasks can read what this user can: {found.missing}", found.hint)


MACHINE: tuple[Callable[[], Check], ...] = (python, libraries, open_files, memory, shared_memory, clock, isolation)
