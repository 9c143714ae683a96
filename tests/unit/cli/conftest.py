"""Fixtures of the command's tests: the fake cluster is in `cli_fakes`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fakes import Ended, FakeClock, FakeCluster, Run

from jupiter_agent.cli.ctl import session as session_module
from jupiter_agent.cli.main import main
from jupiter_agent.cli.reach import Where


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeCluster]:
    """The cluster that every command of this test reaches, from an empty working folder."""
    fake = FakeCluster()

    def open_fake(where: Where) -> FakeCluster:
        fake.reached.append(where)
        return fake

    monkeypatch.setattr(session_module.reach, "open_client", open_fake)
    monkeypatch.setattr(session_module, "Clock", lambda: FakeClock(fake))
    monkeypatch.chdir(tmp_path)
    for variable in ("JUPITER_PEER", "JUPITER_DIR", "JUPITER_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    return fake


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `jupiter` with these arguments."""

    def run_command(*arguments: object) -> Ended:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run_command
