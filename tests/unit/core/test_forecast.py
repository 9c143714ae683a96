"""What a plan promises, and what changes when nodes and links are others: literal problems, worked out by hand."""

from typing import Any

import pytest

from jupiter_agent.core.forecast import Forecast
from jupiter_agent.core.submit_args import submit_args
from jupiter_agent.core.what_if import LinkIf, Network, WhatIf
from jupiter_agent.errors import UsageError

# a -> b, a -> c, both -> d; 100 bytes an edge; node 1 twice as fast; 10 bytes/s, 1 s of latency
EDGES = [(0, 1, 100), (0, 2, 100), (1, 3, 100), (2, 3, 100)]


def problem(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "times": [[4.0, 2.0], [8.0, 4.0], [2.0, 1.0], [6.0, 3.0]],
        "edges": EDGES,
        "latency": [[0.0, 1.0], [1.0, 0.0]],
        "inv_rate": [[0.0, 0.1], [0.1, 0.0]],
        "pinned": {},
        "allowed": [[True, True]] * 4,
    }
    return {**fields, **changes}


def plan() -> Forecast:
    """a, b, d on node 1, c on node 0: c's input comes at 2 + 11, its output at 15 + 11."""
    return Forecast(problem(), [1, 1, 0, 1], [0.0, 2.0, 13.0, 26.0], [2.0, 6.0, 15.0, 29.0])


def test_the_critical_path_goes_through_the_inputs_that_came_last():
    found = plan()
    assert found.makespan_s == 29.0
    assert [(step.task, step.waits_for) for step in found.critical_path()] == [(0, ""), (2, "input"), (3, "input")]


def test_a_task_that_waited_for_its_node_or_a_network_card_says_so():
    same = Forecast(problem(), [1, 1, 1, 1], [0.0, 2.0, 6.0, 7.0], [2.0, 6.0, 7.0, 10.0])
    assert [(s.task, s.waits_for) for s in same.critical_path()] == [(0, ""), (1, "input"), (2, "node"), (3, "input")]
    late = Forecast(problem(), [1, 1, 0, 1], [0.0, 2.0, 18.0, 31.0], [2.0, 6.0, 20.0, 34.0])
    assert [(s.task, s.waits_for) for s in late.critical_path()] == [(0, ""), (2, "network card"), (3, "input")]


def test_a_problem_without_tasks_that_take_time_has_no_endless_path():
    found = Forecast(problem(times=[[0.0, 0.0]] * 4), [0, 0, 0, 0], [0.0] * 4, [0.0] * 4)
    assert len(found.critical_path()) <= 5


def test_bytes_loads_and_throughput_follow_from_the_mapping():
    found = plan()
    assert found.bytes_by_link() == {(1, 0): 100.0, (0, 1): 100.0}
    assert found.loads() == pytest.approx(
        {("computing", 1): 9.0, ("computing", 0): 2.0, ("sending", 1): 10.0, ("receiving", 0): 10.0,
         ("sending", 0): 10.0, ("receiving", 1): 10.0}
    )  # fmt: skip
    assert found.throughput_hz() == pytest.approx(0.1)


def test_quadratic_links_take_their_square_too():
    found = Forecast(problem(quadratic=[[0.0, 0.01], [0.01, 0.0]]), [1, 1, 0, 1], [0.0] * 4, [0.0] * 4)
    assert found.transfer_s(0, 1, 100) == pytest.approx(1 + 10 + 100)


def test_other_places_are_judged_with_the_rest_of_the_plan_as_it_is():
    choices = plan().elsewhere(2)
    assert [(c.node, c.start_s, c.finish_s, c.transfer_s) for c in choices] == [
        (1, 6.0, 7.0, 0.0),
        (0, 13.0, 15.0, 11.0),
    ]
    only = Forecast(problem(allowed=[[True, False]] * 4), [0] * 4, [0.0] * 4, [0.0] * 4)
    assert [c.node for c in only.elsewhere(1)] == [0]
    pinned = Forecast(problem(pinned={1: 1}), [1] * 4, [0.0] * 4, [0.0] * 4)
    assert [c.node for c in pinned.elsewhere(1)] == [1]


def network() -> Network:
    return Network(problem(pinned={0: 1}), ["n1", "n2"], [1.0, 2.0])


def test_a_node_that_is_not_there_is_left_out_and_what_was_pinned_to_it_is_at_the_asked_one():
    found = network()
    found.apply(WhatIf(without=["n2"]), "n1")
    assert found.names == ["n1"]
    assert found.problem["times"] == [[4.0], [8.0], [2.0], [6.0]]
    assert (found.problem["latency"], found.problem["pinned"]) == ([[0.0]], {0: 0})


def test_a_new_node_has_its_speed_and_usual_links():
    found = network()
    found.apply(WhatIf(speeds={"n9": 4.0}, added=["n9"]), "n1")
    assert [row[2] for row in found.problem["times"]] == [1.0, 2.0, 0.5, 1.5]
    assert found.problem["latency"] == [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    assert all(row[2] for row in found.problem["allowed"])


def test_the_speed_of_a_node_and_both_ways_of_a_link_change():
    found = network()
    found.apply(WhatIf(speeds={"n2": 1.0}, links=[LinkIf("n1", "n2", 20.0, 0.5)]), "n1")
    assert found.problem["times"][0] == [4.0, 4.0]
    assert found.problem["inv_rate"] == [[0.0, 0.05], [0.05, 0.0]]
    assert found.problem["latency"] == [[0.0, 0.5], [0.5, 0.0]]


def test_the_original_problem_is_not_touched():
    original = problem()
    Network(original, ["n1", "n2"], [1.0, 2.0]).apply(WhatIf(without=["n2"], speeds={"x": 1.0}, added=["x"]), "n1")
    assert original == problem()


@pytest.mark.parametrize(
    "change", [WhatIf(without=["n7"]), WhatIf(without=["n1"]), WhatIf(links=[LinkIf("n1", "n7", 1.0)]),
               WhatIf(speeds={"n7": 2.0}),
               WhatIf(links=[LinkIf("n1", "n1", 1.0)])]
)  # fmt: skip
def test_what_makes_no_sense_is_refused(change: WhatIf):
    with pytest.raises(UsageError, match="what if"):
        network().apply(change, "n1")


def test_a_node_that_is_added_must_not_be_there_yet():
    with pytest.raises(UsageError, match="what if: n2 is there already") as refused:
        network().apply(WhatIf(speeds={"n2": 1.0}, added=["n2"]), "n1")
    assert refused.value.hint == "n2:speed=X changes it"
    found = network()
    found.apply(WhatIf(speeds={"n9": 1.0, "n2": 1.0}, added=["n9"]), "n1")
    assert (found.names, found.speeds) == (["n1", "n2", "n9"], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("speed", [0.0, -1.0, 1e-4, 1001.0, float("nan"), float("inf")])
def test_a_speed_out_of_range_is_told_the_range(speed: float):
    asked = {"bundle": "", "size": 1, "app": "a", "what_if": {"speeds": {"n2": speed}}}
    with pytest.raises(UsageError, match=r"speed of n2: .*: from 0\.001 to 1000 is allowed"):
        submit_args(asked)
