"""`jupiter bench k8s`: agents onto a cluster and off it, and what becomes of a job when pods and nodes go.

The cluster is the stand-in of `bench/kube`: a real API server's answers, and pods that are real agents, all on this
machine. It has the seconds that a container runtime and the controller of namespaces take, not those of a network. The
original took 85.7 s to deploy and 221.4 s to tear down at 106 nodes, and built, pushed and deployed all images anew for
an edit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.bench.kube.cluster import Cluster
from jupiter_agent.bench.kube.kubelet import Pod
from jupiter_agent.errors import JupiterError

JUPITER = [sys.executable, "-P", "-m", "jupiter_agent.cli.main"]
OVERLAYS = ("restricted", "edge")
SIMULATED = 50
ITEMS = 40
LIMIT_S = 120.0
SILENT_S = 25.0
"""How long a node is cut off"""

TASK = """
import time
def process(inputs, ctx):
    time.sleep(0.1)
    return b"{version}:" + next(iter(inputs.values()))
"""
CONFIG = """
application:
  tasks:
    dag_tasks:
      - {name: first, base_script: task.py, children: [second]}
      - {name: second, base_script: task.py, children: [home]}
"""


def run(nodes: int = 3) -> list[Figure]:
    """Seconds of up, down and an edit; items lost to a deleted pod, a killed home and a node that is cut off; in both
    overlays: state on the nodes' disks has to be removed from there."""
    figures = []
    for overlay in OVERLAYS:
        of = "" if overlay == OVERLAYS[0] else f", {overlay}"
        with _cluster(nodes) as bench:
            figures += _deploy(bench, nodes, of, overlay)
            figures.append(Figure(f"edit app -> new version running{of}", _edit(bench), "s", 3.0))
            for what, harm in HARMS.items():
                figures.append(Figure(f"{what} in mid-job: items lost{of}", _lost(bench, harm), "items", 0))
            figures.append(_down(bench, nodes, of))
    with _cluster(nodes, SIMULATED) as bench:
        beside = f", beside {SIMULATED} simulated nodes"
        figures += _deploy(bench, nodes, beside)
        figures.append(_down(bench, nodes, beside))
    return figures


class Bench:
    """A cluster, and the commands as a user gives them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}

    def jupiter(self, *arguments: str) -> Any:
        """What it prints as JSON. JupiterError when it fails."""
        done = subprocess.run(
            [*JUPITER, *arguments], env=self._env, cwd=self.cluster.folder, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise JupiterError(f"jupiter {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def ctl(self, *arguments: str) -> Any:
        return self.jupiter("ctl", "--namespace", "jupiter", "-o", "json", *arguments)

    def pod(self, node: str) -> Pod:
        found = {each.object["spec"]["nodeName"]: each for each in self.cluster.pods()}
        return found[node]


@contextmanager
def _cluster(nodes: int, simulated: int = 0) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="jupiter-bench-") as folder:
        cluster = Cluster(Path(folder), nodes, simulated)
        cluster.start()
        try:
            yield Bench(cluster)
        finally:
            cluster.stop()


def _deploy(bench: Bench, nodes: int, beside: str, overlay: str = OVERLAYS[0]) -> list[Figure]:
    began = time.monotonic()
    answer = bench.jupiter("k8s", "up", "--overlay", overlay, "-o", "json")
    seconds = time.monotonic() - began
    joined = len(answer["items"])
    return [
        Figure(f"k8s up -> all of {nodes} joined{beside}", seconds, "s", 20.0),
        Figure(f"agents that see each other{beside}", joined, "agents", nodes, at_least=True),
    ]


def _down(bench: Bench, nodes: int, beside: str) -> Figure:
    began = time.monotonic()
    bench.jupiter("k8s", "down")
    seconds = time.monotonic() - began
    if left := bench.cluster.left():
        raise JupiterError(f"k8s down left {left}")
    return Figure(f"k8s down of {nodes} -> nothing left{beside}", seconds, "s", 15.0)


# --- a job -----------------------------------------------------------------------------------------------------------


def _app(bench: Bench, version: str) -> Path:
    folder = bench.cluster.folder / "app"
    folder.mkdir(exist_ok=True)
    (folder / "task.py").write_text(TASK.format(version=version))
    (folder / "app_config.yaml").write_text(CONFIG)
    return folder


def _edit(bench: Bench) -> float:
    """From the edited file to the first result of the new version, the older one running meanwhile."""
    items = _inputs(bench, 1)
    bench.ctl("submit", str(_app(bench, "one")), "--input", str(items), "--keep-open", "--wait")
    began = time.monotonic()
    out = bench.cluster.folder / "edited"
    bench.ctl("submit", str(_app(bench, "two")), "--input", str(items), "--wait", "--ep", "off", "--results", str(out))
    seconds = time.monotonic() - began
    found = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    if not found or not all(content.startswith(b"two:two:") for content in found):
        raise JupiterError(f"the results are not those of the new version: {found[:3]}")
    return seconds


def _inputs(bench: Bench, count: int) -> Path:
    folder = bench.cluster.folder / f"inputs{count}"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"item{number:03}").write_bytes(b"content %d" % number)
    return folder


def _lost(bench: Bench, harm: Callable[[Bench, dict[str, Any]], None]) -> float:
    """Items of a job whose results are missing or wrong after this was done to it at a third of its way."""
    inputs = _inputs(bench, ITEMS)
    job = bench.ctl("submit", str(_app(bench, "x")), "--input", str(inputs), "--ep", "off")
    until = time.monotonic() + LIMIT_S
    while bench.ctl("get", "jobs", job["id"])["items"][0]["items_done"] < ITEMS // 3 and time.monotonic() < until:
        time.sleep(0.1)
    state = bench.ctl("describe", "job", job["id"])
    harm(bench, state)
    bench.ctl("wait", job["id"], "--timeout", str(LIMIT_S - 10.0))
    out = bench.cluster.folder / f"results-{job['id']}"
    bench.ctl("results", job["id"], "--out", str(out))
    found = {path.relative_to(out).parts[0]: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    wanted = {path.name: b"x:x:" + path.read_bytes() for path in inputs.iterdir()}
    return float(sum(found.get(name) != content for name, content in wanted.items()))


def _worker(state: dict[str, Any]) -> str:
    """A node that runs a task and is not home."""
    others = [node for node in state["mapping"].values() if node != state["home"]]
    return str(others[0] if others else state["home"])


def _delete(bench: Bench, node: str, grace_s: float) -> None:
    old = bench.pod(node)
    bench.cluster.store.delete(old.key, grace_s=grace_s)


def _cut_off(bench: Bench, state: dict[str, Any]) -> None:
    """A node that says nothing for longer than it takes to be declared dead, and is back then."""
    process = bench.pod(_worker(state)).process
    if process is None:
        raise JupiterError("the pod does not run")
    process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(SILENT_S, process.send_signal, (signal.SIGCONT,))
    timer.daemon = True
    timer.start()


HARMS: dict[str, Callable[[Bench, dict[str, Any]], None]] = {
    "pod deleted": lambda bench, state: _delete(bench, _worker(state), 30.0),
    "home's pod lost at once": lambda bench, state: _delete(bench, state["home"], 0.0),
    "node cut off": _cut_off,
}
