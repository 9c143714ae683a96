"""What a machine has and does, as files of the kernel tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupiter_agent.adapters import machine
from jupiter_agent.adapters.limits import GIB, MIB
from jupiter_agent.adapters.sensors import Sensors

STAT = "cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3\nprocs_running {running}\nprocs_blocked 0\n"
NET = "Inter-|   Receive\n face |bytes\n    lo: 999 1 0 0 0 0 0 0 999 1\n  eth0: {} 1 0 0 0 0 0 0 {} 1\n"


def machine_of(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 4),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "150000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 1\n"}, 1.5),
        ("3:cpu,cpuacct:/x\n", {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000\n",
                                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("3:cpu:/x\n", {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n"}, 4),
        ("3:cpu,cpuacct:/\n", {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                               "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3),
        ("garbage", {}, 4),
    ],
)  # fmt: skip
def test_the_cores_of_a_node_are_what_affinity_and_the_tightest_quota_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, files: dict[str, str], expected: float
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    root = machine_of(tmp_path, {"proc/self/cgroup": cgroup if ":" in cgroup else "0::/\n", **files})
    assert machine.cpus(root) == expected


def test_memory_in_use_is_counted_against_the_tightest_limit_and_without_caches(tmp_path: Path) -> None:
    root = machine_of(
        tmp_path,
        {
            "proc/meminfo": f"MemTotal: {8 * GIB // 1024} kB\nMemAvailable: {6 * GIB // 1024} kB\n",
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/a/memory.current": f"{900 * MIB}\n",
            "sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {388 * MIB}\n",
        },
    )
    assert machine.memory_used(machine.memory_limits(GIB, root), root) == 0.5
    (root / "sys/fs/cgroup/a/memory.max").write_text("max\n")
    assert machine.memory_used(machine.memory_limits(8 * GIB, root), root) == 0.25


def test_a_kernel_that_tells_nothing_leaves_everything_as_usual(tmp_path: Path) -> None:
    assert machine.memory_used(machine.memory_limits(GIB, tmp_path), tmp_path) is None
    assert machine.times(tmp_path) is None
    assert machine.runnable(tmp_path) is None
    assert machine.traffic(tmp_path) is None
    assert machine.gpus(tmp_path) == []


def test_gpus_are_found_without_their_vendors_libraries(tmp_path: Path) -> None:
    machine_of(
        tmp_path,
        {
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA A100\nIRQ: 1\n",
            "sys/class/drm/renderD128/device/vendor": "0x10de\n",
            "sys/class/drm/renderD128/device/class": "0x030200\n",
            "sys/class/drm/renderD129/device/vendor": "0x1002\n",
            "sys/class/drm/renderD129/device/class": "0x038000\n",
            "sys/class/drm/renderD130/device/vendor": "0x1af4\n",
            "sys/class/drm/renderD130/device/class": "0x038000\n",
        },
    )
    assert machine.gpus(tmp_path) == ["NVIDIA A100", "AMD"]


def sensed(root: Path, **values: int) -> None:
    values = {"user": 0, "idle": 0, "steal": 0, "running": 1, **values}
    machine_of(root, {"proc/stat": STAT.format(**values), "proc/meminfo": "MemTotal: 1024 kB\nMemAvailable: 512 kB\n"})


def test_load_is_busy_cores_and_the_queue_is_who_wants_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    sensed(tmp_path)
    sensors = Sensors("/", 1.5, labels={"zone": "a"}, root=tmp_path)
    tick = machine.TICKS
    sensed(tmp_path, user=3 * tick, idle=tick, running=7)
    first = sensors.read(2.0)
    assert (first["load"], first["queue_length"], first["steal"]) == (1.5, 6.0, 0.0)
    sensed(tmp_path, user=3 * tick, idle=3 * tick, steal=2 * tick, running=1)
    second = sensors.read(4.0)
    assert (second["load"], second["steal"]) == (1.0, 0.25)
    assert (second["speed"], second["labels"], second["memory_used"]) == (1.5, {"zone": "a"}, 0.5)


def test_small_changes_of_an_idle_node_change_nothing_that_is_published(tmp_path: Path) -> None:
    sensed(tmp_path)
    sensors = Sensors("/", 1.0, root=tmp_path)
    readings = []
    for second, noise in enumerate((0, 1, 2, 1, 0, 2), 1):
        sensed(tmp_path, user=noise + second * 4, idle=second * 400, running=1)
        machine_of(tmp_path, {"proc/net/dev": NET.format(second * 20_000 + noise, second * 9_000)})
        readings.append(sensors.read(second * 2.0))
    assert all(reading == readings[1] for reading in readings[1:])


def queue_lengths(root: Path, running: list[int]) -> list[float]:
    sensed(root)
    sensors, found = Sensors("/", 1.0, root=root), []
    for second, count in enumerate(running, 1):
        sensed(root, idle=second * 400, running=1 + count)
        found.append(sensors.read(second * 2.0)["queue_length"])
    return found


def test_a_count_that_scatters_around_its_mean_is_told_once(tmp_path: Path) -> None:
    """Poisson of mean 3: half of what was told was scatter, and each change travels to every node."""
    scattered = [3, 2, 5, 1, 4, 3, 6, 2, 3, 0, 4, 3, 2, 5, 3, 1, 4, 2, 7, 3]
    assert set(queue_lengths(tmp_path, scattered)) == {3.0}


def test_a_queue_that_came_or_went_is_told_within_seconds(tmp_path: Path) -> None:
    found = queue_lengths(tmp_path, [0, 0] + 8 * [6] + 12 * [0])
    assert found[:3] == [0.0, 0.0, 1.5]
    assert found[9] >= 4.0
    assert found[13] <= 2.0
    assert found[-1] <= 0.5


def test_rates_of_the_network_are_powers_of_four_without_the_loopback(tmp_path: Path) -> None:
    sensed(tmp_path)
    machine_of(tmp_path, {"proc/net/dev": NET.format(0, 0)})
    sensors = Sensors("/", 1.0, root=tmp_path)
    sensors.read(10.0)
    machine_of(tmp_path, {"proc/net/dev": NET.format(2_000_000, 3_000)})
    reading = sensors.read(12.0)
    assert (reading["received_bps"], reading["sent_bps"]) == (256e3, 0.0)
