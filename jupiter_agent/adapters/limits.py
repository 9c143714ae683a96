"""What a task process may use, and the environment it sees. There is always a limit; the app may set another one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.machine import cgroups, memory_limits, number
from jupiter_agent.core.messages.jobs import TaskSpec

MIB = 1024 * 1024
GIB = 1024 * MIB

KEPT = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""all that a task sees of the agent's environment: tokens and keys in the rest are none of its business"""

MARK = "JUPITER_PROCESS"
"""in every task's environment: what an agent that was killed left behind is found by it"""

MEMORY_SHARE, SCRATCH_SHARE, MOST_SCRATCH = 0.5, 0.5, 16 * GIB
"""of this machine's memory, of its free disk"""
SLACK = GIB
"""what a process may reserve beyond its memory limit: libraries map buffers that they never touch"""
AGENT_BYTES, AGENT_SHARE = 256 * MIB, 0.25
"""what is left to the agent where it ends with a task that fills its container: so much, or such a part of less"""
LEAST_RESERVED = 192 * MIB
"""in any case: numpy reserves 124 MiB and touches 30 (m)"""


@dataclass(frozen=True)
class Allowed:
    """Of one process of a task and all its children together, but for `files`, which is of each."""

    memory: int
    scratch: int
    processes: int
    files: int
    cpus: int
    seconds: float
    """per item"""
    address_space: int | None = None
    most_reserved: int | None = None
    """by one process; None: what its memory limit allows, and the slack"""

    def for_process(self) -> dict[str, int | None]:
        """As the process applies them to itself (task/harden.py)."""
        data = self.memory + SLACK
        return {
            "address_space": self.address_space,
            "data": data if self.most_reserved is None else min(data, self.most_reserved),
            "memory": self.memory,
            "file_size": self.scratch,
            "nofile": self.files,
            "cpus": self.cpus,
        }


@dataclass(frozen=True)
class Limits:
    """Bounds of every task process, unless its app says otherwise (`limits:` of a task). 0: as the machine is."""

    memory_bytes: int = 0
    """resident, of its processes together; 0: half of what this machine, or its container, has"""
    scratch_bytes: int = 0
    """in its private folder; 0: half of the free disk, at most 16 GiB"""
    processes: int = 512
    open_files: int = 4096
    cpus: int = 0
    """cores it may run on; 0: all"""
    run_s: float = 86400.0
    """for one item, where the task has no `timeout_s`"""
    address_space_bytes: int | None = None
    """RLIMIT_AS. Off by default: programs that map much and touch little (JITs, GPU drivers) fail under it"""
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

    def of(self, spec: TaskSpec | None, folder: Path, root: Path = Path("/")) -> Allowed:
        """For the process of a task, `None`: for a sample run. `folder`: where private folders are."""
        asked = _asked(spec.extra.get("limits") if spec else None)
        machine = machine_memory(root)
        return Allowed(
            memory=min(asked.get("memory") or self.memory_bytes or int(machine * MEMORY_SHARE), machine),
            scratch=asked.get("disk") or self.scratch_bytes or _free_share(folder),
            processes=asked.get("processes") or self.processes,
            files=asked.get("files") or self.open_files,
            cpus=asked.get("cpus") or self.cpus or len(os.sched_getaffinity(0)),
            seconds=(spec.timeout_s if spec else None) or self.run_s,
            address_space=self.address_space_bytes,
            most_reserved=beside_agent(machine) if ends_together(root) else None,
        )


def _asked(value: Any) -> dict[str, int]:
    """What an app asks for; it came with the job, so what makes no sense is left out."""
    if not isinstance(value, dict):
        return {}
    return {str(key): number for key, number in value.items() if type(number) is int and 0 < number < 1 << 62}


def _free_share(folder: Path) -> int:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return MOST_SCRATCH
    return min(int(free * SCRATCH_SHARE), MOST_SCRATCH)


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes this machine has, or less where a cgroup (v1 or v2) that we are in says so."""
    return min([_total(root), *(each.limit for each in memory_limits(inf, root))])


def _total(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return GIB


def ends_together(root: Path = Path("/")) -> bool:
    """Whether the kernel, when memory runs out, ends all of a cgroup that we are in, instead of the process that took
    most of it: so the kubelet has it since 1.28, and then a task takes its agent along."""
    folders = (folder for folder, is_v1 in cgroups(root, "memory") if not is_v1)
    return any(number(folder / "memory.oom.group") == 1 for folder in folders)


def beside_agent(memory: int) -> int:
    """How much of the memory of such a cgroup is not the agent's."""
    return max(memory - min(AGENT_BYTES, int(memory * AGENT_SHARE)), LEAST_RESERVED)


def size(count: int) -> str:
    """`2 GiB`, `1.5 GiB`, `300 MiB`, as task/errors.py says it."""
    unit, name = (GIB, "GiB") if count >= GIB else (MIB, "MiB")
    return f"{count / unit:.3g} {name}"


def environment(home: Path, job: str, task: str, app: str, mark: str, cpus: int = 1) -> dict[str, str]:
    """The whole environment of a task process. One thread per numeric library unless the app asks for more cores."""
    return {
        **_kept(os.environ),
        "HOME": str(home),
        "TMPDIR": str(home),
        "OMP_NUM_THREADS": str(cpus),
        "JUPITER_JOB": job,
        "JUPITER_TASK": task,
        "JUPITER_APP": app,
        MARK: mark,
    }


def _kept(source: Mapping[str, str]) -> dict[str, str]:
    defaults = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    return defaults | {name: source[name] for name in KEPT if name in source}
