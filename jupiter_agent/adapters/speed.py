"""The speed index: how fast one core is, against a reference, by a short benchmark that is run once and remembered.

What a task takes elsewhere is scaled by it, so it must not depend on what else runs just now. It is CPU time, not wall
time; the best of several rounds counts, as noise only ever adds; and the rounds go on, with pauses, until two of the
best agree, as neighbours on the same core slow down even CPU time.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jupiter_agent.adapters.disk import replace_file
from jupiter_agent.adapters.machine import model

VERSION = 1
"""of the benchmark: another one gives other numbers"""
REFERENCE_S = 0.004
"""What a round takes on a node of speed index 1"""
LEAST, MOST = 5, 24
"""rounds"""
AGREE = 1.03
"""The best two rounds are as near as that: the best is what this core can do"""
PAUSE_S = 0.02
BLOCK = bytes(64 * 1024)
HASHES, LOOPS = 40, 60_000
FASTEST, SLOWEST = 1e3, 1e-3


def speed_index(
    round_s: Callable[[], float] | None = None, pause: Callable[[float], None] = time.sleep
) -> tuple[float, int]:
    """(index to two digits, rounds it took). Blocks for 30 ms on a free core, for a second on a busy one."""
    measure = round_s or one_round
    taken: list[float] = []
    while len(taken) < LEAST or (len(taken) < MOST and taken[1] > AGREE * taken[0]):
        if len(taken) >= LEAST:
            pause(PAUSE_S)
        taken = sorted([*taken, measure()])
    return float(f"{min(max(REFERENCE_S / taken[0], SLOWEST), FASTEST):.2g}"), len(taken)


def one_round() -> float:
    """CPU seconds of one round: half of it is the interpreter, half hashing, as tasks in Python are a mix of both."""
    began = time.thread_time()
    total = 0
    for i in range(LOOPS):
        total += i & 7
    for _ in range(HASHES):
        hashlib.sha256(BLOCK).digest()
    return max(time.thread_time() - began, 1e-9)


def remembered(path: Path, measure: Callable[[], tuple[float, int]] = speed_index) -> float:
    """The index as measured before on this processor with this Python; measured now, and kept, where it was not."""
    key = {"version": VERSION, "python": sys.version.split()[0], "model": model()}
    try:
        known = json.loads(path.read_text())
        if all(known.get(name) == value for name, value in key.items()) and SLOWEST <= float(known["speed"]) <= FASTEST:
            return float(known["speed"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    speed, _ = measure()
    try:
        replace_file(path, json.dumps({**key, "speed": speed}) + "\n")
    except OSError:  # the disk is full: it will be measured again
        pass
    return speed
