"""`stats`: percentiles in a table, every run as CSV, and a trace that browsers read."""

from __future__ import annotations

import csv
import io
import json

import pytest
from cli_fakes import FakeCluster, Run

SPREAD = {"p50": 0.01, "p90": 0.02, "p99": 0.5, "max": 1.5, "mean": 0.0125}
T0 = 1_700_000_000.0
RUNS = [
    {"item": "b.png", "task": "merge", "node": "node1", "enter": T0 + 2.0, "execute": T0 + 2.25, "finish": T0 + 3.0,
     "bytes_in": 10, "bytes_out": 1},
    {"item": "a.png", "task": "detect", "node": "node2", "enter": T0, "execute": T0 + 0.5, "finish": T0 + 0.750001,
     "bytes_in": 100, "bytes_out": 10},
    {"item": "c.png", "task": "detect", "node": "node2", "enter": T0 + 4, "execute": T0 + 4, "finish": None,
     "bytes_in": 100, "bytes_out": None},
]  # fmt: skip
BODY = {
    "job": "j-1f2e",
    "items": {"count": 53, "p50_s": 0.2, "p90_s": 0.25, "p99_s": 1.0, "max_s": 61.0},
    "tasks": [
        {"task": "detect", "node": "node2", "runs": 53, "failed": 1, "restarts": 0, "seconds": SPREAD,
         "waiting": SPREAD | {"p50": 0.0001}, "bytes_in": 5_300_000, "bytes_out": 2048},
        {"task": "merge", "node": "node1", "runs": 0, "failed": 0, "restarts": 2, "seconds": None, "waiting": None,
         "bytes_in": 0, "bytes_out": 0},
    ],
    "runs": RUNS,
}  # fmt: skip


@pytest.fixture(autouse=True)
def answered(cluster: FakeCluster) -> FakeCluster:
    cluster.answers["stats"] = BODY
    return cluster


def test_the_table_shows_tasks_and_then_the_items(cluster: FakeCluster, run: Run) -> None:
    ended = run("ctl", "stats", "last")
    assert cluster.args("stats") == {"job": "last"}
    lines = ended.out.splitlines()
    assert lines[0].split()[:4] == ["TASK", "NODE", "RUNS", "FAILED"]
    assert "10ms" in lines[1]
    assert "100us" in lines[1]
    assert "5.3 MB" in lines[1]
    assert lines[2].split()[:5] == ["merge", "node1", "0", "0", "-"]
    assert lines[-1] == "53 items: p50 200ms, p90 250ms, p99 1s, max 1m01s"
    assert "RESTARTS" in run("ctl", "stats", "last", "-o", "wide").out
    assert run("ctl", "stats", "last", "-o", "name").out == "detect\nmerge\n"


def test_csv_has_every_run_in_order_with_the_spans_between_its_times(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("ctl", "stats", "last", "-o", "csv").out)))
    assert [row["Item"] for row in rows] == ["a.png", "b.png", "c.png"]
    assert [rows[1][name] for name in ("Elapse", "Duration", "Waiting")] == ["1.000000", "0.750000", "0.250000"]
    assert rows[0]["Finish"] == "1700000000.750001"
    assert (rows[2]["Finish"], rows[2]["Elapse"], rows[2]["Waiting"]) == ("", "", "0.000000")


def test_the_trace_has_a_process_per_node_and_a_thread_per_task(run: Run) -> None:
    trace = json.loads(run("ctl", "stats", "last", "-o", "trace").out)
    events = trace["traceEvents"]
    names = {(e["name"], e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names == {
        ("process_name", 1, 0): "node2", ("process_name", 2, 0): "node1",
        ("thread_name", 1, 1): "detect", ("thread_name", 2, 2): "merge",
    }  # fmt: skip
    a, b = (e for e in events if e["ph"] == "X")
    assert (a["name"], a["pid"], a["tid"], a["ts"], a["dur"]) == ("a.png", 1, 1, 500_000, pytest.approx(250_001, abs=1))
    assert (b["ts"], b["dur"], b["args"]["waiting_s"]) == (2_250_000, 750_000, 0.25)
    assert trace["otherData"] == {"job": "j-1f2e", "begin": "2023-11-14T22:13:20.000000Z"}


def test_json_has_everything_with_times_to_the_microsecond(run: Run) -> None:
    body = json.loads(run("ctl", "stats", "last", "-o", "json").out)
    assert (body["kind"], body["items"], body["tasks"]) == ("stats", BODY["items"], BODY["tasks"])
    assert body["runs"][1]["finish"] == "2023-11-14T22:13:20.750001Z"
    assert body["runs"][2]["finish"] is None


def test_a_job_that_ran_nothing_yet_has_statistics_too(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["stats"] = {"job": "j", "items": {"count": 0}, "tasks": [], "runs": []}
    assert run("ctl", "stats", "last").out.endswith("0 items: p50 -, p90 -, p99 -, max -\n")
    assert json.loads(run("ctl", "stats", "last", "-o", "trace").out)["traceEvents"] == []
    assert len(run("ctl", "stats", "last", "-o", "csv").out.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("ctl", "get", "jobs"), ("local", "status")])
@pytest.mark.parametrize("form", ["csv", "trace"])
def test_exports_exist_for_stats_only(cluster: FakeCluster, run: Run, arguments: tuple[str, ...], form: str) -> None:
    ended = run(*arguments, "-o", form)
    assert (ended.code, ended.out, cluster.calls) == (2, "", [])
    assert f"has no -o {form}" in ended.err
