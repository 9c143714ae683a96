"""Steering whole simulated clusters: retry, remap, drain, forget, plan, stats; home scripts and non-DAG tasks."""

import pytest
from job_grid import finish, formed, home_of, mapping, refused

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.events import Produced, TaskEnded, TaskUp
from jupiter_agent.core.messages.jobs import Obj, TaskSpec
from jupiter_agent.core.transfer import UNCLAIMED_S
from jupiter_agent.sim.grid import Grid, SimApp, TaskFailureError

PAIR = [TaskSpec("a", children=["b"], retries=0), TaskSpec("b", parents=["a"], retries=0)]
ITEMS = {f"i{n}": b"x%d" % n for n in range(6)}


def pair(seconds: float = 0.01) -> SimApp:
    functions = {"a": lambda given: given["input"] + b"a", "b": lambda given: given["a"] + b"b"}
    return SimApp(AppSpec("pair", PAIR), functions, {"a": seconds, "b": seconds})


def expected(items: dict[str, bytes]) -> dict[str, dict[tuple[str, str], bytes]]:
    return {name: {("b", "b"): data + b"ab"} for name, data in items.items()}


def test_failed_items_are_tried_again_as_a_new_job_with_the_inputs_that_home_kept() -> None:
    grid = formed(4)
    broken = [b"x1", b"x3"]

    def picky(given: dict[str, bytes]) -> bytes:
        if given["a"][:2] in broken:
            raise TaskFailureError("not today")
        return given["a"] + b"b"

    app = pair()
    app.functions["b"] = picky
    job = grid.submit("node2", app, ITEMS)["id"]
    assert finish(grid, "node2", job) == "failed"
    broken.clear()
    answer = grid.ask("node3", "retry", job=job)
    assert answer["retried"] == ["i1", "i3"]
    assert finish(grid, "node2", answer["job"]) == "completed"
    assert grid.results("node1", answer["job"]) == expected({"i1": b"x1", "i3": b"x3"})
    with pytest.raises(AssertionError, match="has failed"):
        grid.ask("node3", "retry", job=answer["job"])


@pytest.mark.smoke
def test_a_task_that_the_user_moves_goes_on_elsewhere_and_no_item_is_lost_or_doubled() -> None:
    grid = formed(4)
    job = grid.submit("node2", pair(0.2), {f"i{n}": b"x%d" % n for n in range(12)})["id"]
    grid.run(1.0)
    before = mapping(grid, "node2", job)
    target = next(name for name in ("node1", "node2", "node3", "node4") if name not in before.values())
    row = grid.ask("node1", "remap", job=job, task="b", node=target)
    assert row["mapping"]["b"] == target
    assert finish(grid, "node2", job) == "completed"
    assert grid.results("node2", job) == expected({f"i{n}": b"x%d" % n for n in range(12)})
    assert {node for _, node, task, _ in grid.starts if task == "b"} == {before["b"], target}


def test_a_drained_node_hands_its_tasks_over_and_takes_no_others() -> None:
    grid = formed(4)
    job = grid.submit("node2", pair(0.2), {f"i{n}": b"x%d" % n for n in range(12)})["id"]
    grid.run(1.0)
    drained = mapping(grid, "node2", job)["b"]
    assert grid.ask("node2", "drain", node=drained) == {"node": drained, "draining": True}
    grid.run(1.0)
    assert drained not in mapping(grid, "node2", job).values()
    assert finish(grid, "node2", job) == "completed"
    assert grid.results("node2", job) == expected({f"i{n}": b"x%d" % n for n in range(12)})
    again = grid.submit("node2", pair(), ITEMS)["id"]
    finish(grid, "node2", again)
    assert drained not in mapping(grid, "node2", again).values()


def test_a_forgotten_node_disappears_from_every_list_and_a_living_one_cannot_be_forgotten() -> None:
    grid = formed(4)
    grid.crash("node4")
    grid.run(20.0)
    assert grid.ask("node1", "forget", node="node4") == {"forgotten": "node4"}
    grid.run(30.0)
    for name in ("node1", "node2", "node3"):
        rows = grid.ask(name, "get", kind="nodes")["items"]
        assert [row["name"] for row in rows] == ["node1", "node2", "node3"]
    with pytest.raises(AssertionError, match="no dead node 'node3'"):
        grid.ask("node1", "forget", node="node3")


@pytest.mark.parametrize("mapper", ["heft", "wave-greedy", "wave-auction"])
@pytest.mark.smoke
def test_a_plan_says_where_and_when_and_runs_nothing(mapper: str) -> None:
    grid = formed(4)
    app = pair()
    grid.install(app, "node2")
    fields = {"bundle": app.bundle.hex(), "size": 4, "app": "pair", "ep": "off", "mapper": mapper}
    plan = grid.ask("node2", "plan", **fields)
    assert (plan["mapper"], sorted(plan["mapping"])) == (mapper, ["a", "b"])
    assert plan["makespan_s"] >= max(row["finish_s"] for row in plan["tasks"]) > 0
    assert grid.ask("node1", "get", kind="jobs")["items"] == []
    assert grid.starts == []


def test_a_plan_names_its_critical_path_its_links_and_what_it_lets_through() -> None:
    grid = formed(4)
    app = pair()
    grid.install(app, "node2")
    fields = {"bundle": app.bundle.hex(), "size": 4, "app": "pair", "ep": "off", "mapper": "heft"}
    plan = grid.ask("node2", "plan", **fields)
    assert [step["task"] for step in plan["critical_path"] if step["task"] != "home"] == ["a", "b"]
    assert plan["throughput_hz"] > 0
    assert plan["busiest"]["node"] in grid.nodes
    places = set(plan["mapping"].values())
    without = sorted(places - {"node2"})
    changed = grid.ask(
        "node2", "plan", **fields, what_if={"without": without, "speeds": {"fast": 50.0}, "added": ["fast"]}
    )
    assert set(changed["mapping"].values()) <= {"node1", "node2", "node3", "node4", "fast"} - set(without)
    assert "fast" in changed["mapping"].values()
    assert changed["makespan_s"] < plan["makespan_s"]
    code, error, hint = refused(grid, "node2", "plan", **fields, what_if={"without": ["nobody"]})
    assert (code, error) == (2, "what if: there is no node 'nobody'")
    assert "node3" in hint
    assert refused(grid, "node2", "plan", **fields, what_if={"speeds": {"x": -1.0}})[0] == 2


def test_explain_shows_candidates_with_predicted_times_and_where_a_task_has_been() -> None:
    grid = formed(4)
    for mapper in ("heft", "wave-greedy"):
        job = grid.submit("node2", pair(0.2), {f"{mapper}{n}": b"x%d" % n for n in range(12)}, mapper=mapper)["id"]
        grid.run(1.0)
        before = mapping(grid, "node2", job)["b"]
        target = next(name for name in grid.nodes if name != before)
        [row] = grid.ask("node3", "explain", job=job, task="b")["tasks"]
        assert len(row["candidates"]) >= 2
        assert all(c["start_s"] is not None and c["finish_s"] >= c["start_s"] >= 0 for c in row["candidates"])
        assert all(c["transfer_s"] >= 0 and c["reasons"] for c in row["candidates"])
        grid.ask("node1", "remap", job=job, task="b", node=target)
        grid.run(0.5)
        [row] = grid.ask("node3", "explain", job=job, task="b")["tasks"]
        assert [place["node"] for place in row["history"]] == [before, target]
        assert row["history"][1]["why"] == "as the user said"
        assert finish(grid, "node2", job) == "completed"


@pytest.mark.smoke
def test_stats_count_every_run_with_its_times_in_order() -> None:
    grid = formed(4)
    job = grid.submit("node2", pair(0.05), ITEMS)["id"]
    finish(grid, "node2", job)
    grid.run(1.0)
    stats = grid.ask("node4", "stats", job=job)
    assert [(row["task"], row["runs"]) for row in stats["tasks"]] == [("a", 6), ("b", 6)]
    assert len(stats["runs"]) == 12
    assert all(run["enter"] <= run["execute"] < run["finish"] for run in stats["runs"])
    assert all(0.04 < row["seconds"]["p50"] < 0.06 for row in stats["tasks"])
    assert stats["items"]["count"] == 6


def scripted(nondag: list[TaskSpec], fed: list[str]) -> SimApp:
    home = TaskSpec("home", children=["a"], contract="v5", extra={"role": "home"})
    spec = AppSpec("scripted", PAIR, home_task=home, nondag=nondag, entries=["a"], fed=fed)
    functions = {
        "a": lambda given: b"+".join(v for _, v in sorted(given.items())),
        "b": lambda given: b"+".join(v for _, v in sorted(given.items())),
    }
    return SimApp(spec, functions)


def produced(grid: Grid, node: str, job: str, task: str, child: str, obj: Obj) -> None:
    grid.nodes[node].give(Produced(job, task, child, obj))


def test_a_home_script_makes_items_gets_every_result_and_ends_the_intake_when_it_returns() -> None:
    grid = formed(4)
    job = grid.submit("node2", scripted([], []), {})["id"]
    grid.nodes["node2"].give(TaskUp(job, "home"))
    for n in range(3):
        produced(grid, "node2", job, "home", "a", grid.small(f"base{n}", b"x%d" % n))
    grid.run(2.0)
    delivered = [e for _, name, e in grid.effects if type(e).__name__ == "Deliver" and name == "node2"]
    assert sorted(e.item for e in delivered) == ["base0", "base1", "base2"]
    assert home_of(grid, "node2", job).state == "waiting"
    grid.nodes["node2"].give(TaskEnded(job, "home"))
    assert finish(grid, "node2", job) == "completed"
    assert grid.results("node1", job) == {f"base{n}": {("b", "b"): b"x%d" % n} for n in range(3)}


@pytest.mark.smoke
def test_a_home_script_that_starts_again_is_told_every_result_again() -> None:
    grid = formed(4)
    job = grid.submit("node2", scripted([], []), {})["id"]
    produced(grid, "node2", job, "home", "a", grid.small("base", b"x"))
    grid.run(2.0)
    grid.effects.clear()
    grid.nodes["node2"].give(TaskUp(job, "home"))
    assert [e.item for _, _, e in grid.effects if type(e).__name__ == "Deliver"] == ["base"]


def test_what_nobody_claims_is_dropped_ten_minutes_later() -> None:
    grid = formed(3)
    entry = grid.upload("node2", "never-put", bytes(100_000))
    digest = bytes.fromhex(entry["sha256"])
    grid.run(UNCLAIMED_S - 5)
    assert digest in grid.disks["node2"].objects
    grid.run(10)
    assert digest not in grid.disks["node2"].objects


def test_counters_of_a_node_that_started_again_go_on_counting() -> None:
    grid = formed(4)
    app = pair(0.1)
    worker = "node3"
    job = grid.submit("node2", app, ITEMS, keep_open=True, mapping={"a": "node1", "b": worker})["id"]
    grid.run(3.0)
    grid.crash(worker)
    grid.start(worker)
    grid.run(5.0)
    more = [grid.upload("node2", f"later{n}", b"x%d" % n) for n in range(4)]
    grid.ask("node2", "put", job=job, inputs=more)
    grid.run(5.0)
    [row] = [row for row in grid.ask("node2", "get", kind="tasks", id=job)["items"] if row["name"] == "b"]
    assert row["done"] == 10


def test_a_non_dag_task_feeds_a_task_in_the_middle_of_the_dag_from_its_own_node() -> None:
    grid = formed(4)
    feeder = TaskSpec("feeder", children=["b"], contract="v5", extra={"role": "nondag", "host": "node4"})
    job = grid.submit("node2", scripted([feeder], ["b"]), {"i": b"x"}, keep_open=True)["id"]
    grid.run(1.0)
    assert mapping(grid, "node2", job)["feeder"] == "node4"
    produced(grid, "node4", job, "feeder", "b", grid.small("aside", b"y"))
    grid.run(5.0)
    grid.ask("node3", "close", job=job)
    assert finish(grid, "node2", job) == "completed"
    assert grid.results("node1", job) == {"i": {("b", "b"): b"x"}, "aside": {("b", "b"): b"y"}}


def test_a_non_dag_task_moves_home_when_its_node_is_lost() -> None:
    grid = formed(4)
    feeder = TaskSpec("feeder", children=["b"], contract="v5", extra={"role": "nondag", "host": "node4"})
    job = grid.submit("node2", scripted([feeder], ["b"]), {"i": b"x"}, keep_open=True)["id"]
    grid.run(1.0)
    grid.crash("node4")
    grid.run(20.0)
    assert mapping(grid, "node2", job)["feeder"] == "node2"


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_of_a_job_that_is_over_its_hosts_tell_what_became_of_it_when_its_home_is_lost(state: str) -> None:
    grid = formed(4)
    job = grid.submit("node2", pair(), ITEMS, keep_open=True, replicas=0)["id"]
    grid.run(3.0)
    grid.ask("node1", "cancel" if state == "cancelled" else "close", job=job)
    assert finish(grid, "node2", job) == state
    grid.run(3.0)
    grid.crash("node2")
    grid.run(20.0)
    for node in ("node1", "node3", "node4"):
        [row] = grid.ask(node, "get", kind="jobs", id=job)["items"]
        assert (row["state"], row["home"], row["home_lost"]) == (state, "node2", True)
        code, error, hint = refused(grid, node, "results", job=job)
        assert code == 4
        assert f"is {state}; its home, node node2, is lost" in error
        assert "results are there" in hint
    grid.start("node2")
    grid.run(10.0)
    [row] = grid.ask("node3", "get", kind="jobs", id=job)["items"]
    assert (row["state"], row.get("home_lost")) == (state, None)
