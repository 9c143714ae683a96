"""The bench of the mappers: what it draws, and that it cannot pass in silence."""

from __future__ import annotations

import subprocess

import pytest

from jupiter_agent.bench import mapping, saga
from jupiter_agent.cli.bench import BENCHES


def test_the_published_examples_are_met():
    figures = mapping.published()
    assert [figure.value for figure in figures] == [0.0] * 4
    assert all(figure.bound == 0.0 and figure.ok for figure in figures)


def test_examples_that_are_not_at_hand_fail(monkeypatch, tmp_path):
    monkeypatch.setattr(mapping, "VECTORS", tmp_path)
    assert [figure.ok for figure in mapping.published()] == [False, False]


def test_instances_are_the_same_each_time_and_of_every_kind():
    drawn = list(mapping.instances(3))
    assert len(drawn) == 108
    assert {p.n_nodes for p in drawn} == {8, 10, 30}
    assert [p.edges for p in mapping.instances(3)] == [p.edges for p in drawn]
    assert all(not p.pinned for p in drawn)
    assert all(
        set(p.pinned) == {t for t in range(p.n_tasks) if not p.parents[t]} for p in mapping.instances(1, pin=True)
    )


def test_the_bench_is_registered():
    assert BENCHES["mapping"] == mapping.__name__


@pytest.mark.parametrize("missing", ["network", "scheduler"])
def test_without_saga_its_row_fails_aloud(missing, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = tmp_path / "jupiter-bench" / "saga" / "bin" / "python"
    if missing == "scheduler":
        python.parent.mkdir(parents=True)
        python.touch()

    def fails(command, **options):
        probing = "import saga, numpy" in command[-1]
        code = 0 if probing and missing == "scheduler" else 1
        return subprocess.CompletedProcess(command, code, "", "no such thing\n")

    monkeypatch.setattr(subprocess, "run", fails)
    figure = saga.beside_saga(lambda call: 1.0)
    assert not figure.ok
    assert not figure.within(3.0)
    assert "saga" in capsys.readouterr().err.lower()
