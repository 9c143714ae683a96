"""Nodes that restart and have heard of nobody; nodes that return and have not heard of a cancel."""

from __future__ import annotations

import pytest
from job_apps import CHAIN, WIDE, make
from job_grid import MAPPERS, acting, finish, formed, home_of, left_behind, local_of, verify

from jupiter_agent.core.effects import StopTask
from jupiter_agent.sim.grid import Grid

HOME = "node2"
ITEMS = {f"item{i}": b"bytes of %d" % i for i in range(6)}
OTHERS = ("node1", "node3", "node4")
CLEAN_S = 5.0


def blackout(grid: Grid, *names: str) -> None:
    """Power fails at these nodes, and comes back."""
    for name in names:
        grid.crash(name, "silent")
    grid.run(0.5)
    for name in names:
        grid.start(name)


def test_a_home_that_nobody_has_heard_of_since_a_power_cut_is_replaced():
    """Home is lost and, before anybody notices, all the others restart: no member record of it is left."""
    grid = formed(4)
    app, recipe = make(CHAIN, seconds=0.1)
    job = grid.submit(HOME, app, ITEMS, keep_open=True)["id"]
    grid.run(5.0)
    grid.crash(HOME, "silent")
    blackout(grid, *OTHERS)
    grid.run(40.0)
    home = acting(grid, job)
    assert home in OTHERS
    verify(grid, home, job, recipe, ITEMS)


@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_job_goes_on_though_nobody_has_heard_of_who_signed_its_spec(mapper):
    """Home is lost, a deputy takes over, all restart: the signer's key is known to nobody any more."""
    grid = formed(4)
    app, recipe = make(WIDE, seconds=0.5)
    job = grid.submit(HOME, app, ITEMS, mapper=mapper, keep_open=True)["id"]
    grid.run(1.0)
    grid.crash(HOME)
    grid.run(5.0)
    blackout(grid, *OTHERS)
    grid.run(5.0)
    home = acting(grid, job)
    grid.ask(home, "close", job=job)
    assert finish(grid, home, job, 90.0) == "completed"
    verify(grid, home, job, recipe, ITEMS)


def working(grid: Grid) -> str:
    """A job of long runs on every node."""
    app, _ = make(WIDE, seconds=30.0)
    places = dict(zip(app.functions, ["node1", "node3", "node4", "node5", "node1", "node3"], strict=False))
    job: str = grid.submit(HOME, app, ITEMS, mapping=places)["id"]
    grid.run(2.0)
    return job


def taking_part(grid: Grid, job: str) -> list[str]:
    """Nodes that do anything for the job: copies of one that is over are no work."""
    local = {node.seat.name: node.machine.jobs.local.get(job) for node in grid.running()}
    return [name for name, each in local.items() if each and not each.home]


@pytest.mark.smoke
def test_cancel_cleans_every_node_within_five_seconds():
    grid = formed(5)
    job = working(grid)
    assert len(taking_part(grid, job)) == 4
    grid.ask("node4", "cancel", job=job)
    told = grid.now
    assert grid.run_until(lambda: not taking_part(grid, job), CLEAN_S) is not None
    assert grid.now - told <= CLEAN_S
    stopped = {name for at, name, effect in grid.effects if isinstance(effect, StopTask) and not effect.task}
    assert stopped == set(grid.nodes), "the processes of all nodes are ended"
    assert all(node.machine.queue.committed() == 0 for node in grid.running())
    grid.run(30.0)
    assert left_behind(grid) == []


@pytest.mark.parametrize("lost", ["node1", "node4"])
@pytest.mark.parametrize("how", ["restarted", "cut off"])
def test_a_cancelled_job_stays_cancelled_when_a_lost_node_returns(lost, how):
    grid = formed(5)
    job = working(grid)
    rest = [name for name in grid.nodes if name != lost]
    if how == "restarted":
        grid.crash(lost, "silent")
    else:
        grid.partition([lost], rest)
    grid.run(20.0)
    grid.ask(HOME, "cancel", job=job)
    grid.run(CLEAN_S)
    if how == "restarted":
        grid.start(lost)
    else:
        grid.heal()
    assert grid.run_until(lambda: not taking_part(grid, job), 30.0) is not None
    runs = len(grid.starts)
    grid.run(60.0)
    assert home_of(grid, HOME, job).job.over == "cancelled"
    assert len(grid.starts) == runs, "nothing of it runs any more"
    assert taking_part(grid, job) == []
    grid.ask(lost, "get", kind="jobs")


def test_a_cancel_that_home_told_to_nobody_holds_when_home_returns():
    grid = formed(5)
    job = working(grid)
    grid.ask(HOME, "cancel", job=job)
    grid.crash(HOME)
    grid.run(30.0)
    grid.start(HOME)
    grid.run(30.0)
    row = next(row for row in grid.ask("node5", "get", kind="jobs")["items"] if row["id"] == job)
    assert row["state"] == "cancelled"
    assert taking_part(grid, job) == []
    assert all(local_of(grid, name, job).job.over for name in grid.nodes if job in grid.nodes[name].machine.jobs.local)
