"""`jupiter bench soak`: what agents' memory does under 10,000 queued items that come and go.

Four agents, one job that is kept open, items of 1 kB each with bytes of its own. The queue is filled once, then what is
over is replaced. 600 s are the full run; a minute shows the size, and a slope with much noise.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from jupiter_agent.adapters.client import Client
from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import BenchCluster

AGENTS = 4
QUEUED = 10_000
ITEM_BYTES = 1000
PER_PUT = 100
LOOKS = 20
RSS_MIB = 150.0
GROWTH_MIB = 8.0
"""From the middle of the run to its end"""

TASK = """
import time
def process(inputs, ctx):
    time.sleep(0.02)
    return next(iter(inputs.values()))
"""


def run(seconds: float = 600.0) -> list[Figure]:
    """Largest memory of an agent and its growth; the samples go to stderr."""
    with BenchCluster(AGENTS) as cluster:
        client = cluster.client()
        try:
            return _soak(cluster, client, seconds)
        finally:
            client.close()


def _soak(cluster: BenchCluster, client: Client, seconds: float) -> list[Figure]:
    job = cluster.ctl("submit", str(_app(cluster.folder / "soak")), "--keep-open", "--ep", "off")["id"]
    agents = {agent["name"]: psutil.Process(agent["pid"]) for agent in cluster.agents()}
    idle = _rss(agents)
    _say(f"idle: {_shown(idle)}")
    given = _fill(client, job, 0, QUEUED)
    began = time.monotonic()
    samples: list[tuple[float, int, dict[str, float]]] = []
    while (passed := time.monotonic() - began) < seconds:
        over = _over(client, job)
        given = _fill(client, job, given, over + QUEUED)
        if passed >= len(samples) * seconds / LOOKS:
            samples.append((passed, over, _rss(agents)))
            _say(f"{passed:5.0f} s, {over} items over: {_shown(samples[-1][2])}")
        time.sleep(0.25)
    samples.append((passed, _over(client, job), _rss(agents)))
    half = samples[len(samples) // 2]
    done = samples[-1][1] - half[1]
    growth = max(samples[-1][2][name] - half[2][name] for name in agents)
    peak = max(rss for _, _, each in samples for rss in each.values())
    return [
        Figure("10,000 items of 1 kB queued: largest agent", peak, "MiB", RSS_MIB),
        Figure("the same: largest agent when idle", max(idle.values()), "MiB"),
        Figure("the same: growth over the second half", growth, "MiB", GROWTH_MIB),
        Figure("the same: growth per item that was over", growth * 2**20 / max(1, done), "bytes"),
        Figure("the same: items over", samples[-1][1] / samples[-1][0], "items/s"),
    ]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _app(folder: Path) -> Path:
    folder.mkdir()
    tasks = [{"name": "first", "base_script": "task.py", "children": ["second"]},
             {"name": "second", "base_script": "task.py", "children": ["home"]}]  # fmt: skip
    (folder / "app_config.yaml").write_text(json.dumps({"application": {"tasks": {"dag_tasks": tasks}}}))
    (folder / "task.py").write_text(TASK)
    return folder


def _fill(client: Client, job: str, given: int, wanted: int) -> int:
    while given < wanted:
        count = min(PER_PUT, wanted - given)
        client.call("put", {"job": job, "inputs": [_item(given + n) for n in range(count)]})
        given += count
    return given


def _item(number: int) -> dict[str, Any]:
    data = os.urandom(ITEM_BYTES)
    return {"name": f"{number:08}", "sha256": hashlib.sha256(data).hexdigest(), "size": ITEM_BYTES, "data": data}


def _over(client: Client, job: str) -> int:
    [row] = [row for row in client.call("get", {"kind": "jobs"})["items"] if row["id"] == job]
    return int(row["items_done"])


def _rss(agents: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: process.memory_info().rss / 2**20 for name, process in agents.items()}


def _shown(rss: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} MiB" for name, value in rss.items())
