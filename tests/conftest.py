"""What `scripts/test --fast` leaves out."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""Whoever started us in the background, or with nohup, may have them ignored, which every process we start would
inherit."""

LONG = {"sim", "integration", "e2e"}
"""Folders of which only the tests marked `smoke` are run with --fast"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in LONG and item.get_closest_marker("smoke") is None:
            item.add_marker("slow")
