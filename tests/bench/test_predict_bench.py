"""The replay of `bench predict`: what it compares, and that it can fail."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from jupiter_agent.bench import predict, stress
from jupiter_agent.bench.predict import Predicted, figures, replay
from jupiter_agent.errors import UsageError


def rows(n: int, noise: float) -> list[dict[str, Any]]:
    """A task of 20 ms and 0.3 us a byte, on an idle machine."""
    rng = Random(4)
    made = []
    for i in range(n):
        size = int(10 ** rng.uniform(3, 6))
        seconds = (0.02 + 3e-7 * size) * rng.lognormvariate(0, noise)
        finish = f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z"
        made.append(
            {"task": "t", "finish": finish, "bytes_in": size, "seconds": seconds, "cpu_s": seconds, "load": 0.0}
        )
    return made


def test_every_run_but_the_first_is_predicted_from_those_before_it() -> None:
    found = replay(rows(100, 0.1))
    assert len(found) == 99
    assert len({p.one_run for p in found}) == 1
    assert [p.held for p in found[:9]] == [None] * 9
    table = {figure.name: figure for figure in figures(found)}
    assert table["relative error, median"].value < 0.15
    assert table["the original, one run, no load: its median beside ours"].ok


def test_a_worse_estimator_than_the_originals_is_told_so() -> None:
    found = [Predicted("t", 1.0, 3.0, False, 1.1, 0.9)] * 20
    missed = {figure.name for figure in figures(found) if not figure.ok}
    assert missed == {
        "the original, one run, no load: its median beside ours",
        f"the original, degree 2 through the last {predict.LAST}: its median beside ours",
        "runs inside their interval of 80 %",
    }


def test_hogs_end_with_whoever_started_them() -> None:
    with stress.hogs(2) as pids:
        assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_load_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError):
        stress.run(cpu=0.0)
    with pytest.raises(UsageError, match="no cluster"):
        stress.run(folder="/no/such/folder")
