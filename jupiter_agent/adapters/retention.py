"""Logs of jobs that ran here go after a time; sooner where the disk is nearly full, for then room matters more."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

LOGS_KEPT_S = 7 * 24 * 3600.0
LOGS_KEPT_FULL_S = 3600.0
"""With a disk that is nearly full"""


def expire_logs(folder: Path, busy: Collection[str], wall: float, full: bool) -> list[str]:
    """Remove the folders of jobs, but for `busy` ones, to whose logs nothing was added for long; their ids.

    `wall`: seconds since the epoch. What cannot be removed stays, for the next time.
    """
    oldest = wall - (LOGS_KEPT_FULL_S if full else LOGS_KEPT_S)
    gone = []
    for job in sorted(folder.iterdir()) if folder.is_dir() else ():
        logs = job / "logs"
        if job.name.startswith(".") or job.name in busy or not logs.is_dir():
            continue
        try:
            touched = max((each.stat().st_mtime for each in logs.iterdir()), default=logs.stat().st_mtime)
        except OSError:
            continue
        if touched < oldest:
            shutil.rmtree(job, ignore_errors=True)
            gone.append(job.name)
    return gone
