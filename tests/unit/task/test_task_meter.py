"""What a run used: CPU time and memory, of this very process."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from jupiter_agent.task.meter import Meter

MIB = 1 << 20
BUSY = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass"


def test_cpu_time_is_that_of_the_run_and_not_of_what_was_before() -> None:
    meter = Meter(alone=True)
    hashlib.sha256(bytes(64 * MIB)).digest()
    meter.begin()
    assert meter.used()[0] < 0.01
    hashlib.sha256(bytes(64 * MIB)).digest()
    assert meter.used()[0] > 0.01


def test_children_that_were_waited_for_count() -> None:
    meter = Meter(alone=True)
    meter.begin()
    subprocess.run([sys.executable, "-S", "-c", BUSY], check=True)
    assert meter.used()[0] >= 0.1


def test_the_peak_is_of_this_run_where_the_kernel_lets_us_reset_it() -> None:
    meter = Meter(alone=True)
    meter.begin()
    large = b"\1" * (300 * MIB)
    peak = meter.used()[1]
    assert peak > 300 * MIB
    del large
    meter.begin()
    assert meter.used()[1] <= peak


def test_of_several_runs_at_once_each_gets_the_time_of_its_thread() -> None:
    meter = Meter(alone=False)
    meter.begin()
    cpu_s, peak = meter.used()
    assert cpu_s < 0.01
    assert peak > MIB
