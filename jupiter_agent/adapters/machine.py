"""What this machine, or the container we are in, has and does, read from files of the kernel (proc, sysfs, cgroups).

Everything takes a `root`, so that tests can show it any machine. What a kernel does not tell is None or as usual; no
reading raises. cgroups of both versions are looked at from ours to the top: the tightest counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
TICKS = os.sysconf("SC_CLK_TCK")
DISPLAY_CLASS = "0x03"
"""of PCI devices: display controllers"""
VENDORS = {"0x1002": "AMD", "0x10de": "NVIDIA", "0x8086": "Intel"}


@dataclass(frozen=True)
class Times:
    """Seconds of all cores together since the machine started."""

    busy_s: float
    steal_s: float
    total_s: float


@dataclass(frozen=True)
class Traffic:
    """Bytes since the machine started, without the loopback interface."""

    received: int
    sent: int


class MemoryLimit(NamedTuple):
    """One cgroup's folder, whether it is of version 1, and its limit in bytes."""

    folder: Path
    is_v1: bool
    limit: int


def cpus(root: Path = ROOT) -> float:
    """Cores this process may use: those it may run on, or less where a cgroup has a quota."""
    count = min([float(len(os.sched_getaffinity(0))), *_quotas(root)])
    return int(count) if count == int(count) else count


def _quotas(root: Path) -> Iterator[float]:
    for folder, is_v1 in cgroups(root, "cpu"):
        if is_v1:
            quota, period = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
        else:
            quota, period = _pair(folder / "cpu.max")
        if quota and period and quota > 0:
            yield round(quota / period, 2)


def memory_limits(total: float, root: Path = ROOT) -> list[MemoryLimit]:
    """The limits up to `total` bytes that hold for us. They hardly ever change, and looking for them costs ten times
    what reading the use of one does."""
    found = []
    for folder, is_v1 in cgroups(root, "memory"):
        limit = number(folder / ("memory.limit_in_bytes" if is_v1 else "memory.max"))
        if limit is not None and limit <= total:
            found.append(MemoryLimit(folder, is_v1, limit))
    return found


def memory_used(limits: Iterable[MemoryLimit], root: Path = ROOT) -> float | None:
    """Share of the memory that cannot be had any more, of the machine or under the tightest limit. Caches can."""
    shares = []
    for folder, is_v1, limit in limits:
        used = number(folder / ("memory.usage_in_bytes" if is_v1 else "memory.current"))
        if used is not None and limit:
            cache = _field(folder / "memory.stat", "total_inactive_file" if is_v1 else "inactive_file") or 0
            shares.append(max(0, used - cache) / limit)
    available, has = (_field(root / "proc/meminfo", name) for name in ("MemAvailable:", "MemTotal:"))
    if available is not None and has:
        shares.append(1 - available / has)
    return min(1.0, max(shares)) if shares else None


def runnable(root: Path = ROOT) -> int | None:
    """Processes that run or wait for a core just now, this one not counted."""
    count = _field(root / "proc/stat", "procs_running")
    return None if count is None else max(0, count - 1)


def times(root: Path = ROOT) -> Times | None:
    """Of all cores."""
    try:
        with open(root / "proc/stat") as file:
            words = file.readline().split()
        user, nice, system, idle, wait, irq, soft, steal = (int(word) / TICKS for word in words[1:9])
    except (OSError, ValueError):
        return None
    busy = user + nice + system + irq + soft
    return Times(busy, steal, busy + steal + idle + wait)


def traffic(root: Path = ROOT) -> Traffic | None:
    """Of all network interfaces, as this network namespace has them."""
    received = sent = 0
    try:
        for line in _text(root / "proc/net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            if name.strip() != "lo":
                fields = rest.split()
                received, sent = received + int(fields[0]), sent + int(fields[8])
    except (OSError, ValueError, IndexError):
        return None
    return Traffic(received, sent)


def gpus(root: Path = ROOT) -> list[str]:
    """Names of graphics processors that a driver of theirs serves; a display alone is none."""
    found = []
    for about in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        found.append(next((line.split(":", 1)[1].strip() for line in _lines(about) if line.startswith("Model:")), "?"))
    for device in sorted(root.glob("sys/class/drm/renderD*/device")):
        vendor, kind = "".join(_lines(device / "vendor")), "".join(_lines(device / "class"))
        if kind.startswith(DISPLAY_CLASS) and vendor in VENDORS and not (vendor == "0x10de" and found):
            found.append(VENDORS[vendor])
    return found


def model(root: Path = ROOT) -> str:
    """What tells this processor from others."""
    named = [line.partition(":")[2].strip() for line in _lines(root / "proc/cpuinfo") if line.startswith("model name")]
    return f"{named[0] if named else os.uname().machine} x{len(named) or os.cpu_count()}"


def cgroups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """(folder, whether of version 1) of our cgroup and those above, as far as they can be seen here."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        tops = [f"sys/fs/cgroup/{name}" for name in ((controllers, controller) if controllers else ("", "unified"))]
        inside = Path(path.lstrip("/"))
        for top in dict.fromkeys(tops):
            yield from ((root / top / each, bool(controllers)) for each in (inside, *inside.parents))


def _text(path: Path) -> str:
    """All of a file; what pathlib does on top costs more than the kernel's part."""
    with open(path, "rb", buffering=0) as file:
        return file.read().decode("utf-8", "replace")


def _lines(path: Path) -> list[str]:
    try:
        return _text(path).splitlines()
    except OSError:
        return []


def number(path: Path) -> int | None:
    """What a file says; None when it is not there, or says no number."""
    try:
        return int(_text(path))
    except (OSError, ValueError):  # not there, or `max`
        return None


def _pair(path: Path) -> tuple[int | None, int | None]:
    try:
        first, second = _text(path).split()
        return int(first), int(second)
    except (OSError, ValueError):
        return None, None


def _field(path: Path, name: str) -> int | None:
    """The number behind a name at the start of a line; kB are bytes."""
    for line in _lines(path):
        if line.startswith(name):
            words = line.split()
            if len(words) > 1 and words[0] == name and words[1].isdecimal():
                return int(words[1]) * (1024 if words[-1] == "kB" else 1)
    return None
