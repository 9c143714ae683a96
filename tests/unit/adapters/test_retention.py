from __future__ import annotations

import os
from pathlib import Path

from jupiter_agent.adapters.retention import LOGS_KEPT_FULL_S, LOGS_KEPT_S, expire_logs

NOW = 1_700_000_000.0


def logged(folder: Path, job: str, *ages_s: float) -> None:
    logs = folder / job / "logs"
    logs.mkdir(parents=True)
    for n, age_s in enumerate(ages_s):
        (logs / f"task{n}.log").write_text("said\n")
        os.utime(logs / f"task{n}.log", (NOW - age_s, NOW - age_s))


def test_logs_go_when_nothing_was_added_for_long_and_the_job_does_not_run_here(tmp_path: Path) -> None:
    logged(tmp_path, "old", LOGS_KEPT_S + 1, LOGS_KEPT_S + 2)
    logged(tmp_path, "new", LOGS_KEPT_S + 1, LOGS_KEPT_S - 1)
    logged(tmp_path, "busy", LOGS_KEPT_S + 1)
    (tmp_path / ".work").mkdir()
    assert expire_logs(tmp_path, {"busy"}, NOW, full=False) == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".work", "busy", "new"]


def test_on_a_disk_that_is_nearly_full_they_go_sooner(tmp_path: Path) -> None:
    logged(tmp_path, "hours", LOGS_KEPT_FULL_S + 1)
    logged(tmp_path, "minutes", LOGS_KEPT_FULL_S - 1)
    assert expire_logs(tmp_path, (), NOW, full=False) == []
    assert expire_logs(tmp_path, (), NOW, full=True) == ["hours"]


def test_a_folder_that_is_not_there_has_no_logs(tmp_path: Path) -> None:
    assert expire_logs(tmp_path / "none", (), NOW, full=True) == []
