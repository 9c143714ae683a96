"""`jupiter bench contracts`: what authors wait for: an edit, a command, a hand-off under each contract, a large app."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from statistics import median

from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import JUPITER, BenchCluster

NODES = 5
WARM_UP = 20
ITEMS = 120
LARGE_TASKS = 200
STARTS = 5

YAML = """
application:
  max_open: 1
  tasks:
    dag_tasks:
      - {name: first, base_script: clock.py, children: [second]}
      - {name: second, base_script: clock.py, children: [home]}
"""

V5 = """
import os, time

def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        begun = time.time_ns()
        src, _, base = name.split("_", 2)
        seen = open(os.path.join(pathin, name), "rb").read()
        child = "second" if task_name == "first" else "home"
        with open(os.path.join(pathout, f"{task_name}_{child}_{base}"), "wb") as out:
            if task_name == "first":
                out.write(seen[:1000].ljust(1000) + b"%d %d" % (begun, time.time_ns()))
            else:
                out.write(seen[1000:] + b" %d" % begun)
        q.task_done()
"""

V4 = """
import os, time

def task(onefile, pathin, pathout):
    begun = time.time_ns()
    seen = open(os.path.join(pathin, onefile), "rb").read()
    first = os.environ["TASK"] == "first"
    path = os.path.join(pathout, onefile)
    with open(path, "wb") as out:
        if first:
            out.write(seen[:1000].ljust(1000) + b"%d %d" % (begun, time.time_ns()))
        else:
            out.write(seen[1000:] + b" %d" % begun)
    return [path]
"""


def _v5_app(folder: Path) -> Path:
    app = folder / "clock5"
    app.mkdir()
    (app / "app_config.yaml").write_text(YAML)
    (app / "clock.py").write_text(V5)
    return app


def _v4_app(folder: Path) -> Path:
    app = folder / "clock4"
    (app / "scripts").mkdir(parents=True)
    (app / "configuration.txt").write_text("2\nfirst 1 true second\nsecond 1 true home\n")
    table = {"taskname_map": {"first": ["clock", True], "second": ["clock", True]}}
    (app / "scripts" / "config.json").write_text(json.dumps(table))
    (app / "scripts" / "clock.py").write_text(V4)
    return app


def run() -> list[Figure]:
    """All figures; takes about 90 s."""
    with BenchCluster(NODES) as cluster:
        figures = [_edit(cluster), _cold_start(cluster)]
        for name, app in (("v5", _v5_app(cluster.folder)), ("v4", _v4_app(cluster.folder))):
            figures.append(_hand_off(cluster, name, app))
        figures += [_large(cluster, mapper) for mapper in ("heft", "wave-greedy")]
    return figures


def _edit(cluster: BenchCluster) -> Figure:
    """From an edited script to its result, another job of the same app running meanwhile."""
    app = cluster.folder / "edited"
    app.mkdir()
    (app / "app_config.yaml").write_text(
        "application: {tasks: {dag_tasks: [{name: only, base_script: only.py, children: [home]}]}}\n"
    )
    given = cluster.folder / "given"
    given.write_bytes(b"x")
    (app / "only.py").write_text("import time\ndef process(inputs, ctx):\n    time.sleep(3)\n    return b'old'\n")
    old = cluster.ctl("submit", str(app), "--input", str(given))["id"]
    (app / "only.py").write_text("import time\ndef process(inputs, ctx):\n    return b'%f' % time.time()\n")
    began = time.time()
    results = cluster.folder / "edited-results"
    cluster.ctl("submit", str(app), "--input", str(given), "--wait", "--results", str(results))
    started = float((results / "given" / "only" / "only").read_bytes())
    done = cluster.folder / "old-results"
    cluster.jupiter("ctl", "--dir", str(cluster.dir), "wait", old)
    cluster.jupiter("ctl", "--dir", str(cluster.dir), "results", old, "--out", str(done))
    undisturbed = (done / "given" / "only" / "only").read_bytes() == b"old"
    value = started - began if undisturbed else float("inf")
    return Figure("edit, submit again, new code running (old job undisturbed)", value, "s", 2.0)


def _cold_start(cluster: BenchCluster) -> Figure:
    times = []
    for _ in range(STARTS):
        began = time.monotonic()
        subprocess.run([str(JUPITER), "ctl", "--dir", str(cluster.dir), "get", "jobs"], check=True, capture_output=True)
        times.append(time.monotonic() - began)
    return Figure(f"jupiter ctl get jobs, cold start to output, median of {STARTS}", median(times), "s", 0.5)


def _hand_off(cluster: BenchCluster, contract: str, app: Path) -> Figure:
    """Parent done to child started, on two nodes, 1 kB, warm, a few items at a time."""
    inputs = cluster.folder / f"inputs-{contract}"
    inputs.mkdir()
    for index in range(ITEMS):
        (inputs / f"{index}item").write_bytes(b"%d" % index)
    mapping = cluster.folder / f"mapping-{contract}.json"
    mapping.write_text(json.dumps({"first": "node2", "second": "node3"}))
    results = cluster.folder / f"results-{contract}"
    given = ("--input", str(inputs), "--mapping", str(mapping), "--wait", "--results", str(results))
    cluster.ctl("submit", str(app), *given)
    stamps = sorted(tuple(map(int, path.read_bytes().split())) for path in results.glob("*/second/*"))
    gaps = [(second - done) / 1e6 for _, done, second in stamps[WARM_UP:]]
    return Figure(f"hand-off, {contract} contract, 1 kB, warm, p50", median(gaps), "ms", 15.0)


def _large(cluster: BenchCluster, mapper: str) -> Figure:
    """A generated app of 200 tasks: every result compared with the expected one."""
    app = cluster.folder / f"large-{mapper}"
    cluster.jupiter("app", "generate", "--total-num", str(LARGE_TASKS), "--seed", "1", "--out", str(app))
    results = cluster.folder / f"large-results-{mapper}"
    began = time.monotonic()
    given = ("--samples", "--mapper", mapper, "--wait", "--results", str(results))
    cluster.ctl("submit", str(app), *given)
    seconds = time.monotonic() - began
    same = subprocess.run(["diff", "-r", str(results), str(app / "expected")], capture_output=True, check=False)
    value = seconds if same.returncode == 0 else float("inf")
    return Figure(f"generated app of {LARGE_TASKS} tasks, 3 items, {mapper}, results as expected", value, "s", 120.0)
