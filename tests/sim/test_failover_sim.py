"""Home dies, is cut off, comes back: nothing that was acknowledged is lost, nothing comes out twice (DESIGN.md 78-81).

The directed scenarios are those of the model (F1 to F15): one window each, hit on purpose.
"""

from __future__ import annotations

from random import Random

import pytest
from job_apps import CHAIN, DIAMOND, WIDE, make, random_app
from job_grid import MAPPERS, acting, finish, formed, has_home, home_of, left_behind, mapping, put, verify

from jupiter_agent.core.events import Stopping
from jupiter_agent.core.messages.jobs import Copied, Copy, Finished
from jupiter_agent.sim.grid import Grid

HOME = "node3"
ITEMS = {f"item{i}": b"bytes of %d" % i for i in range(6)}
SLOW_S = 0.4


def deputies(grid: Grid, job: str) -> list[str]:
    home = home_of(grid, HOME, job)
    return [grid.nodes[acting(grid, job)].machine.name(node) for node in home.copies.deputies.nodes]


def undegraded(grid: Grid, job: str, seconds: float = 10.0) -> None:
    assert grid.run_until(lambda: not home_of(grid, HOME, job).copies.degraded, seconds) is not None, "still degraded"


def done(grid: Grid, job: str) -> list[str]:
    home = home_of(grid, HOME, job)
    return [name for name, item in home.items.items() if home.shown(item) == "done"]


def holders(grid: Grid, job: str) -> list[str]:
    return [node.seat.name for node in grid.running() if job in node.machine.jobs.succession.shelves]


# --- copies ------------------------------------------------------------------------------------------------------


def test_a_job_has_a_deputy_that_holds_what_its_home_holds():
    grid = formed()
    app, _ = make(DIAMOND, size=100_000)
    job = grid.submit(HOME, app, ITEMS)["id"]
    assert finish(grid, HOME, job) == "completed"
    grid.run(5.0)
    (deputy,) = deputies(grid, job)
    shelf = grid.nodes[deputy].machine.jobs.succession.shelves[job]
    home = home_of(grid, HOME, job)
    assert {n: (i.state, i.results) for n, i in shelf.items.items()} == {
        n: (i.state, i.results) for n, i in home.items.items()
    }
    assert (shelf.closed, shelf.over, shelf.mapped_at) == (True, "completed", home.mapped_at)
    for item in shelf.items.values():
        for _, obj in item.results:
            assert obj.sha256 in grid.disks[deputy].objects
    assert left_behind(grid) == []
    row = grid.ask("node1", "get", kind="jobs", id=job)["items"][0]
    assert (row["degraded"], row["deputies"], row["home"]) == (False, [deputy], HOME)
    assert row["copies"] == {deputy: "whole"}


def test_a_home_alone_in_its_cluster_works_and_says_that_it_is_degraded():
    grid = formed(1)
    app, recipe = make(DIAMOND)
    job = grid.submit("node1", app, ITEMS)["id"]
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, ITEMS)
    row = grid.ask("node1", "get", kind="jobs", id=job)["items"][0]
    assert (row["state"], row["degraded"], row["deputies"]) == ("completed", True, [])
    grid.run(10.0)
    assert left_behind(grid) == []


# --- home dies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "silent"])
@pytest.mark.parametrize("mapper", [*MAPPERS, "static"])
def test_the_deputy_of_a_killed_home_goes_on_and_every_item_comes_out_once(mapper, how):
    grid = formed()
    app, recipe = make(WIDE, seconds=SLOW_S)
    names = ["node1", "node2", "node4", "node5"]
    static = {task.name: names[i % 4] for i, task in enumerate(app.spec.tasks)}
    options = {"mapping": static} if mapper == "static" else {"mapper": mapper}
    job = grid.submit(HOME, app, ITEMS, max_open=2, **options)["id"]
    (deputy,) = deputies(grid, job)
    grid.run(SLOW_S * 3)
    earlier = done(grid, job)
    grid.crash(HOME, how)
    assert finish(grid, "node1", job) == "completed"
    assert acting(grid, job) == deputy
    verify(grid, "node1", job, recipe, ITEMS)
    assert set(earlier) <= set(done(grid, job))
    row = grid.ask("node2", "get", kind="jobs", id=job)["items"][0]
    assert (row["home"], row["epoch"], row["state"]) == (deputy, 2, "completed")
    undegraded(grid, job)
    grid.run(15.0)
    assert left_behind(grid) == []


@pytest.mark.smoke
def test_a_home_that_died_comes_back_hands_over_and_keeps_nothing():
    grid = formed()
    app, recipe = make(CHAIN, seconds=SLOW_S)
    job = grid.submit(HOME, app, ITEMS)["id"]
    grid.run(SLOW_S)
    grid.crash(HOME, "silent")
    assert finish(grid, "node1", job) == "completed"
    undegraded(grid, job)
    others = deputies(grid, job)
    grid.start(HOME)
    grid.run(30.0)
    assert job not in grid.nodes[HOME].machine.jobs.local
    assert holders(grid, job) == others
    verify(grid, HOME, job, recipe, ITEMS)
    assert left_behind(grid) == []


def test_a_completed_job_outlives_its_home():
    grid = formed()
    app, recipe = make(DIAMOND, size=100_000)
    job = grid.submit(HOME, app, ITEMS)["id"]
    assert finish(grid, HOME, job) == "completed"
    grid.run(5.0)
    grid.crash(HOME, "silent")
    grid.run(15.0)
    verify(grid, "node1", job, recipe, ITEMS)
    undegraded(grid, job)


@pytest.mark.parametrize("seed", range(4))
def test_home_and_its_successor_die_one_after_the_other(seed):
    grid = formed(6, seed)
    app, recipe = random_app(Random(seed), pace=0.5)
    job = grid.submit(HOME, app, ITEMS)["id"]
    grid.run(0.5)
    grid.crash(HOME)
    assert grid.run_until(lambda: any(n.machine.jobs.homed for n in grid.running()), 20.0) is not None
    undegraded(grid, job)
    grid.crash(acting(grid, job), "silent")
    assert grid.run_until(lambda: any(n.machine.jobs.homed for n in grid.running()), 20.0) is not None
    living = grid.running()[0].seat.name
    assert finish(grid, living, job) == "completed"
    verify(grid, living, job, recipe, ITEMS)


@pytest.mark.parametrize("seed", range(4))
def test_two_replicas_bear_the_loss_of_home_and_a_deputy_at_once(seed):
    grid = formed(6, seed)
    app, recipe = random_app(Random(seed), pace=0.5)
    job = grid.submit(HOME, app, ITEMS, replicas=2)["id"]
    first, second = deputies(grid, job)
    grid.run(0.7)
    grid.crash(HOME, "silent")
    grid.crash(first, "silent")
    assert finish(grid, second, job) == "completed"
    assert acting(grid, job) == second
    verify(grid, second, job, recipe, ITEMS)


@pytest.mark.smoke
def test_a_home_that_lost_its_disk_is_replaced_by_its_deputy():
    grid = formed()
    app, recipe = make(CHAIN, seconds=SLOW_S)
    job = grid.submit(HOME, app, ITEMS)["id"]
    grid.run(SLOW_S)
    grid.crash(HOME)
    grid.disks[HOME].journal.clear()
    grid.run(0.1)
    grid.start(HOME)
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, ITEMS)


# --- what clients see of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "silent"])
@pytest.mark.parametrize("verb", ["get", "put", "cancel", "results", "explain", "stats", "logs"])
def test_a_call_through_any_peer_waits_for_the_new_home(verb, how):
    grid = formed()
    app, _ = make(CHAIN, seconds=SLOW_S)
    job = grid.submit(HOME, app, ITEMS, keep_open=True)["id"]
    (deputy,) = deputies(grid, job)
    grid.run(SLOW_S)
    grid.crash(HOME, how)
    asked = next(name for name in grid.nodes if name not in (HOME, deputy))
    args = {"inputs": [grid.upload(asked, "late", b"late")]} if verb == "put" else {}
    args |= {"kind": "jobs", "id": job} if verb == "get" else {"job": job}
    began = grid.now
    body = grid.ask(asked, verb, 30.0, **args)
    assert body
    assert grid.now - began < 15.0
    assert acting(grid, job) == deputy


def test_results_flow_again_within_ten_seconds_of_the_detection():
    grid = formed()
    app, recipe = make({"a": []}, seconds=0.2)
    items = {f"i{n}": b"%d" % n for n in range(100)}
    job = grid.submit(HOME, app, items, max_open=1, mapping={"a": "node1"})["id"]
    grid.run(2.0)
    grid.crash(HOME, "silent")
    others = grid.running()
    home = grid.id(HOME)
    assert grid.run_until(lambda: any(n.machine.is_gone(home) for n in others), 20.0, 0.01) is not None
    detected, before = grid.now, 0
    assert grid.run_until(lambda: any(n.machine.jobs.homed for n in others), 20.0, 0.01) is not None
    before = len(done(grid, job))
    assert grid.run_until(lambda: len(done(grid, job)) > before, 20.0, 0.01) is not None
    assert grid.now - detected < 10.0
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, items)


# --- the model's directed scenarios ----------------------------------------------------------------------------------


@pytest.mark.smoke
def test_f12_no_item_enters_the_dag_before_it_is_on_the_deputy():
    grid = formed()
    app, recipe = make(CHAIN)
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    a, b = grid.nodes[HOME].seat.address, grid.nodes[deputy].seat.address
    grid.network.cuts |= {(a, b), (b, a)}
    seq = grid.call(HOME, "put", job=job, inputs=[grid.upload(HOME, "late", b"late")])
    grid.run(1.0)
    assert seq not in grid.answers
    assert grid.starts == []
    grid.heal()
    assert grid.run_until(lambda: seq in grid.answers, 10.0) is not None
    grid.ask(HOME, "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, {"late": b"late"})


def test_f14_finished_is_withheld_while_a_home_is_cut_off_alone():
    grid = formed()
    app, recipe = make({"a": []}, seconds=3.0)
    job = grid.submit(HOME, app, {"i0": b"0"}, mapping={"a": HOME}, keep_open=True)["id"]
    undegraded(grid, job)
    grid.run(0.5)
    grid.partition([HOME], [name for name in grid.nodes if name != HOME])
    grid.run(10.0)
    assert grid.nodes[HOME].machine.jobs.local[job].home.items["i0"].state == "done"
    said = [m for _, n, s in grid.sent if n == HOME and isinstance(m := s.message, Finished) and m.intervals]
    assert said == []
    grid.heal()
    grid.run(0.2)
    grid.crash(HOME, "silent")
    grid.run(20.0)
    grid.ask("node1", "close", job=job)
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, {"i0": b"0"})


def test_f9_a_former_deputy_hands_over_what_only_it_has():
    """The deputy is cut off; home names another one, takes an item in there, and is lost when the link heals."""
    grid = formed()
    app, recipe = make({"a": []}, seconds=SLOW_S)
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    undegraded(grid, job)
    (first,) = deputies(grid, job)
    grid.partition([first], [name for name in grid.nodes if name != first])
    grid.run(7.0)
    put(grid, HOME, job, "i0", b"0")
    grid.run(2.0)
    grid.heal()
    grid.run(0.1)
    grid.crash(HOME, "silent")
    grid.run(20.0)
    grid.ask("node1" if first != "node1" else "node2", "close", job=job)
    assert finish(grid, first, job) == "completed"
    verify(grid, first, job, recipe, {"i0": b"0"})


def test_f10_a_replaced_deputy_keeps_its_copies_until_the_new_one_has_all():
    grid = formed()
    app, recipe = make({"a": []}, seconds=1.0, size=0)
    items = {f"i{n}": b"%d" % n for n in range(4)}
    job = grid.submit(HOME, app, items, keep_open=True)["id"]
    undegraded(grid, job)
    (first,) = deputies(grid, job)
    grid.partition([first], [name for name in grid.nodes if name != first])
    assert grid.run_until(lambda: deputies(grid, job) != [first], 15.0, 0.0005) is not None
    grid.heal()
    grid.crash(HOME, "silent")
    grid.run(20.0)
    grid.ask(first, "close", job=job)
    assert finish(grid, first, job) == "completed"
    verify(grid, first, job, recipe, items)


def test_f6_items_that_both_sides_of_a_partition_number_alike_both_come_out():
    grid = formed(6)
    app, recipe = make({"a": []}, seconds=0.1)
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    others = [name for name in grid.nodes if name not in (HOME, deputy)]
    grid.partition([HOME, *others[:2]], [deputy, *others[2:]])
    grid.run(10.0)
    put(grid, HOME, job, "mine", b"mine")
    put(grid, deputy, job, "yours", b"yours")
    put(grid, HOME, job, "both", b"both")
    put(grid, deputy, job, "both", b"both")
    grid.run(5.0)
    grid.heal()
    grid.run(20.0)
    grid.ask(HOME, "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, {"mine": b"mine", "yours": b"yours", "both": b"both"})
    grid.run(20.0)
    assert left_behind(grid) == []
    assert acting(grid, job) == deputy


@pytest.mark.parametrize("side", ["home's", "deputy's"])
@pytest.mark.parametrize("verb", ["cancel", "close", "remap"])
def test_what_is_asked_in_one_half_holds_after_the_merge(verb, side):
    grid = formed(6)
    app, _ = make(CHAIN, seconds=20.0)
    names = [name for name in grid.nodes if name != HOME]
    job = grid.submit(HOME, app, {"i": b"i"}, mapping=dict.fromkeys("abc", names[0]), keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    others = [name for name in grid.nodes if name not in (HOME, deputy)]
    halves = [HOME, *others[:2]], [deputy, *others[2:]]
    grid.partition(*halves)
    grid.run(10.0)
    half = halves[0] if side == "home's" else halves[1]
    args = {"task": "c", "node": half[2]} if verb == "remap" else {}
    grid.ask(half[1], verb, job=job, **args)
    grid.run(1.0)
    grid.heal()
    grid.run(30.0)
    home = home_of(grid, HOME, job)
    if verb == "cancel":
        assert home.job.over == "cancelled"
    elif verb == "close":
        assert not home.intake.open
    else:
        assert grid.nodes[HOME].machine.name(home.job.registers["c"].node) == half[2]


def test_an_item_accepted_in_one_half_comes_out_though_the_other_half_ended_the_job():
    grid = formed(6)
    app, recipe = make(CHAIN, seconds=0.1)
    job = grid.submit(HOME, app, {"early": b"early"}, keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    others = [name for name in grid.nodes if name not in (HOME, deputy)]
    grid.run(2.0)
    grid.partition([HOME, *others[:2]], [deputy, *others[2:]])
    grid.run(10.0)
    put(grid, HOME, job, "late", b"late")
    grid.ask(deputy, "close", job=job)
    grid.run(0.1)
    assert grid.nodes[deputy].machine.jobs.local[job].job.over == "completed"
    hosts = [n.seat.address for n in grid.nodes.values() if n.seat.name in set(mapping(grid, HOME, job).values())]
    assert hosts
    grid.heal()
    grid.run(60.0)
    assert finish(grid, deputy, job) == "completed"
    verify(grid, deputy, job, recipe, {"early": b"early", "late": b"late"})
    grid.run(20.0)
    assert left_behind(grid) == []


def test_an_item_that_is_open_in_one_half_when_the_other_ends_the_job_is_run_after_the_merge():
    grid = formed(6)
    app, recipe = make(CHAIN, seconds=30.0)
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    others = [name for name in grid.nodes if name not in (HOME, deputy)]
    grid.partition([HOME, *others[:2]], [deputy, *others[2:]])
    grid.run(10.0)
    put(grid, HOME, job, "late", b"late")
    grid.ask(deputy, "close", job=job)
    grid.run(1.0)
    assert grid.nodes[deputy].machine.jobs.local[job].job.over == "completed"
    grid.heal()
    assert grid.run_until(lambda: "late" in home_of(grid, deputy, job).items, 30.0) is not None
    assert finish(grid, deputy, job, 200.0) == "completed"
    verify(grid, deputy, job, recipe, {"late": b"late"})
    grid.run(30.0)
    assert left_behind(grid) == []


def test_batches_grow_with_the_load_so_copies_cost_few_messages():
    grid = formed()
    app, recipe = make(CHAIN, seconds=0.001)
    items = {f"item{i:03}": b"%d" % i for i in range(300)}
    job = grid.submit(HOME, app, items)["id"]
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)
    copies = [s for _, _, s in grid.sent if isinstance(s.message, Copy)]
    acks = [s for _, _, s in grid.sent if isinstance(s.message, Copied)]
    assert len(copies) + len(acks) < 2 * len(items), "one batch a round trip"


def leave(grid: Grid, node: str) -> None:
    """SIGTERM."""
    grid.nodes[node].give(Stopping())


# --- home leaves on purpose ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("how", ["drain", "stop"])
def test_a_home_that_drains_hands_over_at_once_and_nothing_is_lost(how, replicas):
    grid = formed()
    app, recipe = make(CHAIN, seconds=SLOW_S)
    job = grid.submit(HOME, app, ITEMS, keep_open=True, replicas=replicas)["id"]
    grid.run(SLOW_S * 2)
    began = grid.now
    if how == "drain":
        grid.ask(HOME, "drain", node=HOME)
    else:
        leave(grid, HOME)
    moved = grid.run_until(lambda: has_home(grid, job) and acting(grid, job) != HOME, 10.0, 0.01)
    assert moved is not None
    assert grid.now - began < 2.0, "without waiting for a detector"
    put(grid, "node1", job, "late", b"late")
    grid.ask("node2", "close", job=job)
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, ITEMS | {"late": b"late"})
    grid.run(15.0)
    assert left_behind(grid) == []
    if how == "stop":
        assert not grid.nodes[HOME].running
    else:
        assert job not in grid.nodes[HOME].machine.jobs.local


def test_a_finished_job_outlives_a_home_that_was_told_to_leave():
    grid = formed(3)
    app, recipe = make(DIAMOND, size=100_000)
    job = grid.submit(HOME, app, ITEMS)["id"]
    assert finish(grid, HOME, job) == "completed"
    leave(grid, HOME)
    assert grid.run_until(lambda: not grid.nodes[HOME].running, 10.0) is not None
    verify(grid, "node1", job, recipe, ITEMS)


def test_the_last_node_of_a_cluster_leaves_with_its_jobs_at_once():
    grid = formed(1)
    app, _ = make(DIAMOND)
    grid.submit("node1", app, {}, keep_open=True)
    leave(grid, "node1")
    assert grid.run_until(lambda: not grid.nodes["node1"].running, 2.0) is not None


@pytest.mark.parametrize("at", ["home", "another"])
@pytest.mark.smoke
def test_a_call_that_waits_at_a_home_which_steps_down_is_answered_by_the_next_one(at):
    """The deputy cannot confirm the item to home, and takes over."""
    grid = formed()
    app, recipe = make(CHAIN)
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    undegraded(grid, job)
    (deputy,) = deputies(grid, job)
    a, b = grid.nodes[HOME].seat.address, grid.nodes[deputy].seat.address
    grid.network.cuts |= {(a, b), (b, a)}
    asked = HOME if at == "home" else next(name for name in grid.nodes if name not in (HOME, deputy))
    seq = grid.call(asked, "put", job=job, inputs=[grid.upload(asked, "late", b"late")])
    grid.run(0.5)
    assert seq not in grid.answers
    grid.nodes[deputy].machine.jobs.succession.shelves[job].disowned = True
    grid.nodes[deputy].machine.jobs.succession.step(grid.now)
    assert grid.run_until(lambda: acting(grid, job) == deputy, 5.0) is not None
    grid.heal()
    began = grid.now
    assert grid.run_until(lambda: seq in grid.answers, 20.0, 0.05) is not None
    assert grid.answers[seq].exit_code == 0
    assert grid.now - began < 8.0
    grid.ask("node1", "close", job=job)
    assert finish(grid, deputy, job) == "completed"
    verify(grid, deputy, job, recipe, {"late": b"late"})
