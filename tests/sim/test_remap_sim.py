"""Active remapping in whole simulated clusters: a node becomes slow in mid-job, or nothing happens but noise."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from job_apps import Recipe, make, random_dag
from job_grid import finish, formed, home_of, mapping, verify

from jupiter_agent.sim.grid import Grid, SimApp

CHAIN = {"t0": ["t1"], "t1": ["t2"], "t2": ["t3"], "t3": ["t4"], "t4": ["t5"], "t5": []}
ITEMS = {f"i{n:03}": b"x%d" % n for n in range(120)}


def noisy(task: str, mean_s: float, seed: int):
    """Durations with a noise of 30 %: the n-th run of a task takes the same in every run of a test."""
    rng = Random(f"{task}{seed}")
    return lambda _: mean_s * rng.lognormvariate(0.0, 0.3)


def chain(seed: int) -> tuple[SimApp, Recipe]:
    app, recipe = make(CHAIN, name="chain6")
    return SimApp(app.spec, app.functions, {task: noisy(task, 0.25, seed) for task in CHAIN}), recipe


def run(remap: str, slowed: float = 0.0, seed: int = 1) -> tuple[float, Grid, str]:
    """120 items through a chain on 8 nodes; the node of t3 takes so many times as long from 8 s on."""
    grid = formed(8, seed)
    app, recipe = chain(seed)
    began = grid.now
    job = grid.submit("node1", app, ITEMS, mapper="wave-greedy", remap=remap)["id"]
    grid.run(8.0)
    slow = mapping(grid, "node1", job)["t3"]
    if slowed:
        grid.speeds[slow] /= slowed
    assert finish(grid, "node1", job, 600.0) == "completed"
    verify(grid, "node1", job, recipe, ITEMS)
    return grid.now - began, grid, job


def moves(grid: Grid, job: str) -> int:
    return sum(register.epoch - 1 for register in home_of(grid, "node1", job).job.registers.values())


def test_a_node_that_becomes_four_times_as_slow_loses_its_tasks_and_the_job_ends_sooner():
    without, _, _ = run("off", slowed=4.0)
    active, grid, job = run("active", slowed=4.0)
    assert active <= 0.75 * without
    assert 1 <= moves(grid, job) <= 2
    whys = [register.why for register in home_of(grid, "node1", job).job.registers.values() if register.epoch > 1]
    assert all("active remapping" in why for why in whys)


def test_runs_that_have_begun_before_a_move_are_not_made_again_after_it():
    _, grid, job = run("active", slowed=4.0)
    assert moves(grid, job) >= 1
    twice = [key for key, count in Counter((task, item) for _, _, task, item in grid.starts).items() if count > 1]
    assert twice == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_alone_moves_nothing_and_costs_nothing(seed: int):
    steady, _, _ = run("off", seed=seed)
    active, grid, job = run("active", seed=seed)
    assert moves(grid, job) == 0
    assert active <= 1.02 * steady


def test_a_lazy_job_moves_on_a_dramatic_change():
    without, _, _ = run("off", slowed=10.0)
    lazy, grid, job = run("lazy", slowed=10.0)
    assert moves(grid, job) >= 1
    assert lazy < without


@pytest.mark.parametrize("seed", range(8))
def test_moves_lose_and_double_nothing_while_nodes_change_their_speed_at_random(seed: int):
    rng = Random(seed)
    grid = formed(6, seed)
    app, recipe = make(random_dag(rng), name=f"random{seed}")
    app = SimApp(app.spec, app.functions, {task.name: noisy(task.name, 0.2, seed) for task in app.spec.tasks})
    items = {f"i{n}": b"x%d" % n for n in range(60)}
    job = grid.submit("node2", app, items, mapper=rng.choice(["heft", "wave-greedy"]), remap="active")["id"]
    for _ in range(10):
        grid.run(3.0)
        grid.speeds[rng.choice(list(grid.speeds))] = rng.choice([0.1, 0.25, 1.0, 1.0])
    grid.speeds.update(dict.fromkeys(grid.speeds, 1.0))
    assert finish(grid, "node2", job, 900.0) == "completed"
    verify(grid, "node2", job, recipe, items)
