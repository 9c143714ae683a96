"""What `submit` says beside the job: warnings, an interruption, a lost home, a job without inputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_fakes import FakeCluster, Run, job

from jupiter_agent.cli.ctl import bundles
from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import UnreachableError

DONE = {"state": "completed", "items_done": 2, "makespan_s": 1.5}
IDLE = {"state": "running", "items_in": 0, "items_done": 0}


@pytest.fixture
def spec() -> AppSpec:
    return AppSpec("example", [], warnings=["app_config.yaml:3: `colour` is ignored"])


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: AppSpec) -> Path:
    monkeypatch.setattr(bundles, "pack", lambda folder: (spec, b"bundle"))
    (tmp_path / "example").mkdir()
    (tmp_path / "a.png").write_text("a")
    return tmp_path / "example"


def test_warnings_of_the_linter_and_of_the_agent_are_said_on_stderr(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers["submit"] = job(warnings=["the app wishes hosts that are not here: n9"])
    ended = run("ctl", "submit", app, "--input", "a.png", "-o", "json")
    assert (ended.code, json.loads(ended.out)["id"]) == (0, "j-1f2e")
    assert ended.err.splitlines() == [
        "warning: app_config.yaml:3: `colour` is ignored",
        "warning: the app wishes hosts that are not here: n9",
    ]


def test_strict_hosts_are_sent_when_wanted(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers["submit"] = job()
    assert run("ctl", "submit", app, "--input", "a.png", "--strict-hosts").code == 0
    assert cluster.args("submit")["strict_hosts"] is True


def test_inputs_with_places_are_put_there_after_the_job_was_mapped_for_them(
    cluster: FakeCluster, run: Run, app: Path, tmp_path: Path
) -> None:
    (tmp_path / "b.png").write_text("bbb")
    rows = [{"name": f"node{n}", "state": "alive", "address": f"host{n}:7000"} for n in (2, 3)]
    cluster.answers |= {
        "submit": job(),
        "get": lambda args: {"items": [row for row in rows if row["name"] == args["id"]]},
        "put": {"accepted": ["a.png", "b.png"], "ignored": []},
        "close": job(state="running", items_in=2),
    }
    options = ["--input", "a.png", "--input", "b.png", "--at", "left=node2", "--at", "node3", "--remap", "lazy"]
    ended = run("ctl", "--dir", "c", "submit", app, *options, "-o", "json")
    assert (ended.code, json.loads(ended.out)["items_in"]) == (0, 2)
    sent = cluster.args("submit")
    assert (sent["input_at"], sent["remap"]) == ({"left": "node2", "": "node3"}, "lazy")
    assert (sent["inputs"], sent["keep_open"], sent["input_bytes"]) == ([], True, 2)
    puts = [args for verb, args in cluster.calls if verb == "put"]
    assert [(args["at"], {row.get("task") for row in args["inputs"]}) for args in puts] == [
        ("node2", {"left"}),
        ("node3", {None}),
    ]
    assert {peers for where in cluster.reached for peers in where.peers} >= {"host2:7000", "host3:7000"}
    assert [verb for verb, _ in cluster.calls][-1] == "close"


def test_places_of_inputs_that_follow_are_announced_and_the_intake_stays_as_asked(
    cluster: FakeCluster, run: Run, app: Path
) -> None:
    cluster.answers["submit"] = job()
    assert run("ctl", "submit", app, "--keep-open", "--at", "node3").code == 0
    assert cluster.args("submit")["input_at"] == {"": "node3"}
    assert [verb for verb, _ in cluster.calls] == ["submit"]


@pytest.mark.parametrize("word", ["", "left=", "=node2"])
def test_a_place_that_is_none_is_refused(cluster: FakeCluster, run: Run, app: Path, word: str) -> None:
    ended = run("ctl", "submit", app, "--at", word)
    assert (ended.code, cluster.calls) == (2, [])
    assert "neither NODE nor ENTRY=NODE" in ended.err


def test_ctrl_c_before_the_answer_says_that_the_job_may_have_been_accepted(
    cluster: FakeCluster, run: Run, app: Path
) -> None:
    cluster.answers["submit"] = KeyboardInterrupt()
    ended = run("ctl", "submit", app, "--input", "a.png", "--wait", "-o", "json")
    assert (ended.code, ended.out) == (130, "")
    assert "interrupted; the job may have been accepted: jupiter ctl get jobs\n" in ended.err


def test_a_home_lost_while_waiting_is_an_error_that_says_the_job_was_accepted(
    cluster: FakeCluster, run: Run, app: Path
) -> None:
    cluster.answers |= {"submit": job(), "get": UnreachableError("no agent answers at n1:1")}
    ended = run("ctl", "submit", app, "--input", "a.png", "--wait")
    assert (ended.code, ended.out) == (4, "")
    assert "job j-1f2e was accepted and will go on without us" in ended.err
    assert "error: no agent answers" in ended.err


def test_waiting_for_a_job_without_inputs_says_how_it_gets_some(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers |= {"submit": job(**IDLE), "get": {"items": [job(**IDLE)]}}
    ended = run("ctl", "submit", app, "--wait")
    assert ended.code == 0
    assert "nothing was put yet: `jupiter ctl put j-1f2e PATH...`, then `jupiter ctl close j-1f2e`" in ended.err


@pytest.mark.parametrize("spec", [AppSpec("example", [], home_task=TaskSpec("home", "home.py"))])
def test_an_app_whose_home_script_makes_items_needs_no_such_advice(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers |= {"submit": job(**IDLE), "get": {"items": [job(**DONE)]}}
    assert "nothing was put" not in run("ctl", "submit", app, "--wait").err


def test_waiting_no_time_at_all_for_a_job_that_has_nothing_open_succeeds(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = {"items": [job(items_done=2)]}
    assert run("ctl", "wait", "last", "--timeout", 0).code == 0
    cluster.answers["get"] = {"items": [job(items_done=1)]}
    assert run("ctl", "wait", "last", "--timeout", 0).code == 6


def test_an_input_whose_name_is_not_utf_8_is_a_usage_error(cluster: FakeCluster, run: Run, app: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    Path(name).write_text("x")
    ended = run("ctl", "submit", app, "--input", name)
    assert (ended.code, cluster.opened) == (2, 0)
    assert "the name cannot be an item's\nhint: UTF-8" in ended.err


def test_any_other_argument_that_is_not_utf_8_is_a_usage_error_too(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed")
    ended = run("ctl", "get", "jobs", "caf\udce9")
    assert (ended.code, ended.err.splitlines()[0]) == (2, "error: not UTF-8: 'caf\\udce9'")
