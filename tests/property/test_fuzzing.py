"""Every decoder against hostile bytes, briefly; `scripts/bench fuzz` does the same at length, guided by coverage."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from jupiter_agent.bench.fuzz_targets import TARGETS, Target
from jupiter_agent.bench.fuzzing import Session, covered, endless, own, try_one
from jupiter_agent.errors import PeerError

INPUTS = 400
ALL = [pytest.param(name, marks=pytest.mark.slow) if name == "app" else name for name in TARGETS]
"""the parser of apps is slow; tests/property/test_app_garbage.py looks at it in the fast run"""
NOT_FROM_SEEDS = {"bundle.py", "journal.py"}
"""here only the checksums of a longer run, or a broken disk, reach 95 %"""


@pytest.mark.parametrize("name", ALL)
def test_hostile_bytes_become_a_value_or_the_decoders_own_error(name, tmp_path):
    target = TARGETS[name]
    for data in [*target.seeds(), *islice(endless(target, tmp_path, 7), INPUTS)]:
        assert try_one(target, data) == "", data[:2000].hex()


@pytest.mark.parametrize("name", ALL)
def test_the_inputs_to_start_from_reach_nearly_all_lines_of_their_decoder(name, tmp_path):
    modules, missed = covered(name, tmp_path)
    for module, (reached, lines) in modules.items():
        assert reached / lines >= (0.9 if module in NOT_FROM_SEEDS else 0.95), missed


def _fragile(data: bytes) -> None:
    if data[:1] == b"a":
        raise PeerError("expected")
    if b"bug" in data:
        raise ZeroDivisionError(data)


FRAGILE = Target(_fragile, (), lambda: [b"x bu", b"a", b"g"], (PeerError,))


def test_what_a_decoder_may_not_raise_is_found_and_kept_with_its_input(tmp_path, monkeypatch):
    monkeypatch.setitem(TARGETS, "fragile", FRAGILE)
    with pytest.raises(SystemExit):
        own("fragile", tmp_path / "fragile", 30.0, 1)
    report = json.loads((tmp_path / "fragile.json").read_text())
    assert report["finding"].startswith("ZeroDivisionError")
    assert b"bug" in bytes.fromhex(report["input"])


def test_what_it_may_raise_is_no_finding(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(TARGETS, "fragile", FRAGILE)
    session = Session("fragile", tmp_path / "fragile", "own")
    session.give(b"a bug")
    assert session.report["finding"] == ""
