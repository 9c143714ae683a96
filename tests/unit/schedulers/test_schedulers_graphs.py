from __future__ import annotations

import networkx as nx
import pytest

from schedulers.graphs import from_networkx


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
