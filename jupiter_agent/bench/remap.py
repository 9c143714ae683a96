"""`jupiter bench remap`: does moving tasks pay? A job on 8 real agents with `--remap active` and with `off`, in turn.

Sixteen tasks in four layers; a run takes 0.3 s, give or take 30 %, in steps of 10 ms. Once the job is under way, the
task processes of one node are stopped three quarters of the time (SIGSTOP, SIGCONT): whatever they do takes about four
times as long. The other pair of runs is left alone: there, moving can only cost.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from jupiter_agent.adapters.client import Client
from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import BenchCluster
from jupiter_agent.errors import JupiterError

NODES = 8
LAYERS, WIDTH, PARENTS = 4, 4, 2
ITEMS = 80
RUN_S = 0.3
UNDER_WAY = 0.2
"""Share of the items that are done when the node becomes slow"""
STOPPED_S, RUNNING_S = 0.16, 0.045
"""A step of 10 ms may begin just before the stop: so little more than a quarter"""
JOB_S = 300.0

TASK = f"""
import random, time
def process(inputs, ctx):
    seconds = {RUN_S} * random.Random(ctx.task + ctx.item).lognormvariate(-0.045, 0.3)
    for _ in range(round(seconds / 0.01)):
        time.sleep(0.01)
    return ctx.task.encode()
"""


def run(repeats: int = 2) -> list[Figure]:
    """Ratios of makespans, and moves; about 4 min."""
    times: dict[tuple[str, bool], list[float]] = {}
    moves = {True: 0, False: 0}
    with BenchCluster(NODES) as cluster:
        app, inputs = _app(cluster.folder / "layers"), _inputs(cluster.folder / "items")
        for _ in range(repeats):
            for slowed in (True, False):
                for mode in ("off", "active"):
                    seconds, moved = _job(cluster, (app, inputs), mode, slowed)
                    times.setdefault((mode, slowed), []).append(seconds)
                    moves[slowed] += moved
                    _say(f"{'slowed' if slowed else 'steady'}, {mode}: {seconds:.1f} s, {moved} moves")

    def ratio(slowed: bool) -> float:
        return median(times["active", slowed]) / median(times["off", slowed])

    tasks = LAYERS * WIDTH * repeats
    return [
        Figure("one of 8 nodes 4 times as slow in mid-job: makespan, active / off", ratio(True), "", 0.75),
        Figure("one of 8 nodes 4 times as slow in mid-job: moves of a job", moves[True] / repeats, ""),
        Figure("steady, noise of 30 %: makespan, active / off", ratio(False), "", 1.02),
        Figure("steady, noise of 30 %: moves per 100 tasks", 100 * moves[False] / tasks, "", 2.0),
    ]


def _job(cluster: BenchCluster, what: tuple[Path, Path], mode: str, slowed: bool) -> tuple[float, int]:
    """(makespan, moves) of one job."""
    app, inputs = what
    pids = {str(agent["name"]): int(agent["pid"]) for agent in cluster.agents()}
    job = cluster.ctl("submit", str(app), "--input", str(inputs), "--remap", mode, "--seed", "1")["id"]
    client = cluster.client()
    try:
        with contextlib.ExitStack() as stack:
            if slowed:
                row = _until(client, job, ITEMS * UNDER_WAY)
                stack.enter_context(Slowed(pids[_busiest(row)]))
            row = _until(client, job, ITEMS)
    finally:
        client.close()
    return float(row["makespan_s"] or 0.0), sum(register["epoch"] - 1 for register in row["registers"])


def _until(client: Client, job: str, items: float) -> dict[str, Any]:
    """The job, once so many items are done; all of them: once it is over."""
    deadline = time.monotonic() + JOB_S
    while time.monotonic() < deadline:
        row: dict[str, Any] = client.call("describe", {"kind": "job", "id": job})
        if row["items_done"] >= items and (items < ITEMS or row["makespan_s"]):
            return row
        time.sleep(0.1)
    raise JupiterError(f"job {job} does not get on: {row['items_done']} of {ITEMS} items in {JOB_S:g} s")


def _busiest(row: dict[str, Any]) -> str:
    """The node with most tasks, but home: it deals items out, and is not what is compared."""
    counts: Counter[str] = Counter(node for node in row["mapping"].values() if node != row["home"])
    return max(sorted(counts), key=lambda node: counts[node])


class Slowed:
    """`with Slowed(pid):` what the agent of this pid has started runs a quarter of the time."""

    def __init__(self, pid: int) -> None:
        self._agent = psutil.Process(pid)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Slowed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        tasks: list[psutil.Process] = []
        looked = 0.0
        while not self._end.is_set():
            if time.monotonic() - looked > 1.0:
                tasks, looked = self._agent.children(recursive=True), time.monotonic()
            try:
                self._signal(tasks, signal.SIGSTOP)
                self._end.wait(STOPPED_S)
            finally:
                self._signal(tasks, signal.SIGCONT)
            self._end.wait(RUNNING_S)

    @staticmethod
    def _signal(tasks: list[psutil.Process], number: signal.Signals) -> None:
        for task in tasks:
            with contextlib.suppress(psutil.NoSuchProcess):
                task.send_signal(number)


def _app(folder: Path) -> Path:
    rng = random.Random(1)
    tasks: list[dict[str, Any]] = []
    for layer in range(LAYERS):
        names = [f"t{layer}x{n}" for n in range(WIDTH)]
        tasks += [{"name": name, "base_script": "step.py", "children": []} for name in names]
        above = [task for task in tasks if task["name"].startswith(f"t{layer - 1}x")]
        for name in names:
            for parent in rng.sample(above, PARENTS) if above else ():
                parent["children"].append(name)
    for task in tasks:
        task["children"] = task["children"] or ["home"]
    folder.mkdir()
    (folder / "step.py").write_text(TASK)
    (folder / "app_config.yaml").write_text(json.dumps({"application": {"tasks": {"dag_tasks": tasks}}}))
    return folder


def _inputs(folder: Path) -> Path:
    folder.mkdir()
    for n in range(ITEMS):
        (folder / f"i{n:03}").write_bytes(b"%d" % n)
    return folder


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
