"""`jupiter bench mapping --live`: how soon a fleet of real agents has mapped a job, by each mapper.

Agents are those of `jupiter bench fleet`, on loopback; a job is kept open and gets no items, so nothing but the mapping
and the start of its processes is measured. Times are those that the job itself tells: from its submission (the profile
of the app is known) to the moment when home knows the places of all tasks. `cold`: the deciding nodes have no session
yet with most of those they ask; `warm`: the same again, with another seed. `never seen`: from the start of the call,
sample run included.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.bundle import make_bundle
from jupiter_agent.adapters.client import Client
from jupiter_agent.bench import Figure
from jupiter_agent.bench.fleet import ended_politely, full_view, told
from jupiter_agent.bench.ground import Loopback
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.errors import JupiterError

TASKS, SMALL = 200, 30
WIDTH = 10
SEEN_S, MAPPED_S, SETTLE_S, CALM_S = 60.0, 120.0, 8.0, 6.0
TASK = "import time\ndef process(inputs, ctx):\n    time.sleep(0.003)\n    return b''.join(inputs.values())[:64]\n"


def run(nodes: int = 106) -> list[Figure]:
    """All rows, one after another, on one fleet."""
    names = [f"node{number + 1}" for number in range(nodes)]
    ground = Loopback()
    with ended_politely(), ground, Fleet(ground) as fleet:
        fleet.start(names)
        full_view(fleet, SEEN_S)
        fleet.pass_time(SETTLE_S)
        with _client(fleet, names[0]) as client:
            bench = _Bench(fleet, client, nodes)
            return [*bench.known(), *bench.never_seen()]


@contextmanager
def _client(fleet: Fleet, name: str) -> Iterator[Client]:
    client = Client.open([fleet.ground.address(name)], (fleet.folder / "token").read_text().strip())
    try:
        yield client
    finally:
        client.close()


class _Bench:
    """Jobs of one client, one at a time."""

    def __init__(self, fleet: Fleet, client: Client, nodes: int) -> None:
        self._fleet, self._client, self._nodes = fleet, client, nodes
        self._count = 0
        self.mapped_at = 0.0

    def known(self) -> list[Figure]:
        """The same app again and again; the first time it was profiled."""
        app = self._app(TASKS)
        self._mapped(app, "wave-random")
        rows = [("wave-auction", "cold", 6.0), ("wave-auction", "warm links", 3.0)]
        rows += [("wave-greedy", "", 2.0), ("heft", "", 1.0)]
        figures = []
        for mapper, how, bound in rows:
            seconds, nodes = self._mapped(app, mapper)
            what = f"{TASKS} tasks on {self._nodes} agents, {mapper} {how}".rstrip()
            print(f"   {nodes} nodes take part", file=sys.stderr, flush=True)
            figures += told([Figure(f"{what}: submit -> mapped, profile known", seconds, "s", bound)])
        return figures

    def never_seen(self) -> list[Figure]:
        figures = []
        for tasks, bound in ((SMALL, 5.0), (TASKS, 15.0)):
            began = time.monotonic()
            self._mapped(self._app(tasks), "")
            took = self.mapped_at - began
            what = f"{tasks} tasks on {self._nodes} agents, never seen, default mapper: submit -> mapped"
            figures += told([Figure(what, took, "s", bound)])
        return figures

    def _app(self, tasks: int) -> Path:
        """A layered app with one entry; its tasks take a millisecond."""
        self._count += 1
        folder = self._fleet.folder / f"app{self._count}"
        (folder / "samples").mkdir(parents=True)
        (folder / "samples" / "one").write_bytes(b"1" * 64)
        (folder / "task.py").write_text(f"# {self._count}\n{TASK}")
        config = {"application": {"name": f"app{self._count}", "tasks": {"dag_tasks": layered(tasks, self._count)}}}
        (folder / "app_config.yaml").write_text(json.dumps(config))
        return folder

    def _mapped(self, app: Path, mapper: str) -> tuple[float, int]:
        """(seconds that the job tells, nodes that take part); waits until the cluster is calm again."""
        bundle = make_bundle(app)
        with bundle.file:
            data = bundle.file.read()
        digest = self._client.write_blob(data)
        fields = {"bundle": digest.hex(), "size": len(data), "app": app.name, "mapper": mapper, "keep_open": True}
        job = str(self._client.call("submit", fields, timeout_s=MAPPED_S)["id"])
        row = self._row(job)
        deadline = time.monotonic() + MAPPED_S
        while row["mapping_s"] is None:
            if time.monotonic() > deadline:
                raise JupiterError(f"{len(row['mapping'])} tasks are mapped after {MAPPED_S:g} s")
            self._fleet.pass_time(0.1)
            row = self._row(job)
        self.mapped_at = time.monotonic()
        self._client.call("cancel", {"job": job})
        self._fleet.pass_time(CALM_S)
        return float(row["mapping_s"]), len(set(row["mapping"].values()))

    def _row(self, job: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self._client.call("get", {"kind": "jobs"})["items"]
        return next(row for row in rows if row["id"] == job)


def layered(tasks: int, seed: int) -> list[dict[str, Any]]:
    """One entry, then layers of `WIDTH` tasks with one to three parents in the layer above."""
    rng = random.Random(seed)
    layers = [["t0"]]
    names = [f"t{n}" for n in range(1, tasks)]
    layers += [names[at : at + WIDTH] for at in range(0, len(names), WIDTH)]
    children: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for above, below in pairwise(layers):
        for name in below:
            for parent in rng.sample(above, min(len(above), rng.randrange(1, 4))):
                children[parent].append(name)
    return [{"name": name, "base_script": "task.py", "children": own or ["home"]} for name, own in children.items()]
