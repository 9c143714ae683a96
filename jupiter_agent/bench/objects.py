"""`jupiter bench objects`: large and middle-sized objects from node to node, verified, beside bare CURVE and Dask.

Two agents; a task on one makes the objects, a task on the other takes them. The rate is that of the bulk channel of the
taking agent: bytes that arrived, by the time in which any object was on its way, hashed and in the store at its end.
From task to task there are also hashing at the source, the parcel, and the hand-over to the task.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from statistics import median
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.bench.beside import MOVES, bare_curve, dask
from jupiter_agent.bench.cluster import BenchCluster

MB = 1_000_000
CASES = ((100 * MB, 1, 250.0), (MB, 100, 150.0))
"""(bytes of an object, objects of an item, MB/s at least)"""
ITEMS = 5
CURVE_BYTES = 400 * MB
CURVE_RATIO = 0.45

YAML = """
application:
  max_open: 1
  tasks:
    dag_tasks:
      - {name: make, command: [sh, -c, "exec PYTHON $JUPITER_APP/make.py"], children: [take]}
      - {name: take, command: [sh, -c, "exec PYTHON $JUPITER_APP/take.py"], children: [home]}
""".replace("PYTHON", sys.executable)
MAKE = """
import json, os, pathlib, random, time
given = next(pathlib.Path(os.environ["JUPITER_IN"]).rglob("*[0-9]"))
seed, size, count = json.loads(given.read_text())
out = pathlib.Path(os.environ["JUPITER_OUT"])
for n in range(count):
    (out / f"part{n}").write_bytes(random.Random(1000 * seed + n).randbytes(1000) * (size // 1000))
(out / "begun").write_text(str(time.time()))
"""
TAKE = """
import os, pathlib, time
now = time.time()
begun = next(pathlib.Path(os.environ["JUPITER_IN"]).rglob("begun"))
(pathlib.Path(os.environ["JUPITER_OUT"]) / "took").write_text(str(now - float(begun.read_text())))
"""


def run() -> list[Figure]:
    """All figures; takes about 90 s."""
    bare = bare_curve(CURVE_BYTES, random.randrange(20_000, 32_000))
    figures = [Figure("bare CURVE, chunks of 256 KiB", bare, "MB/s")]
    for size, count, least in CASES:
        name = f"{size // MB} MB objects"
        with BenchCluster(2) as cluster:
            rate, seconds = _moved(cluster, size, count)
        figures.append(Figure(f"{name}, node to node, verified", rate, "MB/s", least, at_least=True))
        figures.append(Figure(f"{name}: ratio to bare CURVE", rate / bare, "", CURVE_RATIO, at_least=True))
        figures.append(Figure(f"{name}, task to task ({count} at once)", size * count / seconds / MB, "MB/s"))
        theirs = dask(MOVES, size, count, ITEMS)
        if theirs is not None:
            figures.append(Figure(f"{name}: Dask with TLS, worker to worker", theirs, "MB/s"))
            figures.append(Figure(f"{name}: ratio to Dask with TLS", rate / theirs, ""))
    return figures


def _moved(cluster: BenchCluster, size: int, count: int) -> tuple[float, float]:
    """(MB/s of the taking agent's bulk channel, median seconds from task to task)."""
    app = cluster.folder / "app"
    app.mkdir()
    for name, text in (("app_config.yaml", YAML), ("make.py", MAKE), ("take.py", TAKE)):
        (app / name).write_text(text)
    inputs = cluster.folder / "inputs"
    inputs.mkdir()
    for item in range(ITEMS):
        (inputs / f"{item}").write_text(json.dumps([item, size, count]))
    mapping = cluster.folder / "mapping.json"
    mapping.write_text(json.dumps({"make": "node1", "take": "node2"}))
    results = cluster.folder / "results"
    given = ("--input", str(inputs), "--mapping", str(mapping), "--ep", "off", "--wait", "--results", str(results))
    cluster.ctl("submit", str(app), *given)
    taker = next(agent for agent in cluster.agents() if agent["name"] == "node2")
    counted = cluster.diagnostics(taker)["counters"]
    seconds = [float(path.read_text()) for path in _files(results)]
    return _rate(counted), median(seconds)


def _rate(counted: dict[str, Any]) -> float:
    return float(counted["bulk_bytes_in"]) / float(counted["bulk_busy_us"])


def _files(results: Path) -> list[Path]:
    return [path for path in results.rglob("*") if path.is_file()]
