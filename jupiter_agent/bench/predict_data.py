"""A data set of real runs for `bench predict`: an app of tasks of many kinds on a local cluster, under varying load.

Sizes are log-uniform between 10 kB and 2 MB, the machine is idle, half busy and overloaded in turn. What is recorded is
what the run-time profiler says of each run; `--record FILE` keeps it, `--data FILE` replays it.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jupiter_agent.bench.cluster import BenchCluster
from jupiter_agent.bench.stress import hogs

LEAST_BYTES, MOST_BYTES = 10_000, 2_000_000
PHASES = (0, 1, 3, 0, 2, 5, 1, 0, 4, 2)
"""processes that keep a core busy, in turn"""

CONFIG = """
name: kinds
application:
  max_open: 1
  tasks:
    dag_tasks:
{tasks}
"""

SCRIPT = """
import hashlib, time, zlib

def steady(data):                       # the same work whatever the size
    sum(i & 7 for i in range(400_000))

def nap(data):                          # waits for a device
    time.sleep(0.02 + len(data) * 8e-8)

def digest(data):                       # linear
    for _ in range(40):
        hashlib.sha256(data).digest()

def count(data):                        # linear, all in the interpreter
    found = 0
    for byte in data[: len(data) // 2]:
        found += byte & 1

def pairs(data):                        # quadratic
    some = data[: int(len(data) ** 0.5 * 1.2 + len(data) / 1000)]
    sum(a == b for a in some for b in some[:400])
    n = len(data) // 4000
    sum((a * b) & 1 for a in range(n) for b in range(n * 4))

def order(data):                        # n log n
    sorted(zlib.crc32(data[i : i + 8]) for i in range(0, len(data), 8))

def mixed(data):                        # reads, then computes
    time.sleep(0.03)
    for _ in range(2):
        zlib.compress(data, 6)

def process(inputs, ctx):
    data = next(iter(inputs.values()))
    globals()[ctx.task](data)
    return data
"""

SETTLE_S = 3.0
"""The sensors see a new load after two readings"""

KINDS = ("steady", "nap", "digest", "count", "pairs", "order", "mixed")


def record(items: int = 200, seed: int = 7) -> list[dict[str, Any]]:
    """The runs, in the order in which they ended, of an app with a chain of all kinds; takes a few minutes."""
    rng = random.Random(seed)
    with BenchCluster(1) as cluster, tempfile.TemporaryDirectory(prefix="jupiter-predict-") as made:
        app = _app(Path(made))
        job = cluster.ctl("submit", str(app), "--ep", "off", "--mapper", "heft", "--keep-open")["id"]
        for phase in range(len(PHASES)):
            names = []
            for number in range(items // len(PHASES)):
                size = int(math.exp(rng.uniform(math.log(LEAST_BYTES), math.log(MOST_BYTES))))
                path = Path(made) / f"i{phase}-{number}"
                path.write_bytes(rng.randbytes(size))
                names.append(str(path))
            with hogs(PHASES[phase]):
                time.sleep(SETTLE_S)
                cluster.ctl("put", job, *names)
                cluster.ctl("wait", job, "--timeout", "300")
            print(f"   load of {PHASES[phase]}: {len(names)} items", file=sys.stderr, flush=True)
        rows = json.loads(cluster.jupiter("ctl", "--dir", str(cluster.dir), "-o", "json", "stats", job))["runs"]
    return sorted(rows, key=lambda row: row["finish"])


def cores() -> int:
    return os.cpu_count() or 1


def _app(folder: Path) -> Path:
    app = folder / "kinds"
    app.mkdir()
    lines = [
        f"      - {{name: {kind}, base_script: kinds.py, children: [{child}]}}"
        for kind, child in zip(KINDS, [*KINDS[1:], "home"], strict=True)
    ]
    (app / "app_config.yaml").write_text(CONFIG.format(tasks="\n".join(lines)))
    (app / "kinds.py").write_text(SCRIPT)
    return app
