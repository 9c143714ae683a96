"""Items that end whoever runs them, in virtual time: they end few agents, and nobody else's items."""

from __future__ import annotations

from collections import Counter

import pytest
from job_apps import CHAIN, WIDE, make
from job_grid import acting, finish, formed, has_home, home_of, left_behind

from jupiter_agent.sim.grid import AgentEndedError, Grid, SimApp

HOME = "node4"
GOOD = {f"good{i}": b"good%d" % i for i in range(10)}


def killer(task: str, ended: list[None] | None = None) -> SimApp:
    """A chain that passes its input on, in which one task ends its agent over the item `bad`: `ended` counts."""
    app, _ = make(CHAIN, seconds=0.05, name=f"killer-{task}")

    def passes(inputs: dict[str, bytes]) -> bytes:
        return b"".join(inputs.values())

    def ends(inputs: dict[str, bytes]) -> bytes:
        if b"bad" in inputs.values():
            if ended is not None:
                ended.append(None)
            raise AgentEndedError
        return passes(inputs)

    app.functions.update({name: ends if name == task else passes for name in app.functions})
    return app


def played(task: str, **args: object) -> tuple[Grid, str, list[str]]:
    """A job with one bad item among ten good ones: the grid, the job's id, agents in the order they ended.

    Something starts them again after 3 s, as a service manager does; home may be among them.
    """
    grid = formed(5)
    job = grid.submit(HOME, killer(task), GOOD | {"bad": b"bad"}, replicas=0, **args)["id"]
    ended: list[str] = []
    over = False
    while not over and grid.now < 120.0:
        grid.run(0.1)
        over = grid.nodes[HOME].running and bool(home_of(grid, HOME, job).job.over)
        if down := [name for name, node in grid.nodes.items() if not node.running]:
            ended += down
            grid.run(3.0)
            for name in down:
                grid.start(name)
            grid.run(0.1)
    grid.run(5.0)
    assert home_of(grid, HOME, job).job.over == "failed"
    return grid, job, ended


@pytest.mark.parametrize("task", ["a", "b", "c"])
@pytest.mark.parametrize("where", ["spread", "together", "home"])
def test_an_item_that_ends_its_agents_ends_three_and_is_a_dead_letter(task, where):
    places = {"spread": ["node1", "node2", "node3"], "together": ["node1"] * 3, "home": [HOME] * 3}[where]
    grid, job, ended = played(task, mapping=dict(zip("abc", places, strict=True)))
    assert len(ended) == 3
    items = home_of(grid, HOME, job).items
    assert {name: item.state for name, item in items.items()} == dict.fromkeys(GOOD, "done") | {"bad": "failed"}
    assert items["bad"].error["error"].startswith("given up")
    [row] = [row for row in grid.ask(HOME, "get", kind="items", id=job)["items"] if row["name"] == "bad"]
    assert row["state"] == "failed"
    assert [obj.data for parts in items["bad"].parts.values() for obj in parts] == [b"bad"], "its input is kept"
    grid.run(30.0)
    assert left_behind(grid) == []


def test_a_dead_letter_can_be_tried_again():
    grid, job, _ = played("b", mapping={"a": "node1", "b": "node2", "c": "node3"})
    [app] = grid.apps.values()
    app.functions["b"] = lambda inputs: b"mended"
    again = grid.ask(HOME, "retry", job=job)["job"]
    assert finish(grid, HOME, again) == "completed"
    assert list(home_of(grid, HOME, again).items) == ["bad"]


@pytest.mark.smoke
def test_nobody_else_is_lost_when_the_agents_do_not_come_back():
    """By the wave: entry and controlling tasks are not on home while others live."""
    grid = formed(6)
    job = grid.submit(HOME, killer("a"), GOOD | {"bad": b"bad"}, mapper="wave-greedy")["id"]
    assert finish(grid, HOME, job, 120.0) == "failed"
    assert len([name for name, node in grid.nodes.items() if not node.running]) == 3
    assert Counter(item.state for item in home_of(grid, HOME, job).items.values()) == {"done": 10, "failed": 1}


def test_items_that_were_only_there_when_agents_ended_are_no_dead_letters():
    """Three hosts in a row are lost with the same items in their queue."""
    grid = formed(7)
    app, _ = make({"a": []}, seconds=3.0)
    job = grid.submit(HOME, app, GOOD, mapping={"a": "node1"})["id"]
    for _ in range(3):
        grid.run(1.0)
        host = home_of(grid, HOME, job).job.host("a")
        victim = next(name for name in grid.nodes if grid.id(name) == host)
        if victim != HOME:
            grid.crash(victim)
        grid.run(6.0)
    assert finish(grid, HOME, job, 120.0) in ("completed", "failed")
    failed = [item.name for item in home_of(grid, HOME, job).items.values() if item.state == "failed"]
    assert len(failed) <= 1, "at most the one that ran each time"


@pytest.mark.parametrize("how", ["stay away", "come back"])
def test_an_item_that_ends_one_home_after_the_other_ends_three_agents(how):
    """Each home runs the tasks itself; the next one knows of the strikes."""
    grid = formed(7)
    ended: list[None] = []
    app = killer("b", ended)
    job = grid.submit(HOME, app, GOOD | {"bad": b"bad"}, replicas=2, mapping=dict.fromkeys("abc", HOME))["id"]
    over = ""
    while not over and grid.now < 200.0:
        grid.run(0.1)
        if how == "come back" and len(grid.running()) < 7:
            grid.run(8.0)
            for name in [name for name, node in grid.nodes.items() if not node.running]:
                grid.start(name)
        if grid.run_until(lambda: has_home(grid, job), 30.0, 0.01) is None:
            continue
        home = acting(grid, job)
        local = grid.nodes[home].machine.jobs.local[job]
        over = local.job.over
        if not over and len(ended) < 3:
            for task in [task for task, register in local.job.registers.items() if register.node != grid.id(home)]:
                grid.call(home, "remap", job=job, task=task, node=home)
    assert over == "failed"
    assert len(ended) == 3
    states = Counter(item.state for item in home_of(grid, HOME, job).items.values())
    assert states == {"done": 10, "failed": 1}


def test_a_power_cut_is_one_strike_for_an_item_that_runs_on_many_nodes_at_once():
    """Home is lost before with the first task: what is open has a strike, and every run is announced."""
    grid = formed(6)
    app, _ = make(WIDE, seconds=2.0)
    hosts = ["node1", "node2", "node3", "node5", "node6"]
    places = dict(zip("bcdez", hosts, strict=True)) | {"a": HOME}
    job = grid.submit(HOME, app, {"i": b"i"}, replicas=2, mapping=places)["id"]
    grid.run(1.0)
    grid.crash(HOME)
    assert grid.run_until(lambda: {"b", "c", "d", "e"} <= {task for _, _, task, _ in grid.starts}, 20.0) is not None
    grid.run(0.5)
    for name in hosts:
        grid.crash(name, "silent")
    grid.run(0.5)
    for name in hosts:
        grid.start(name)
    grid.run(5.0)
    home = acting(grid, job)
    assert finish(grid, home, job, 90.0) == "completed"
    assert len(home_of(grid, home, job).items["i"].ended) == 1
