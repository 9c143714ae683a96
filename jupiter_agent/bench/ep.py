"""`jupiter bench ep`: full execution profiling of an app of sleeping tasks on a fleet of real agents.

Every node runs the whole DAG on a sample, all at once: so many starts of a process on one machine, and as many times
the sleeps, side by side. What it takes beyond the sleeps is what the profiler costs. The same app again is mapped
without profiling, and `auto` holds a mapping back by a second at most.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.bundle import make_bundle
from jupiter_agent.adapters.client import Client
from jupiter_agent.bench import Figure
from jupiter_agent.bench.fleet import ended_politely, full_view, told
from jupiter_agent.bench.ground import Loopback
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.errors import JupiterError

TASKS, SLEEP_S = 30, 0.1
SPARE_S, START_CPU_S = 5.0, 0.05
"""allowed beyond the sleeps: in all, and for each start"""
HELD_S, HELD_FLEET_S = 1.0, 5.0
"""by which `auto` may hold a mapping back; with a hundred nodes on one machine"""
AGAIN_S = 1.5
SEEN_S, SETTLE_S, CALM_S = 60.0, 8.0, 3.0
LARGE = 50
TASK = f"import time\ndef process(inputs, ctx):\n    time.sleep({SLEEP_S})\n    return b'x' * 64\n"


def run(nodes: int = 106) -> list[Figure]:
    """On a fleet on loopback."""
    names = [f"node{number + 1}" for number in range(nodes)]
    ground = Loopback()
    with ended_politely(), ground, Fleet(ground) as fleet:
        fleet.start(names)
        full_view(fleet, SEEN_S)
        fleet.pass_time(SETTLE_S)
        client = Client.open([ground.address(names[0])], (fleet.folder / "token").read_text().strip())
        try:
            return _rows(fleet, client, nodes)
        finally:
            client.close()


def _rows(fleet: Fleet, client: Client, nodes: int) -> list[Figure]:
    sleeps = TASKS * SLEEP_S
    bound = sleeps + SPARE_S + START_CPU_S * nodes
    what = f"{TASKS} sleeping tasks on {nodes} nodes"
    full, shown = _submitted(fleet, client, 1, "full")
    profiled = len(shown["makespan_s"])
    figures = told([
        Figure(f"{what}: ep full, submit -> accepted (sleeps: {sleeps:g} s)", full, "s", bound),
        Figure(f"{what}: nodes that told their profile", profiled, "", nodes, at_least=True),
        Figure(f"{what}: makespan of the DAG on a node, longest", max(shown["makespan_s"].values()), "s"),
    ])  # fmt: skip
    again, _ = _submitted(fleet, client, 1, "full")
    figures += told([Figure(f"{what}: the same bundle again, ep full", again, "s", AGAIN_S)])
    off, _ = _submitted(fleet, client, 2, "off")
    auto, _ = _submitted(fleet, client, 3, "auto")
    limit = HELD_FLEET_S if nodes > LARGE else HELD_S
    return figures + told([
        Figure(f"{what}: never seen, ep off, submit -> accepted", off, "s"),
        Figure(f"{what}: never seen, ep auto holds it back by", max(0.0, auto - off), "s", limit),
    ])  # fmt: skip


def _submitted(fleet: Fleet, client: Client, number: int, ep: str) -> tuple[float, dict[str, Any]]:
    """(seconds until the job was accepted, its profiling as `explain` shows it)"""
    app = _app(fleet.folder / f"app{number}", number)
    bundle = make_bundle(app)
    with bundle.file:
        data = bundle.file.read()
    digest = client.write_blob(data)
    began = time.monotonic()
    fields = {"bundle": digest.hex(), "size": len(data), "app": app.name, "mapper": "wave-random", "keep_open": True}
    job = str(client.call("submit", {**fields, "ep": ep}, timeout_s=300.0)["id"])
    took = time.monotonic() - began
    profiling = client.call("explain", {"job": job})["profiling"]
    client.call("cancel", {"job": job})
    fleet.pass_time(CALM_S)
    if profiling is None and ep != "off":
        raise JupiterError(f"job {job} tells nothing of its profiling")
    return took, profiling or {}


def _app(folder: Path, number: int) -> Path:
    """A chain of pairs: every task has a sample's worth of input."""
    if folder.exists():
        return folder
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "one").write_bytes(b"1" * 64)
    (folder / "task.py").write_text(f"# {number}\n{TASK}")
    names = [f"t{n}" for n in range(TASKS)]
    tasks = [
        {"name": name, "base_script": "task.py", "children": [names[n + 1] if n + 1 < TASKS else "home"]}
        for n, name in enumerate(names)
    ]
    config = {"application": {"name": f"sleepers{number}", "tasks": {"dag_tasks": tasks}}}
    (folder / "app_config.yaml").write_text(json.dumps(config))
    return folder
