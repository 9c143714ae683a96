"""`doctor`: every finding says what is wrong and how to mend it; 0 only if nothing is."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeCluster, Run

from jupiter_agent import __version__
from jupiter_agent.adapters.sandbox import Sandbox
from jupiter_agent.cli import checks, places, ports, reach
from jupiter_agent.cli.checks import MIB, Check
from jupiter_agent.cli.reach import Where
from jupiter_agent.errors import UnauthorisedError, UnreachableError, UsageError

ALIVE = {"name": "node1", "state": "alive", "reachable": True, "address": "h:1"}


@pytest.fixture(autouse=True)
def fine_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of which only what a test changes is wrong."""
    monkeypatch.setattr(checks, "MACHINE", (lambda: Check("machine", True, "fine"),))
    monkeypatch.setattr(reach, "SYSTEM_DIR", tmp_path / "system")
    monkeypatch.setenv("JUPITER_STATE_DIR", str(tmp_path / "machine"))
    monkeypatch.setattr(ports, "holder", lambda port: None)


@pytest.fixture
def healthy(cluster: FakeCluster) -> FakeCluster:
    """A cluster of which nothing is wrong."""
    body = {"name": "node1", "time": time.time(), "version": __version__}
    done = [{"name": "journal", "ok": True, "detail": "writes take 1 ms", "hint": ""}]
    cluster.answers |= {"get": {"items": [ALIVE]}, "diagnose": {**body, "checks": done}}
    return cluster


def found(run: Run, *arguments: object) -> dict[str, dict[str, Any]]:
    ended = run("ctl", *arguments, "doctor", "-o", "json")
    body = json.loads(ended.out)
    assert body["ok"] == (ended.code == 0) == all(item["ok"] for item in body["items"])
    assert all(item["hint"] for item in body["items"] if not item["ok"]), "what is wrong can be mended"
    return {item["name"]: item for item in body["items"]}


def test_a_healthy_machine_and_cluster_exit_0(healthy: FakeCluster, run: Run) -> None:
    ended = run("ctl", "doctor")
    assert ended.code == 0
    assert "ok    machine: fine\n" in ended.out
    assert "ok    node1: journal: writes take 1 ms\n" in ended.out
    assert "checks: nothing is wrong" in ended.err
    assert run("ctl", "doctor", "-o", "name").out == ""
    assert found(run)["member node1"]["where"] == "cluster"


@pytest.mark.parametrize(
    ("change", "name", "hint"),
    [
        ({"state": "suspect"}, "member node1", "look at its load"),
        ({"state": "dead"}, "member node1", "jupiter ctl forget node1"),
        ({"reachable": False}, "member node1", "--advertise"),
    ],
)
def test_a_member_that_is_not_well_is_wrong(
    healthy: FakeCluster, run: Run, change: dict[str, Any], name: str, hint: str
) -> None:
    healthy.answers["get"] = {"items": [ALIVE | change]}
    assert hint in found(run)[name]["hint"]
    assert run("ctl", "doctor").code == 1
    assert run("ctl", "doctor", "-o", "name").out == name + "\n"


def test_what_the_agent_finds_wrong_is_shown_with_its_hint(healthy: FakeCluster, run: Run) -> None:
    bad = {"name": "journal", "ok": False, "detail": "disk full", "hint": "free space"}
    healthy.answers["diagnose"] |= {"checks": [bad], "time": time.time() - 60, "version": "0.0.1"}
    ended = run("ctl", "doctor")
    assert ended.code == 1
    assert "wrong node1: journal: disk full\n      hint: free space\n" in ended.out
    checks_by_name = found(run)
    assert checks_by_name["clock difference"]["detail"].endswith("behind this machine's")
    assert not checks_by_name["clock difference"]["ok"]
    assert (checks_by_name["version"]["ok"], "install the same" in checks_by_name["version"]["hint"]) == (True, True)


def test_an_older_agent_is_asked_for_its_members_only(healthy: FakeCluster, run: Run) -> None:
    healthy.answers["diagnose"] = UsageError("this agent does not know 'diagnose'")
    checks_by_name = found(run)
    assert checks_by_name["diagnosis"]["ok"]
    assert "member node1" in checks_by_name


def test_a_refused_key_is_wrong(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = UnauthorisedError("the token is of another cluster", "another key: --token-file FILE")
    assert found(run)["key"]["hint"] == "another key: --token-file FILE"
    cluster.answers["get"] = UsageError("--peer: 'x' is not HOST:PORT", "for example --peer 10.0.0.5:7421")
    assert "not HOST:PORT" in found(run)["options"]["detail"]


def test_nobody_to_ask_is_wrong_only_where_somebody_was_meant(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = UnreachableError("no agent answers", "start it")
    assert found(run)["agent"]["ok"]
    assert not found(run, "--peer", "h:1")["agent"]["ok"]


# --- folders and ports of this machine ---------------------------------------------------------------------------


def make_agent(folder: Path, pid: int, address: str = "127.0.0.1:7421") -> Path:
    folder.mkdir(parents=True, mode=0o700)
    content = {"pid": pid, "name": folder.name, "address": address}
    (folder / "agent.json").write_text(json.dumps(content))
    (folder / "token").touch(mode=0o600)
    return folder


def test_keys_that_others_can_read_are_wrong_and_the_hint_is_a_command(tmp_path: Path) -> None:
    folder = make_agent(tmp_path / "node1", 1)
    assert places.state_folder(folder).ok
    (folder / "token").chmod(0o644)
    check = places.state_folder(folder)
    assert (check.ok, check.hint) == (False, f"chmod go= {folder}/token")
    folder.chmod(0o755)
    assert places.state_folder(folder).hint == f"chmod go= {folder} {folder}/token"


def test_an_agent_runs_or_does_not_and_its_port_may_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_agent(tmp_path / "node1", os.getpid())
    monkeypatch.setattr(places, "_is_agent", lambda pid: True)
    assert places.agent(folder).detail == f"runs as process {os.getpid()} at 127.0.0.1:7421"
    monkeypatch.setattr(places, "_is_agent", lambda pid: False)
    assert "jupiter local start node1" in places.agent(folder).hint
    monkeypatch.setattr(ports, "holder", lambda port: (77, "some server"))
    check = places.agent(folder)
    assert (check.ok, check.detail) == (False, "does not run, and its port 7421 is taken by some server (process 77)")


def test_the_folders_that_are_meant_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("node1", "node2"):
        make_agent(tmp_path / "c" / name, 1)
    where = Where(dir=tmp_path / "c", env={})
    assert [path.name for path in reach.state_folders(where)] == ["node1", "node2"]
    assert [check.name for check in places.places(where)] == [
        "state folder node1", "agent node1", "state folder node2", "agent node2", "disk"
    ]  # fmt: skip
    assert list(places.places(Where(peers=("h:1",), env={}))) == []


def test_before_the_first_start_folder_and_ports_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    where = Where(env={"JUPITER_STATE_DIR": str(tmp_path / "new" / "deep"), "JUPITER_BIND": "0.0.0.0:7000"})
    by_name = {check.name: check for check in places.places(where)}
    assert by_name["state folder"].ok
    assert by_name["ports"].detail == "7000 and 7001 are free"
    monkeypatch.setattr(ports, "holder", lambda port: (None, "a process of another user") if port == 7001 else None)
    assert "7001 is taken by a process of another user" in {c.name: c for c in places.places(where)}["ports"].detail
    (wrong,) = places.places(Where(env={"JUPITER_BIND": "nonsense", "JUPITER_STATE_DIR": str(tmp_path)}))
    assert (wrong.name, wrong.ok) == ("settings", False)


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_who_holds_a_port_is_named(monkeypatch: pytest.MonkeyPatch, listener: int) -> None:
    monkeypatch.undo()
    held = ports.holder(listener)
    assert held is not None
    assert held[0] == os.getpid()
    assert "py" in held[1]


# --- the machine itself ------------------------------------------------------------------------------------------


def test_every_check_of_a_machine_gives_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(checks.sandbox, "find", lambda mode, folder: Sandbox("bubblewrap"))
    made = list(checks.machine())
    assert [check.name for check in made] == [
        "python", "libraries", "open files", "memory", "shared memory", "clock", "isolation"
    ]  # fmt: skip
    assert all(check.ok for check in made if check.name in ("python", "libraries"))
    assert all(check.detail for check in made)


def wrong_clock(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(checks.time, "time", lambda: 1000.0)
    return checks.clock()


def drifting_clock(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(checks, "_adjtimex", lambda: checks.TIME_ERROR)
    return checks.clock()


def few_files(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (64, 64))
    return checks.open_files()


def some_files(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (1024, 65536))
    return checks.open_files()


def no_shm(monkeypatch: pytest.MonkeyPatch) -> Check:
    return checks.shared_memory(Path("/nowhere"))


def no_library(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(checks, "LIBRARIES", ("no_such_library",))
    return checks.libraries()


def little_memory(monkeypatch: pytest.MonkeyPatch) -> Check:
    return checks.bounded("memory", "1 MB", MIB, (checks.MEMORY, checks.MEMORY_WISHED), "stop something")


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        (wrong_clock, "wrong", "it says 1970-01-01"),
        (drifting_clock, "note", "nothing says"),
        (few_files, "wrong", "64 a process"),
        (some_files, "note", "1024 a process; up to 65536"),
        (no_shm, "note", "/nowhere is missing"),
        (no_library, "wrong", "cannot be loaded: no_such_library"),
        (little_memory, "wrong", "1 MB"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[pytest.MonkeyPatch], Check], status: str, said: str
) -> None:
    check = make(monkeypatch)
    assert (check.status, said in check.detail, bool(check.hint)) == (status, True, True)


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        (Sandbox("bubblewrap"), "ok", "bubblewrap works here"),
        (Sandbox(missing="bubblewrap is not installed", hint="install it"), "note", "bubblewrap is not installed"),
    ],
)
def test_what_tasks_run_in_is_said_and_what_would_be_better(
    monkeypatch: pytest.MonkeyPatch, found: Sandbox, status: str, said: str
) -> None:
    monkeypatch.setattr(checks.sandbox, "find", lambda mode, folder: found)
    check = checks.isolation()
    assert (check.status, check.hint, said in check.detail) == (status, found.hint, True)
