"""What a task process may use, and the environment it sees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024

KEPT = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""all that a task sees of the agent's environment: tokens and keys in the rest are none of its business"""

MARK = "JUPITER_PROCESS"
"""in every task's environment: children that left its session are found by it"""


@dataclass(frozen=True)
class Limits:
    """Bounds of every task process; None: not limited here (a container or cgroup may do it)."""

    address_space_bytes: int | None = None
    """RLIMIT_AS. Off by default: programs that map much and touch little (JITs, GPU drivers) fail under it"""
    open_files: int | None = 4096
    processes: int | None = None
    """RLIMIT_NPROC counts all processes of the *user*, so it is only right where the agent has a user of its own"""
    log_bytes: int = 8 * MIB
    """kept per task; the rest is counted"""
    load_s: float = 120.0
    """to import the script and report ready"""
    grace_s: float = 0.5
    """between SIGTERM and SIGKILL"""
    held_s: float = 30.0
    """how long a v5 task may hold files while it waits for more; then they count as done"""
    namespaces: bool = True
    """v4 and v5 tasks see /centralized_scheduler and /jupiter in a mount namespace, where the kernel lets us"""

    def for_process(self) -> dict[str, int | None]:
        """As the process applies them to itself (task/harden.py)."""
        return {"address_space": self.address_space_bytes, "nofile": self.open_files, "processes": self.processes}


def environment(home: Path, job: str, task: str, app: str, mark: str) -> dict[str, str]:
    """The whole environment of a task process. One thread per numeric library: tasks share the cores."""
    return {
        **_kept(os.environ),
        "HOME": str(home),
        "TMPDIR": str(home),
        "OMP_NUM_THREADS": "1",
        "JUPITER_JOB": job,
        "JUPITER_TASK": task,
        "JUPITER_APP": app,
        MARK: mark,
    }


def _kept(source: Mapping[str, str]) -> dict[str, str]:
    defaults = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    return defaults | {name: source[name] for name in KEPT if name in source}
