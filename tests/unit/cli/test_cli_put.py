"""Inputs for a running job: at which node they enter, and every file of a folder as it appears."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeCluster, Run, job

from jupiter_agent.cli.ctl.folder import Folder, is_being_written
from jupiter_agent.errors import EXIT_USAGE, JupiterError, UnauthorisedError, UnreachableError, UsageError

NODE3 = {"name": "node3", "id": "33", "state": "alive", "address": "10.0.0.3:7421"}


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    folder = tmp_path / "camera"
    folder.mkdir()
    return folder


class Script:
    """What happens while the command sleeps, one step per look of it; Ctrl-C after the last."""

    def __init__(self, cluster: FakeCluster, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)
        self._cluster, self._sleep = cluster, cluster.sleep
        cluster.sleep = self.sleep  # type: ignore[method-assign]

    def sleep(self, seconds: float) -> None:
        self._sleep(seconds)
        if not self._steps:
            raise KeyboardInterrupt
        self._steps.pop(0)()


def nothing() -> None:
    """One more look."""


def accept(args: dict[str, Any]) -> dict[str, Any]:
    return {"accepted": [item["name"] for item in args["inputs"]], "ignored": []}


def get(args: dict[str, Any]) -> dict[str, Any]:
    return {"items": [NODE3] if args["kind"] == "nodes" else [job()]}


@pytest.fixture
def fed(cluster: FakeCluster) -> FakeCluster:
    """A cluster with one running job that takes everything."""
    cluster.answers |= {"get": get, "put": accept, "describe": job(intake_open=True)}
    return cluster


def names(cluster: FakeCluster) -> list[str]:
    return [item["name"] for verb, args in cluster.calls if verb == "put" for item in args["inputs"]]


def test_put_at_a_node_asks_that_nodes_own_agent_with_the_same_key(fed: FakeCluster, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a")
    ended = run("ctl", "--dir", "c", "put", "last", "a.png", "--at", "node3", "--task", "left", "-o", "json")
    assert ended.code == 0
    asked, entered = fed.reached
    assert (asked.peers, entered.peers) == ((), ("10.0.0.3:7421",))
    assert entered.dir == asked.dir == Path("c")
    assert fed.args("put")["at"] == "node3"
    assert fed.args("put")["inputs"][0]["task"] == "left"
    assert json.loads(ended.out)["accepted"] == ["a.png"]


@pytest.mark.parametrize(
    ("rows", "code", "complaint"),
    [([], 2, "which node"), ([NODE3, NODE3], 2, "it fits node3, node3"), ([NODE3 | {"state": "dead"}], 4, "is dead")],
)
def test_put_at_a_node_that_cannot_be_asked_sends_nothing(
    fed: FakeCluster, run: Run, tmp_path: Path, rows: list[dict[str, Any]], code: int, complaint: str
) -> None:
    (tmp_path / "a.png").write_text("a")
    fed.answers["get"] = {"items": rows}
    ended = run("ctl", "put", "last", "a.png", "--at", "node3")
    assert (ended.code, complaint in ended.err, fed.blobs) == (code, True, {})


def test_put_of_nothing_says_what_could_be_put(cluster: FakeCluster, run: Run) -> None:
    ended = run("ctl", "put", "last")
    assert (ended.code, cluster.opened) == (2, 0)
    assert "--watch-dir" in ended.err


def test_a_watched_folder_gives_each_file_once_it_is_complete(fed: FakeCluster, run: Run, camera: Path) -> None:
    (camera / "1.png").write_text("there before")
    (camera / ".2.png.part").write_text("half")
    grow = camera / "3.png"
    Script(
        fed, nothing, lambda: (camera / ".2.png.part").rename(camera / "2.png"), lambda: grow.write_text("h"),
        lambda: grow.write_text("half of it"), nothing, nothing,
    )  # fmt: skip
    ended = run("ctl", "put", "last", "--watch-dir", camera)
    assert (ended.code, ended.out.split()) == (0, ["1.png", "2.png", "3.png"])
    assert names(fed) == ["1.png", "2.png", "3.png"]
    assert fed.args("put")["job"] == "j-1f2e", "the id: `last` would be another job later"
    assert fed.blobs[fed.args("put")["inputs"][0]["sha256"]] == b"half of it"
    assert "3 files put into job j-1f2e; the job goes on" in ended.err


def test_a_file_that_somebody_still_writes_is_not_put(fed: FakeCluster, run: Run, camera: Path) -> None:
    with (camera / "open.png").open("w") as file:
        file.write("half")
        file.flush()
        if not is_being_written(camera / "open.png"):
            pytest.skip("this file system knows no leases")
        Script(fed, nothing, nothing, nothing)
        assert run("ctl", "put", "last", "--watch-dir", camera).code == 0
    assert names(fed) == []
    assert not is_being_written(camera / "open.png")


def test_a_watch_survives_the_agent_it_asks_and_says_so_once(fed: FakeCluster, run: Run, camera: Path) -> None:
    (camera / "1.png").write_text("1")
    lost = UnreachableError("the agent at h:1 is gone")
    fed.answers["put"] = [lost, lost, JupiterError("no home here any more", "", 4), accept]
    Script(fed, nothing, *[nothing] * 4)
    ended = run("ctl", "put", "last", "--watch-dir", camera, "-o", "json")
    assert ended.code == 0
    assert [json.loads(line)["accepted"] for line in ended.out.splitlines()] == [["1.png"]]
    assert names(fed) == ["1.png"] * 4
    assert fed.opened >= 4, "each time whoever answers is asked"
    assert ended.err.count("trying again") == 2


def test_a_node_that_is_watched_for_is_waited_for_when_it_dies(fed: FakeCluster, run: Run, camera: Path) -> None:
    states = iter(["alive", "dead", "dead", "alive"])

    def nodes(args: dict[str, Any]) -> dict[str, Any]:
        return {"items": [NODE3 | {"state": next(states)}]} if args["kind"] == "nodes" else {"items": [job()]}

    fed.answers |= {"get": nodes, "put": [UnreachableError("gone"), accept]}
    (camera / "1.png").write_text("1")
    Script(fed, *[nothing] * 5)
    ended = run("ctl", "put", "last", "--watch-dir", camera, "--at", "node3")
    assert (ended.code, ended.out) == (0, "1.png\n")
    assert {args["at"] for verb, args in fed.calls if verb == "put"} == {"node3"}


def test_a_refused_file_is_said_and_the_others_are_put(fed: FakeCluster, run: Run, camera: Path) -> None:
    def put(args: dict[str, Any]) -> dict[str, Any]:
        if any(item["name"] == "bad" for item in args["inputs"]):
            raise JupiterError("item 'bad' is there with other bytes", "rename the file", EXIT_USAGE)
        return accept(args)

    fed.answers["put"] = put
    for name in ("a", "bad", "c"):
        (camera / name).write_text(name)
    Script(fed, nothing, nothing)
    ended = run("ctl", "put", "last", "--watch-dir", camera)
    assert (ended.code, ended.out) == (0, "a\nc\n")
    assert f"error: {camera}/bad: item 'bad' is there with other bytes\nhint: rename" in ended.err
    assert "2 files put into job j-1f2e, 1 refused" in ended.err


def test_a_refusal_while_the_home_is_replaced_is_not_the_last_word(fed: FakeCluster, run: Run, camera: Path) -> None:
    (camera / "a").write_text("a")
    fed.answers["put"] = [UsageError("there is no job 'j-1f2e'"), accept]
    Script(fed, nothing, nothing)
    ended = run("ctl", "put", "last", "--watch-dir", camera)
    assert (ended.code, ended.out) == (0, "a\n")


@pytest.mark.parametrize("end", [{"intake_open": False}, {"state": "completed"}])
def test_a_closed_intake_ends_the_watch_with_its_error(
    fed: FakeCluster, run: Run, camera: Path, end: dict[str, Any]
) -> None:
    (camera / "a").write_text("a")
    fed.answers |= {"put": UsageError("the intake is closed", "submit again"), "describe": job(**end)}
    Script(fed, nothing, nothing)
    ended = run("ctl", "put", "last", "--watch-dir", camera)
    assert (ended.code, "error: the intake is closed\nhint: submit again" in ended.err) == (2, True)
    assert "0 files put" in ended.err


def test_a_watch_ends_with_its_job(fed: FakeCluster, run: Run, camera: Path) -> None:
    fed.answers["get"] = [{"items": [job()]}, {"items": [job(state="cancelled")]}]
    ended = run("ctl", "put", "last", "--watch-dir", camera)
    assert (ended.code, "the job is over" in ended.err) == (0, True)


def test_a_key_that_is_refused_ends_the_watch(fed: FakeCluster, run: Run, camera: Path) -> None:
    (camera / "a").write_text("a")
    fed.answers["put"] = UnauthorisedError("refused", "another key")
    assert run("ctl", "put", "last", "--watch-dir", camera).code == 5


def test_a_missing_folder_is_refused_before_anything_is_asked(cluster: FakeCluster, run: Run) -> None:
    ended = run("ctl", "put", "last", "--watch-dir", "nowhere")
    assert (ended.code, "no such folder" in ended.err, cluster.calls) == (2, True, [])


def test_a_folder_gives_what_changed_again_and_forgets_what_is_gone(camera: Path) -> None:
    folder = Folder(camera)
    (camera / "a").write_text("1")
    (camera / "sub").mkdir()
    assert [folder.complete(), folder.complete(), folder.complete()] == [[], [camera / "a"], []]
    (camera / "a").write_text("22")
    assert [folder.complete(), folder.complete()] == [[], [camera / "a"]]
    (camera / "a").unlink()
    assert folder.complete() == []
    (camera / "a").write_text("22")
    os.utime(camera / "a", (1, 1))
    assert [folder.complete(), folder.complete()] == [[], [camera / "a"]]
    (camera / "sub").rmdir()
    (camera / "a").unlink()
    camera.rmdir()
    with pytest.raises(UsageError, match="No such file"):
        folder.complete()
