from __future__ import annotations

import networkx as nx
import pytest

from schedulers.graphs import from_networkx

HUGE = 10**400


def graphs() -> tuple[nx.DiGraph, nx.Graph]:
    tasks = nx.DiGraph()
    tasks.add_node("read", times={"a": 1.0, "b": 2.0}, pinned="b")
    tasks.add_node("sum", times=[3.0, 4.0], allowed={"a": True, "b": False})
    tasks.add_edge("read", "sum", bytes=100)
    network = nx.Graph()
    network.add_node("a", available=7.0)
    network.add_edge("a", "b", latency=0.5, inv_rate=0.01)
    return tasks, network


def test_labelled_graphs_become_a_problem_in_the_order_of_their_nodes() -> None:
    p = from_networkx(*graphs())
    assert p.times.tolist() == [[1, 2], [3, 4]]
    assert p.edges == ((0, 1, 100.0),)
    assert p.latency.tolist() == [[0, 0.5], [0.5, 0]]
    assert p.pinned == {0: 1}
    assert p.available is not None
    assert p.available.tolist() == [7, 0]
    assert p.nodes_for(1) == [0]
    assert p.quadratic is None


def test_a_missing_link_is_named() -> None:
    tasks, network = graphs()
    network.remove_edge("a", "b")
    with pytest.raises(ValueError, match="a link from a to b"):
        from_networkx(tasks, network)


@pytest.mark.parametrize("attribute", ["latency", "inv_rate", "bytes", "times"])
def test_a_missing_attribute_is_named(attribute: str) -> None:
    tasks, network = graphs()
    for data in (network.edges["a", "b"], tasks.edges["read", "sum"], tasks.nodes["sum"]):
        data.pop(attribute, None)
    with pytest.raises(ValueError, match=attribute):
        from_networkx(tasks, network)


def test_a_pin_to_an_unknown_node_is_named() -> None:
    tasks, network = graphs()
    tasks.nodes["read"]["pinned"] = "c"
    with pytest.raises(ValueError, match="'c'"):
        from_networkx(tasks, network)


@pytest.mark.parametrize(
    ("tasks", "network", "message"),
    [
        (nx.Graph, nx.Graph, "task graph is undirected"),
        (nx.MultiGraph, nx.Graph, "task graph may have parallel edges"),
        (nx.MultiDiGraph, nx.Graph, "task graph may have parallel edges"),
        (nx.DiGraph, nx.MultiGraph, "network may have parallel edges"),
        (nx.DiGraph, nx.MultiDiGraph, "network may have parallel edges"),
    ],
)
def test_undirected_tasks_and_multigraphs_are_refused(
    tasks: type[nx.Graph], network: type[nx.Graph], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_networkx(*(kind(graph) for kind, graph in zip((tasks, network), graphs(), strict=True)))


@pytest.mark.parametrize(
    ("of", "attribute", "value", "message"),
    [
        ("link", "latency", HUGE, r"latency\[0, 1\] is inf"),
        ("link", "inv_rate", "fast", "inv_rate: not an array of numbers"),
        ("node", "available", HUGE, r"available\[0\] is inf"),
        ("task", "times", 5, "times of a task is 5, expected a value per node"),
        ("task", "times", [1.0], "not an array of numbers"),
        ("task", "allowed", {"a": True}, "the graphs lack 'b'"),
        ("task", "allowed", True, "allowed of a task is True, expected a value per node"),
    ],
    ids=lambda each: "huge" if each == HUGE else None,
)
def test_values_are_refused_as_by_a_problem(of: str, attribute: str, value: object, message: str) -> None:
    tasks, network = graphs()
    {"link": network.edges["a", "b"], "node": network.nodes["a"], "task": tasks.nodes["sum"]}[of][attribute] = value
    with pytest.raises(ValueError, match=message):
        from_networkx(tasks, network)
