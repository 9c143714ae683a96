"""Execution profiling on real agents: sample runs everywhere, tasks that spoil theirs, what outlives a restart."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_rig import Cluster, make_app, make_inputs

NAP = """
import time
def process(inputs, ctx):
    time.sleep(0.05)
    return b"x" * 40
"""
FAILS_ON_SAMPLES = """
def process(inputs, ctx):
    if ctx.item == "sample1":
        raise ValueError("not with this one")
    return b"y" * 10
"""


def napping(folder: Path, **scripts: str) -> Path:
    """nap > {left, right} > last, with a sample."""
    app = make_app(
        folder, {"nap": "left, right", "left": "last", "right": "last", "last": "home"},
        {name: scripts.get(name, NAP) for name in ("nap", "left", "right", "last")},
    )  # fmt: skip
    (app / "samples").mkdir()
    (app / "samples" / "sample1").write_bytes(b"s" * 100)
    return app


def profiling(cluster: Cluster) -> Any:
    return cluster.ctl("-o", "json", "explain", "last").ok().json()["profiling"]


@pytest.mark.timeout(300)
def test_a_full_profiling_runs_everywhere_marks_what_fails_and_is_remembered_by_a_home_that_starts_again(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster(3)
    app = napping(tmp_path / "app", right=FAILS_ON_SAMPLES)
    inputs = make_inputs(tmp_path / "in", 2)
    assert cluster.submit(app, "--input", inputs, "--ep", "full", "--wait")["state"] == "completed"
    found = profiling(cluster)
    assert sorted(found["makespan_s"]) == ["node1", "node2", "node3"]
    assert sorted(found["errors"]["right"]) == ["node1", "node2", "node3"]
    assert sorted(found["errors"]) == ["right"], "what hung on it was given something by its other parent"
    explained = cluster.ctl("explain", "last", "right").ok().out
    assert "no sample run on node" in explained
    assert "ValueError: not with this one" in explained
    time.sleep(2.5)  # hosts tell home of their runs every 2 s
    cluster.down()
    cluster.up(3)
    began = time.monotonic()
    assert cluster.submit(app, "--input", inputs, "--ep", "auto", "--wait")["state"] == "completed"
    assert time.monotonic() - began < 15
    assert profiling(cluster) is None, "nobody made a sample run"
    detail = cluster.ctl("-o", "json", "describe", "job", "last").ok().json()
    assert 0.04 < detail["predicted_seconds"]["nap"] < 0.5
    assert detail["edge_bytes"]["nap>left"] == 40
    cluster.ctl("stats", "forget", "app").ok()
    assert cluster.submit(app, "--input", inputs, "--wait")["state"] == "completed"
    assert profiling(cluster)["mode"] == "auto"


def test_the_runs_of_a_job_are_told_with_what_they_used_also_after_a_restart(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster(2)
    cluster.submit(napping(tmp_path / "app"), "--input", make_inputs(tmp_path / "in", 3), "--ep", "off", "--wait")
    before = cluster.ctl("-o", "json", "stats", "last").ok().json()["runs"]
    assert len(before) == 12
    time.sleep(1.0)  # runs are journaled every half second
    cluster.down()
    cluster.up(2)
    rows = list(csv.DictReader(cluster.ctl("-o", "csv", "stats", "last").ok().out.splitlines()))
    assert sorted((row["Item"], row["Task"]) for row in rows) == sorted((r["item"], r["task"]) for r in before)
    last = next(row for row in rows if row["Task"] == "last")
    assert float(last["Seconds"]) >= 0.05
    assert int(last["PeakBytes"]) > 1 << 20
    assert {edge.split(":")[0]: edge.split(":")[1] for edge in last["EdgesIn"].split()} == {"left": "40", "right": "40"}
    assert last["EdgesOut"] == "home:40"
