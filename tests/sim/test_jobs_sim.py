"""Whole clusters in virtual time run jobs: right results under every mapper, with faults, and nothing left behind."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from job_apps import (
    CHAIN,
    CONSTANT,
    DIAMOND,
    EXTRA,
    FILTER,
    PLAIN,
    ROUTER,
    SHAPES,
    SINKS,
    WIDE,
    Recipe,
    make,
    random_app,
)
from job_grid import (
    MAPPERS,
    crash_after_awards,
    finish,
    first,
    formed,
    home_of,
    left_behind,
    local_of,
    mapping,
    put,
    refused,
    survive,
    told_by,
    verify,
)

from jupiter_agent.core.effects import StopTask, WriteChunk
from jupiter_agent.core.events import Received
from jupiter_agent.core.messages.control import BlobWrite
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, Awarded, ChunkRequest, Parcel
from jupiter_agent.core.wire import encode
from jupiter_agent.sim.grid import Function, Grid, SimApp, TaskFailureError

HOME = "node3"
ITEMS = {f"item{i}": b"bytes of %d" % i for i in range(4)}
SLOW_S = 0.4


def spread(grid: Grid, app: SimApp) -> dict[str, str]:
    """A static mapping that goes round the nodes."""
    names = list(grid.nodes)
    return {task.name: names[i % len(names)] for i, task in enumerate(app.spec.tasks)}


def options(grid: Grid, app: SimApp, mapper: str) -> dict[str, object]:
    return {"mapping": spread(grid, app)} if mapper == "static" else {"mapper": mapper}


def running(grid: Grid, edges: dict[str, list[str]] = DIAMOND, **args: object) -> tuple[str, Recipe]:
    """A job of slow tasks with ITEMS, submitted at HOME: its id and oracle."""
    app, recipe = make(edges, seconds=SLOW_S)
    return grid.submit(HOME, app, ITEMS, **args)["id"], recipe


# --- without faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapper", [*MAPPERS, "static"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_job_submitted_at_nobodys_seed_gives_what_its_functions_give(shape, mapper):
    grid = formed()
    app, recipe = make(SHAPES[shape])
    job = grid.submit(HOME, app, ITEMS, **options(grid, app, mapper))["id"]
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)
    assert len(grid.starts) == len(ITEMS) * len(app.spec.tasks)


@pytest.mark.parametrize("mapper", MAPPERS)
def test_filters_and_routers_end_with_right_results_and_no_item_open(mapper):
    grid = formed()
    app, recipe = make(
        {"a": ["b", "c", "home"], "b": ["d"], "c": ["d", "e"], "d": ["f", "home"], "e": ["f"], "f": []},
        {"a": ROUTER, "b": FILTER, "d": ROUTER, "e": CONSTANT},
    )
    items = {f"item{i}": b"%d" % i for i in range(24)}
    job = grid.submit(HOME, app, items, mapper=mapper)["id"]
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)
    given = {tuple(sorted(sink for sink, _ in found)) for found in grid.results(HOME, job).values()}
    assert len(given) > 3, "the items take different ways"


@pytest.mark.parametrize("seed", range(20))
def test_random_dags_give_what_their_functions_give(seed):
    rng = Random(seed)
    grid = formed(rng.randrange(1, 7), seed)
    app, recipe = random_app(rng, chance=0.3, most=12)
    home = rng.choice(list(grid.nodes))
    job = grid.submit(home, app, ITEMS, mapper=rng.choice(MAPPERS))["id"]
    assert finish(grid, home, job) == "completed"
    verify(grid, home, job, recipe, ITEMS)
    grid.run(15.0)
    assert left_behind(grid) == []


@pytest.mark.parametrize("mapper", ["wave-random", "wave-greedy", "wave-auction"])
@pytest.mark.parametrize("seed", range(5))
def test_no_message_from_home_names_a_node_for_a_non_entry_task(seed, mapper):
    rng = Random(seed)
    grid = formed(6, seed)
    app, _ = random_app(rng, most=10)
    job = grid.submit(HOME, app, ITEMS, mapper=mapper)["id"]
    assert finish(grid, HOME, job) == "completed"
    entries = set(home_of(grid, HOME, job).job.dag.entries)
    assert {register.task for register in told_by(grid, HOME, job)} == entries


@pytest.mark.parametrize("mapper", ["wave-random", "wave-greedy", "wave-auction"])
@pytest.mark.parametrize("seed", range(5))
def test_every_register_is_written_by_the_host_of_the_tasks_controller(seed, mapper):
    grid = formed(6, seed)
    app, _ = random_app(Random(seed), most=10)
    job = grid.submit(HOME, app, ITEMS, mapper=mapper)["id"]
    finish(grid, HOME, job)
    known = home_of(grid, HOME, job).job
    assert known.mapped
    assert {t: r.writer for t, r in known.registers.items()} == {t: known.controller_host(t) for t in known.tasks}


@pytest.mark.smoke
def test_three_jobs_at_once_do_not_disturb_each_other():
    grid = formed()
    jobs = []
    for home, edges, mapper in [("node2", DIAMOND, "heft"), ("node4", WIDE, "wave-greedy"), ("node2", SINKS, "heft")]:
        app, recipe = make(edges, seconds=0.1)
        jobs.append((home, grid.submit(home, app, ITEMS, mapper=mapper)["id"], recipe))
    for home, job, recipe in jobs:
        assert finish(grid, home, job) == "completed"
        verify(grid, home, job, recipe, ITEMS)
    rows = grid.ask("node1", "get", kind="jobs")["items"]
    assert [row["id"] for row in rows] == [job for _, job, _ in jobs]
    grid.run(15.0)
    assert left_behind(grid) == []


def test_two_hundred_items_go_through_a_job_that_admits_sixty_four():
    grid = formed()
    app, recipe = make(DIAMOND, seconds=0.001)
    items = {f"item{i:03}": b"%d" % i for i in range(200)}
    job = grid.submit(HOME, app, items)["id"]
    home = home_of(grid, HOME, job)
    most = 0
    while not home.job.over and grid.now < 60.0:
        most = max(most, [item.state for item in home.items.values()].count("running"))
        grid.run(0.01)
    assert (home.job.over, most) == ("completed", 64)
    verify(grid, HOME, job, recipe, items)


# --- bytes -------------------------------------------------------------------------------------------------------

MIB = 1024 * 1024


@pytest.mark.smoke
def test_large_objects_travel_between_nodes_and_as_results():
    grid = formed()
    app, recipe = make(DIAMOND, size=MIB)
    items = {"big": bytes(MIB), "small": b"small"}
    places = {"a": "node1", "b": "node2", "c": "node4", "d": "node5"}
    job = grid.submit(HOME, app, items, mapping=places, replicas=0)["id"]
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)
    grid.run(15.0)
    assert left_behind(grid) == []
    kept = [sum(len(data) for data in grid.disks[name].objects.values()) for name in grid.nodes]
    assert [size // MIB for size in kept] == [0, 0, 2, 0, 0], "results at home, and nothing anywhere else"


def test_inputs_that_are_passed_on_to_home_fit_into_a_frame_or_are_fetched():
    """30 inputs of 60 kB, put through an agent that is not home."""
    grid = formed()
    app, _ = make(CHAIN)
    job = grid.submit(HOME, app, {"first": b"1"}, keep_open=True)["id"]
    inputs = [grid.upload("node1", f"i{n}", b"%02d" % n * 30_000) for n in range(30)]
    for each in inputs:
        data = each.pop("data")
        blob = BlobWrite(1, bytes.fromhex(each["sha256"]), len(data), 0, data)
        grid.nodes["node1"].give(Received("client:1", blob))
    grid.run(0.5)
    assert len(grid.ask("node1", "put", job=job, inputs=inputs)["accepted"]) == 30
    grid.ask(HOME, "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    for _, _, send in grid.sent:
        encode(send.message)
    grid.run(15.0)
    assert left_behind(grid) == []


def test_identical_content_is_sent_once_per_object_and_node():
    grid = formed()
    app, recipe = make({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, {"a": CONSTANT}, size=MIB)
    items = {f"item{i}": bytes(MIB) for i in range(3)}
    places = {"a": "node1", "b": "node2", "c": "node2", "d": "node4"}
    job = grid.submit(HOME, app, items, mapping=places, replicas=0)["id"]
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)
    written = Counter((node, e.sha256, e.offset) for _, node, e in grid.effects if isinstance(e, WriteChunk))
    assert set(written.values()) == {1}
    asked = Counter(node for _, node, send in grid.sent if isinstance(send.message, ChunkRequest))
    chunks = MIB // CHUNK_BYTES
    assert asked == {"node1": chunks + 1, "node2": chunks + 1, "node4": 2 * chunks + 1, "node3": chunks}


def test_an_object_comes_from_the_new_host_when_the_one_that_made_it_is_lost():
    grid = formed()
    app, recipe = make(CHAIN, size=4 * MIB)
    job = grid.submit(HOME, app, {"i": b"x"}, mapping={"a": "node1", "b": "node2", "c": "node4"})["id"]
    first(grid, ChunkRequest, 5.0)  # of the bundle
    grid.run_until(lambda: grid.nodes["node2"].machine.transfers.moved_bytes > MIB, 5.0, 0.0005)
    grid.crash("node1", "silent")
    assert finish(grid, HOME, job, 40.0) == "completed"
    verify(grid, HOME, job, recipe, {"i": b"x"})


# --- the home, a worker, or nobody that matters, dies --------------------------------------------------------------


@pytest.mark.parametrize("mapper", ["wave-random", "wave-greedy", "wave-auction"])
@pytest.mark.parametrize("shape", ["chain", "wide", "entries"])
def test_every_task_gets_a_living_node_though_home_dies_right_after_the_entry_awards(shape, mapper):
    grid = formed(6)
    app, _ = make(SHAPES[shape])
    seq = len(grid.sent)
    job = grid.submit(HOME, app, ITEMS, mapper=mapper)["id"]
    if not any(isinstance(send.message, Awarded) for _, _, send in grid.sent[seq:]):
        crash_after_awards(grid, HOME)
    else:
        grid.crash(HOME)
    grid.run(20.0)
    taking_part = [n.seat.name for n in grid.running() if job in n.machine.jobs.local]
    for name in taking_part:
        placed = mapping(grid, name, job)
        assert set(placed) == set(app.functions)
        assert HOME not in placed.values()
    assert len({tuple(sorted(mapping(grid, name, job).items())) for name in taking_part}) == 1
    assert taking_part


@pytest.mark.parametrize("how", ["closed", "silent"])
@pytest.mark.parametrize("mapper", [*MAPPERS, "static"])
def test_the_tasks_of_a_killed_worker_move_and_every_item_comes_out_right(mapper, how):
    grid = formed()
    app, recipe = make(WIDE, seconds=SLOW_S)
    job = grid.submit(HOME, app, ITEMS, **options(grid, app, mapper))["id"]
    grid.run(SLOW_S * 1.5)
    victim = next(node for node in mapping(grid, HOME, job).values() if node != HOME)
    grid.crash(victim, how)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)
    assert victim not in mapping(grid, HOME, job).values()
    grid.run(15.0)
    assert left_behind(grid) == []


def test_the_repairer_is_the_host_of_the_nearest_living_ancestor():
    grid = formed()
    job, _ = running(grid, CHAIN, mapping={"a": "node1", "b": "node2", "c": "node4"})
    grid.run(SLOW_S)
    grid.crash("node4")
    finish(grid, HOME, job)
    decided = {row["name"]: row["decided_by"] for row in grid.ask("node5", "get", kind="tasks", id=job)["items"]}
    assert decided == {"a": HOME, "b": HOME, "c": "node2"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_worker_that_restarts_before_anybody_notices_costs_no_item(mapper, seed):
    grid = formed(seed=seed)
    job, recipe = running(grid, WIDE, mapper=mapper)
    grid.run(SLOW_S * 1.5)
    victim = next(node for node in mapping(grid, HOME, job).values() if node != HOME)
    grid.crash(victim)
    grid.run(0.1)
    grid.start(victim)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_home_that_restarts_goes_on_and_still_has_the_earlier_results(mapper, seed):
    grid = formed(seed=seed)
    app, recipe = make(DIAMOND, seconds=SLOW_S, size=100_000)
    job = grid.submit(HOME, app, ITEMS, mapper=mapper)["id"]
    done = lambda: [n for n, i in home_of(grid, HOME, job).items.items() if i.state == "done"]  # noqa: E731
    assert grid.run_until(lambda: len(done()) >= 2, 20.0) is not None
    earlier = done()
    grid.run(0.2)  # the deputy has them, and the hosts know
    runs = len(grid.starts)
    grid.crash(HOME)
    grid.run(1.0)
    grid.start(HOME)
    grid.run(0.001)
    assert [name for name in earlier if name not in done()] == []
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)
    assert not [item for _, _, _, item in grid.starts[runs:] if item in earlier], "nothing that was over runs again"
    grid.run(15.0)
    assert left_behind(grid) == []


def test_a_centralised_mapping_that_a_restart_of_home_interrupted_is_made_afterwards():
    grid = formed()
    app, recipe = make(DIAMOND)
    job = grid.submit(HOME, app, ITEMS, mapper="heft")["id"]
    assert not home_of(grid, HOME, job).job.registers
    grid.crash(HOME)
    grid.run(0.2)
    grid.start(HOME)
    grid.run(0.001)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)


def test_a_cancelled_job_is_still_cancelled_after_a_restart_of_its_home():
    grid = formed()
    job, _ = running(grid)
    grid.ask("node1", "cancel", job=job)
    grid.crash(HOME)
    grid.run(0.2)
    grid.start(HOME)
    grid.run(1.0)
    assert grid.ask(HOME, "get", kind="jobs", id=job)["items"][0]["state"] == "cancelled"
    assert {row["state"] for row in grid.ask(HOME, "get", kind="items", id=job)["items"]} == {"cancelled"}


@pytest.mark.smoke
def test_a_home_that_lost_its_journal_does_not_begin_its_jobs_anew():
    grid = formed()
    job, recipe = running(grid)
    grid.run(SLOW_S)
    grid.crash(HOME)
    grid.disks[HOME].journal.clear()
    grid.start(HOME)
    assert finish(grid, HOME, job) == "completed", "its deputy goes on"
    assert all(local.home is None for local in grid.nodes[HOME].machine.jobs.local.values())
    verify(grid, HOME, job, recipe, ITEMS)


def test_a_home_without_deputies_that_lost_its_journal_has_lost_its_jobs():
    grid = formed()
    job, _ = running(grid, replicas=0)
    grid.run(SLOW_S)
    grid.crash(HOME)
    grid.disks[HOME].journal.clear()
    grid.start(HOME)
    grid.run(10.0)
    assert all(local.home is None for local in grid.nodes[HOME].machine.jobs.local.values())
    code, error, _ = refused(grid, HOME, "results", job=job)
    assert code != 0
    assert job in error


def test_the_death_of_a_node_that_hosts_nothing_changes_nothing():
    grid = formed()
    app, recipe = make(DIAMOND, seconds=SLOW_S)
    job = grid.submit(HOME, app, ITEMS, mapping={"a": "node1", "b": "node2", "c": "node1", "d": "node3"})["id"]
    grid.run(SLOW_S)
    before = home_of(grid, HOME, job).job.digest()
    grid.crash("node5", "silent")
    assert finish(grid, HOME, job) == "completed"
    grid.run(15.0)
    assert home_of(grid, HOME, job).job.digest() == before
    assert len(grid.starts) == len(ITEMS) * len(app.spec.tasks)
    verify(grid, HOME, job, recipe, ITEMS)


@pytest.mark.smoke
def test_a_register_that_names_a_node_nobody_ever_heard_of_is_repaired():
    grid = formed()
    job, recipe = running(grid, CHAIN, mapping={"a": "node1", "b": "node5", "c": "node2"})
    grid.run(SLOW_S)
    for name in grid.nodes:
        grid.crash(name)
    grid.run(0.1)
    for name in ["node1", "node2", HOME]:
        grid.start(name)
    grid.run(0.001)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)


# --- bad networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_one_message_in_ten_lost_costs_time_but_no_item(seed):
    grid = formed(seed=seed)
    app, recipe = random_app(Random(seed), chance=0.3, size=100_000)
    grid.network.loss = 0.1
    grid.call(HOME, "get", kind="nodes")
    job = grid.submit(HOME, app, ITEMS, mapper=MAPPERS[seed % 3])["id"]
    assert finish(grid, HOME, job, 120.0) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)


@pytest.mark.parametrize("seed", range(6))
def test_a_partition_of_five_seconds_neither_loses_nor_doubles_nor_mixes(seed):
    rng = Random(seed)
    grid = formed(6, seed)
    app, recipe = random_app(rng, chance=0.6, pace=0.3)
    job = grid.submit(HOME, app, ITEMS, mapper=rng.choice(MAPPERS))["id"]
    grid.run(rng.uniform(0.0, 1.0))
    side = rng.sample(list(grid.nodes), 3)
    grid.partition(side, [name for name in grid.nodes if name not in side])
    grid.run(5.0)
    grid.heal()
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)


def test_both_sides_of_a_partition_know_one_mapping_soon_after_it_healed():
    grid = formed(6)
    app, recipe = make(WIDE, seconds=SLOW_S)
    job = grid.submit("node1", app, ITEMS, mapping=spread(grid, app), keep_open=True)["id"]
    grid.run(SLOW_S)
    grid.partition(["node1", "node2", "node3"], ["node4", "node5", "node6"])
    grid.run(25.0)
    grid.heal()
    put(grid, "node1", job, "late", b"late")
    grid.run(40.0)
    seen = {n: mapping(grid, n, job) for n in grid.nodes if job in grid.nodes[n].machine.jobs.local}
    assert len({tuple(sorted(placed.items())) for placed in seen.values()}) == 1, seen
    grid.ask("node1", "close", job=job)
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, {**ITEMS, "late": b"late"})


@pytest.mark.parametrize("kind", [PLAIN, CONSTANT, FILTER, ROUTER])
@pytest.mark.parametrize("edges", [DIAMOND, SINKS])
def test_a_join_never_mixes_the_first_run_of_a_lost_node_with_the_second_one_elsewhere(edges, kind):
    """F1 to F4 of the model: the first run reached one child only, then its node was lost."""
    grid = formed(6)
    app, recipe = make(edges, {"b": kind}, {"a"}, seconds=0.1)
    places = {"a": "node1", "b": "node2", "c": "node4", "d": "node5"}
    placed = {task: places[task] for task in edges}
    job = grid.submit(HOME, app, ITEMS, mapping=placed)["id"]
    addresses = [grid.nodes[name].seat.address for name in ("node1", "node4")]
    grid.network.cuts |= {(addresses[0], addresses[1]), (addresses[1], addresses[0])}
    assert grid.run_until(lambda: sum(task == "b" for _, _, task, _ in grid.starts) == len(ITEMS), 10.0) is not None
    grid.run(0.3)
    assert not [task for _, _, task, _ in grid.starts if task == "c"]
    grid.crash("node1", "silent")
    grid.heal()
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, ITEMS)
    runs = Counter((task, item) for _, _, task, item in grid.starts)
    assert {runs["a", item] for item in ITEMS} == {2}


@pytest.mark.parametrize("seed", range(10))
def test_random_faults_never_lose_double_or_mix_an_item(seed):
    survive(seed)


@pytest.mark.parametrize("seed", range(1000, 1060))
def test_more_random_faults_never_lose_double_or_mix_an_item(seed):
    survive(seed)


# --- failing tasks -----------------------------------------------------------------------------------------------


def failing(times: int, then: Function) -> Function:
    """Fails for the item `bad`, so often."""
    left = [times]

    def run(inputs: dict[str, bytes]) -> object:
        if b"bad" in inputs.get("input", b"") and left[0]:
            left[0] -= 1
            raise TaskFailureError("no such thing")
        return then(inputs)

    return run  # type: ignore[return-value]


def job_that_fails(grid: Grid, times: int, **task: object) -> tuple[str, Recipe, dict[str, bytes]]:
    app, recipe = make(CHAIN, tasks=lambda t: task if t.name == "a" else {})
    app.functions["a"] = failing(times, app.functions["a"])
    items = {"bad": b"bad", **ITEMS}
    return grid.submit(HOME, app, items, mapper="wave-greedy")["id"], recipe, items


def test_a_task_that_always_fails_fails_the_item_and_the_job_and_nothing_else():
    grid = formed()
    job, recipe, _ = job_that_fails(grid, 1000)
    assert finish(grid, HOME, job) == "failed"
    rows = {row["name"]: row for row in grid.ask("node1", "get", kind="items", id=job)["items"]}
    assert {name: row["state"] for name, row in rows.items()} == {"bad": "failed", **dict.fromkeys(ITEMS, "done")}
    assert rows["bad"]["attempts"] == 3
    assert rows["bad"]["error"]["task"] == "a"
    assert "no such thing" in rows["bad"]["error"]["error"]
    results = grid.results(HOME, job)
    assert results.pop("bad") == {}
    for name, data in ITEMS.items():
        assert results[name] == recipe.evaluate(data, {})
    grid.run(15.0)
    assert left_behind(grid) == []


@pytest.mark.smoke
def test_a_task_that_fails_once_is_tried_again():
    grid = formed()
    job, recipe, items = job_that_fails(grid, 1)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)
    assert Counter((task, item) for _, _, task, item in grid.starts)["a", "bad"] == 2


def test_a_task_without_retries_is_run_once():
    grid = formed()
    job, _, _ = job_that_fails(grid, 1, retries=0)
    assert finish(grid, HOME, job) == "failed"
    assert Counter((task, item) for _, _, task, item in grid.starts)["a", "bad"] == 1


# --- what clients ask for ------------------------------------------------------------------------------------------


def test_a_cancelled_job_stops_everywhere_and_is_forgotten():
    grid = formed()
    app, _ = make(WIDE, seconds=SLOW_S, size=100_000)
    job = grid.submit(HOME, app, {"a": bytes(200_000), **ITEMS}, max_open=2)["id"]
    grid.run(SLOW_S * 1.2)
    hosts = set(mapping(grid, HOME, job).values())
    row = grid.ask("node1", "cancel", job=job)
    assert row["state"] == "cancelled"
    runs = len(grid.starts)
    grid.run(15.0)
    assert len(grid.starts) == runs
    stopped = {node for _, node, e in grid.effects if isinstance(e, StopTask) and e == StopTask(job)}
    assert stopped >= hosts
    assert left_behind(grid) == []
    assert {item["state"] for item in grid.ask(HOME, "get", kind="items", id=job)["items"]} == {"cancelled"}
    assert grid.ask("node2", "cancel", job=job)["state"] == "cancelled", "twice is once"


def test_a_job_kept_open_takes_items_until_it_is_closed():
    grid = formed()
    app, recipe = make(DIAMOND)
    job = grid.submit(HOME, app, {"one": b"1"}, keep_open=True)["id"]
    grid.run(2.0)
    assert grid.ask("node1", "get", kind="jobs", id=job)["items"][0]["state"] == "waiting"
    assert put(grid, "node4", job, "two", b"2") == {"accepted": ["two"], "ignored": []}
    assert put(grid, HOME, job, "three", b"3") == {"accepted": ["three"], "ignored": []}
    assert put(grid, "node1", job, "two", b"2") == {"accepted": [], "ignored": ["two"]}
    entry = grid.upload("node1", "two", b"other")
    code, error, hint = refused(grid, "node1", "put", job=job, inputs=[entry])
    assert (code, "two" in error, "--rename" in hint) == (2, True, True)
    assert put(grid, "node1", job, "two", b"other", rename=True) == {"accepted": ["two-2"], "ignored": []}
    grid.ask("node5", "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, {"one": b"1", "two": b"2", "three": b"3", "two-2": b"other"})
    assert refused(grid, "node5", "put", job=job, inputs=[entry])[0] == 2


def test_large_bytes_put_at_a_peer_that_is_not_home_arrive():
    grid = formed()
    app, recipe = make(CHAIN)
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    large = bytes(range(256)) * 4096
    assert put(grid, "node5", job, "large", large)["accepted"] == ["large"]
    grid.ask("node5", "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, {"large": large})


def test_an_item_waits_for_the_parts_of_all_entries_or_for_the_end_of_intake():
    grid = formed()
    app, recipe = make({"a": ["c"], "b": ["c"], "c": []})
    job = grid.submit(HOME, app, {}, keep_open=True)["id"]
    put(grid, "node1", job, "both", b"same", task="a")
    put(grid, "node1", job, "half", b"half", task="a")
    grid.run(2.0)
    assert grid.starts == []
    assert put(grid, "node2", job, "both", b"same")["accepted"] == ["both"], "the other entry lacked it"
    grid.run(2.0)
    assert {item for _, _, _, item in grid.starts} == {"both"}
    grid.ask("node1", "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    results = grid.results(HOME, job)
    assert results["both"] == recipe.evaluate(b"same", {})
    assert {task for _, _, task, item in grid.starts if item == "half"} == {"a", "c"}


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ({"mapper": "wave-gredy"}, 2, "wave-greedy"),
        ({"ep": "sometimes"}, 2, "auto"),
        ({"mapping": {"a": "node1"}}, 2, "b"),
        ({"mapping": {"a": "node1", "b": "node1", "c": "node1", "x": "node1"}}, 2, "x"),
        ({"mapping": {"a": "node1", "b": "node9", "c": "node1"}}, 3, "node9"),
        ({"inputs": [{"name": "i"}]}, 2, "sha256"),
        ({"bundle": "00" * 32}, 2, "bundle"),
        ({"bundle": "zz"}, 2, "hexadecimal"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing_behind(args, code, word):
    grid = formed()
    app, _ = make(CHAIN)
    grid.install(app, HOME)
    full = {"bundle": app.bundle.hex(), "size": len(app.spec.name), "app": app.spec.name, "ep": "off", **args}
    got, error, hint = refused(grid, HOME, "submit", **full)
    assert (got, word in error + hint) == (code, True), error + hint
    assert grid.ask("node1", "get", kind="jobs")["items"] == []
    assert left_behind(grid) == []
    assert grid.disks[HOME].journal == []


def test_a_bad_input_among_good_ones_refuses_the_job_and_leaves_nothing_behind():
    grid = formed()
    app, _ = make(CHAIN)
    grid.install(app, HOME)
    inputs = [grid.upload(HOME, "good", bytes(100_000)), grid.upload(HOME, "bad/name", b"x")]
    full = {"bundle": app.bundle.hex(), "size": len(app.spec.name), "app": app.spec.name, "ep": "off", "inputs": inputs}
    code, error, _ = refused(grid, HOME, "submit", **full)
    assert (code, "bad/name" in error) == (2, True)
    grid.run(10.0)
    assert grid.ask("node1", "get", kind="jobs")["items"] == []
    assert left_behind(grid) == []
    assert grid.disks[HOME].journal == []
    assert list(grid.disks[HOME].objects) == [app.bundle]


def test_a_pin_to_an_absent_node_is_not_placeable():
    grid = formed()
    app, _ = make(CHAIN, tasks=lambda t: {"node": "node9"} if t.name == "b" else {})
    grid.install(app, HOME)
    full = {"bundle": app.bundle.hex(), "size": len(app.spec.name), "app": app.spec.name, "ep": "off"}
    code, error, hint = refused(grid, HOME, "submit", **full)
    assert (code, "'b'" in error, "node5" in hint) == (3, True, True)
    assert grid.ask("node1", "get", kind="jobs")["items"] == []


@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_pinned_task_runs_where_it_is_pinned(mapper):
    grid = formed()
    app, recipe = make(DIAMOND, tasks=lambda t: {"node": "node4"} if t.name == "c" else {})
    job = grid.submit(HOME, app, ITEMS, mapper=mapper)["id"]
    assert finish(grid, HOME, job) == "completed"
    assert {node for _, node, task, _ in grid.starts if task == "c"} == {"node4"}
    verify(grid, HOME, job, recipe, ITEMS)


def test_jobs_are_found_by_last_by_prefix_and_by_name_from_any_node():
    grid = formed()
    app, _ = make(CHAIN, name="alpha")
    other, _ = make(SINKS, name="beta")
    one = grid.submit("node2", app, ITEMS)["id"]
    two = grid.submit("node4", other, ITEMS)["id"]
    finish(grid, "node4", two)
    found = {
        ref: grid.ask("node1", "get", kind="jobs", id=ref)["items"][0]["id"]
        for ref in ["last", "alpha", "beta", one[:6], two]
    }
    assert found == {"last": two, "alpha": one, "beta": two, one[:6]: one, two: two}
    code, error, hint = refused(grid, "node1", "results", job="zzz")
    assert (code, "zzz" in error, "get jobs" in hint) == (2, True, True)
    assert grid.ask("node1", "get", kind="apps")["items"] == [
        {"name": "alpha", "bundle": app.bundle.hex(), "size": len("alpha"), "jobs": [one]},
        {"name": "beta", "bundle": other.bundle.hex(), "size": len("beta"), "jobs": [two]},
    ]


def test_a_prefix_of_two_jobs_is_refused_with_both_ids():
    grid = formed()
    app, _ = make(CHAIN)
    jobs: dict[str, str] = {}
    while True:  # at most 17 submits until two begin with the same digit
        job = grid.submit(HOME, app, {"i": b"x"})["id"]
        if job[0] in jobs:
            break
        jobs[job[0]] = job
    code, _, hint = refused(grid, "node1", "get", kind="jobs", id=job[0])
    assert (code, job in hint, jobs[job[0]] in hint) == (2, True, True)


@pytest.mark.parametrize("mapper", MAPPERS)
def test_explain_has_candidates_with_numbers_while_the_job_runs_and_after_it(mapper):
    grid = formed()
    job, _ = running(grid, mapper=mapper)
    grid.run(SLOW_S)
    for _ in range(2):
        body = grid.ask("node5", "explain", job=job)
        assert [row["task"] for row in body["tasks"]] == ["a", "b", "c", "d"]
        for row in body["tasks"]:
            assert row["why"]
            assert len(row["candidates"]) >= 4
            names = {candidate["node"] for candidate in row["candidates"]}
            assert names <= set(grid.nodes)
            assert row["node"] in names
            if mapper == "wave-greedy":
                costs = [candidate["cost_s"] for candidate in row["candidates"]]
                assert costs == sorted(costs)
                assert row["candidates"][0]["node"] == row["node"]
        finish(grid, HOME, job)
        grid.run(10.0)
    assert [row["task"] for row in grid.ask("node5", "explain", job=f"{job}/b")["tasks"]] == ["b"]


def test_describe_names_the_decider_of_every_task():
    grid = formed()
    job, _ = running(grid, mapper="wave-random")
    finish(grid, HOME, job)
    body = grid.ask("node5", "describe", kind="job", id=job)
    placed = body["mapping"]
    deciders = {row["task"]: row["decided_by"] for row in body["registers"]}
    controllers = body["controllers"]
    assert deciders == {t: HOME if c == "home" else placed[c] for t, c in controllers.items()}
    task = grid.ask("node1", "describe", kind="task", id=f"{job}/d")
    assert (task["node"], task["decided_by"], task["done"]) == (placed["d"], placed[controllers["d"]], len(ITEMS))
    assert refused(grid, "node1", "describe", kind="task", id=f"{job}/x")[0] == 2


def test_a_result_put_out_by_two_sinks_is_listed_under_both():
    grid = formed()
    app, _ = make(EXTRA)
    job = grid.submit(HOME, app, {"i": b"x"})["id"]
    finish(grid, HOME, job)
    [row] = grid.ask("node1", "get", kind="items", id=job)["items"]
    assert [result["sink"] for result in row["results"]] == ["a", "b", "c"]


def test_nodes_that_take_no_part_are_sent_nothing_of_a_job():
    grid = formed(6)
    app, _ = make(CHAIN)
    began = len(grid.sent)
    grid.submit(HOME, app, ITEMS, mapping={"a": "node1", "b": "node2", "c": "node1"})
    grid.run(10.0)
    got = {send.dst for _, _, send in grid.sent[began:] if isinstance(send.message, Parcel)}
    assert got == {grid.id(name) for name in ["node1", "node2", HOME]}
    assert local_of(grid, HOME, grid.ask(HOME, "get", kind="jobs")["items"][0]["id"]).job.over == "completed"
