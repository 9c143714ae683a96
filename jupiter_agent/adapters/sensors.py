"""This node's resources, read with psutil: what it publishes of itself (DESIGN.md, section 5).

Values are coarse on purpose: a profile travels to every node when it changes, so noise is not worth a message.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

import psutil

SPEED_BLOCK = bytes(64 * 1024)
SPEED_ROUNDS = 40
RESERVE_BYTES = 512 * 1024 * 1024
RESERVE_SHARE = 0.05
"""With less free disk than the smaller of these a node takes no more tasks and no more input"""
ROOM_AGAIN = 1.25
"""... until so many times that is free"""

SPEED_REFERENCE_S = 0.004
"""What the benchmark takes on a node of speed index 1"""


def speed_index(repeats: int = 8) -> float:
    """How fast one core is against the reference: the best of a few runs of a small mixed benchmark (about 4 ms each).

    Half of it is the interpreter, half hashing, as tasks in Python are a mix of both.
    """
    best = min(_benchmark() for _ in range(repeats))
    return float(f"{SPEED_REFERENCE_S / best:.2g}")


def _benchmark() -> float:
    began = time.thread_time()  # CPU time: neighbours on the same cores do not make this one slow
    total = 0
    for i in range(60_000):
        total += i & 7
    for _ in range(SPEED_ROUNDS):
        hashlib.sha256(SPEED_BLOCK).digest()
    return time.thread_time() - began


def cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


class Sensors:
    """Readings of this node. `speed` is measured once, by the caller's leave, off the loop."""

    def __init__(self, folder: str, speed: float, reserve: int | float | None = None) -> None:
        """`reserve`: bytes (int), or a share of the disk (float), to be kept free; None: as above."""
        self._folder = folder
        self._reserve, self._full = reserve, False
        self._speed = speed
        self._load = 0.0
        psutil.cpu_percent(None)

    def read(self) -> dict[str, Any]:
        """cpus; speed (index); load (busy cores, smoothed, to 0.5); memory, disk (used share to 5 %); full (disk)."""
        busy = psutil.cpu_percent(None) / 100 * (psutil.cpu_count() or 1)
        self._load += 0.5 * (busy - self._load)
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(self._folder)
        return {
            "cpus": cpus(),
            "speed": self._speed,
            "load": round(self._load * 2) / 2,
            "memory_bytes": memory.total,
            "memory_used": round(memory.percent / 5) * 0.05,
            "disk_used": round(disk.percent / 5) * 0.05,
            "full": self._is_full(disk.free, disk.total),
        }

    def _is_full(self, free: int, total: int) -> bool:
        """With hysteresis: a disk at its edge must not make the node come and go."""
        reserve = self._reserve
        if reserve is None:
            reserve = min(RESERVE_BYTES, RESERVE_SHARE * total)
        elif isinstance(reserve, float):
            reserve *= total
        self._full = free < reserve * (ROOM_AGAIN if self._full else 1.0)
        return self._full
