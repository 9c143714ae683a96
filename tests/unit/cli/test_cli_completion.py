"""What shells offer after TAB, asked as they ask: through the completion protocol, in the environment."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeCluster, job

from jupiter_agent.cli import main as main_module
from jupiter_agent.cli.ctl import completing
from jupiter_agent.cli.main import main
from jupiter_agent.errors import UnreachableError

NODES = [{"name": name, "id": name, "state": "alive"} for name in ("node1", "node2")]
TASKS = [{"job": "j-1f2e", "name": name, "node": "node1", "state": "running"} for name in ("detect", "merge")]
ITEMS = [{"job": "j-1f2e", "name": "merge", "state": "done"}, {"job": "j-1f2e", "name": "bad.png", "state": "failed"}]
JOBS = [job(), job(id="k-77", name="other", state="completed")]


class Shell:
    """`complete(line)`: what bash is offered where the line ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def ask(self, shell: str, **environment: str) -> str:
        for name, value in {"_JUPITER_COMPLETE": f"complete_{shell}", **environment}.items():
            self._monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main([])
        out, err = self._capsys.readouterr()
        assert err == "", "a completion never complains"
        return out

    def complete(self, line: str) -> list[str]:
        words = line.split(" ")
        return self.ask("bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)).split()


@pytest.fixture
def shell(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell whose cluster has two nodes and two jobs."""

    def get(args: dict[str, Any]) -> dict[str, Any]:
        if args["kind"] in ("tasks", "items") and args.get("id") not in ("last", "j-1f2e"):
            raise UnreachableError("no such job")
        return {"items": {"nodes": NODES, "jobs": JOBS, "tasks": TASKS, "items": ITEMS, "apps": []}[args["kind"]]}

    cluster.answers["get"] = get
    return Shell(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jupiter ctl d", ["describe", "drain", "doctor"]),
        ("jupiter ctl wait ", ["k-77", "j-1f2e", "last"]),
        ("jupiter ctl cancel k", ["k-77"]),
        ("jupiter ctl drain ", ["node1", "node2"]),
        ("jupiter ctl put last x --at node", ["node1", "node2"]),
        ("jupiter ctl remap last --to ", ["node1", "node2"]),
        ("jupiter ctl remap j-1f2e --task m", ["merge"]),
        ("jupiter ctl explain j-1f2e ", ["detect", "merge"]),
        ("jupiter ctl logs j", ["j-1f2e"]),
        ("jupiter ctl retry j-1f2e ", ["bad.png"]),
        ("jupiter ctl logs j-1f2e/d", ["j-1f2e/detect"]),
        ("jupiter ctl get j", ["jobs"]),
        ("jupiter ctl get nodes ", ["node1", "node2"]),
        ("jupiter ctl describe items last/m", ["last/merge"]),
        ("jupiter ctl describe task k", ["k-77"]),
        ("jupiter ctl submit app --mapper heft", ["heft", "heft-balanced"]),
        ("jupiter ctl submit app --ep ", ["auto", "full", "off"]),
        ("jupiter ctl token re", ["revoke"]),
        ("jupiter ctl get nodes -o ta", ["table"]),
        ("jupiter ctl get nodes --tok", ["--token-file"]),
        ("jupiter ctl stats last -o c", ["csv"]),
        ("jupiter ctl get nothing ", []),
        ("jupiter ctl --peer 10.0.0.5 : 7421 drain ", ["node1", "node2"]),
        ("jupiter ctl drain --peer = h : 1 ", ["node1", "node2"]),
    ],
)
def test_what_is_offered(shell: Shell, line: str, offered: list[str]) -> None:
    assert sorted(shell.complete(line)) == sorted(offered)


def test_the_cluster_named_on_the_line_is_the_one_that_is_asked(shell: Shell, cluster: FakeCluster) -> None:
    assert shell.complete("jupiter ctl drain --dir there --peer h:1 n") == ["node1", "node2"]
    (where,) = cluster.reached
    assert (where.dir, where.peers) == (Path("there"), ("h:1",))


def test_zsh_and_fish_show_remarks_beside_ids(shell: Shell) -> None:
    line = {"_TYPER_COMPLETE_ARGS": "jupiter ctl wait "}
    assert '"k-77":"other completed"' in shell.ask("zsh", **line)
    assert "k-77\tother completed" in shell.ask("fish", _TYPER_COMPLETE_FISH_ACTION="get-args", **line)


@pytest.mark.parametrize("trouble", [UnreachableError("no agent to ask"), UnreachableError("gone")])
def test_without_an_agent_nothing_is_offered_and_nothing_said(
    shell: Shell, cluster: FakeCluster, trouble: Exception
) -> None:
    cluster.answers["get"] = trouble
    assert shell.complete("jupiter ctl wait ") == []


def test_a_slow_agent_is_not_waited_for_and_timers_of_others_go_on(
    shell: Shell, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "DEADLINE_S", 0.05)
    cluster.answers["get"] = lambda args: time.sleep(30)
    before = signal.getitimer(signal.ITIMER_REAL)[0], signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    assert shell.complete("jupiter ctl wait ") == []
    assert time.monotonic() - began < 2
    after = signal.getitimer(signal.ITIMER_REAL)[0], signal.getsignal(signal.SIGALRM)
    assert after[1] == before[1]
    assert bool(after[0]) == bool(before[0])


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # it looks at our parent processes
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(main_module, "command", main_module.command.__wrapped__)  # the variable is read when it is made
    for option, shown in (
        ("--show-completion", "_JUPITER_COMPLETE="),
        ("--install-completion", "completion installed"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([option, name])
        assert ended.value.code == 0
        assert shown in capsys.readouterr().out
    scripts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(f"_JUPITER_COMPLETE=complete_{name}" in script for script in scripts)


def test_local_nodes_are_offered_from_their_folder(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cluster.json").write_text('{"nodes": [{"name": "node7", "bind": "127.0.0.1:1"}]}')
    assert shell.complete("jupiter local kill --dir c ") == ["node7"]
    (tmp_path / "c" / "cluster.json").write_text("damaged")
    assert shell.complete("jupiter local kill --dir c ") == []
