"""The textbook cases, as files anybody can read: tests/scenarios/*.txt, each with the log of what was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupiter_agent.errors import UsageError
from jupiter_agent.sim.scenario import main, parse, played

pytestmark = pytest.mark.smoke

FILES = sorted((Path(__file__).parents[1] / "scenarios").glob("*.txt"))

SMALL = "nodes a b c\nat 5 kill b\nfrom 5\nuntil 15\n---\n"


def test_the_textbook_cases_are_there():
    assert {
        *("join", "leave", "crash-refused", "crash-silent", "suspicion-refuted", "pause", "partition", "restart"),
        *("name-conflict", "address-change", "vouched", "asymmetric-link", "islands"),
    } <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_the_members_see_is_what_the_file_says(path):
    scenario = parse(path.read_text(encoding="utf-8"), path.name)
    assert played(scenario) == scenario.log, (
        "if this is meant: scripts/test --rewrite-scenarios, and read the difference"
    )


def test_a_story_that_differs_from_its_log_is_noticed_and_rewritten(tmp_path):
    path = tmp_path / "case.txt"
    path.write_text(SMALL + "   1.0  b alive for ever\n")
    assert played(parse(path.read_text())) != parse(path.read_text()).log
    assert main(["--rewrite", str(path)]) == 0
    rewritten = parse(path.read_text())
    assert rewritten.head + "\n---\n" == SMALL
    assert any("b dead" in line for line in rewritten.log)
    assert played(rewritten) == rewritten.log


@pytest.mark.parametrize("line", ["at 5 explode b", "at soon kill b", "profile mars", "nonsense", "at 5"])
def test_a_line_that_makes_no_sense_is_named(line):
    with pytest.raises(UsageError, match="case:2: not understood"):
        parse(f"nodes a b\n{line}\nuntil 9\n---\n", "case")
