"""`bench compare`: intervals, the table of runs, and the command line; the runs themselves are faked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.bench import compare
from jupiter_agent.bench.compare import Run, Settings, interval, summary
from jupiter_agent.cli.main import main
from jupiter_agent.errors import JupiterError

SECONDS = {"heft": 2.0, "wave-greedy": 3.0}


class Faked:
    """A cluster whose jobs take what their mapper says; `wave-random` is refused, with a hint, as by a command."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, str, str]] = []

    def ctl(self, verb: str, *words: str) -> dict[str, Any]:
        if verb == "submit":
            app, mapper, seed = words[0], words[words.index("--mapper") + 1], words[words.index("--seed") + 1]
            if mapper == "wave-random":
                raise JupiterError(
                    "`jupiter ctl submit` ended with 3: error: not placeable: no node\nhint: node1: no GPU"
                )
            self.submitted.append((Path(app).name, mapper, seed))
            return {"id": f"{mapper}:{seed}"}
        if verb == "wait":
            return {}
        mapper, _, seed = words[1].partition(":")
        registers = [{"epoch": 1}, {"epoch": 2 if mapper == "wave-greedy" else 1}]
        return {"makespan_s": SECONDS[mapper] + int(seed) / 10, "items_done": 10, "mapping_s": 0.1, "moved_bytes": 1000,
                "registers": registers}  # fmt: skip


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    found = Faked()

    @contextmanager
    def cluster(settings: Settings) -> Iterator[Faked]:
        yield found

    monkeypatch.setattr(compare, "cluster", cluster)
    return found


def test_the_interval_is_students() -> None:
    assert interval([5.0]) == (5.0, None, None)
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == pytest.approx((2.0, 4.303 / 3**0.5))
    assert mean - low == pytest.approx(high - mean)
    assert interval([1.0] * 100) == pytest.approx((1.0, 1.0, 1.0))


def test_the_summary_compares_with_the_first_mapper_of_the_same_repetition() -> None:
    runs = [Run("a", "heft", n, n, 2.0 * (n + 1), 1.0, 0.1, 10, 0) for n in range(3)]
    runs += [Run("a", "mine", n, n, 3.0 * (n + 1), 1.0, 0.1, 20, 1) for n in range(2)]
    runs.append(Run("a", "mine", 2, 2, None, error="no"))
    first, second = summary(runs, ["heft", "mine"])
    assert (first["runs"], first["failed"], first["vs_first"]) == (3, 0, pytest.approx(1.0))
    assert (second["runs"], second["failed"], second["vs_first"]) == (3, 1, pytest.approx(1.5))
    assert (second["vs_first_low"], second["vs_first_high"]) == pytest.approx((1.5, 1.5))
    assert (second["bytes"], second["moves"], second["makespan_s"]) == (20.0, 1.0, pytest.approx(4.5))


def test_a_mapper_that_never_succeeds_has_no_figures() -> None:
    [row] = summary([Run("a", "mine", 0, 1, None, error="no")], ["mine"])
    assert (row["failed"], row["makespan_s"], row["vs_first"]) == (1, None, None)


def test_runs_are_interleaved_in_an_order_that_the_seed_decides(faked: Faked, tmp_path: Path) -> None:
    apps = [tmp_path / "one", tmp_path / "two"]
    for app in apps:
        app.mkdir()
    settings = Settings(apps, ["heft", "wave-greedy"], repeat=4, seed=7)
    compare.compare(settings)
    order = faked.submitted[2:]
    assert len(order) == 16
    for n in range(4):
        turn = order[4 * n : 4 * n + 4]
        assert len({(app, mapper) for app, mapper, _ in turn}) == 4, "each once a repetition"
        assert {seed for *_, seed in turn} == {str(7 + n)}
    assert len({tuple(order[4 * n : 4 * n + 4]) for n in range(4)}) > 1
    faked.submitted.clear()
    compare.compare(settings)
    assert faked.submitted[2:] == order


def test_csv_has_a_line_per_app_and_mapper(faked: Faked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["bench", "compare", "--app", str(tmp_path), "--mappers", "heft,wave-greedy", "--repeat", "2", "-o", "csv"]
    assert main(args) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["mapper"] for row in rows] == ["heft", "wave-greedy"]
    assert float(rows[0]["makespan_s"]) == pytest.approx(2.15)
    assert float(rows[1]["vs_first"]) > 1.4
    assert {"makespan_s_low", "throughput_hz", "bytes", "moves"} <= rows[0].keys()


def test_one_repetition_has_no_interval(faked: Faked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["bench", "compare", "--app", str(tmp_path), "--mappers", "heft", "--repeat", "1", "-o"]
    assert main([*args, "csv"]) == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["makespan_s"], row["makespan_s_low"], row["vs_first"], row["vs_first_high"]) == ("2.1", "", "1.0", "")
    assert main([*args, "table"]) == 0
    out = capsys.readouterr().out
    assert "2.1s -" in out
    assert "1.000 -" in out
    assert "[" not in out


def test_a_failed_run_is_counted_and_exits_1(faked: Faked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["bench", "compare", "--app", str(tmp_path), "--mappers", "heft,wave-random", "--repeat", "1", "-o", "json"]
    assert main(args) == 1
    body = json.loads(capsys.readouterr().out)
    assert [row["failed"] for row in body["summary"]] == [0, 1]
    assert {run["error"] for run in body["runs"]} == {"", "not placeable: no node"}


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("`jupiter ctl submit a` ended with 2: error: no\nhint: see", "no"),
        ("`jupiter ctl submit a` ended with 2: deprecated\nerror: no\n  really\nhint: error: is no error", "no"),
        ("the connection broke", "the connection broke"),
        ("`jupiter ctl wait a` ended with 1: ", "`jupiter ctl wait a` ended with 1: "),
    ],
)
def test_a_failed_run_shows_the_error_and_not_the_hint(message: str, line: str) -> None:
    assert compare.said(message) == line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mappers", "wave-greedy-v4,heft"], "unknown mapper 'wave-greedy-v4'\nhint: did you mean 'wave-greedy'?"),
        (["--mappers", "heft", "--remap", "always"], "--remap always: no such mode\nhint: one of: active, lazy, off"),
        (["--mappers", "heft", "--input", "/nowhere/x"], "--input /nowhere/x: no such file or folder"),
    ],
)
def test_what_every_run_would_be_refused_for_is_refused_before_a_cluster_starts(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cluster(settings: Settings) -> None:
        raise NotImplementedError("a cluster is started")

    monkeypatch.setattr(compare, "cluster", cluster)
    assert main(["bench", "compare", "--app", str(tmp_path), *words]) == 2
    assert f"error: {said}" in capsys.readouterr().err


def test_what_cannot_be_compared_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", "--mappers", "heft"]) == 2
    assert main(["bench", "compare", "--app", str(tmp_path)]) == 2
    assert main(["bench", "compare", "--app", str(tmp_path / "nowhere"), "--mappers", "heft"]) == 2
    assert main(["bench", "basics", "--mappers", "heft"]) == 2
    assert "only `bench compare` has --mappers" in capsys.readouterr().err
