"""More of the directed scenarios (F1, F5, F10b, F13, F15): one window each, hit on purpose (DESIGN.md 78-81)."""

from __future__ import annotations

from hashlib import sha256
from itertools import count

import pytest
from job_apps import CHAIN, ENTRIES, SINKS, make
from job_grid import acting, finish, formed, has_home, home_of, left_behind, put, verify

from jupiter_agent.sim.grid import Grid

HOME = "node3"


def link(grid: Grid, one: str, other: str) -> set[tuple[str, str]]:
    """Both directions, to be cut."""
    a, b = grid.nodes[one].seat.address, grid.nodes[other].seat.address
    return {(a, b), (b, a)}


def deputies(grid: Grid, job: str) -> list[str]:
    home = home_of(grid, HOME, job)
    return [grid.nodes[acting(grid, job)].machine.name(node) for node in home.copies.deputies.nodes]


def undegraded(grid: Grid, job: str, seconds: float = 15.0) -> None:
    assert grid.run_until(lambda: not home_of(grid, HOME, job).copies.degraded, seconds) is not None, "still degraded"


@pytest.mark.smoke
def test_f1_home_commits_results_of_one_attempt_only():
    """The first attempt chooses b, the second one c; the word to c of the first is lost with its node."""
    grid = formed(6)
    app, _ = make(SINKS, seconds=0.1)
    attempts = count(1)

    def router(inputs: dict[str, bytes]) -> dict[str, bytes]:
        attempt = next(attempts)
        return {"b" if attempt == 1 else "c": b"attempt %d" % attempt}

    app.functions.update(a=router, b=lambda inputs: inputs["a"], c=lambda inputs: inputs["a"])
    job = grid.submit(HOME, app, {"i": b"i"}, mapping={"a": "node1", "b": "node2", "c": "node5"})["id"]
    grid.network.cuts |= link(grid, "node1", "node5")
    assert grid.run_until(lambda: any(task == "b" for _, _, task, _ in grid.starts), 10.0, 0.001) is not None
    grid.run(0.5)
    assert grid.nodes[HOME].machine.jobs.local[job].execution.home_join.parcels("i"), "home has the result of b"
    grid.crash("node1", "silent")
    grid.heal()
    assert finish(grid, HOME, job) == "completed"
    assert next(attempts) == 3, "the router ran twice"
    assert {sink: data for (sink, _), data in grid.results(HOME, job)["i"].items()} == {"c": b"attempt 2"}
    grid.run(20.0)
    assert left_behind(grid) == []


@pytest.mark.smoke
def test_f5_a_host_that_is_back_before_anybody_noticed_gets_its_inputs_again():
    grid = formed()
    app, recipe = make(CHAIN, seconds=2.0)
    job = grid.submit(HOME, app, {"i": b"i"}, mapping={"a": "node1", "b": "node2", "c": "node5"})["id"]
    assert grid.run_until(lambda: any(task == "b" for _, _, task, _ in grid.starts), 10.0, 0.01) is not None
    grid.run(0.5)
    grid.crash("node2", "silent")
    grid.run(0.2)
    grid.start("node2")
    assert finish(grid, HOME, job, 30.0) == "completed"
    verify(grid, HOME, job, recipe, {"i": b"i"})
    assert [node for _, node, task, _ in grid.starts if task == "b"] == ["node2", "node2"]
    assert [task for _, _, task, _ in grid.starts if task == "a"] == ["a"], "its output was kept by its sender"


@pytest.mark.parametrize("lives_s", [0.0, 0.003, 0.02, 0.1, 0.5])
def test_f10b_the_former_home_goes_on_when_its_successor_dies_at_once(lives_s):
    grid = formed()
    app, recipe = make(CHAIN, seconds=0.4)
    items = {f"i{n}": b"%d" % n for n in range(4)}
    job = grid.submit(HOME, app, items, keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    grid.partition([HOME], [name for name in grid.nodes if name != HOME])
    successor = grid.nodes[deputy].machine.jobs
    assert grid.run_until(lambda: successor.homed > 0, 20.0, 0.0005) is not None
    grid.heal()
    grid.run(lives_s)
    grid.crash(deputy, "silent")
    grid.run(5.0)
    assert grid.run_until(lambda: has_home(grid, job), 40.0) is not None
    grid.ask(HOME, "close", 40.0, job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)
    grid.run(30.0)
    assert left_behind(grid) == []


@pytest.mark.parametrize("seconds", [0.1, 6.0])
def test_f13_other_bytes_under_one_name_in_two_halves_never_mix(seconds):
    """Two entries run on different halves; one of the two contents comes out whole, the other is a conflict."""
    grid = formed(6)
    app, _ = make(ENTRIES, seconds=seconds)
    app.functions.update(
        a=lambda inputs: b"a:" + inputs["input"], b=lambda inputs: b"b:" + inputs["input"],
        c=lambda inputs: inputs["a"] + b" " + inputs["b"],
    )  # fmt: skip
    names = [name for name in grid.nodes if name != HOME]
    job = grid.submit(HOME, app, {}, keep_open=True, mapping=dict(zip("abc", names, strict=False)))["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    others = [name for name in grid.nodes if name not in (HOME, deputy)]
    grid.partition([HOME, *others[:2]], [deputy, *others[2:]])
    grid.run(10.0)
    put(grid, HOME, job, "one", b"mine")
    put(grid, deputy, job, "one", b"yours")
    grid.run(3.0)
    grid.heal()
    grid.run(20.0)
    grid.ask(HOME, "close", job=job)
    assert finish(grid, HOME, job, 120.0) == "completed"
    [result] = grid.results(HOME, job)["one"].values()
    assert result in (b"a:mine b:mine", b"a:yours b:yours")
    other = b"mine" if b"yours" in result else b"yours"
    [conflict] = home_of(grid, HOME, job).items["one"].conflicts
    assert conflict["inputs"] == [sha256(other).hexdigest()]
    grid.run(20.0)
    assert left_behind(grid) == []


def test_f15_results_that_come_to_a_home_before_the_item_is_known_there_count():
    """The former home and its deputy have the item's record, and cannot reach the new home when its result does."""
    grid = formed(6)
    app, recipe = make({"a": []}, seconds=3.0)
    job = grid.submit(HOME, app, {}, keep_open=True, mapping={"a": "node1"})["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    host = "node1" if deputy != "node1" else "node2"
    if host != "node1":
        grid.ask(HOME, "remap", job=job, task="a", node=host)
    other = next(name for name in grid.nodes if name not in (HOME, deputy, host))
    rest = [name for name in grid.nodes if name not in (HOME, deputy, host, other)]
    grid.partition([HOME, other, host], [deputy, *rest])
    assert grid.run_until(lambda: grid.nodes[deputy].machine.jobs.homed > 0, 20.0) is not None
    undegraded(grid, job)
    put(grid, HOME, job, "i", b"i")
    assert grid.run_until(lambda: any(each[3] == "i" for each in grid.starts), 10.0, 0.01) is not None
    grid.heal()
    grid.network.cuts |= link(grid, HOME, deputy) | link(grid, other, deputy)
    successor = grid.nodes[deputy].machine.jobs.local[job]
    came = grid.run_until(lambda: bool(successor.execution.home_join.parcels("i")), 30.0, 0.01)
    assert came is not None, "no result came"
    assert successor.home is not None
    assert "i" not in successor.home.items, "the record came first"
    grid.heal()
    grid.run(5.0)
    grid.ask(deputy, "close", job=job)
    assert finish(grid, deputy, job) == "completed"
    verify(grid, deputy, job, recipe, {"i": b"i"})
    assert acting(grid, job) == deputy
    assert len([each for each in grid.starts if each[3] == "i"]) == 1, "it was not run again"
