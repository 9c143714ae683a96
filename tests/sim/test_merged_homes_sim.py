"""Homes that meet again after more than one change of home: one is left."""

from __future__ import annotations

from job_apps import make
from job_grid import finish, formed, home_of, left_behind, put, verify

from jupiter_agent.sim.grid import Grid

HOME = "node1"


def homes(grid: Grid, job: str) -> list[str]:
    local = {node.seat.name: node.machine.jobs.local.get(job) for node in grid.running()}
    return [name for name, each in local.items() if each and each.home and each.job.home.writer == grid.id(name)]


def test_the_home_before_last_hears_of_the_last_though_the_one_between_is_gone():
    """Nobody takes part any more who could tell it: the job is over in both halves."""
    grid = formed(6)
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
    grid.run(25.0)
    assert len(homes(grid, job)) == 1
    assert homes(grid, job) != [HOME]


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
