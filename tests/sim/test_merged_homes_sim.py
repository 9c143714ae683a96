"""Homes that meet again after more than one change of home: one is left."""

from __future__ import annotations

import pytest
from job_apps import make
from job_grid import finish, formed, home_of, left_behind, put, verify
from test_failover_sim import deputies, undegraded

from jupiter_agent.sim.grid import Grid

pytestmark = pytest.mark.smoke

HOME = "node1"


def homes(grid: Grid, job: str) -> list[str]:
    local = {node.seat.name: node.machine.jobs.local.get(job) for node in grid.running()}
    return [name for name, each in local.items() if each and each.home and each.job.home.writer == grid.id(name)]


def ended_apart(seed: int = 1) -> tuple[Grid, str]:
    """Two halves, each with a home, cancel a job and meet again; one of the homes is lost with its disk by then."""
    grid = formed(6, seed)
    app, _ = make({"a": []}, seconds=0.1)
    job = grid.submit(HOME, app, {"i": b"i"}, mapping={"a": "node2"}, keep_open=True)["id"]
    grid.run(3.0)
    (deputy,) = [grid.nodes[HOME].machine.name(node) for node in home_of(grid, HOME, job).copies.deputies.nodes]
    rest = [name for name in grid.nodes if name not in (HOME, deputy)]
    grid.partition([HOME, rest[0]], [deputy, *rest[1:]])
    grid.run(10.0)
    for asked in (HOME, deputy):
        grid.ask(asked, "cancel", job=job)
    grid.run(6.0)
    grid.crash(deputy)
    grid.disks[deputy].journal.clear()
    grid.heal()
    return grid, job


@pytest.mark.parametrize("seed", [1, 11])
def test_the_home_before_last_hears_of_the_last_though_the_one_between_is_gone(seed):
    """Nobody takes part any more who could tell it: the job is over in both halves.

    With seed 11 there is a moment without any home: the one before last gave up for the one that is gone.
    """
    grid, job = ended_apart(seed)
    grid.run(25.0)
    assert len(homes(grid, job)) == 1
    assert homes(grid, job) != [HOME]


@pytest.mark.parametrize("tidy", [False, True])
def test_a_home_that_gave_up_remembers_after_a_restart_who_had_copies_from_it(tidy):
    """It gave up, and is restarted before there is a home to tell of its deputy."""
    grid, job = ended_apart(11)
    assert grid.run_until(lambda: homes(grid, job) == [], 1.0, 0.001) is not None
    if tidy:
        whole = list(grid.nodes[HOME].machine.records())
        grid.disks[HOME].journal[:] = [(*head, value() if callable(value) else value) for *head, value in whole]
    grid.crash(HOME)
    grid.start(HOME)
    grid.run(0.1)
    assert grid.id("node2") in grid.nodes[HOME].machine.jobs.succession.shelves[job].led
    grid.run(25.0)
    assert len(homes(grid, job)) == 1


@pytest.mark.parametrize("seed", [3, 6, 8, 11])
def test_a_deputy_that_was_replaced_while_it_was_cut_off_is_no_second_home_of_a_job_that_is_over(seed):
    """The only home that knew of both deputies is lost with its disk when they meet: nobody else takes part."""
    grid = formed(5, seed)
    app, recipe = make({"a": []}, seconds=0.1)
    job = grid.submit(HOME, app, {"i": b"i"}, mapping={"a": HOME})["id"]
    assert finish(grid, HOME, job) == "completed"
    undegraded(grid, job)
    (first,) = deputies(grid, job)
    grid.partition([first], [name for name in grid.nodes if name != first])
    assert grid.run_until(lambda: deputies(grid, job) != [first], 30.0) is not None
    undegraded(grid, job)
    grid.run(1.0)
    grid.crash(HOME, "silent")
    grid.disks[HOME].journal.clear()
    grid.heal()
    grid.run(60.0)
    (home,) = homes(grid, job)
    assert home_of(grid, home, job).job.over == "completed"
    verify(grid, home, job, recipe, {"i": b"i"})


def test_a_home_that_gives_up_tells_its_deputies_before_it_may_forget():
    """It has handed all over, and loses its disk: a deputy of its half asks it much later whether it is home."""
    grid, job = ended_apart()
    grid.run(6.0)
    assert HOME not in homes(grid, job)
    grid.crash(HOME)
    grid.disks[HOME].journal.clear()
    grid.run(0.5)
    grid.start(HOME)
    grid.run(60.0)
    assert len(homes(grid, job)) == 1


def test_two_homes_of_which_neither_was_told_of_the_other_merge_their_items():
    grid = formed(6)
    app, recipe = make({"a": []}, seconds=0.1)
    job = grid.submit(HOME, app, {}, mapping={"a": "node2"}, keep_open=True)["id"]
    grid.run(3.0)
    (deputy,) = [grid.nodes[HOME].machine.name(node) for node in home_of(grid, HOME, job).copies.deputies.nodes]
    rest = [name for name in grid.nodes if name not in (HOME, deputy)]
    grid.partition([HOME, rest[0]], [deputy, *rest[1:]])
    grid.run(10.0)
    put(grid, HOME, job, "mine", b"mine")
    put(grid, deputy, job, "yours", b"yours")
    grid.run(6.0)
    grid.crash(deputy)
    grid.heal()
    grid.run(25.0)
    (home,) = homes(grid, job)
    grid.ask(home, "close", job=job)
    assert finish(grid, home, job) == "completed"
    verify(grid, home, job, recipe, {"mine": b"mine", "yours": b"yours"})
    grid.run(20.0)
    assert left_behind(grid) == []
