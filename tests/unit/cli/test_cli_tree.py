"""A job that is watched on a terminal: the tree of its tasks, its rates, and what happens at Ctrl-C."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FakeCluster, job
from rich.console import Console

from jupiter_agent.cli.ctl.tree import Rates, branches, draw
from jupiter_agent.cli.main import main


def task(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "node": "node1",
        "state": "running",
        "queued": 0,
        "running": 1,
        "done": 3,
        "failed": 0,
    } | changes


CONTROLLERS = {"split": "home", "left": "split", "right": "split", "join": "left", "end": "join"}
TASKS = [task(name) for name in ("split", "left", "right", "join", "end")]


def text(drawn: object) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    console.print(drawn)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_task_hangs_below_its_controller() -> None:
    lines = [lines + str(row["name"]) for lines, row in branches(TASKS, CONTROLLERS)]
    assert lines == ["split", "├─ left", "│  └─ join", "│     └─ end", "└─ right"]


@pytest.mark.parametrize("controllers", [{}, {"split": "split"}, {"left": "right", "right": "left"}, {"end": "nobody"}])
def test_every_task_is_drawn_once_whatever_peers_say_of_its_controller(controllers: dict[str, str]) -> None:
    assert sorted(str(row["name"]) for _, row in branches(TASKS, controllers)) == sorted(CONTROLLERS)


def test_rates_are_of_the_last_seconds() -> None:
    rates = Rates()
    assert rates.update("a", 0, 0.0) is None
    assert rates.update("a", 10, 1.0) == 10
    assert rates.update("a", 10, 2.0) == 5
    assert [rates.update("a", 10, now) for now in (3.0, 4.0, 5.0)][-1] == 0
    assert rates.update("a", 4, 6.0) == 0, "a new home may know of fewer"
    assert rates.update("b", 1, 6.0) is None


def test_the_picture_has_queues_rates_and_failures_and_no_escapes_of_peers() -> None:
    detail = job(items_in=9, items_done=3, items_failed=1, controllers=CONTROLLERS)
    detail["tasks"] = [*TASKS[:2], task("ri\x1b[2Jght", queued=7, failed=1, state="failed")]
    head, titles, *rows = text(draw(detail, {"": 2.0, "left": 0.25}))
    assert head == "j-1f2e cameras running 3/9 items, 1 failed, 2/s"
    assert titles.split() == ["TASK", "NODE", "QUEUED", "RUNNING", "DONE", "FAILED", "RATE"]
    assert rows[0].split() == ["●", "split", "node1", "0", "1", "3", "0", "-"]
    assert rows[1].split() == ["└─", "●", "left", "node1", "0", "1", "3", "0", "0.25/s"]
    assert rows[2].split()[0] == "✖"
    assert "\x1b" not in "".join(rows)


class Terminal(io.StringIO):
    encoding = "utf-8"
    is_one = True

    def isatty(self) -> bool:
        return self.is_one


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A stdout that can be drawn on, for `run_on`."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def run_on(terminal: Terminal, *arguments: str) -> int:
    with contextlib.redirect_stdout(terminal):
        return main(["ctl", *arguments])


@pytest.fixture
def watched(cluster: FakeCluster) -> FakeCluster:
    """A job that is done at the third look."""
    states = [job(), job(), job(items_done=1), job(state="completed", items_done=2)]
    detail = {"tasks": TASKS, "controllers": CONTROLLERS}
    cluster.answers |= {"get": [{"items": [each]} for each in states], "describe": job(**detail)}
    return cluster


def test_on_a_terminal_a_watched_job_is_a_live_tree(watched: FakeCluster, terminal: Terminal) -> None:
    assert run_on(terminal, "wait", "last", "--watch") == 0
    shown = terminal.getvalue()
    assert "│  └─ " in shown
    assert "\x1b[32m" in shown
    assert "completed" in shown.rpartition("TASK")[0][-200:]


def test_no_color_keeps_the_tree_and_drops_the_colours(
    watched: FakeCluster, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert run_on(terminal, "wait", "last", "--watch") == 0
    assert "└─ " in terminal.getvalue()
    assert not any(f"\x1b[{code}m" in terminal.getvalue() for code in (31, 32, 33, 36))


@pytest.mark.parametrize("how", ["json", "pipe", "dumb"])
def test_elsewhere_it_stays_a_line_per_change(
    watched: FakeCluster, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if how == "pipe":
        terminal.is_one = False
    assert run_on(terminal, "wait", "last", "--watch", "-o", "json" if how == "json" else "table") == 0
    assert "describe" not in [verb for verb, _ in watched.calls]
    assert "└─" not in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) == (3 if how == "json" else 4)


def test_ctrl_c_leaves_the_tree_and_the_job(
    watched: FakeCluster, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.answers["get"] = [{"items": [job()]}, {"items": [job()]}, KeyboardInterrupt()]
    assert run_on(terminal, "wait", "last", "--watch") == 130
    assert "detached: job j-1f2e goes on" in capsys.readouterr().err
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1, "the cursor is back"


def test_tables_are_coloured_on_a_terminal_only(cluster: FakeCluster, terminal: Terminal) -> None:
    cluster.answers["get"] = {"items": [job(state="failed")]}
    run_on(terminal, "get", "jobs")
    assert "\x1b[31mfailed" in terminal.getvalue()


def test_what_is_sent_is_counted_on_a_terminal_and_the_line_is_gone_at_the_end(
    cluster: FakeCluster, terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    cluster.answers["put"] = {"accepted": ["a", "b"], "ignored": []}
    with contextlib.redirect_stderr(terminal):
        assert main(["ctl", "put", "last", "a", "b"]) == 0
    assert terminal.getvalue() == "\r\x1b[Ksending 1 of 2: a\r\x1b[Ksending 2 of 2: b\r\x1b[K"
    assert main(["ctl", "put", "last", "a", "b"]) == 0
    assert capsys.readouterr().err == ""
