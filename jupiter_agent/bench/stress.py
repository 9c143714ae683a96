"""`jupiter bench stress`: background load, as the stress images of the original, bounded in time.

With a cluster at hand (`--dir`, or ./.jupiter) it is an app of the cluster itself: one pinned task on each of the first
`--nodes` nodes keeps `--cpu` percent of every core there busy for `--for` seconds. Ctrl-C cancels the job. Without a
cluster the load is put on this machine, one process per node and core asked for. Nothing goes on after the command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.errors import JupiterError, UsageError

SLICE_S = 0.05
"""a busy and a calm part follow each other within this time"""
DIE = "import ctypes; ctypes.CDLL(None).prctl(1, 9)  # with its parent\n"
HOG = """
import sys, time
share, until = float(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while (began := time.monotonic()) < until:
    while time.monotonic() - began < SLICE * share: pass
    if share < 1: time.sleep(SLICE * (1 - share))
""".replace("SLICE", str(SLICE_S))

CONFIG = """
name: stress
application:
  tasks:
    dag_tasks:
{tasks}
"""
TASK = "      - {{name: hog{n}, base_script: hog.py, timeout_s: {limit:g}, retries: 0, children: [home]}}"
SCRIPT = f"""
import os, resource, subprocess, sys

HOG = {HOG!r}

def process(inputs, ctx):
    share, seconds = next(iter(inputs.values())).decode().split()
    words = [sys.executable, "-S", "-c", HOG, share, seconds]
    for each in [subprocess.Popen(words) for _ in os.sched_getaffinity(0)]:
        each.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"{{used.ru_utime + used.ru_stime:.3f}}".encode()
"""


@contextmanager
def hogs(count: int, share: float = 1.0, seconds: float = 3600.0) -> Iterator[list[int]]:
    """So many processes that use this share of a core each; they end with us, however we end."""

    words = [sys.executable, "-S", "-c", DIE + HOG, str(share), str(seconds)]
    running = [subprocess.Popen(words) for _ in range(count)]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(nodes: int = 1, cpu: float = 100.0, for_s: float = 60.0, folder: str = "") -> list[Figure]:
    """Keep `cpu` percent of the cores of `nodes` nodes busy for so long; the CPU seconds that this took."""
    if not 0 < cpu <= 100:
        raise UsageError(f"--cpu {cpu:g} is no percentage above 0", "100 keeps every core busy")
    cluster = Path(folder) if folder else Path(".jupiter")
    if folder and not cluster.is_dir():
        raise UsageError(f"there is no cluster in {cluster}", "start one: jupiter local up")
    began = time.monotonic()
    used = _on_cluster(cluster, nodes, (cpu, for_s)) if cluster.is_dir() else _here(nodes, (cpu, for_s))
    what = f"{nodes} nodes at {cpu:g} % for {for_s:g} s"
    return [Figure(f"{what}: CPU used", used, "s"), Figure(f"{what}: took", time.monotonic() - began, "s")]


def _here(nodes: int, load: tuple[float, float]) -> float:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with hogs(nodes * (os.cpu_count() or 1), load[0] / 100, load[1]):
        time.sleep(load[1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _on_cluster(cluster: Path, nodes: int, load: tuple[float, float]) -> float:
    """A job with a task on each node."""
    names = sorted(row["name"] for row in _ctl(cluster, "get", "nodes")["items"] if row["state"] == "alive")
    if nodes > len(names):
        raise UsageError(f"the cluster has {len(names)} living nodes, not {nodes}", "see: jupiter ctl get nodes")
    with tempfile.TemporaryDirectory(prefix="jupiter-stress-") as made:
        app, results = Path(made) / "stress", Path(made) / "results"
        app.mkdir()
        limit = load[1] + 30
        tasks = "\n".join(TASK.format(n=n, limit=limit) for n in range(nodes))
        (app / "app_config.yaml").write_text(CONFIG.format(tasks=tasks))
        (app / "hog.py").write_text(SCRIPT)
        (app / "mapping.json").write_text(json.dumps({f"hog{n}": names[n] for n in range(nodes)}))
        (app / "load").write_text(f"{load[0] / 100:g} {load[1]:g}")
        words = [
            "submit",
            str(app),
            "--mapping",
            str(app / "mapping.json"),
            "--input",
            str(app / "load"),
            "--ep",
            "off",
        ]
        job = _ctl(cluster, *words)["id"]
        try:
            _ctl(cluster, "wait", job, "--timeout", f"{limit:g}")
        except BaseException:
            _ctl(cluster, "cancel", job)
            raise
        _ctl(cluster, "results", job, "--out", str(results))
        return sum(float(each.read_text()) for each in results.rglob("*") if each.is_file())


def _ctl(cluster: Path, *words: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("jupiter")), "ctl", "--dir", str(cluster), "-o", "json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise JupiterError(f"`jupiter ctl {' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
