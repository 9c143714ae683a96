"""Agents killed in the middle of a job: those that host nothing, workers, and the job's home."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_rig import JUPITER, Cluster, end, eventually, make_app, make_inputs, read_results, start

from jupiter_agent.adapters.bundle import make_bundle

Make = Callable[..., Cluster]

STEP = """
import time
def process(inputs, ctx):
    time.sleep(0.1)
    return b"".join(inputs[name] for name in sorted(inputs)) + ctx.task.encode()
"""
ITEMS = 20


@pytest.fixture
def diamond(tmp_path: Path) -> Path:
    """a -> b, c -> d: every step takes 0.1 s."""
    tasks = {"a": "b, c", "b": "d", "c": "d", "d": "home"}
    return make_app(tmp_path / "diamond", tasks, dict.fromkeys(tasks, STEP))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return make_inputs(tmp_path / "in", ITEMS)


def expected(inputs: Path) -> dict[str, bytes]:
    whole = {path.name: path.read_bytes() for path in inputs.iterdir()}
    return {f"{name}/d/d": data + b"ab" + data + b"ac" + b"d" for name, data in whole.items()}


def submit(cluster: Cluster, app: Path, inputs: Path, mapping: dict[str, str] | None = None) -> str:
    """A job at node1 that is in the middle of its work."""
    args: list[object] = []
    if mapping:
        file = app.parent / "mapping.json"
        file.write_text(json.dumps(mapping))
        args = ["--mapping", file]
    job = str(cluster.submit(app, "--input", inputs, "--ep", "off", *args, *cluster.at("node1"))["id"])
    eventually(lambda: 2 <= cluster.job(job)["items_done"] < ITEMS, "some items are done")
    return job


def finished(cluster: Cluster, job: str, inputs: Path, out: Path, at: str = "node1") -> dict[str, Any]:
    """The job, completed, every item with the right bytes."""
    cluster.ctl("wait", job, "--timeout", 40).ok()
    cluster.ctl("results", job, "--out", out, *cluster.at(at)).ok()
    assert read_results(out) == expected(inputs)
    row = cluster.job(job, at)
    assert (row["state"], row["items_done"], row["items_failed"]) == ("completed", ITEMS, 0)
    return row


def test_killing_an_agent_that_hosts_nothing_changes_nothing(
    make_cluster: Make, diamond: Path, inputs: Path, tmp_path: Path
) -> None:
    cluster = make_cluster(4)
    mapping = {"a": "node2", "b": "node2", "c": "node3", "d": "node1"}
    job = submit(cluster, diamond, inputs, mapping)
    os.kill(cluster.pid("node4"), signal.SIGKILL)
    row = finished(cluster, job, inputs, tmp_path / "out")
    assert row["mapping"] == mapping
    detail = cluster.call("node1", "describe", kind="jobs", id=job)
    assert [(task["done"], task["failed"], task["restarts"]) for task in detail["tasks"]] == [(ITEMS, 0, 0)] * 4
    assert {item["attempts"] for item in cluster.call("node1", "get", kind="items", id=job)["items"]} == {1}


@pytest.mark.smoke
def test_a_job_whose_worker_is_killed_completes_on_the_others(
    make_cluster: Make, diamond: Path, inputs: Path, tmp_path: Path
) -> None:
    cluster = make_cluster(3)
    job = submit(cluster, diamond, inputs, {"a": "node2", "b": "node3", "c": "node2", "d": "node3"})
    os.kill(cluster.pid("node3"), signal.SIGKILL)
    row = finished(cluster, job, inputs, tmp_path / "out")
    assert set(row["mapping"].values()) <= {"node1", "node2"}


def test_a_worker_that_is_killed_under_wave_is_replaced_by_whoever_supervises(
    make_cluster: Make, diamond: Path, inputs: Path, tmp_path: Path
) -> None:
    cluster = make_cluster(3)
    job = submit(cluster, diamond, inputs)
    entry = cluster.job(job)["mapping"]["a"]
    assert entry != "node1"
    os.kill(cluster.pid(entry), signal.SIGKILL)
    row = finished(cluster, job, inputs, tmp_path / "out")
    assert entry not in row["mapping"].values()


def test_a_home_that_is_killed_and_started_again_goes_on_from_its_journal(
    make_cluster: Make, diamond: Path, inputs: Path, tmp_path: Path
) -> None:
    cluster = make_cluster(3)
    job = submit(cluster, diamond, inputs)
    before = cluster.job(job)
    waiting = start([JUPITER, "ctl", "--dir", cluster.folder, "-o", "json", "wait", job])
    assert waiting.stderr is not None
    assert "running" in waiting.stderr.readline()
    cluster.kill("node1")
    cluster.start("node1")
    row = finished(cluster, job, inputs, tmp_path / "out")
    assert row["submitted_at"] == before["submitted_at"]
    assert row["items_in"] == ITEMS
    ended = end(waiting, 30).ok()
    assert json.loads(ended.out)["state"] == "completed", "who waited meanwhile was not disturbed"
    kept = cluster.call("node2", "results", job=job)
    assert len(kept["items"]) == ITEMS


def test_a_home_killed_right_after_its_entry_awards_still_leaves_a_complete_mapping(
    make_cluster: Make, tmp_path: Path
) -> None:
    names = [f"t{number}" for number in range(9)]
    tasks = dict(zip(names, [*names[1:], "home"], strict=True))
    app = make_app(tmp_path / "chain", tasks)
    config = app / "app_config.yaml"
    config.write_text(config.read_text().replace("base_script: t0.py", "base_script: t0.py, node: node2"))
    cluster = make_cluster(4)
    bundle = make_bundle(app)
    client = cluster.client("node1")
    client.write_blob(bundle.file.read())
    args = {"bundle": bundle.sha256.hex(), "size": bundle.size, "app": "chain", "mapper": "wave-random", "seed": 5}
    job = client.call("submit", args)["id"]

    def known(node: str, tasks: list[str]) -> dict[str, dict[str, Any]]:
        rows = cluster.call(node, "considered", job=job, tasks=tasks)["tasks"]
        return {row["task"]: row for row in rows}

    eventually(lambda: known("node2", names[:1]), "the entry award has arrived", pause_s=0.001)
    os.kill(cluster.pid("node1"), signal.SIGKILL)
    mapping = eventually(lambda: len(found := known("node2", names)) == 9 and found, "the mapping is complete", 8)
    assert mapping["t0"]["decided_by"] == "node1"
    assert all(row["decided_by"] != "node1" for name, row in mapping.items() if name != "t0")
    for before, after in itertools.pairwise(names):
        assert mapping[after]["decided_by"] == mapping[before]["node"]
    cluster.start("node1")
    detail = cluster.call("node1", "describe", kind="jobs", id=job)
    assert {row["task"]: row["decided_by"] for row in detail["registers"]}["t0"] == "node1"
    eventually(lambda: set(cluster.job(job)["mapping"]) == set(names), "home knows the mapping again")


def test_an_agent_asked_to_stop_in_the_middle_of_a_job_hands_over_and_leaves(
    make_cluster: Make, diamond: Path, inputs: Path, tmp_path: Path
) -> None:
    cluster = make_cluster(3)
    job = submit(cluster, diamond, inputs, {"a": "node2", "b": "node3", "c": "node2", "d": "node1"})
    os.kill(cluster.pid("node3"), signal.SIGTERM)
    eventually(lambda: cluster.states("node1")["node3"] == "left", "node3 has left", 12)
    row = finished(cluster, job, inputs, tmp_path / "out")
    assert row["mapping"]["b"] in ("node1", "node2")
    assert {item["attempts"] for item in cluster.call("node1", "get", kind="items", id=job)["items"]} == {1}
