"""Random jobs under random faults (jupiter_agent/sim/chaos): nothing lost, doubled, mixed or left behind."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jupiter_agent.sim.chaos.answer import Violation
from jupiter_agent.sim.chaos.apps import ChaosApp
from jupiter_agent.sim.chaos.run import play_seed, shrink
from jupiter_agent.sim.chaos.scenario import ROUTER, Scenario, Task, draw

HOME_MAY_BE_LOST = True
"""Whether a home is replaced when it is lost for good."""

REGISTERS_APART = [14, 23, 180]
UNTOLD_OF_THE_END = [16, 38, 57]
PLACE_UNKNOWN_TO_A_PARENT = [196]
FORGOTTEN_AFTER_A_POWER_CUT = [40, 88, 275, 293]
COPIES_NEVER_WHOLE = [141, 208]
HOLDERS_UNTOLD = [9, 325]
HOMES_APART = [33]
STREAM_TAKEN_FOR_AN_EARLIER_ONE = [214]
FOUND = [*REGISTERS_APART, *UNTOLD_OF_THE_END, *PLACE_UNKNOWN_TO_A_PARENT]
FOUND += [*FORGOTTEN_AFTER_A_POWER_CUT, *COPIES_NEVER_WHOLE, *HOLDERS_UNTOLD]
BUNDLE_ASKED_OF_THE_DEAD = (353,)
FOUND += [*HOMES_APART, *STREAM_TAKEN_FOR_AN_EARLIER_ONE, *BUNDLE_ASKED_OF_THE_DEAD]


@pytest.mark.parametrize("seed", sorted({*range(12), *FOUND}))
def test_every_item_comes_out_once_and_whole_whatever_fails(seed):
    outcome = play_seed(seed, HOME_MAY_BE_LOST)
    assert outcome.failure == "", "\n".join([outcome.story, *outcome.log])


def test_a_seed_replays_exactly():
    assert play_seed(5, HOME_MAY_BE_LOST) == play_seed(5, HOME_MAY_BE_LOST)


@pytest.mark.smoke
def test_seeds_draw_all_cases():
    drawn = [draw(seed) for seed in range(300)]
    kinds = {fault.kind for each in drawn for fault in each.faults}
    assert kinds == {"crash", "power", "wipe", "cut", "oneway", "loss", "blackout", "move", "cancel"}
    assert {fault.event for each in drawn for fault in each.faults} >= {"", "ack", "commit", "finished", "start", "end"}
    assert {each.nodes for each in drawn} == {3, 4, 5, 6}
    assert {len(each.tasks) for each in drawn} == set(range(1, 8))
    joins = {sum(name in task.children for task in each.tasks.values()) for each in drawn for name in each.tasks}
    assert {2, 3, 4} <= joins


BRANCHES = {"t0": Task(("t1", "t2"), ROUTER, True), "t1": Task(("t3",)), "t2": Task(("t3",)), "t3": Task(())}


def _app() -> ChaosApp:
    return ChaosApp(Scenario(1, 3, BRANCHES, ((0.0, "i"),)))


def _runs(app: ChaosApp, name: str, data: bytes, parent: str) -> list[bytes]:
    """One output of each of eight runs."""
    run = app.sim.functions[name]
    return [next(iter(out.values())) for _ in range(8) if isinstance(out := run({parent: data}), dict) and out]


def test_no_task_accepts_objects_that_stem_from_two_runs_of_one_ancestor():
    app = _app()
    one, two = _runs(app, "t0", b"i", "input")[:2]
    left, right = app.answer("t1", {"t0": one}, 0), app.answer("t2", {"t0": two}, 0)
    with pytest.raises(Violation, match="mixed: task t3 stem from two runs of t0"):
        app.answer("t3", {"t1": left, "t2": right}, 0)


@pytest.mark.smoke
def test_results_are_right_only_if_one_evaluation_gives_them():
    app = _app()
    app.item = ("job", "i")
    given = {json.dumps(sorted(out)): out for _ in range(40) if (out := app.sim.functions["t0"]({"input": b"i"}))}
    both = given['["t1", "t2"]']
    joined = {name: app.answer(name, {"t0": both[name]}, 0) for name in ("t1", "t2")}
    whole, half = app.answer("t3", joined, 0), app.answer("t3", {"t1": joined["t1"]}, 0)
    assert app.explains(("job", "i"), b"i", {"t3": whole})
    assert not app.explains(("job", "i"), b"i", {"t3": half}), "the other branch got something, too"
    assert not app.explains(("job", "i"), b"other bytes", {"t3": whole})


def test_a_failure_is_shrunk_to_what_it_needs(monkeypatch):
    """A home that commits nothing: no fault is needed to see that."""
    from jupiter_agent.core.home import Home

    monkeypatch.setattr(Home, "_commit", lambda self, item, parcels, now: [])
    scenario = next(each for each in map(draw, range(100)) if len(each.faults) > 1 and len(each.items) > 1)
    outcome = shrink(replace(scenario, second_job=False), HOME_MAY_BE_LOST)
    assert outcome.kind == "stuck"
    assert "FAULT" not in "\n".join(outcome.log)
