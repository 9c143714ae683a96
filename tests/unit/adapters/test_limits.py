"""What a task may use: as the machine is, as the agent says, as the app asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters.limits import GIB, MIB, Limits, machine_memory, size
from jupiter_agent.adapters.watch import disk_bytes
from jupiter_agent.core.messages.jobs import TaskSpec

MEMINFO = "MemTotal:        8388608 kB\nMemFree:  1 kB\n"
UNLIMITED_V1 = 9223372036854771712


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "max"}, 8 * GIB),
        ("0::/a/b\n", {"sys/fs/cgroup/a/memory.max": str(3 * GIB), "sys/fs/cgroup/a/b/memory.max": "max"}, 3 * GIB),
        ("4:memory:/x\n", {"sys/fs/cgroup/memory/x/memory.limit_in_bytes": str(2 * GIB)}, 2 * GIB),
        ("4:memory:/host/path\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB)}, GIB),
        ("4:memory:/\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(UNLIMITED_V1)}, 8 * GIB),
        ("4:cpu,cpuacct:/x\n0::/\n", {"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1"}, 8 * GIB),
    ],
)
def test_the_memory_of_a_machine_is_what_its_cgroups_leave_of_it(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int
) -> None:
    for name, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" * (not text.endswith("\n")))
    assert machine_memory(tmp_path) == expected


def test_every_limit_is_set_when_nobody_says_anything(tmp_path: Path) -> None:
    allowed = Limits().of(TaskSpec("t"), tmp_path)
    assert allowed.memory == machine_memory() // 2
    assert 0 < allowed.scratch <= 16 * GIB
    assert (allowed.processes, allowed.files, allowed.seconds) == (512, 4096, 86400)
    assert allowed.cpus >= 1


def test_an_app_may_ask_for_less_or_more_but_not_for_more_memory_than_there_is(tmp_path: Path) -> None:
    asked = {"memory": 1 << 60, "disk": 5 * GIB, "processes": 7, "files": 20_000, "cpus": 1}
    allowed = Limits().of(TaskSpec("t", timeout_s=9, extra={"limits": asked}), tmp_path)
    assert (allowed.memory, allowed.scratch, allowed.processes) == (machine_memory(), 5 * GIB, 7)
    assert (allowed.files, allowed.cpus, allowed.seconds) == (20_000, 1, 9)


@pytest.mark.parametrize("asked", [None, 3, [], {"memory": "much"}, {"memory": -1}, {"memory": True}, {1: 2}])
def test_what_makes_no_sense_is_as_if_nothing_was_asked(tmp_path: Path, asked: Any) -> None:
    limits = Limits(scratch_bytes=GIB)
    assert limits.of(TaskSpec("t", extra={"limits": asked}), tmp_path) == limits.of(TaskSpec("t"), tmp_path)


def test_the_bytes_of_a_folder_are_those_of_its_files_but_for_the_inputs(tmp_path: Path) -> None:
    for name in ("in/big", "home/a", "0/in/b"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(MIB))
    (tmp_path / "away").symlink_to("/")
    assert 2 * MIB <= disk_bytes(tmp_path) < 2.1 * MIB


def test_sizes_are_told_as_people_say_them() -> None:
    assert [size(n) for n in (2 * GIB, GIB * 3 // 2, 300 * MIB)] == ["2 GiB", "1.5 GiB", "300 MiB"]
