"""Code of third parties in its own process: raising, hanging, printing, ending, nonsense; the agent goes on."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters import foreign
from jupiter_agent.adapters.foreign import Foreign
from jupiter_agent.adapters.solver import solve_off_loop
from jupiter_agent.core.effects import Solve
from schedulers.rules import Input, Seen, View, to_plain

CODE = """
import os, sys, time
import numpy as np
from schedulers.replay import replay

def good(view):
    print("noise on stdout", flush=True)
    return view.nodes[-1].name
def raises(view):
    raise RuntimeError("no idea")
def leaves(view):
    sys.exit(3)
def dies(view):
    os._exit(9)
def hangs(view):
    while True:
        pass
def nonsense(view):
    return "mars"
def eats(view):
    return [bytes(1 << 30) for _ in range(64)]

def mine(p, *, seed, contention, **options):
    return replay(p, p.times.argmin(axis=1), contention=contention)
def mine_raises(p, **options):
    raise RuntimeError("no plan")
def mine_hangs(p, **options):
    time.sleep(1000)
def mine_lies(p, **options):
    return "everything on node 1"
def mine_breaks_rules(p, **options):
    plan = replay(p, p.times.argmin(axis=1))
    return type(plan)(plan.node, plan.start * 0, plan.finish * 0)
"""
RULES = ("good", "raises", "leaves", "dies", "hangs", "nonsense", "eats")
MAPPERS = ("mine", "mine_raises", "mine_hangs", "mine_lies", "mine_breaks_rules")
VIEW = to_plain(View("t", "n1", (Seen("n1", 1.0, 1.0, 0.0, 1.0, 0.0, 0), Seen("n2", 1.0, 1.0, 0.0, 1.0, 0.0, 0)),
                     (Input("home", "n1", 1.0),), {}, 1))  # fmt: skip
PROBLEM: dict[str, Any] = {
    "times": [[2.0, 1.0], [1.0, 2.0]], "edges": [(0, 1, 10)], "latency": [[0.0, 0.1], [0.1, 0.0]],
    "inv_rate": [[0.0, 0.01], [0.01, 0.0]], "pinned": {}, "allowed": [[True, True], [True, True]],
}  # fmt: skip


def package(folder: Path) -> Path:
    """A package with both kinds of entry points, as an installer leaves it."""
    folder.mkdir(exist_ok=True)
    (folder / "foreign_code.py").write_text(CODE)
    info = folder / "foreign_code-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-code\nVersion: 1.0\n")
    lines = ["[jupiter.wave_rules]", *(f"{name} = foreign_code:{name}" for name in RULES)]
    lines += ["[jupiter.mappers]", *(f"{name} = foreign_code:{name}" for name in MAPPERS)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(package(tmp_path / "site")), str(Path(foreign.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setattr(foreign, "START_S", 20.0)


def choose(*names: str, within_s: float = 5.0) -> list[dict[str, Any]]:
    """Ask one process for several decisions, one after another."""

    async def ask() -> list[dict[str, Any]]:
        process = Foreign()
        try:
            return [await process.ask({"choose": VIEW, "rule": name}, within_s) for name in names]
        finally:
            await process.close()

    return asyncio.run(ask())


def test_a_rule_answers_from_its_process_whatever_it_prints():
    assert choose("good", "good") == [{"value": "n2"}, {"value": "n2"}]


@pytest.mark.parametrize(
    ("name", "said"),
    [("raises", "RuntimeError: no idea"), ("leaves", "SystemExit"), ("nonsense", "'mars', which is none of the 2"),
     ("unknown", "no rule is called 'unknown'"), ("dies", "its process ended"), ("eats", "MemoryError")],
)  # fmt: skip
def test_a_rule_that_fails_says_why_and_the_next_question_is_answered(name: str, said: str):
    failed, after = choose(name, "good", within_s=20.0)
    assert said in failed["error"]
    assert after == {"value": "n2"}


def test_a_rule_that_never_answers_is_killed_and_the_next_question_is_answered():
    began = time.monotonic()
    first, failed, after = choose("good", "hangs", "good", within_s=1.0)
    assert first == after == {"value": "n2"}
    assert failed["error"] == "no answer within 1 s: it was killed"
    assert time.monotonic() - began < 30.0


def test_every_question_has_its_own_time_whatever_was_killed_before():
    failed = choose("hangs", "hangs", "hangs", within_s=0.5)
    assert [each["error"] for each in failed] == ["no answer within 0.5 s: it was killed"] * 3
    began = time.monotonic()
    choose("hangs", within_s=0.5)
    assert time.monotonic() - began < 15.0, "START_S is 20 here: it is for the start, not for the answer"


def solve(mapper: str) -> Any:
    return asyncio.run(solve_off_loop(Solve("job", mapper, PROBLEM, 1)))


@pytest.mark.smoke
def test_a_mapper_of_a_third_party_solves_in_its_process():
    found = solve("mine")
    assert (found.nodes, found.error) == ([1, 0], "")
    assert found.finishes[1] > 1.0


@pytest.mark.parametrize(
    ("mapper", "said"),
    [("mine_raises", "RuntimeError: no plan"), ("mine_lies", "returned str, not a schedulers.Schedule"),
     ("mine_breaks_rules", "does not take its time"), ("never_heard_of", "no mapper is called")],
)  # fmt: skip
def test_a_mapper_that_fails_is_an_answer_with_the_reason(mapper: str, said: str):
    found = solve(mapper)
    assert found.nodes == []
    assert said in found.error


def test_a_mapper_that_never_answers_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jupiter_agent.adapters.solver.SOLVE_S", 1.0)
    monkeypatch.setattr(foreign, "START_S", 3.0)
    found = solve("mine_hangs")
    assert "it was killed" in found.error
