"""What a task may use: as the machine is, as the agent says, as the app asks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters import watch
from jupiter_agent.adapters.limits import GIB, MIB, SLACK, Limits, ends_together, machine_memory, size
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
    assert machine_memory(made(tmp_path, {"proc/self/cgroup": cgroup, **files})) == expected


def made(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" * (not text.endswith("\n")))
    return root


V2 = {"proc/self/cgroup": "0::/\n"}
POD = {**V2, "sys/fs/cgroup/memory.max": str(2 * GIB), "sys/fs/cgroup/memory.oom.group": "1"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (POD, True),
        ({**POD, "sys/fs/cgroup/memory.oom.group": "0"}, False),
        (V2, False),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.oom.group": "1"}, True),
        ({"proc/self/cgroup": "4:memory:/x\n", "sys/fs/cgroup/memory/x/memory.oom.group": "1"}, False),
        ({"proc/self/cgroup": "4:memory:/x\n0::/y\n", "sys/fs/cgroup/unified/y/memory.oom.group": "1"}, True),
    ],
)
def test_where_the_kernel_ends_all_of_a_cgroup_at_once_the_agent_ends_with_a_task(
    tmp_path: Path, files: dict[str, str], expected: bool
) -> None:
    assert ends_together(made(tmp_path, files)) is expected


def reserved(limits: Limits, root: Path, **asked: int) -> int:
    """What one process may reserve."""
    data = limits.of(TaskSpec("t", extra={"limits": asked}), root, root).for_process()["data"]
    assert data is not None
    return data


def test_one_task_cannot_fill_a_container_that_ends_as_a_whole(tmp_path: Path) -> None:
    pod = made(tmp_path, POD)
    assert reserved(Limits(), pod) == 2 * GIB - 256 * MIB
    assert reserved(Limits(), pod, memory=2 * GIB) == 2 * GIB - 256 * MIB
    assert reserved(Limits(), pod, memory=GIB // 4) == GIB // 4 + SLACK


def test_where_the_kernel_ends_the_task_alone_it_may_reserve_as_before(tmp_path: Path) -> None:
    alone = made(tmp_path, {**POD, "sys/fs/cgroup/memory.oom.group": "0"})
    assert reserved(Limits(), alone) == GIB + SLACK


@pytest.mark.parametrize(("limit", "data"), [(GIB, 768), (512 * MIB, 384), (128 * MIB, 192)])
def test_of_a_small_container_the_agent_keeps_a_quarter_and_numpy_can_still_be_imported(
    tmp_path: Path, limit: int, data: int
) -> None:
    pod = made(tmp_path, {**POD, "sys/fs/cgroup/memory.max": str(limit)})
    assert reserved(Limits(), pod) == data * MIB


def test_an_agent_says_at_its_start_that_a_task_can_take_it_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("jupiter"), "propagate", True)
    for together in (False, True):
        monkeypatch.setattr(watch, "ends_together", lambda together=together: together)
        watch.Watch()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "memory.oom.group is 1" in said


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
