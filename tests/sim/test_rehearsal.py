"""What rehearsals must show: slow links slow a job down, faults happen when they are said, moving tasks helps."""

import pytest

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.sim.rehearsal import Fault, Link, Plan, TaskModel, rehearse
from schedulers import Unplaceable

CHAIN = AppSpec("chain", [TaskSpec("a", children=["b"]), TaskSpec("b", parents=["a"])])
NODES = {f"n{n}": 1.0 for n in range(4)}


def plan(**changes: object) -> Plan:
    fields: dict[str, object] = {"app": CHAIN, "nodes": NODES, "submit": {"mapper": "wave-greedy"}, "items": 30}
    return Plan(**{**fields, "usual": TaskModel(0.2, 200_000), **changes})


def test_a_job_takes_what_its_slowest_task_takes_over_fast_links():
    found = rehearse(plan())
    assert (found["state"], found["items_done"], found["runs"]) == ("completed", 30, 60)
    assert 6.0 <= found["makespan_s"] < 9.0
    assert found["moves"] == 0


def test_objects_take_their_time_on_a_slow_link():
    slow = Link(0.05, 100_000)
    fast = rehearse(plan(items=5))["makespan_s"]
    found = rehearse(plan(items=5, default=slow, input_bytes=200_000))
    assert found["state"] == "completed"
    assert found["makespan_s"] > fast + 5.0


def test_a_node_that_dies_is_survived_and_told_once():
    found = rehearse(plan(faults=[Fault(2.0, ["kill", "n3"])]))
    assert found["state"] == "completed"
    assert [entry["what"] for entry in found["story"]].count("kill n3") == 1
    assert sum("member dead" in entry["what"] for entry in found["story"]) == 1
    assert "n3" not in found["mapping"].values()


def pinned(**changes: object) -> Plan:
    app = AppSpec("chain", [TaskSpec("a", children=["b"]), TaskSpec("b", parents=["a"], node="n3")])
    return plan(app=app, **changes)


def test_that_a_task_waits_for_its_node_is_told():
    found = rehearse(pinned(faults=[Fault(1.5, ["kill", "n3"])], until_s=60.0))
    assert found["state"] == "unfinished"
    waits = "task waits task=b why=waits for node 'n3', to which it is pinned"
    said = [entry["what"] for entry in found["story"] if entry["what"].endswith(waits)]
    assert said == ["n0: " + waits, "n1: " + waits], "once by each that was to place it"


def test_why_a_job_was_not_mapped_is_told(monkeypatch):
    def refuse(problem: object, **options: object) -> None:
        raise Unplaceable(1, ["node 0: no licence"])

    monkeypatch.setattr("schedulers.heft.heft", refuse)
    found = rehearse(plan(submit={"mapper": "heft"}, items=2))
    assert (found["state"], found["exit_code"], found["items_failed"]) == ("failed", 3, 2)
    [said] = [entry["what"] for entry in found["story"] if "not mapped" in entry["what"]]
    assert "hint=node 0: no licence" in said


def test_moving_tasks_off_a_slow_node_shows_in_a_rehearsal():
    def run(remap: str) -> dict[str, object]:
        every = [Fault(3.0, ["slow", node, "5"]) for node in ("n1", "n2")]
        return rehearse(plan(items=60, faults=every, submit={"mapper": "wave-greedy", "remap": remap}))

    active, off = run("active"), run("off")
    assert active["moves"] >= 1
    assert active["makespan_s"] < 0.75 * off["makespan_s"]


@pytest.mark.smoke
def test_items_that_come_one_by_one_are_all_done():
    found = rehearse(plan(items=10, every_s=1.0))
    assert (found["items_in"], found["items_done"]) == (10, 10)
    assert 9.0 <= found["makespan_s"] < 12.0
