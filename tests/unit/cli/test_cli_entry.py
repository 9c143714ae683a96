"""The console commands before their program is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CTRL_C_WHILE_IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupted(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "jupiter_agent.cli.guard":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
from jupiter_agent.cli import entry
sys.argv = ["x", "--version"]
{before}
sys.exit(entry.{command}())
"""


@pytest.mark.parametrize("command", ["jupiter", "jupiter_agent"])
def test_ctrl_c_while_the_program_is_loaded_ends_it_quietly_with_130(command: str, tmp_path: Path) -> None:
    code = CTRL_C_WHILE_IMPORTING.format(command=command, before="")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = CTRL_C_WHILE_IMPORTING.format(command="jupiter", before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stdout.split()[0], ended.stderr) == (0, "jupiter", "")


@pytest.mark.parametrize(("command", "code"), [("jupiter_agent", 143), ("jupiter", -15)])
def test_an_agent_ends_by_itself_when_told_to_stop_while_it_is_loaded(command: str, code: int, tmp_path: Path) -> None:
    """As process 1 of a container it would not hear a signal that it does not handle."""
    text = CTRL_C_WHILE_IMPORTING.format(command=command, before="").replace("signal.SIGINT", "signal.SIGTERM")
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")
