"""`jupiter bench basics`: how long a user's first steps take, and what an idle agent costs (loopback, encrypted)."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import BenchCluster

NODES = 5
IDLE_S = 10.0
HEAVY = ("numpy", "networkx", "kubernetes", "aiohttp", "typer", "rich")
WARM_UP = 20
ITEMS = 220
HAND_OFF_ROUNDS = 2

CONFIG = """
name: {name}
application:
  max_open: 1
  tasks:
    dag_tasks:
      - {{name: first, base_script: clock.py, children: [second]}}
      - {{name: second, base_script: clock.py, children: [home]}}
"""

CLOCK = """
import time

def process(inputs, ctx):
    begun = time.time_ns()
    seen = next(iter(inputs.values()))
    if ctx.task == "first":
        return seen[:1000].ljust(1000) + str(begun).encode() + b" " + str(time.time_ns()).encode()
    return seen[1000:] + b" " + str(begun).encode()
"""


def _app(folder: Path, name: str) -> Path:
    app = folder / name
    app.mkdir()
    (app / "app_config.yaml").write_text(CONFIG.format(name=name))
    (app / "clock.py").write_text(CLOCK)
    return app


def _stamps(results: Path) -> list[tuple[float, float, float]]:
    """Per item, in seconds of the wall clock: first begun, first done, second begun."""
    rows = []
    for item in results.iterdir():
        begun, done, second = (int(part) / 1e9 for part in (item / "second" / "second").read_bytes().split())
        rows.append((begun, done, second))
    return rows


def run() -> list[Figure]:
    """All figures of the table; takes about 40 s."""
    with BenchCluster(NODES) as cluster:
        figures = [Figure("local up --nodes 5, until all see all", cluster.up_s, "s", 3.0)]
        time.sleep(3.0)
        rss, share = cluster.cost(IDLE_S)
        loaded = sum(1 for agent in cluster.agents() for module in cluster.modules(agent) if module in HEAVY)
        figures += [
            Figure("idle agent, largest RSS", rss, "MiB", 45.0),
            Figure("idle agent, share of a core", 100 * share, "%", 1.0),
            Figure("idle agents, heavy modules loaded", loaded, "modules", 0),
        ]
        figures += _first_task(cluster) + _hand_off(cluster)
    return figures + _demo()


def _first_task(cluster: BenchCluster) -> list[Figure]:
    """From the start of the `submit` command to the first task running, for three apps never seen before."""
    times = []
    for attempt in range(3):
        app = _app(cluster.folder, f"fresh{attempt}")
        given = cluster.folder / f"input{attempt}"
        given.write_bytes(b"x" * 1000)
        results = cluster.folder / f"results{attempt}"
        began = time.time()
        cluster.ctl("submit", str(app), "--input", str(given), "--wait", "--results", str(results))
        times.append(_stamps(results)[0][0] - began)
    return [Figure("submit to first task running, app never seen, median of 3", median(times), "s", 2.0)]


def _hand_off(cluster: BenchCluster) -> list[Figure]:
    """Parent done to child started, on two nodes, 1 kB, warm, one item at a time."""
    app = _app(cluster.folder, "handoff")
    inputs = cluster.folder / "inputs"
    inputs.mkdir()
    for index in range(ITEMS):
        (inputs / f"item{index:03}").write_bytes(f"{index}".encode().ljust(1000))
    mapping = cluster.folder / "mapping.json"
    mapping.write_text(json.dumps({"first": "node2", "second": "node3"}))
    rounds = []
    for attempt in range(HAND_OFF_ROUNDS):
        results = cluster.folder / f"hand-off-{attempt}"
        given = ("--input", str(inputs), "--mapping", str(mapping), "--wait", "--results", str(results))
        cluster.ctl("submit", str(app), *given)
        rounds.append([1000 * (second - done) for _, done, second in sorted(_stamps(results))[WARM_UP:]])
    gaps = min(rounds, key=median)
    return [
        Figure("hand-off, parent done to child started, 1 kB, warm, p50, better of 2 rounds", median(gaps), "ms", 5.0),
        Figure("the same, p99", quantiles(gaps, n=100)[98], "ms"),
    ]


def _demo() -> list[Figure]:
    """`scripts/demo` after the install; nothing where the source tree is not at hand."""
    import subprocess

    script = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"
    if not script.exists():
        return []
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return [
        Figure("scripts/demo, total", report.get("total_s", float("inf")), "s", 20.0),
        Figure("scripts/demo, verified", float(report.get("verified", False)), "", 1.0, at_least=True),
        Figure("scripts/demo, hosts", report.get("hosts", 0), "nodes", 3.0, at_least=True),
        Figure("scripts/demo, bytes moved between nodes", report.get("moved_bytes", 0), "B", 1.0, at_least=True),
    ]
