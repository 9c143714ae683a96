"""Inputs that enter at several nodes of a simulated cluster: joined by name, mapped where they are, mapped again."""

from typing import Any

import pytest
from job_apps import ENTRIES, make
from job_grid import finish, formed, left_behind, local_of, mapping, put, refused, verify

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import SINK, TaskSpec
from jupiter_agent.sim.grid import Function, Grid, SimApp

HOME = "node1"
EVERY_MAPPER = ["heft", "heft-balanced", "wave-auction", "wave-greedy", "wave-random", "static"]
FOLLOWING = ["heft", "heft-balanced", "wave-auction", "wave-greedy"]
NAMES = [f"node{i + 1}" for i in range(5)]


def far_apart() -> Grid:
    """Five nodes a tenth of a second from each other."""
    grid = Grid(1, delay_s=(0.095, 0.105))
    for name in NAMES:
        grid.add_peer(name, [other for other in NAMES if other != name])
    assert grid.run_until(lambda: all(len(grid.nodes[n].machine.alive()) == 5 for n in NAMES), 60.0) is not None
    grid.run(10.0)
    return grid


def chosen(mapper: str) -> dict[str, Any]:
    return {"mapping": {"a": "node4", "b": "node5", "c": "node4"}} if mapper == "static" else {"mapper": mapper}


@pytest.mark.parametrize("mapper", EVERY_MAPPER)
def test_items_put_for_two_entries_at_two_nodes_join_by_their_names(mapper: str) -> None:
    grid = formed()
    app, recipe = make(ENTRIES)
    at = {"a": "node2", "b": "node3"}
    job = grid.submit(HOME, app, {}, keep_open=True, input_at=at, **chosen(mapper))["id"]
    items = {f"i{n}": b"bytes %d" % n + bytes(90_000 * (n % 2)) for n in range(6)}
    for name, data in items.items():
        put(grid, "node2", job, name, data, task="a")
    for name, data in reversed(items.items()):
        put(grid, "node3", job, name, data, task="b")
    grid.ask("node4", "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, items)


@pytest.mark.parametrize("mapper", FOLLOWING)
@pytest.mark.parametrize("at", [{"a": "node2", "b": "node3"}, {"a": "node5", "b": "node4"}])
def test_an_entry_runs_where_its_inputs_are_when_links_are_slow(mapper: str, at: dict[str, str]) -> None:
    grid = far_apart()
    app, _ = make(ENTRIES)
    job = grid.submit(HOME, app, {}, keep_open=True, input_at=at, mapper=mapper)["id"]
    grid.run(5.0)
    where = mapping(grid, HOME, job)
    assert {"a": where["a"], "b": where["b"]} == at
    assert grid.ask("node3", "describe", kind="jobs", id=job)["input_at"] == at


@pytest.mark.parametrize("mapper", FOLLOWING)
def test_a_job_mapped_again_follows_its_inputs_to_where_they_are_put_now(mapper: str) -> None:
    grid = far_apart()
    app, recipe = make(ENTRIES)
    job = grid.submit(HOME, app, {}, keep_open=True, input_at={"": "node2"}, mapper=mapper, replicas=0)["id"]
    grid.run(5.0)
    before = mapping(grid, HOME, job)
    assert before["a"] == "node2"
    put(grid, "node5", job, "i1", b"one", task="a")
    put(grid, "node4", job, "i1", b"one", task="b")
    row = grid.ask("node3", "remap", job=job)
    assert {task: row["mapping"][task] for task in ("a", "b")} == {"a": "node5", "b": "node4"}
    assert row["moved"] == {task: node for task, node in row["mapping"].items() if before[task] != node}
    again = grid.ask("node3", "remap", job=job)
    assert not {"a", "b"} & set(again["moved"]), "their inputs come from where they came from before"
    put(grid, "node5", job, "i2", b"two")
    grid.ask(HOME, "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    verify(grid, HOME, job, recipe, {"i1": b"one", "i2": b"two"})


def test_mapping_again_is_refused_where_it_has_no_meaning() -> None:
    grid = formed()
    app, _ = make(ENTRIES)
    fixed = grid.submit(HOME, app, {}, keep_open=True, **chosen("static"))["id"]
    code, error, hint = refused(grid, "node2", "remap", job=fixed)
    assert code == 2
    assert "user's mapping" in error
    assert "--task" in hint
    over = grid.submit(HOME, app, {"i": b"x"}, mapper="heft")["id"]
    assert finish(grid, HOME, over) == "completed"
    code, error, _ = refused(grid, "node2", "remap", job=over)
    assert code == 2
    assert "is over" in error


def test_a_pinned_task_stays_where_it_is_when_its_job_is_mapped_again() -> None:
    grid = formed()
    app, _ = make(ENTRIES, tasks=lambda task: {"node": "node3"} if task.name == "c" else {})
    job = grid.submit(HOME, app, {}, keep_open=True, mapper="heft")["id"]
    grid.run(2.0)
    assert grid.ask(HOME, "remap", job=job)["mapping"]["c"] == "node3"


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ({"input_at": {"": "node9"}}, 3, "node9"),
        ({"input_at": {"c": "node2"}}, 2, "entry tasks: a, b"),
        ({"remap": "often"}, 2, "remap"),
    ],
)
def test_a_place_or_a_mode_that_there_is_not_refuses_the_job(args: dict[str, Any], code: int, word: str) -> None:
    grid = formed()
    app, _ = make(ENTRIES)
    grid.install(app, HOME)
    full = {"bundle": app.bundle.hex(), "size": len(app.spec.name), "app": app.spec.name, "ep": "off", **args}
    got, error, hint = refused(grid, HOME, "submit", **full)
    assert got == code
    assert word in error + hint


@pytest.mark.smoke
def test_the_mode_of_remapping_is_kept_with_the_job_and_told_to_its_hosts() -> None:
    grid = formed()
    app, _ = make(ENTRIES)
    job = grid.submit(HOME, app, {"i": bytes(10)}, keep_open=True, remap="lazy")["id"]
    grid.run(3.0)
    assert grid.ask("node2", "describe", kind="jobs", id=job)["remap"] == "lazy"
    hosts = {register.node for register in local_of(grid, HOME, job).job.registers.values()}
    known: list[Job] = [grid.nodes[n].machine.jobs.local[job].job for n in NAMES if grid.id(n) in hosts]
    assert {job.spec.remap for job in known} == {"lazy"}


# --- several homes -----------------------------------------------------------------------------------------------


def two_homes(**options: Any) -> SimApp:
    """home -> a, home2 -> b, both -> c; c sends to home and home2, a to home2 as well."""
    tasks = [
        TaskSpec("a", script="t.py", children=["c", "home2"]),
        TaskSpec("b", script="t.py", children=["c"]),
        TaskSpec("c", script="t.py", children=["home", "home2"], parents=["a", "b"]),
        TaskSpec("home2", children=["home"], parents=["a", "c"], contract=SINK, **options),
    ]
    spec = AppSpec("two-homes", tasks, entries=["a", "b"], sources={"home": ["a"], "home2": ["b"]})
    functions: dict[str, Function] = {
        "a": lambda given: given["input"] + b"a",
        "b": lambda given: given["input"] + b"b",
        "c": lambda given: {"home": given["a"] + given["b"], "home2": given["b"]},
    }
    return SimApp(spec, functions, dict.fromkeys("abc", 0.05))


@pytest.mark.parametrize("mapper", EVERY_MAPPER)
def test_items_are_put_at_named_homes_and_results_say_to_which_home_they_were_sent(mapper: str) -> None:
    grid = formed()
    static = {"mapping": {"a": "node4", "b": "node5", "c": "node4"}} if mapper == "static" else {"mapper": mapper}
    job = grid.submit(HOME, two_homes(), {}, keep_open=True, input_at={"home2": "node3"}, **static)["id"]
    for n in range(3):
        put(grid, "node2", job, f"i{n}", b"left%d" % n, task="home")
        put(grid, "node3", job, f"i{n}", b"right%d" % n + bytes(100_000), task="home2")
    put(grid, "node4", job, "both", b"both")
    grid.ask("node4", "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    results = grid.results(HOME, job)
    assert results["both"] == {("c", "c"): b"bothabothb", ("home2", "a"): b"botha", ("home2", "c"): b"bothb"}
    right = b"right2" + bytes(100_000) + b"b"
    assert results["i2"] == {("c", "c"): b"left2a" + right, ("home2", "a"): b"left2a", ("home2", "c"): right}
    grid.run(2.0)
    [row] = [row for row in grid.ask("node2", "get", kind="tasks", id=job)["items"] if row["name"] == "home2"]
    assert (row["done"], row["failed"]) == (4, 0)
    assert not [task for _, _, task, _ in grid.starts if task == "home2"], "nothing runs there"
    grid.run(25.0)
    assert left_behind(grid) == []


@pytest.mark.smoke
def test_results_sent_to_a_named_home_go_by_its_node_and_past_it_when_that_is_lost() -> None:
    grid = formed()
    app = two_homes(node="node5", extra={"soft": True})
    job = grid.submit(HOME, app, {"i1": b"x"}, keep_open=True, mapper="wave-greedy")["id"]
    grid.run(3.0)
    assert mapping(grid, HOME, job)["home2"] == "node5"
    grid.crash("node5")
    put(grid, "node2", job, "i2", b"y")
    grid.ask("node2", "close", job=job)
    assert finish(grid, HOME, job) == "completed"
    sinks = {name: sorted(found) for name, found in grid.results(HOME, job).items()}
    assert set(sinks) == {"i1", "i2"}
    assert sinks["i1"] == sinks["i2"] == [("c", "c"), ("home2", "a"), ("home2", "c")]


def test_an_unknown_home_is_no_entry() -> None:
    grid = formed()
    job = grid.submit(HOME, two_homes(), {}, keep_open=True)["id"]
    entry = grid.upload("node2", "i", b"x")
    code, error, hint = refused(grid, "node2", "put", job=job, inputs=[entry], task="home3")
    assert (code, hint) == (2, "entry tasks: home, home2, a, b")
    assert "'home3' is no entry task" in error
