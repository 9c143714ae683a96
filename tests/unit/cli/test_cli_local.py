"""Local clusters, with agents that only pretend: who is started, who is signalled, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeCluster, Run

from jupiter_agent.cli import local, local_cluster, local_node, procfs
from jupiter_agent.cli.start_guard import MARK

FAKE_AGENT = Path(__file__).with_name("fake_agent.py")


@pytest.fixture
def folder(cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster folder whose agents are fakes that all see each other; nothing of them outlives the test."""
    monkeypatch.setattr(local_node, "AGENT", (sys.executable, "-S", str(FAKE_AGENT)))
    monkeypatch.setattr(local_cluster, "STOP_LIMIT_S", 0.3)
    monkeypatch.setenv("JUPITER_JOIN", "a-cluster-of-the-user")
    names = [{"name": f"node{number}", "state": "alive"} for number in range(1, 4)]
    cluster.answers["get"] = {"items": names}
    yield tmp_path / "c"
    local_cluster.LocalCluster(tmp_path / "c").stop()


def status(run: Run, folder: Path) -> list[dict[str, Any]]:
    return list(json.loads(run("local", "status", "--dir", folder, "-o", "json").out)["items"])


def agents(folder: Path) -> list[int]:
    """Every process, of whatever parent, whose command line names the folder."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if str(folder).encode() in _command(pid) and procfs.start_ticks(pid) is not None]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_cluster_goes_up_can_lose_and_regain_a_node_and_goes_down(folder: Path, run: Run) -> None:
    assert run("local", "up", "--nodes", 3, "--dir", folder).code == 0
    items = status(run, folder)
    assert [item["name"] for item in items] == ["node1", "node2", "node3"]
    assert [set(item) for item in items] == [{"name", "id", "pid", "address", "state_dir", "running"}] * 3
    assert sorted(item["pid"] for item in items) == sorted(agents(folder))
    assert all(os.getsid(item["pid"]) == item["pid"] for item in items), "agents have a session of their own"

    again = run("local", "up", "--nodes", 3, "--dir", folder)
    assert (again.code, "already run" in again.err) == (2, True)

    assert run("local", "kill", "node2", "--dir", folder).code == 0
    assert [item["running"] for item in status(run, folder)] == [True, False, True]
    assert status(run, folder)[1]["pid"] is None
    assert run("local", "start", "node2", "--dir", folder).code == 0
    assert [item["running"] for item in status(run, folder)] == [True, True, True]
    assert status(run, folder)[1]["address"] == items[1]["address"]
    environment = json.loads((folder / "node2" / "environment.json").read_text("utf-8"))
    assert MARK in environment, "it is guarded while it starts"

    assert run("local", "down", "--dir", folder).code == 0
    assert agents(folder) == []
    assert run("local", "down", "--dir", folder).code == 0, "down may be repeated"


def test_the_founders_token_reaches_the_others_by_file_and_nobody_else(folder: Path, run: Run) -> None:
    assert run("local", "up", "--nodes", 2, "--dir", folder).code == 0
    assert (folder / "token").read_text() == "token of node1"
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    environments = [json.loads((folder / name / "environment.json").read_text()) for name in ("node1", "node2")]
    assert [e.get("JUPITER_TOKEN_FILE") for e in environments] == [None, str(folder / "token")]
    assert "JUPITER_JOIN" not in environments[0]


def test_agents_get_two_free_ports_each_below_the_kernels_own(folder: Path, run: Run) -> None:
    assert run("local", "up", "--nodes", 3, "--dir", folder).code == 0
    ports = [int(item["address"].rpartition(":")[2]) for item in status(run, folder)]
    assert len({*ports, *(port + 1 for port in ports)}) == 6
    assert max(ports) < 32767


def test_when_an_agent_dies_at_start_its_last_words_are_shown_and_none_is_left(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_AGENT", "node3-dies")
    ended = run("local", "up", "--nodes", 3, "--dir", folder)
    assert ended.code == 1
    assert "error: node3 ended at start with 1\n  error: port 7 is taken" in ended.err
    assert agents(folder) == []


def test_when_not_all_come_up_in_time_none_is_left(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_AGENT", "node2-hides")
    monkeypatch.setattr(local_cluster, "START_LIMIT_S", 0.5)
    ended = run("local", "up", "--nodes", 2, "--dir", folder)
    assert (ended.code, agents(folder)) == (1, [])
    assert "not all agents see each other" in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_while_starting_none_is_left(
    folder: Path, run: Run, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupt(args: dict[str, Any]) -> dict[str, Any]:
        os.kill(os.getpid(), number)
        return {"items": []}

    cluster.answers["get"] = interrupt
    assert run("local", "up", "--nodes", 2, "--dir", folder).code == 130
    assert agents(folder) == []


def test_an_agent_whose_program_is_still_being_loaded_is_stopped_too(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "names_folder", lambda *_: False)  # as /proc/PID/cmdline is empty for a moment
    monkeypatch.setenv("FAKE_AGENT", "node3-dies")
    assert run("local", "up", "--nodes", 3, "--dir", folder).code == 1
    assert agents(folder) == []


def test_in_the_foreground_a_signal_stops_all(
    folder: Path, run: Run, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.time, "sleep", lambda s: os.kill(os.getpid(), signal.SIGTERM) if s == 0.2 else None)
    ended = run("local", "up", "--nodes", 2, "--dir", folder, "--foreground")
    assert ended.code == 0
    assert ended.out.splitlines()[0].split() == ["NAME", "RUNNING", "PID", "ADDRESS"]
    assert agents(folder) == []


def test_in_the_foreground_all_are_stopped_when_the_terminal_written_to_is_gone(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hung_up(text: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local, "say", hung_up)
    assert run("local", "up", "--nodes", 2, "--dir", folder, "--foreground").code == 1
    assert agents(folder) == []


def test_a_hangup_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with local.Signals().caught():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


STARTER = """
import os, signal, subprocess, sys
from jupiter_agent.cli.start_guard import start_guard
with start_guard() as mark:
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    print(subprocess.Popen(command, env=mark, stdout=-3, stderr=-3).pid, flush=True)
    {then}
"""


@pytest.mark.parametrize(
    ("then", "survives"), [("pass", True), ("raise KeyboardInterrupt", True), ("os.kill(os.getpid(), 9)", False)]
)
def test_what_started_ends_with_its_starter_only_when_that_is_killed_before_it_let_go(
    then: str, survives: bool
) -> None:
    command = [sys.executable, "-c", STARTER.format(then=then)]
    starter = subprocess.run(command, capture_output=True, text=True, check=False)
    pid = int(starter.stdout)
    began = time.monotonic()
    while procfs.start_ticks(pid) is not None and time.monotonic() - began < (0.6 if survives else 5):
        time.sleep(0.02)
    assert (procfs.start_ticks(pid) is not None) is survives
    if survives:
        os.kill(pid, signal.SIGKILL)


def test_an_agent_that_ignores_sigterm_is_killed(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_AGENT", "stubborn")
    assert run("local", "up", "--nodes", 1, "--dir", folder).code == 0
    assert run("local", "down", "--dir", folder).code == 0
    assert agents(folder) == []


def test_an_unknown_node_is_a_usage_error_that_suggests_one(folder: Path, run: Run) -> None:
    assert run("local", "up", "--nodes", 2, "--dir", folder).code == 0
    ended = run("local", "kill", "nod2", "--dir", folder)
    assert (ended.code, "hint: did you mean node2?" in ended.err) == (2, True)


def test_the_way_to_the_folder_does_not_matter(folder: Path, run: Run) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert run("local", "up", "--nodes", 1, "--dir", folder.parent / "link").code == 0
    assert run("local", "down", "--dir", "c").code == 0
    assert agents(folder) == []


def test_status_of_nothing_is_an_empty_list(tmp_path: Path, run: Run) -> None:
    assert status(run, tmp_path / "none") == []
    assert run("local", "down", "--dir", tmp_path / "none").code == 0
    assert not (tmp_path / "none").exists()


def test_a_damaged_cluster_file_is_a_usage_error(tmp_path: Path, run: Run) -> None:
    (tmp_path / "cluster.json").write_text('{"nodes": 7}')
    assert run("local", "status", "--dir", tmp_path).code == 2


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    with subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_a_pid_that_was_used_again_is_never_signalled(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    ticks = procfs.start_ticks(stranger.pid)
    assert ticks is not None
    for recorded in (procfs.Started(stranger.pid, ticks), procfs.Started(stranger.pid, ticks - 1)):
        assert not procfs.is_running(recorded, tmp_path)
        assert not procfs.send_signal(recorded, tmp_path, signal.SIGKILL)
    assert stranger.poll() is None


def fake_proc(tmp_path: Path, state: str = "S", ticks: int = 77, command: bytes = b"") -> Path:
    (tmp_path / "42").mkdir()
    after = " ".join([state, *["0"] * 18, str(ticks), "0"])
    (tmp_path / "42" / "stat").write_text(f"42 (odd) name (x) {after}\n")
    (tmp_path / "42" / "cmdline").write_bytes(command)
    return tmp_path


OURS = b"python\0-m\0x\0run\0--state-dir\0/c/node1\0"


@pytest.mark.parametrize(
    ("state", "ticks", "command", "running"),
    [
        ("S", 77, OURS, True),
        ("R", 77, OURS, True),
        ("Z", 77, OURS, False),
        ("S", 78, OURS, False),
        ("S", 77, OURS.replace(b"node1", b"node10"), False),
        ("S", 77, b"less\0/c/node1\0", False),
        ("S", 77, b"", False),
    ],
)
def test_a_process_is_ours_only_with_its_start_time_and_its_folder(
    tmp_path: Path, state: str, ticks: int, command: bytes, running: bool
) -> None:
    proc = fake_proc(tmp_path, state, ticks, command)
    assert procfs.is_running(procfs.Started(42, 77), Path("/c/node1"), proc) is running


def test_a_process_that_is_not_there_does_not_run(tmp_path: Path) -> None:
    assert not procfs.is_running(procfs.Started(42, 77), Path("/c/node1"), tmp_path)
    assert not procfs.is_running(None, Path("/c/node1"), tmp_path)


@pytest.mark.parametrize(
    "content", ["", "7", "[]", '{"pid": 7}', '{"pid": "x", "start_ticks": 1}', '{"pid": 1, "start_ticks": 1}']
)
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "agent.pid").write_text(content)
    assert procfs.load(tmp_path / "agent.pid") is None


def test_processes_are_found_and_killed_by_the_mark_in_their_environment() -> None:
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    with (
        subprocess.Popen(command, env={"MARK_OF_TEST": "1-2-3"}) as marked,
        subprocess.Popen(command, env={"MARK_OF_TEST": "1-20-3"}) as other,
    ):
        procfs.kill_marked("MARK_OF_TEST", {"1-2-"})
        assert marked.wait(5) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
