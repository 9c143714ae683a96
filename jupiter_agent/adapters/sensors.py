"""This node's resources: what it publishes of itself (DESIGN.md, section 5).

Values are coarse on purpose: a profile travels to every node when it changes, so noise is not worth a message. Rates
are powers of four and nothing below 64 kB/s, loads are to the half core or 30 %, shares to 5 %. What never changes
while an agent runs (cores, memory, GPUs) is looked at once a minute: a quota may be changed.

Other profilers come by the entry point group `jupiter.resource_profilers` (adapters/resources.py).
"""

from __future__ import annotations

import os
import shutil
from math import floor, log, sqrt
from pathlib import Path
from typing import Any

from jupiter_agent.adapters import machine
from jupiter_agent.adapters.limits import machine_memory

RESERVE_BYTES = 512 * 1024 * 1024
RESERVE_SHARE = 0.05
"""With less free disk than the smaller of these a node takes no more tasks and no more input"""
ROOM_AGAIN = 1.25
"""... until so many times that is free"""

SMOOTH = 0.5
"""Weight of the newest reading in loads and rates"""
SMOOTH_COUNT, SCATTER, SETTLE = 0.25, 1.2, 0.05
"""... in the count of processes: what is counted at an instant scatters by the root of its mean. Smoothed so, it is off
by less than `SCATTER` of that root 99.8 % of the time; what is smaller shows in the long run, smoothed with `SETTLE`"""
STEADY = 0.3
RATE_STEP, LEAST_RATE = 4.0, 64e3
SLOW_S = 60.0
"""between two looks at what hardly ever changes"""


def cpus() -> int:
    """Whole cores this process may use, at least one."""
    return max(1, int(machine.cpus()))


class Sensors:
    """Readings of this node, for one reader that asks every few seconds. `speed` is measured by the caller."""

    def __init__(
        self, folder: str, speed: float, reserve: int | float | None = None, labels: dict[str, str] | None = None,
        root: Path = machine.ROOT,
    ) -> None:  # fmt: skip
        """`reserve`: bytes (int), or a share of the disk (float), to be kept free; None: as above."""
        self._folder, self._root = folder, root
        self._reserve, self._full = reserve, False
        self._speed, self._labels = speed, labels or {}
        self._times, self._traffic, self._at = machine.times(root), machine.traffic(root), 0.0
        self._smooth: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._slow: dict[str, Any] = {}
        self._limits: list[machine.MemoryLimit] = []
        self._slow_at = float("-inf")

    def read(self, now: float) -> dict[str, Any]:
        """cpus (a quota may make it no whole number), speed (index), load (busy cores), queue_length (who runs or waits
        for a core), steal (share of the time that the hypervisor kept), memory and its used share, disk, rates of the
        network, GPUs, labels."""
        if now - self._slow_at >= SLOW_S:
            self._slow, self._slow_at = self._look_slowly(), now
        memory = machine.memory_used(self._limits, self._root)
        disk = shutil.disk_usage(self._folder)
        return {
            **self._slow,
            **self._processor(),
            **self._network(now),
            "speed": self._speed,
            "memory_used": _share(memory or 0.0),
            "disk_used": _share(disk.used / max(1, disk.total)),
            "full": self._is_full(disk.free, disk.total),
        }

    def _look_slowly(self) -> dict[str, Any]:
        total = machine_memory(self._root)
        self._limits = machine.memory_limits(total, self._root)
        gpus = machine.gpus(self._root)
        rare = {"gpus": len(gpus), "gpu": gpus[0][:64]} if gpus else {}
        return {
            "cpus": machine.cpus(self._root), "memory_bytes": total, **rare,
            **({"labels": self._labels} if self._labels else {}),
        }  # fmt: skip

    def _processor(self) -> dict[str, float]:
        """Busy cores, and how many processes want one: beyond the number of cores they wait for each other."""
        was, self._times = self._times, machine.times(self._root)
        found = {}
        if was and self._times and self._times.total_s > was.total_s:
            passed = self._times.total_s - was.total_s
            busy, stolen = (self._times.busy_s - was.busy_s) / passed, (self._times.steal_s - was.steal_s) / passed
            cores = os.cpu_count() or 1
            found = {"load": self._smoothed("load", busy * cores), "steal": self._smoothed("steal", stolen)}
        waiting = machine.runnable(self._root)
        if waiting is not None:
            found["queue_length"] = self._settled("queue_length", float(waiting))
        steps = {"load": 0.5, "queue_length": 0.5, "steal": 0.05}
        return {"load": 0.0, **{name: self._held(name, value, steps[name]) for name, value in found.items()}}

    def _settled(self, name: str, count: float) -> float:
        """The mean of a count over the last seconds where it is news beyond its scatter, else over the last minute."""
        lately = self._smoothed(name, count, SMOOTH_COUNT)
        long = self._smoothed(f"{name}: long", count, SETTLE)
        if abs(lately - long) > SCATTER * sqrt(min(lately, long)):
            long = self._smooth[f"{name}: long"] = lately
        return long

    def _network(self, now: float) -> dict[str, float]:
        """Rates in bytes/s."""
        was, self._traffic = self._traffic, machine.traffic(self._root)
        began, self._at = self._at, now
        if was is None or self._traffic is None or not 0 < now - began < SLOW_S:
            return {}
        rates = {
            "received_bps": (self._traffic.received - was.received) / (now - began),
            "sent_bps": (self._traffic.sent - was.sent) / (now - began),
        }
        return {name: _coarse(self._smoothed(name, rate)) for name, rate in rates.items()}

    def _smoothed(self, name: str, value: float, weight: float = SMOOTH) -> float:
        before = self._smooth.get(name, value)
        self._smooth[name] = before + weight * (value - before)
        return self._smooth[name]

    def _is_full(self, free: int, total: int) -> bool:
        """With hysteresis: a disk at its edge must not make the node come and go."""
        reserve = self._reserve
        if reserve is None:
            reserve = min(RESERVE_BYTES, RESERVE_SHARE * total)
        elif isinstance(reserve, float):
            reserve *= total
        self._full = free < reserve * (ROOM_AGAIN if self._full else 1.0)
        return self._full

    def _held(self, name: str, value: float, step: float) -> float:
        """In steps; what was read before stays while it is off by less than a step and by less than `STEADY` of it."""
        before = self._told.get(name)
        if before is None or abs(value - before) > max(step, STEADY * before):
            before = self._told[name] = round(value / step) * step
        return before


def _share(value: float) -> float:
    return round(round(value * 20) / 20, 2)


def _coarse(rate: float) -> float:
    """The power of four next below, 0 for what is not worth telling."""
    return 0.0 if rate < LEAST_RATE else LEAST_RATE * RATE_STEP ** floor(log(rate / LEAST_RATE, RATE_STEP))
