"""`jupiter bench flow`: small items through chains and wide jobs of real agents, beside Dask distributed.

Tasks stamp what passes with the clock all agents of this machine share. A hop is from the end of one stage's function
to the start of the next one's, on another agent. Dask's figures are of four workers with one thread each, without TLS.
"""

from __future__ import annotations

import json
import random
import time
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from jupiter_agent.adapters.client import Client
from jupiter_agent.bench import Figure
from jupiter_agent.bench.beside import LAYERS, NOOPS, dask
from jupiter_agent.bench.cluster import BenchCluster

STAGES = 5
PACED_ITEMS, PACED_HZ, WARM_UP = 300, 50.0, 50
CHAIN_ITEMS = 1000
NOOP_ITEMS, WIDTH = 1000, 4
LAYER_COUNT, LAYER_WIDTH, PARENTS = 10, 10, 3
LAYER_ITEMS = 6

STAGE = """
import time
def process(inputs, ctx):
    begun = time.time_ns()
    data = next(iter(inputs.values()))
    return data[:1000].ljust(1000) + data[1000:] + b"%d %d " % (begun, time.time_ns())
"""
NOOP = "def process(inputs, ctx):\n    return b''\n"
PAUSE = "import time\ndef process(inputs, ctx):\n    time.sleep(0.010)\n    return b'x'\n"


def run() -> list[Figure]:
    """All figures; takes about 3 min."""
    with BenchCluster(STAGES) as cluster:
        figures = [*_paced(cluster), _throughput(cluster)]
    with BenchCluster(WIDTH) as cluster:
        return figures + _noops(cluster) + _layers(cluster)


# --- a chain ---------------------------------------------------------------------------------------------------------


def _chain(cluster: BenchCluster) -> tuple[Path, Path]:
    """The app of five stages, each on an agent of its own, and the mapping."""
    names = [f"stage{n}" for n in range(STAGES)]
    edges = dict(zip(names, [*names[1:], "home"], strict=True))
    tasks = [{"name": name, "base_script": "stage.py", "children": [edges[name]]} for name in names]
    app = _app(cluster.folder / "chain", tasks, {"stage.py": STAGE})
    mapping = cluster.folder / "chain.json"
    mapping.write_text(json.dumps({name: f"node{n + 1}" for n, name in enumerate(names)}))
    return app, mapping


def _paced(cluster: BenchCluster) -> list[Figure]:
    """Items put one by one, 50 a second."""
    app, mapping = _chain(cluster)
    job = cluster.ctl("submit", str(app), "--keep-open", "--mapping", str(mapping), "--ep", "off")["id"]
    client = cluster.client()
    try:
        _until_running(client, job)
        began = time.monotonic()
        for index in range(PACED_ITEMS):
            time.sleep(max(0.0, began + index / PACED_HZ - time.monotonic()))
            data = b"%d" % index
            client.call("put", {"job": job, "inputs": [_given(f"{index}", data)]})
        client.call("close", {"job": job})
    finally:
        client.close()
    stamps = _results(cluster, job)[WARM_UP:]
    gaps = [(later - sooner) / 1e6 for stamp in stamps for sooner, later in zip(stamp[1::2], stamp[2::2], strict=False)]
    cuts = quantiles(gaps, n=100)
    return [
        Figure("chain of 5, 1 kB, 50 items/s: hop, p50", median(gaps), "ms", 2.0),
        Figure("chain of 5, 1 kB, 50 items/s: hop, p99", cuts[98], "ms", 20.0),
    ]


def _throughput(cluster: BenchCluster) -> Figure:
    """All items given at once: from the first to the last one's end, start of processes left out."""
    app, mapping = _chain(cluster)
    inputs = _inputs(cluster.folder / "chain-inputs", CHAIN_ITEMS)
    job = _submit(cluster, app, inputs, "--mapping", str(mapping))
    ends = sorted(stamp[-1] for stamp in _results(cluster, job))
    rate = (len(ends) - WARM_UP) / ((ends[-1] - ends[WARM_UP - 1]) / 1e9)
    return Figure("chain of 5, 1 kB, throughput", rate, "items/s", 500.0, at_least=True)


# --- wide jobs -------------------------------------------------------------------------------------------------------


def _noops(cluster: BenchCluster) -> list[Figure]:
    """Items of four tasks that do nothing, one on each agent."""
    tasks = [{"name": f"noop{n}", "base_script": "noop.py", "children": ["home"]} for n in range(WIDTH)]
    app = _app(cluster.folder / "noops", tasks, {"noop.py": NOOP})
    mapping = cluster.folder / "noops.json"
    mapping.write_text(json.dumps({f"noop{n}": f"node{n + 1}" for n in range(WIDTH)}))
    job = _submit(cluster, app, _inputs(cluster.folder / "noop-inputs", NOOP_ITEMS), "--mapping", str(mapping))
    rate = WIDTH / _seconds_per_item(cluster, job)
    figures = [Figure("no-op tasks, 4 agents", rate, "tasks/s", 2000.0, at_least=True)]
    theirs = dask(NOOPS, WIDTH * NOOP_ITEMS)
    if theirs is not None:
        figures.append(Figure("no-op tasks: Dask, 4 workers", theirs, "tasks/s"))
        figures.append(Figure("no-op tasks: ratio to Dask", rate / theirs, "", 3.0, at_least=True))
    return figures


def _layers(cluster: BenchCluster) -> list[Figure]:
    """A layered DAG of 100 tasks of 10 ms, an item at a time, from its admission to its end."""
    rng = random.Random(1)
    above = [[sorted(rng.sample(range(LAYER_WIDTH), PARENTS)) for _ in range(LAYER_WIDTH)] for _ in range(LAYER_COUNT)]
    tasks = []
    for layer in range(LAYER_COUNT):
        for index in range(LAYER_WIDTH):
            below = [n for n in range(LAYER_WIDTH) if layer + 1 < LAYER_COUNT and index in above[layer + 1][n]]
            children = [f"t{layer + 1}x{n}" for n in below] or ["home"]
            tasks.append({"name": f"t{layer}x{index}", "base_script": "pause.py", "children": children})
    app = _app(cluster.folder / "layers", tasks, {"pause.py": PAUSE}, max_open=1)
    mapping = cluster.folder / "layers.json"
    nodes = {task["name"]: f"node{n % WIDTH + 1}" for n, task in enumerate(tasks)}
    mapping.write_text(json.dumps(nodes))
    job = _submit(cluster, app, _inputs(cluster.folder / "layer-inputs", LAYER_ITEMS), "--mapping", str(mapping))
    ends = _ends(cluster, job)
    seconds = median(later - sooner for sooner, later in pairwise(ends))
    figures = [Figure("layered DAG of 100 tasks of 10 ms, 4 agents", seconds, "s", 0.40)]
    theirs = dask(LAYERS, LAYER_COUNT, LAYER_WIDTH, above)
    if theirs is not None:
        figures.append(Figure("layered DAG: Dask, 4 workers", theirs, "s"))
        figures.append(Figure("layered DAG: ratio to Dask", seconds / theirs, "", 0.7))
    return figures


# --- jobs ------------------------------------------------------------------------------------------------------------


def _app(folder: Path, tasks: list[dict[str, Any]], scripts: dict[str, str], max_open: int = 64) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"application": {"max_open": max_open, "tasks": {"dag_tasks": tasks}}}
    (folder / "app_config.yaml").write_text(json.dumps(config))
    for name, text in scripts.items():
        (folder / name).write_text(text)
    return folder


def _inputs(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        (folder / f"{index}").write_bytes(b"%d" % index)
    return folder


def _given(name: str, data: bytes) -> dict[str, Any]:
    import hashlib

    return {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "data": data}


def _submit(cluster: BenchCluster, app: Path, inputs: Path, *more: str) -> str:
    job = cluster.ctl("submit", str(app), "--input", str(inputs), "--ep", "off", "--wait", *more)
    return str(job["id"])


def _until_running(client: Client, job: str) -> None:
    """The processes of all tasks are up."""
    for _ in range(200):
        rows = client.call("get", {"kind": "tasks", "job": job})["items"]
        if rows and all(row["state"] in ("idle", "running", "up", "ready") for row in rows):
            return
        time.sleep(0.05)


def _results(cluster: BenchCluster, job: str) -> list[list[int]]:
    """The stamps of each item, by name."""
    cluster.jupiter("ctl", "--dir", str(cluster.dir), "wait", job)
    out = cluster.folder / f"results-{job}"
    cluster.jupiter("ctl", "--dir", str(cluster.dir), "results", job, "--out", str(out))
    paths = sorted((path for path in out.rglob("*") if path.is_file()), key=lambda path: int(path.parts[-3]))
    return [list(map(int, path.read_bytes()[1000:].split())) for path in paths]


def _ends(cluster: BenchCluster, job: str) -> list[float]:
    """When the items were over, in order."""
    from datetime import datetime

    rows = cluster.ctl("get", "items", job)["items"]
    return sorted(datetime.fromisoformat(row["finished_at"]).timestamp() for row in rows)


def _seconds_per_item(cluster: BenchCluster, job: str) -> float:
    ends = _ends(cluster, job)
    return (ends[-1] - ends[WARM_UP - 1]) / (len(ends) - WARM_UP)
