"""A disk fills while items flow: nothing is lost, and all goes on by itself when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e_rig import Cluster, eventually, make_app, make_inputs, read_results

Make = Callable[..., Cluster]

STEP = """
import time
def process(inputs, ctx):
    time.sleep(0.05)
    return b"".join(inputs.values()) + ctx.task.encode()
"""
ITEMS = 150
DISK = "24m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system of our own can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(b"x")
        except OSError:
            pass
    return path


def test_a_node_on_a_full_disk_stands_still_and_every_item_comes_out_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    app = make_app(tmp_path / "chain", {"a": "b", "b": "home"}, {"a": STEP, "b": STEP})
    inputs = make_inputs(tmp_path / "in", ITEMS)
    cluster = Cluster(small_disk / "cluster")
    cluster.up(2)
    try:
        job = str(cluster.submit(app, "--input", inputs, "--ep", "off", "--replicas", 0, *cluster.at("node1"))["id"])
        eventually(lambda: cluster.job(job)["items_done"] >= 5, "some are done")
        pids = [cluster.pid(name) for name in cluster.names]
        ballast = fill(small_disk)
        asked = ("get", "jobs", *cluster.at("node1"))
        eventually(lambda: cluster.ctl(*asked).code != 0, "home does not answer", 40)
        ballast.unlink()
        cluster.ctl("wait", job, "--timeout", 60).ok()
        cluster.ctl("results", job, "--out", tmp_path / "out").ok()
        whole = {path.name: path.read_bytes() for path in inputs.iterdir()}
        assert read_results(tmp_path / "out") == {f"{n}/b/b": d + b"ab" for n, d in whole.items()}
        assert [cluster.pid(name) for name in cluster.names] == pids, "no agent was started anew"
        assert cluster.job(job)["items_failed"] == 0
    finally:
        cluster.down()
