"""The home of a job is killed and never comes back: its deputy goes on, and every item comes out once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from e2e_rig import Cluster, eventually, make_app, make_inputs, read_results

Make = Callable[..., Cluster]

STEP = """
import time
def process(inputs, ctx):
    time.sleep(0.2)
    return b"".join(inputs[name] for name in sorted(inputs)) + ctx.task.encode()
"""
ITEMS = 40
FLOW_AGAIN_S = 10.0


def test_results_flow_again_soon_after_home_was_killed_for_good(make_cluster: Make, tmp_path: Path) -> None:
    tasks = {"a": "b, c", "b": "d", "c": "d", "d": "home"}
    app = make_app(tmp_path / "diamond", tasks, dict.fromkeys(tasks, STEP))
    inputs = make_inputs(tmp_path / "in", ITEMS)
    cluster = make_cluster(4)
    job = str(cluster.submit(app, "--input", inputs, "--ep", "off", *cluster.at("node1"))["id"])
    before = eventually(lambda: (row := cluster.job(job))["items_done"] >= ITEMS // 4 and row, "a quarter is done")
    (deputy,) = before["deputies"]
    asked = next(name for name in ("node2", "node3", "node4") if name != deputy)
    os.kill(cluster.pid("node1"), signal.SIGKILL)
    eventually(lambda: cluster.states(asked)["node1"] == "dead", "the death is known", 20)
    detected = time.monotonic()
    kept = cluster.job(job, asked)["items_done"]
    assert kept >= before["items_done"], "what was shown as done stays done"
    eventually(lambda: cluster.job(job, asked)["items_done"] > kept, "results flow again", 20)
    took = time.monotonic() - detected
    cluster.ctl("wait", job, "--timeout", 60, *cluster.at(asked)).ok()
    cluster.ctl("results", job, "--out", tmp_path / "out", *cluster.at(asked)).ok()
    whole = {path.name: path.read_bytes() for path in inputs.iterdir()}
    assert read_results(tmp_path / "out") == {f"{n}/d/d": d + b"ab" + d + b"ac" + b"d" for n, d in whole.items()}
    row = cluster.job(job, asked)
    assert (row["home"], row["items_done"], row["items_failed"]) == (deputy, ITEMS, 0)
    assert row["deputies"] not in ([], ["node1"])
    print(f"results flowed again {took:.2f} s after the detection")
    assert took < FLOW_AGAIN_S
