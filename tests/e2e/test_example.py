"""The example app on the shared cluster: the same bytes whoever maps it, and the nodes themselves where they should."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e_rig import EXAMPLE, JUPITER, Cluster, end, read_results, start

DETECTORS = ["volume", "beacon", "entropy", "astute", "scan", "dns", "fragments"]
SAMPLES = sorted((EXAMPLE / "samples").iterdir())[::3]
"""every third: the demo runs them all"""

INPUTS = [word for sample in SAMPLES for word in ("--input", sample)]
TASKS = ["split", *DETECTORS, "align", "fuse", "report", "evidence"]


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    """'item/sink/file' -> bytes, computed in one process without the cluster."""
    spec = importlib.util.spec_from_file_location("example_reference", EXAMPLE / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["example_reference"] = module
    spec.loader.exec_module(module)
    results: dict[str, dict[str, dict[str, bytes]]] = module.expected(EXAMPLE, SAMPLES)
    return {
        f"{item}/{sink}/{name}": data
        for item, sinks in results.items()
        for sink, files in sinks.items()
        for name, data in files.items()
    }


def run_example(cluster: Cluster, out: Path, *args: object) -> dict[str, Any]:
    job = cluster.submit(EXAMPLE, *INPUTS, "--results", out, *args)
    assert (job["state"], job["items_failed"]) == ("completed", 0)
    return dict(cluster.ctl("describe", "job", job["id"], "-o", "json").ok().json())


@pytest.mark.smoke
def test_it_runs_when_submitted_at_a_node_that_is_nobodys_seed(
    cluster: Cluster, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = run_example(cluster, tmp_path / "out", *cluster.at("node4"))
    assert read_results(tmp_path / "out") == expected
    assert job["home"] == "node4"
    assert job["mapper"] == "wave-auction"
    assert len(set(job["mapping"].values())) >= 3
    assert set(job["mapping"]) == set(TASKS)
    deciders = {row["task"]: row["decided_by"] for row in job["registers"]}
    assert deciders["split"] == "node4"
    for row in job["registers"]:
        above = job["controllers"][row["task"]]
        assert row["decided_by"] == (job["home"] if above == "home" else job["mapping"][above]), row
    assert "node4" not in {who for task, who in deciders.items() if task != "split"}, "home maps entry tasks only"
    assert job["moved_bytes"] > 0


@pytest.mark.parametrize("mapper", ["wave-random", "heft", "static"])
def test_the_results_are_the_same_bytes_whoever_maps_it(
    cluster: Cluster, expected: dict[str, bytes], tmp_path: Path, mapper: str
) -> None:
    args: list[object] = ["--mapper", mapper, "--seed", 11]
    if mapper == "static":
        spread = {task: f"node{number % 5 + 1}" for number, task in enumerate(TASKS)}
        (tmp_path / "mapping.json").write_text(json.dumps(spread))
        args = ["--mapping", tmp_path / "mapping.json"]
    job = run_example(cluster, tmp_path / "out", *args)
    assert read_results(tmp_path / "out") == expected
    assert job["mapper"] == mapper
    if mapper == "static":
        assert job["mapping"] == spread
    if mapper == "wave-random":
        assert len(set(job["mapping"].values())) >= 3
        assert job["seed"] == 11


def test_three_jobs_at_once_finish_with_the_right_bytes(
    cluster: Cluster, expected: dict[str, bytes], tmp_path: Path
) -> None:
    submit = ["submit", EXAMPLE, *INPUTS, "--results"]
    running = [
        start([JUPITER, "ctl", "--dir", cluster.folder, *cluster.at(node), *submit, tmp_path / node])
        for node in ("node1", "node2", "node5")
    ]
    for process in running:
        end(process, 60).ok()
    for node in ("node1", "node2", "node5"):
        assert read_results(tmp_path / node) == expected
