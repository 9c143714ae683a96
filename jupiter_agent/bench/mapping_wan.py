"""`jupiter bench mapping --live --net wan8`: realised makespans over an emulated WAN, by mapper. Needs root.

Eight cities with an agent each; generated apps of 30 to 100 tasks, at 100 Mbit/s half a second of transfer per
second of work. Every app
is mapped by each mapper in turn, and again with other seeds; once a job is mapped and its processes are up, items are
put one after another at home. An item's makespan is from its acceptance to its last result, as home tells it.
"""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import JUPITER
from jupiter_agent.bench.fleet import ended_politely, full_view, told
from jupiter_agent.bench.ground import InLab
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.errors import JupiterError
from jupiter_agent.netlab import Lab, load

MAPPERS = ("wave-auction", "wave-random")
SIZES = (30, 60, 100)
WORK_S, RATE, CCR = 0.1, 12.5e6, 0.5
ITEMS, REPEATS = 2, 2
SEEN_S, SETTLE_S, LIMIT_S = 60.0, 15.0, 300.0


def run(repeats: int = REPEATS) -> list[Figure]:
    """The ratio of makespans, by size of the app and of all; and what the mappings took."""
    ground = InLab(Lab(load("wan8")))
    with ended_politely(), ground, Fleet(ground, "wan") as fleet:
        assert ground.lab is not None
        names = list(ground.lab.names)
        fleet.start(names)
        full_view(fleet, SEEN_S)
        fleet.pass_time(SETTLE_S)
        jobs = _Jobs(fleet, names[0])
        made: dict[str, list[float]] = {mapper: [] for mapper in MAPPERS}
        mapped: list[float] = []
        figures = []
        for number, tasks in enumerate(SIZES):
            app = _app(fleet.folder / f"app{tasks}", tasks, number)
            jobs.run(app, MAPPERS[1], 0)  # profiles, and first measurements of links
            spans: dict[str, list[float]] = {mapper: [] for mapper in MAPPERS}
            for seed in range(repeats):
                for mapper in MAPPERS:
                    mapping_s, items = jobs.run(app, mapper, seed + 1)
                    spans[mapper] += items
                    mapped += [mapping_s] if mapper == MAPPERS[0] else []
            ratio = fmean(spans[MAPPERS[0]]) / fmean(spans[MAPPERS[1]])
            for mapper in MAPPERS:
                made[mapper] += spans[mapper]
            figures += told([
                Figure(f"{tasks} tasks on wan8: makespan of an item, {m}", fmean(spans[m]), "s") for m in MAPPERS
            ])  # fmt: skip
            figures += told([Figure(f"{tasks} tasks on wan8: wave-auction / wave-random", ratio, "x")])
        overall = fmean(made[MAPPERS[0]]) / fmean(made[MAPPERS[1]])
        what = f"wan8, apps of {SIZES[0]}-{SIZES[-1]} tasks, realised makespan, wave-auction / wave-random"
        return figures + told([Figure(what, overall, "x", 0.6),
                               Figure("wan8: submit -> mapped, wave-auction, mean", fmean(mapped), "s")])  # fmt: skip


def _app(folder: Path, tasks: int, seed: int) -> Path:
    shape = {"total-num": tasks, "comp-mu": WORK_S, "comp-sigma": WORK_S / 4, "ccr": CCR, "rate": RATE, "items": ITEMS}
    options = [word for key, value in {**shape, "seed": seed}.items() for word in (f"--{key}", str(value))]
    subprocess.run([str(JUPITER), "app", "generate", *options, "--out", str(folder)], check=True, capture_output=True)
    return folder


class _Jobs:
    """Jobs submitted at one agent of the lab."""

    def __init__(self, fleet: Fleet, at: str) -> None:
        self._fleet, self._at = fleet, at

    def run(self, app: Path, mapper: str, seed: int) -> tuple[float, list[float]]:
        """(seconds until mapped, makespan of each item)"""
        job = str(self._ctl("submit", str(app), "--keep-open", "--mapper", mapper, "--seed", str(seed))["id"])
        self._until(lambda: self._row(job)["mapping_s"] is not None, f"{app.name} is not mapped")
        self._until(lambda: self._is_up(job), f"the processes of {app.name} do not start")
        mapping_s = float(self._row(job)["mapping_s"])
        for sample in sorted((app / "samples").iterdir()):
            self._ctl("put", job, str(sample))
            self._ctl("wait", job, "--timeout", str(LIMIT_S))
        rows = self._ctl("get", "items", job)["items"]
        spans = [_time(row["finished_at"]) - _time(row["submitted_at"]) for row in rows]
        self._ctl("cancel", job)
        self._fleet.pass_time(3.0)
        return mapping_s, spans

    def _row(self, job: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self._ctl("get", "jobs")["items"]
        return next(row for row in rows if row["id"] == job)

    def _is_up(self, job: str) -> bool:
        rows = self._ctl("get", "tasks", job)["items"]
        return bool(rows) and all(row["state"] in ("idle", "running", "up", "ready") for row in rows)

    def _until(self, ready: Any, complaint: str) -> None:
        for _ in range(60):
            if ready():
                return
            self._fleet.pass_time(0.5)
        raise JupiterError(complaint)

    def _ctl(self, *args: str) -> Any:
        lab = self._fleet.ground.lab
        assert lab is not None
        key = ("--peer", self._fleet.ground.address(self._at), "--token-file", str(self._fleet.folder / "token"))
        command = lab.command(self._at, str(JUPITER), "ctl", *key, "-o", "json", *args)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise JupiterError(f"`ctl {' '.join(args)}` ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
