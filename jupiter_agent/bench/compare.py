"""`jupiter bench compare`: one app or more, mapped by several mappers, over and over on one cluster of real agents.

    jupiter bench compare --app A --mappers heft,wave-greedy,mine --net wan8 --repeat 10 --seed 1 -o csv

Runs are interleaved: every repetition runs each app with each mapper once, in an order drawn anew, so that what changes
on the machine or the network meanwhile meets all of them. A run that is not counted comes first, for profiles, code and
processes to be where they will be. Intervals are Student's, 95 %; `vs_first` is the mean ratio to the first mapper of
the same repetition, of logarithms.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from msgspec import Struct

from jupiter_agent.bench.cluster import JUPITER, BenchCluster
from jupiter_agent.core.submit_args import REMAPS, mapper_name
from jupiter_agent.errors import JupiterError, UsageError

NODES = 8
_ERROR = re.compile(r"^(?:`.*` ended with \d+: )?error: (.*)$", re.MULTILINE)
"""What a command says on stderr before its hint"""
UP_S, RUN_S = 180.0, 600.0
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
       2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
       2.042)  # fmt: skip
"""Student's t, two-sided 95 %, by degrees of freedom from 1 on; 1.96 beyond"""


class Run(Struct, frozen=True):
    """One job. `makespan_s` None: it did not complete, and `error` says why."""

    app: str
    mapper: str
    repeat: int
    seed: int
    makespan_s: float | None
    throughput_hz: float | None = None
    mapping_s: float | None = None
    bytes: int | None = None
    moves: int | None = None
    error: str = ""


class Settings(Struct, frozen=True):
    """What is compared where. `net`: local, or what `jupiter local up --net` takes."""

    apps: list[Path]
    mappers: list[str]
    net: str = "local"
    nodes: int = NODES
    repeat: int = 10
    seed: int = 1
    inputs: list[Path] = []
    remap: str = "off"


class NetCluster(BenchCluster):
    """The same on an emulated network, whose `local up` stays while it lasts (root)."""

    def __init__(self, net: str) -> None:
        super().__init__(0)
        self._net = net
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NetCluster:
        began, out = time.monotonic(), self.folder / "up.log"
        with out.open("wb") as file:
            command = [str(JUPITER), "local", "up", "--net", self._net, "--dir", str(self.dir)]
            self._up = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        while not (text := out.read_text()) or ("see each other" not in text and "in a network that is" not in text):
            if self._up.poll() is not None or time.monotonic() > began + UP_S:
                self.__exit__(None, None, None)
                raise JupiterError(f"no cluster on {self._net}: {text.strip()[-500:]}", "emulated networks need root")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._up is not None:
            self._up.terminate()
            self._up.wait()
        super().__exit__(None, None, None)


@contextmanager
def cluster(settings: Settings) -> Iterator[BenchCluster]:
    with BenchCluster(settings.nodes) if settings.net == "local" else NetCluster(settings.net) as up:
        yield up


def compare(settings: Settings) -> list[Run]:
    """All runs, in the order in which they were made. UsageError before anything starts."""
    check(settings)
    rng = random.Random(settings.seed)
    runs = []
    with cluster(settings) as up:
        for app in settings.apps:
            _run(up, settings, (app, settings.mappers[0]), -1)
        for repeat in range(settings.repeat):
            pairs = [(app, mapper) for app in settings.apps for mapper in settings.mappers]
            rng.shuffle(pairs)
            for pair in pairs:
                runs.append(_run(up, settings, pair, repeat))
                _say(runs[-1])
    return runs


def check(settings: Settings) -> None:
    """UsageError for what every run would be refused for."""
    for app in settings.apps:
        if not app.is_dir():
            raise UsageError(f"--app {app}: no such folder")
    if not settings.apps or not settings.mappers:
        raise UsageError("what is compared?", "--app A --mappers heft,wave-auction")
    for mapper in settings.mappers:
        mapper_name(mapper)
    if settings.remap not in REMAPS:
        raise UsageError(f"--remap {settings.remap}: no such mode", f"one of: {', '.join(REMAPS)}")
    for path in settings.inputs:
        if not path.exists():
            raise UsageError(f"--input {path}: no such file or folder")


def _run(up: BenchCluster, settings: Settings, pair: tuple[Path, str], repeat: int) -> Run:
    app, mapper = pair
    seed = settings.seed + max(0, repeat)
    given = [word for path in settings.inputs for word in ("--input", str(path))] or ["--samples"]
    words = ["submit", str(app), "--mapper", mapper, "--seed", str(seed), "--remap", settings.remap, *given]
    try:
        job = up.ctl(*words)["id"]
        up.ctl("wait", job, "--timeout", str(RUN_S))
        row = up.ctl("describe", "job", job)
    except JupiterError as error:
        return Run(app.name, mapper, repeat, seed, None, error=said(error.message)[:300])
    took, done = row["makespan_s"], row["items_done"]
    moves = sum(max(0, register["epoch"] - 1) for register in row["registers"])
    return Run(
        app.name, mapper, repeat, seed, took, done / took if took else None, row["mapping_s"], row["moved_bytes"], moves
    )


def said(message: str) -> str:
    """The error of a command that failed, not its hint."""
    found = _ERROR.findall(message)
    return found[-1] if found else message.splitlines()[-1]


# --- figures -----------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """(mean, low, high): Student's 95 % interval; one value has none."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    t = T95[len(values) - 2] if len(values) - 2 < len(T95) else 1.96
    half = t * stdev(values) / sqrt(len(values))
    return mean, mean - half, mean + half


def summary(runs: Sequence[Run], mappers: Sequence[str]) -> list[dict[str, Any]]:
    """A row per app and mapper, the mappers in the order given."""
    rows = []
    for app in dict.fromkeys(run.app for run in runs):
        base = {r.repeat: r.makespan_s for r in runs if (r.app, r.mapper) == (app, mappers[0]) and r.makespan_s}
        for mapper in mappers:
            mine = [run for run in runs if (run.app, run.mapper) == (app, mapper)]
            good = [run for run in mine if run.makespan_s]
            row: dict[str, Any] = {"app": app, "mapper": mapper, "runs": len(mine), "failed": len(mine) - len(good)}
            for key in ("makespan_s", "throughput_hz", "mapping_s", "bytes", "moves"):
                found = [float(value) for run in good if (value := getattr(run, key)) is not None]
                mean, low, high = interval(found) if found else (None, None, None)
                row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
            logs = [log(run.makespan_s / base[run.repeat]) for run in good if run.makespan_s and run.repeat in base]
            ratios = [None if value is None else exp(value) for value in interval(logs)] if logs else [None] * 3
            rows.append({**row, **dict(zip(("vs_first", "vs_first_low", "vs_first_high"), ratios, strict=True))})
    return rows


def _say(run: Run) -> None:
    what = f"{run.makespan_s:.2f} s" if run.makespan_s else f"failed: {run.error}"
    print(f"{run.repeat + 1}: {run.app} {run.mapper}: {what}", file=sys.stderr, flush=True)
