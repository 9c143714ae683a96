"""When a node says that it may be replaced (DESIGN.md 99): nothing is here that nobody else has and somebody could."""

from __future__ import annotations

import pytest
from job_apps import DIAMOND, make
from job_grid import finish, formed

from jupiter_agent.core.events import Stopping
from jupiter_agent.sim.grid import Grid

pytestmark = pytest.mark.smoke

ITEMS = {f"item{i}": b"bytes of %d" % i for i in range(6)}


def unready(grid: Grid, name: str) -> str:
    return grid.nodes[name].machine.jobs.handing.unready()


def test_a_node_without_jobs_is_ready():
    grid = formed(3)
    assert [unready(grid, name) for name in ("node1", "node2", "node3")] == ["", "", ""]


def test_a_job_that_was_taken_is_no_reason_to_wait_as_a_deputy_has_it_already():
    grid = formed(3)
    app, _ = make(DIAMOND, size=100_000)
    job = grid.submit("node3", app, ITEMS)["id"]
    assert unready(grid, "node3") == ""
    assert grid.nodes["node3"].machine.jobs.local[job].home.copies.living()


def test_a_home_whose_deputy_is_lost_is_not_ready_until_it_has_another():
    grid = formed(4)
    app, _ = make(DIAMOND, size=100_000)
    job = grid.submit("node3", app, ITEMS)["id"]
    finish(grid, "node3", job)
    grid.run(5.0)
    home = grid.nodes["node3"].machine.jobs.local[job].home
    (deputy,) = home.copies.deputies.nodes
    name = grid.nodes["node3"].machine.name(deputy)
    grid.crash(name)
    alone = f"only this node has all of job {job}"
    assert grid.run_until(lambda: unready(grid, "node3") == alone, 30.0, 0.002) is not None, "it did not notice"
    assert grid.run_until(lambda: unready(grid, "node3") == "", 30.0) is not None, "it found no other"
    assert deputy not in home.copies.living()


def test_a_home_that_nobody_could_help_is_ready():
    """Or one node alone would never be in service, and the update of its image would wait for ever."""
    grid = formed(1)
    app, _ = make(DIAMOND)
    job = grid.submit("node1", app, ITEMS)["id"]
    finish(grid, "node1", job)
    assert grid.nodes["node1"].machine.jobs.local[job].home.copies.degraded
    assert unready(grid, "node1") == ""


def test_a_job_that_wants_more_copies_than_there_are_nodes_holds_up_nobody():
    grid = formed(2)
    app, _ = make(DIAMOND)
    job = grid.submit("node1", app, ITEMS, replicas=3)["id"]
    finish(grid, "node1", job)
    grid.run(5.0)
    assert grid.nodes["node1"].machine.jobs.local[job].home.copies.degraded
    assert unready(grid, "node1") == ""


def test_a_node_that_drains_is_not_ready():
    grid = formed(3)
    app, _ = make(DIAMOND)
    grid.submit("node2", app, ITEMS)
    grid.run(1.0)
    grid.nodes["node2"].give(Stopping())
    grid.run(0.05)
    assert unready(grid, "node2") == "it drains"
