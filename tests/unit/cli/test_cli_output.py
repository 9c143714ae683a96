"""What stdout shows in each format, and that nothing else gets there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from cli_fakes import FakeCluster, Run, job

from jupiter_agent.cli import units
from jupiter_agent.cli.kinds import GETTABLE

NODE = {
    "name": "node1",
    "id": "0a1b",
    "state": "alive",
    "reachable": True,
    "address": "127.0.0.1:20000",
    "found_by": "seed",
}
ROWS = {
    "nodes": NODE,
    "links": {"src": "node1", "dst": "node2", "latency_s": 0.0004, "bandwidth_bps": 125e6, "loss": 0.01, "age_s": 3.0,
              "samples": 12, "source": "measured"},
    "jobs": job(),
    "tasks": {"job": "j-1f2e", "name": "detect", "node": "node2", "state": "running", "decided_by": "heft", "queued": 1,
              "running": 1, "done": 5, "failed": 0, "restarts": 0},
    "items": {"id": "j-1f2e/a.png", "name": "a.png", "job": "j-1f2e", "state": "done", "attempts": 1,
              "submitted_at": 5.0, "finished_at": 6.5,
              "results": [{"sink": "merge", "name": "a.txt", "sha256": "00", "size": 3}]},
    "apps": {"name": "example", "bundle": "ff" * 32, "size": 2048, "jobs": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", GETTABLE)
@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name"])
def test_every_kind_prints_in_every_format(cluster: FakeCluster, run: Run, kind: str, form: str) -> None:
    cluster.answers["get"] = {"items": [ROWS[kind]]}
    ended = run("ctl", "-o", form, "get", kind)
    assert (ended.code, ended.err) == (0, "")
    assert cluster.args("get") == {"kind": kind}
    if form == "json":
        body = json.loads(ended.out)
        assert (body["apiVersion"], body["kind"]) == ("jupiter/v1", kind)
        assert set(body["items"][0]) == set(ROWS[kind])
    elif form == "yaml":
        assert yaml.safe_load(ended.out)["items"][0].keys() == ROWS[kind].keys()
    else:
        assert len(ended.out.splitlines()) == (1 if form == "name" else 2)


def test_output_options_may_follow_the_verb(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [NODE]}
    for arguments in (["get", "nodes", "-o", "name"], ["get", "nodes", "-oname"], ["get", "--output=name", "node"]):
        assert run("ctl", *arguments).out == "0a1b\n"


def test_tables_are_aligned_and_in_units_of_people(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [ROWS["links"], ROWS["links"] | {"src": "a-longer-name", "bandwidth_bps": None}]}
    assert run("ctl", "get", "links").out.splitlines() == [
        "SRC             DST     LATENCY   BANDWIDTH    LOSS   AGE   SOURCE",
        "node1           node2   400us     125 Mbit/s   1%     3s    measured",
        "a-longer-name   node2   400us     -            1%     3s    measured",
    ]


def test_wall_times_become_rfc_3339_and_missing_ones_null(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [ROWS["items"] | {"submitted_at": 1_700_000_000.25, "finished_at": None}]}
    item = json.loads(run("ctl", "get", "items", "-o", "json").out)["items"][0]
    assert item["submitted_at"] == "2023-11-14T22:13:20.250Z"
    assert item["finished_at"] is None


def test_json_never_holds_a_number_that_json_does_not_know(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [ROWS["links"] | {"latency_s": float("inf"), "loss": float("nan")}]}
    link = json.loads(run("ctl", "get", "links", "-o", "json").out)["items"][0]
    assert (link["latency_s"], link["loss"]) == (None, None)


def test_names_of_peers_cannot_move_the_terminals_cursor(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [NODE | {"name": "no\x1b[2Jde\n"}]}
    out = run("ctl", "get", "nodes").out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_kinds_may_be_singular_and_a_wrong_one_is_suggested(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": []}
    assert run("ctl", "get", "job").code == 0
    ended = run("ctl", "get", "jbos", "-o", "json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: no kind of object is called 'jbos'\nhint: did you mean jobs?\n"
    assert len(cluster.calls) == 1


def test_watching_prints_one_json_object_a_line_when_something_changes(cluster: FakeCluster, run: Run) -> None:
    first, second = {"items": [NODE]}, {"items": [NODE, NODE | {"name": "node2", "id": "ff"}]}
    cluster.answers["get"] = [first, first, second, KeyboardInterrupt()]
    ended = run("ctl", "get", "nodes", "-w", "-o", "json")
    assert ended.code == 130
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["kind"], line["name"]) for line in lines] == [("node", "node1"), ("node", "node2")]


def test_in_a_watched_table_a_row_comes_again_only_when_it_reads_differently(cluster: FakeCluster, run: Run) -> None:
    rows = [NODE | {"load": load, "state": state} for load, state in ((0.1, "alive"), (0.2, "alive"), (0.2, "dead"))]
    cluster.answers["get"] = [*({"items": [row]} for row in rows), KeyboardInterrupt()]
    assert len(run("ctl", "get", "nodes", "-w").out.splitlines()) == 3, "the titles and two rows"
    links = [ROWS["links"] | {"age_s": age} for age in (1.0, 2.0)]
    cluster.answers["get"] = [*({"items": [row]} for row in links), KeyboardInterrupt()]
    assert len(run("ctl", "get", "links", "-w").out.splitlines()) == 2


def test_describe_shows_every_field_and_lists_as_tables(cluster: FakeCluster, run: Run) -> None:
    registers = [{"task": "detect", "node": "node2", "decided_by": "node1", "why": "least finish time"}]
    cluster.answers["describe"] = job(tasks=[ROWS["tasks"]], registers=registers, weights={"cpu": 1.0}, errors=[])
    ended = run("ctl", "describe", "job", "last")
    assert cluster.args("describe") == {"kind": "jobs", "id": "last"}
    assert "submitted_at:  2023-11-14T22:13:20.250Z" in ended.out
    assert "least finish time" in ended.out
    assert json.loads(run("ctl", "describe", "job", "last", "-o", "json").out)["kind"] == "job"
    assert run("ctl", "describe", "job", "last", "-o", "name").out == "j-1f2e\n"


def test_explain_shows_the_candidates_of_a_task(cluster: FakeCluster, run: Run) -> None:
    candidates = [
        {"node": "node2", "finish": 0.5, "reason": "chosen"},
        {"node": "node3", "finish": 0.75, "reason": "later"},
    ]
    entry = {"task": "detect", "node": "node2", "decided_by": "node1", "why": "least finish", "candidates": candidates}
    cluster.answers["explain"] = {"job": "j-1f2e", "tasks": [entry]}
    out = run("ctl", "explain", "last", "detect").out
    assert cluster.args("explain") == {"job": "last", "task": "detect"}
    assert "detect -> node2, decided by node1\n  least finish\nNODE    FINISH   REASON\nnode2   0.5      chosen" in out
    assert json.loads(run("ctl", "explain", "last", "-o", "json").out)["tasks"][0]["candidates"] == candidates


def test_events_follow_from_where_the_last_answer_ended(cluster: FakeCluster, run: Run) -> None:
    event = {"seq": 1, "time": 1_700_000_000.0, "level": "info", "event": "joined", "node": "node1", "peer": "node2"}
    cluster.answers["events"] = [{"events": [event], "next": 2}, {"events": [], "next": 2}, KeyboardInterrupt()]
    ended = run("ctl", "events", "-f", "-o", "json")
    assert [args["since"] for _, args in cluster.calls] == [0, 2, 2]
    assert json.loads(ended.out) == {"apiVersion": "jupiter/v1", "kind": "event"} | event | {
        "time": "2023-11-14T22:13:20.000Z"
    }
    cluster.answers["events"] = {"events": [event], "next": 2}
    assert run("ctl", "events").out.splitlines()[1].split()[-2:] == ["joined", "peer=node2"]


def test_logs_of_several_tasks_say_whose_line_it_is(cluster: FakeCluster, run: Run) -> None:
    text = {"detect": b"one\ntwo\n", "merge": "grün\nlast".encode()}

    def log(args: dict[str, int]) -> dict[str, object]:
        data = text[str(args["task"])]
        return {"data": data[args["offset"] : args["offset"] + 3], "end": len(data)}

    cluster.answers |= {"logs": {"logs": [{"task": t, "node": "n", "size": 9} for t in text]}, "log": log}
    assert run("ctl", "logs", "last").out == "detect | one\ndetect | two\nmerge  | grün\nmerge  | last\n"
    assert cluster.args("logs") == {"job": "last"}
    cluster.answers["logs"] = {"job": "j-1f2e", "logs": [{"task": "merge", "node": "n", "size": 9}]}
    assert run("ctl", "logs", "last/merge").out == "grün\nlast\n"
    shown = json.loads(run("ctl", "logs", "last/merge", "-o", "json").out)
    assert (shown["job"], shown["items"]) == ("j-1f2e", [{"task": "merge", "node": "n", "text": "grün\nlast"}])
    assert cluster.args("logs") == {"job": "last", "task": "merge"}


def test_ctrl_c_while_a_log_is_followed_says_that_the_job_goes_on(cluster: FakeCluster, run: Run) -> None:
    cluster.answers |= {"logs": {"logs": []}, "get": KeyboardInterrupt()}
    ended = run("ctl", "logs", "j-1f2e", "-f")
    assert (ended.code, "detached: job j-1f2e goes on" in ended.err) == (130, True)


def test_following_a_log_ends_with_the_job(cluster: FakeCluster, run: Run) -> None:
    states = ["running", "running", "completed"]
    cluster.answers |= {
        "get": [{"items": [job(state=state)]} for state in states],
        "logs": {"logs": [{"task": "t", "node": "n", "size": 0}]},
        "log": lambda args: {"data": b"line\n"[args["offset"] :], "end": 5},
    }
    ended = run("ctl", "logs", "last", "-f", "-o", "json")
    assert ended.code == 0
    assert [json.loads(line)["line"] for line in ended.out.splitlines()] == ["line"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.0000125, "12.5us"), (0.0123, "12.3ms"), (1.25, "1.25s"), (185, "3m05s"), (7800, "2h10m"),
     (356400, "4d03h")],
)  # fmt: skip
def test_durations_are_short(value: float | None, shown: str) -> None:
    assert units.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e12, "2 TB")]
)
def test_sizes_have_decimal_units(value: float | None, shown: str) -> None:
    assert units.size(value) == shown


def test_the_command_starts_without_what_is_heavy() -> None:
    heavy = ("numpy", "networkx", "rich", "zmq", "yaml", "asyncio", "nacl", "psutil", "ctypes", "schedulers")
    code = f"import sys, jupiter_agent.cli.main; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_agents_command_starts_without_what_an_idle_agent_must_not_import() -> None:
    heavy = ("numpy", "networkx", "rich", "typer", "kubernetes", "aiohttp")
    code = f"import sys, jupiter_agent.cli.agent_main; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_results_of_one_item_are_described_with_name_size_and_digest(cluster: FakeCluster, run: Run) -> None:
    row = {"sink": "report", "name": "a.json", "sha256": "ab" * 32, "size": 2500}
    cluster.answers["describe"] = {"id": "j/a", "name": "a", "job": "j", "state": "done", "results": [row]}
    lines = run("ctl", "describe", "item", "j/a").out.splitlines()
    assert lines[-2].split() == ["SINK", "NAME", "SIZE", "SHA256"]
    assert lines[-1].split() == ["report", "a.json", "2.5", "kB", "ab" * 32]


def test_numbers_of_a_link_that_are_only_guessed_are_marked(cluster: FakeCluster, run: Run) -> None:
    guessed = ROWS["links"] | {"bandwidth_source": "estimated"}
    unknown = guessed | {"source": "estimated", "bandwidth_bps": None}
    cluster.answers["get"] = {"items": [ROWS["links"], guessed, unknown]}
    rows = [line.split("   ") for line in run("ctl", "get", "links").out.splitlines()[1:]]
    cells = [[cell.strip() for cell in row if cell.strip()][2:4] for row in rows]
    assert cells == [["400us", "125 Mbit/s"], ["400us", "~125 Mbit/s"], ["~400us", "-"]]


def test_a_draining_node_is_marked(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [NODE | {"draining": True}]}
    assert run("ctl", "get", "nodes").out.splitlines()[1].split()[1] == "alive,draining"


def test_nodes_whose_jobs_are_not_listed_are_named(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [job()], "missing": ["node1"]}
    ended = run("ctl", "get", "jobs", "-o", "json")
    assert (ended.code, ended.err) == (0, "node1 does not answer; its jobs are not listed\n")
    assert json.loads(ended.out)["missing"] == ["node1"]
