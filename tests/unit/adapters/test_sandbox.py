"""What is hidden from a task, and the command that hides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupiter_agent.adapters import sandbox
from jupiter_agent.adapters.sandbox import BUBBLEWRAP, Sandbox, find


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose homes are in this folder."""
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(sandbox, "_HIDDEN", (str(tmp_path / "home"), str(tmp_path / "nowhere")))
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    return tmp_path


def test_the_state_folder_and_the_homes_that_are_there_are_hidden(only: Path) -> None:
    (only / "state").mkdir()
    assert sandbox._hidden(only / "state") == [only / "home", only / "state"]


def test_the_nodes_of_a_local_cluster_do_not_see_each_others_folders(only: Path) -> None:
    (only / "local" / "node1").mkdir(parents=True)
    (only / "local" / "cluster.json").write_text("{}")
    assert sandbox._hidden(only / "local" / "node1") == [only / "home", only / "local"]


def test_a_state_folder_below_a_home_is_hidden_with_it(only: Path) -> None:
    (only / "home" / "me" / "state").mkdir(parents=True)
    assert sandbox._hidden(only / "home" / "me" / "state") == [only / "home"]


def test_of_what_a_process_needs_only_what_is_hidden_is_shown_again() -> None:
    closed = Sandbox(BUBBLEWRAP, options=("bwrap",), hidden=(Path("/s"),), shown=(Path("/usr"), Path("/s/python")))
    words = closed.command(["x", "y"], Path("/s/work"), [Path("/s/app"), Path("/opt")])
    line = " ".join(words)
    assert line.startswith(
        "bwrap --tmpfs /s --ro-bind /s/python /s/python --ro-bind /s/app /s/app --bind /s/work /s/work"
    )
    assert line.endswith("--remount-ro /s --remount-ro / --chdir /s/work -- x y")
    assert "/opt" not in words
    assert "/usr" not in words


def test_without_a_sandbox_a_command_is_what_it_was(tmp_path: Path) -> None:
    found = find("none", tmp_path)
    assert (found.kind, found.is_closed) == ("limits", False)
    assert found.command(["x", "y"], tmp_path) == ["x", "y"]
