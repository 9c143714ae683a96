"""The verbs of `jupiter ctl` against real agents: what they print, where the bytes go, whom one may ask."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_rig import JUPITER, Cluster, end, eventually, make_app, make_inputs, read_results, start

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
JOB_FIELDS = {
    "id", "name", "app", "state", "degraded", "home", "deputies", "copies", "mapper", "mapping", "epoch", "items_in",
    "items_done", "items_failed", "submitted_at", "mapping_s", "makespan_s",
}  # fmt: skip
SLOW = """
import time
def process(inputs, ctx):
    time.sleep(0.3)
    ctx.log.info("saw %s", ctx.item)
    return inputs["a"]
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path / "app", {"a": "b", "b": "home"})


@pytest.fixture
def open_job(cluster: Cluster, app: Path) -> Iterator[str]:
    """A job at node2 that takes more items; closed in the end."""
    job = cluster.submit(app, "--keep-open", "--ep", "off", *cluster.at("node2"))["id"]
    yield str(job)
    cluster.ctl("close", job).ok()
    cluster.ctl("wait", job).ok()


def test_a_job_lives_from_put_to_close_and_every_verb_shows_it(cluster: Cluster, app: Path, tmp_path: Path) -> None:
    job = cluster.submit(app, "--keep-open", "--name", "walk", "--param", "k=v", *cluster.at("node2"))
    assert set(job) >= JOB_FIELDS
    assert (job["name"], job["home"], job["items_in"]) == ("walk", "node2", 0)
    assert TIME.fullmatch(job["submitted_at"])
    id = job["id"]
    inputs = make_inputs(tmp_path / "in", 3)

    put = cluster.ctl("put", id, inputs, "-o", "json").ok().json()
    assert (sorted(put["accepted"]), put["ignored"]) == (["item0", "item1", "item2"], [])
    again = cluster.ctl("put", id[:6], inputs / "item0", "-o", "json").ok()
    assert (again.json()["accepted"], again.json()["ignored"]) == ([], ["item0"])
    assert "item0" in again.err
    (tmp_path / "item0").write_bytes(b"other bytes")
    cluster.ctl("put", "last", tmp_path / "item0").refused(2, "item 'item0' is there with other bytes", "--rename")
    renamed = cluster.ctl("put", "last", tmp_path / "item0", "--rename", "-o", "json").ok().json()
    assert len(renamed["accepted"]) == 1
    cluster.ctl("put", "last", tmp_path / "item0", "--task", "b").refused(2, "no entry task", "entry tasks: a")

    waiting = cluster.ctl("wait", "walk", "-o", "json").ok().json()
    assert (waiting["state"], waiting["items_done"]) == ("waiting", 4)
    cluster.ctl("close", id).ok()
    done = cluster.ctl("wait", id, "--timeout", 10, "-o", "json").ok().json()
    assert (done["state"], done["items_in"], done["items_done"], done["items_failed"]) == ("completed", 4, 4, 0)
    cluster.ctl("put", id, inputs).refused(2, "is closed")

    tasks = cluster.ctl("get", "tasks", id, "-o", "json").ok().json()["items"]
    assert [(row["name"], row["done"], row["failed"]) for row in tasks] == [("a", 4, 0), ("b", 4, 0)]
    assert all({"job", "node", "state", "decided_by", "queued", "running", "restarts"} <= set(row) for row in tasks)
    items = cluster.ctl("get", "items", id, "-o", "json").ok().json()["items"]
    assert {row["state"] for row in items} == {"done"}
    assert all(set(row["results"][0]) == {"sink", "name", "sha256", "size"} for row in items)
    detail = cluster.ctl("describe", "job", id, "-o", "json").ok().json()
    assert detail["params"]["k"] == "v"
    told = cluster.ctl("explain", id, "-o", "json").ok().json()["tasks"]
    assert {row["task"]: row["decided_by"] for row in told} == {"a": "node2", "b": detail["mapping"]["a"]}
    assert all(row["candidates"] and row["why"] for row in told)
    assert id in cluster.ctl("get", "jobs", "-o", "name").ok().out.splitlines()
    cluster.ctl("results", id, "--out", tmp_path / "out").ok()
    assert read_results(tmp_path / "out")["item1/b/b"] == (inputs / "item1").read_bytes()


def test_json_is_the_only_thing_on_stdout(cluster: Cluster, open_job: str, tmp_path: Path) -> None:
    cluster.ctl("put", open_job, make_inputs(tmp_path / "in", 1)).ok()
    for words in (
        ("get", "nodes"), ("get", "links"), ("get", "jobs"), ("get", "apps"), ("get", "tasks", open_job),
        ("get", "items", open_job), ("describe", "job", open_job), ("describe", "node", "node3"),
        ("describe", "task", f"{open_job}/a"), ("describe", "item", f"{open_job}/item0"), ("explain", open_job, "b"),
        ("results", open_job), ("logs", open_job), ("events",), ("wait", open_job), ("token",),
    ):  # fmt: skip
        body = cluster.ctl("-o", "json", *words).ok().json()
        assert body["kind"]
    node = cluster.ctl("get", "nodes", "-o", "json").ok().json()["items"][0]
    assert {"name", "id", "state", "reachable", "address", "found_by"} <= set(node)
    link = cluster.ctl("get", "links", "-o", "json").ok().json()["items"][0]
    assert {"src", "dst", "latency_s", "bandwidth_bps", "loss", "age_s", "samples", "source"} <= set(link)


@pytest.mark.parametrize("size", [40, 300_000], ids=["small", "large"])
def test_items_enter_and_results_leave_through_peers_that_are_not_home(
    cluster: Cluster, open_job: str, tmp_path: Path, size: int
) -> None:
    inputs = make_inputs(tmp_path / "in", 2, size)
    cluster.ctl("put", open_job, inputs, *cluster.at("node5")).ok()
    cluster.ctl("wait", open_job, "--timeout", 15, *cluster.at("node3")).ok()
    cluster.ctl("results", open_job, "--out", tmp_path / "out", *cluster.at("node4")).ok()
    expected = {f"item{n}/b/b": (inputs / f"item{n}").read_bytes() for n in range(2)}
    assert read_results(tmp_path / "out") == expected


def test_following_shows_results_logs_and_events_as_they_come(cluster: Cluster, tmp_path: Path) -> None:
    app = make_app(tmp_path / "app", {"a": "b", "b": "home"}, {"b": SLOW})
    inputs = make_inputs(tmp_path / "in", 5)
    job = cluster.submit(app, "--input", inputs, "--ep", "off", *cluster.at("node1"))["id"]
    ctl = [JUPITER, "ctl", "--dir", cluster.folder, "-o", "json"]
    results = start([*ctl, "results", job, "--follow", "--out", tmp_path / "out"])
    logs = start([*ctl, "logs", f"{job}/b", "-f"])
    events = start([*ctl, *cluster.at("node1"), "events", "-f"])
    rows = [json.loads(line) for line in end(results, 30).ok().out.splitlines()]
    assert sorted(row["name"] for row in rows) == [f"item{n}" for n in range(5)]
    assert len(read_results(tmp_path / "out")) == 5
    lines = [json.loads(line)["line"] for line in end(logs, 30).ok().out.splitlines()]
    assert sum(f"saw item{n}" in line for n in range(5) for line in lines) == 5
    cluster.until(job, "completed")
    assert events.stdout is not None
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1].get("event") != "job completed" or seen[-1].get("job") != job:
        seen.append(json.loads(events.stdout.readline()))
    events.send_signal(signal.SIGINT)
    assert end(events).code == 130
    assert {"job accepted", "job mapped"} <= {row["event"] for row in seen if row.get("job") == job}
    assert "saw item3" in cluster.ctl("logs", job).ok().out


def test_ctrl_c_while_waiting_leaves_the_job_to_go_on(cluster: Cluster, tmp_path: Path) -> None:
    app = make_app(tmp_path / "app", {"a": "b", "b": "home"}, {"b": SLOW})
    inputs = make_inputs(tmp_path / "in", 6)
    ctl = [JUPITER, "ctl", "--dir", cluster.folder, "-o", "json"]
    process = start([*ctl, "submit", app, "--input", inputs, "--ep", "off", "--wait"])
    assert process.stderr is not None
    assert "items" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.out) == (130, "")
    assert "goes on" in ended.err
    assert "hint: `jupiter ctl wait " in ended.err
    assert "Traceback" not in ended.err
    done = cluster.ctl("wait", "last", "-o", "json").ok().json()
    assert (done["state"], done["items_done"]) == ("completed", 6)


@pytest.mark.smoke
def test_an_edited_file_is_what_runs_at_the_next_submit(cluster: Cluster, app: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "in", 1)
    for number in range(2):
        (app / "b.py").write_text(f"import word\ndef process(inputs, ctx):\n    return word.WORD + b'{number}'\n")
        (app / "word.py").write_text(f"WORD = b'version {number} '\n")
        cluster.submit(app, "--input", inputs, "--results", tmp_path / f"out{number}", "--ep", "off")
        assert read_results(tmp_path / f"out{number}") == {"item0/b/b": f"version {number} {number}".encode()}


def test_watching_a_submit_prints_the_job_whenever_it_changes(cluster: Cluster, app: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "in", 2)
    rows = cluster.ctl("-o", "json", "submit", app, "--input", inputs, "--watch").ok().lines()
    assert rows[-1]["state"] == "completed"
    assert len({row["id"] for row in rows}) == 1


def test_an_ambiguous_prefix_or_a_stale_peer_is_no_riddle(cluster: Cluster, app: Path) -> None:
    known = cluster.jobs()
    first = cluster.submit(app, "--input", app / "a.py", "--wait")["id"]
    if prefixes := [id for id in known if id[0] == first[0]]:
        cluster.ctl("get", "jobs", first[0]).refused(2, "several jobs", prefixes[0][:3])
    assert cluster.ctl("--peer", "127.0.0.1:9", *cluster.at("node1"), "get", "jobs", "last", "-o", "name").ok().out
    eventually(cluster.is_well, "all are well")
