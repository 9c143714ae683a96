"""Verbs that steer a job or a node, plan one, or give a token: what is asked, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeCluster, Run, job

from jupiter_agent.cli.ctl import bundles
from jupiter_agent.core.app import AppSpec
from jupiter_agent.errors import JupiterError


def test_retry_names_the_items_and_the_job_they_run_in_again(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["retry"] = {"retried": ["a.png", "b.png"], "job": "k-9"}
    ended = run("ctl", "retry", "last")
    assert (ended.out, "2 items tried again in job k-9" in ended.err) == ("a.png\nb.png\n", True)
    assert cluster.args("retry") == {"job": "last"}
    body = json.loads(run("ctl", "retry", "last", "a.png", "-o", "json").out)
    assert cluster.args("retry") == {"job": "last", "item": "a.png"}
    assert (body["kind"], body["job"], body["retried"]) == ("retry", "k-9", ["a.png", "b.png"])
    assert run("ctl", "retry", "last", "-o", "name").out == "k-9\n"


def test_remap_moves_one_task_or_lets_the_mapper_decide(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["remap"] = job(epoch=2)
    assert json.loads(run("ctl", "remap", "last", "-o", "json").out)["epoch"] == 2
    assert cluster.args("remap") == {"job": "last"}
    assert run("ctl", "remap", "last", "--task", "detect", "--to", "node3").code == 0
    assert cluster.args("remap") == {"job": "last", "task": "detect", "node": "node3"}


def test_remap_says_what_moved(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["remap"] = [job(moved={"detect": "node3", "merge": "node4"}), job(moved={})]
    assert "moved: detect to node3, merge to node4\n" in run("ctl", "remap", "last").err
    assert "nothing moved\n" in run("ctl", "remap", "last").err


@pytest.mark.parametrize("half", [("--task", "detect"), ("--to", "node3")])
def test_half_a_move_is_refused(cluster: FakeCluster, run: Run, half: tuple[str, str]) -> None:
    ended = run("ctl", "remap", "last", *half)
    assert (ended.code, cluster.calls) == (2, [])
    assert "belong together" in ended.err


def test_drain_and_forget_name_their_node(cluster: FakeCluster, run: Run) -> None:
    cluster.answers |= {"drain": {"node": "node2", "draining": True}, "forget": {"forgotten": "node3"}}
    assert run("ctl", "drain", "node2").out == "NODE    DRAINING\nnode2   yes\n"
    assert json.loads(run("ctl", "drain", "node2", "-o", "json").out)["draining"] is True
    assert run("ctl", "drain", "node2", "-o", "name").out == "node2\n"
    assert cluster.args("drain") == {"node": "node2"}
    assert run("ctl", "forget", "node3").out == "node3\n"
    assert json.loads(run("ctl", "forget", "node3", "-o", "json").out)["forgotten"] == "node3"
    assert cluster.args("forget") == {"node": "node3"}


PLAN = {
    "mapper": "heft", "makespan_s": 1.25, "mapping": {"detect": "node2", "merge": "node1"},
    "tasks": [{"task": "detect", "node": "node2", "start_s": 0.0, "finish_s": 1.0},
              {"task": "merge", "node": "node1", "start_s": 1.0, "finish_s": 1.25}],
}  # fmt: skip


def test_plan_uploads_the_app_and_shows_what_would_run_where(
    cluster: FakeCluster, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "pack", lambda folder: (AppSpec("example", []), b"bundle"))
    cluster.answers["plan"] = PLAN
    out = run("ctl", "plan", tmp_path / "example", "--mapper", "heft", "--seed", 3).out
    args = cluster.args("plan")
    assert cluster.blobs[args.pop("bundle")] == b"bundle"
    assert args == {"app": "example", "size": 6, "mapper": "heft", "seed": 3}
    assert out.splitlines()[1].split() == ["detect", "node2", "0s", "1s"]
    assert out.splitlines()[-1] == "heft: 1.25s for one item"
    body = json.loads(run("ctl", "plan", tmp_path / "example", "-o", "json").out)
    assert cluster.args("plan").keys() == {"app", "bundle", "size"}
    assert (body["kind"], body["mapping"], body["tasks"]) == ("plan", PLAN["mapping"], PLAN["tasks"])
    assert run("ctl", "plan", tmp_path / "example", "-o", "name").out == "detect=node2\nmerge=node1\n"


def test_an_app_that_cannot_be_placed_exits_3(
    cluster: FakeCluster, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "pack", lambda folder: (AppSpec("example", []), b"bundle"))
    cluster.answers["plan"] = JupiterError("task detect: no node allowed", "", 3)
    ended = run("ctl", "plan", tmp_path)
    assert (ended.code, ended.out) == (3, "")
    assert "hint: `jupiter ctl get nodes`" in ended.err


def test_tokens_are_listed_revoked_and_the_secret_rotated(cluster: FakeCluster, run: Run) -> None:
    row = {"id": "0123456789abcdef", "role": "worker", "state": "valid", "uses": 3, "used": 1, "created_by": "n1"}
    cluster.answers["token"] = {"items": [row], "revoked_nodes": [{"name": "bad"}], "rotations": 1}
    listed = run("ctl", "token", "list").out
    assert listed == "0123456789abcdef  worker    valid     1 of 3 uses, made at n1\nnode bad was revoked\n"
    cluster.answers["token"] = {"revoked": "0123456789abcdef"}
    assert run("ctl", "token", "revoke", "0123").out == "revoked 0123456789abcdef\n"
    cluster.answers["token"] = {"revoked": "bad", "node": "b" * 16, "token": "jup1.new", "rotations": 2}
    assert run("ctl", "token", "revoke", "--node", "bad").out.endswith("\njup1.new\n")
    cluster.answers["token"] = {"token": "jup1.new", "rotations": 2}
    assert run("ctl", "token", "rotate").out == "jup1.new\n"
    run("ctl", "token", "create", "--uses", "2", "--role", "submit")
    assert cluster.calls == [
        ("token", {"action": "list"}),
        ("token", {"action": "revoke", "id": "0123"}),
        ("token", {"action": "revoke", "node": "bad"}),
        ("token", {"action": "rotate"}),
        ("token", {"role": "submit", "uses": 2}),
    ]


def test_a_token_is_printed_alone(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["token"] = {"token": "jup1-abc"}
    assert run("ctl", "token").out == run("ctl", "token", "create", "--role", "admin").out == "jup1-abc\n"
    assert json.loads(run("ctl", "token", "-o", "json").out)["token"] == "jup1-abc"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["list", "--role", "admin"], "token list takes no --role"),
        (["revoke"], "revoke what?"),
        (["revoke", "0123", "--node", "n1"], "revoke what?"),
        (["create", "--node", "n1"], "token create takes no --node"),
        (["create", "--role", "root"], "there is no role 'root'"),
        (["create", "--expires", "soon"], "--expires soon: not a time"),
    ],
)
def test_words_that_make_no_sense_for_a_token_ask_no_agent(
    cluster: FakeCluster, run: Run, arguments: list[str], complaint: str
) -> None:
    ended = run("ctl", "token", *arguments)
    assert (ended.code, ended.out, cluster.calls) == (2, "", [])
    assert f"error: {complaint}" in ended.err
    assert "\nhint: " in ended.err


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["ctl", "sbumit"], "`jupiter ctl` has no command 'sbumit'", "did you mean submit?"),
        (["cttl"], "`jupiter` has no command 'cttl'", "did you mean ctl?"),
        (["local", "upp"], "`jupiter local` has no command 'upp'", "did you mean up?"),
        (["app", "lintt"], "`jupiter app` has no command 'lintt'", "did you mean lint?"),
        (["submit", "x"], "`jupiter` has no command 'submit'", "did you mean `jupiter ctl submit`?"),
        (["ctl", "lint"], "`jupiter ctl` has no command 'lint'", "did you mean `jupiter app lint`?"),
        ([], "Missing command.", "one of: bench, simulate, ctl, local, k8s, app; `jupiter --help` tells more"),
        (["ctl", "get", "jobs", "--watsh"], "No such option: --watsh", "did you mean --watch?"),
        (["ctl", "get", "jobs", "--token-fil", "x"], "No such option: --token-fil", "did you mean --token-file?"),
        (["ctl", "submit", "app", "--mappr", "heft"], "No such option: --mappr", "did you mean --mapper?"),
        (["ctl", "get", "jobs", "--zzz"], "No such option: --zzz", "see `jupiter ctl get --help`"),
        (["ctl", "wait"], "Missing argument 'JOB'.", "see `jupiter ctl wait --help`"),
    ],
)
def test_a_wrong_word_is_answered_with_what_was_meant(
    cluster: FakeCluster, run: Run, arguments: list[str], error: str, hint: str
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out, cluster.calls) == (2, "", [])
    assert ended.err == f"error: {error}\nhint: {hint}\n"


def test_a_command_that_is_nothing_like_any_lists_them(run: Run) -> None:
    assert "hint: known: cancel, close, describe, doctor, drain, events" in run("ctl", "xyzzy").err


def test_ctrl_c_while_results_are_followed_says_that_the_job_goes_on(cluster: FakeCluster, run: Run) -> None:
    cluster.answers |= {"get": [{"items": [job()]}], "results": KeyboardInterrupt()}
    ended = run("ctl", "results", "last", "--follow")
    assert (ended.code, "detached: job j-1f2e goes on" in ended.err) == (130, True)


def test_lists_that_come_in_pages_are_shown_whole(cluster: FakeCluster, run: Run) -> None:
    rows = [job(id=f"j-{n}") for n in range(5)]
    pages = {0: (rows[:2], 2), 2: (rows[2:4], 4), 4: (rows[4:], None)}

    def answer(args: dict[str, Any]) -> dict[str, Any]:
        items, following = pages[args.get("offset", 0)]
        return {"items": items, **({"next": following} if following else {})}

    cluster.answers["get"] = answer
    shown = json.loads(run("ctl", "get", "jobs", "-o", "json").out)
    assert ([each["id"] for each in shown["items"]], "next" in shown) == ([row["id"] for row in rows], False)
