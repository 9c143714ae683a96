"""Problems to and from networkx: a DAG of tasks and a directed graph of nodes.

    task attributes    times ([N] seconds, or {node: seconds}), pinned (a node, optional), allowed ([N] bool, optional)
    edge attributes    bytes
    node attributes    available (seconds, optional)
    link attributes    latency (s), inv_rate (s/byte), quadratic (s/byte**2, optional)

Index i of the problem is the i-th task, or node, of its graph. networkx is imported only by `to_networkx`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedulers.problem import Edge, Problem

if TYPE_CHECKING:
    import networkx as nx


def to_networkx(p: Problem) -> tuple[nx.DiGraph[Any], nx.DiGraph[Any]]:
    """(tasks, network), labelled by index; `from_networkx` gives an equal problem back."""
    import networkx as nx

    tasks: nx.DiGraph[Any] = nx.DiGraph()
    for t in range(p.n_tasks):
        tasks.add_node(t, times=p.times[t].tolist())
        if p.allowed is not None:
            tasks.nodes[t]["allowed"] = p.allowed[t].tolist()
    for t, n in (p.pinned or {}).items():
        tasks.nodes[t]["pinned"] = n
    tasks.add_edges_from((u, v, {"bytes": data}) for u, v, data in p.edges)
    network: nx.DiGraph[Any] = nx.DiGraph()
    for n in range(p.n_nodes):
        network.add_node(n)
        if p.available is not None:
            network.nodes[n]["available"] = float(p.available[n])
    for a in range(p.n_nodes):
        for b in range(p.n_nodes):
            if a != b:
                link = {"latency": float(p.latency[a, b]), "inv_rate": float(p.inv_rate[a, b])}
                if p.quadratic is not None:
                    link["quadratic"] = float(p.quadratic[a, b])
                network.add_edge(a, b, **link)
    return tasks, network


def from_networkx(tasks: nx.DiGraph[Any], network: nx.Graph[Any]) -> Problem:
    """The problem of two graphs. An undirected network has the same link both ways.

    ValueError for an undirected task graph, a multigraph, a missing attribute or link, besides what `Problem` refuses.
    """
    for what, graph in (("task graph", tasks), ("network", network)):
        if graph.is_multigraph():
            raise ValueError(f"the {what} may have parallel edges ({type(graph).__name__}): which one counts?")
    if not tasks.is_directed():
        raise ValueError(f"the task graph is undirected ({type(tasks).__name__}): which task feeds which?")
    nodes = list(network.nodes)
    number = {label: n for n, label in enumerate(nodes)}
    index = {label: t for t, label in enumerate(tasks.nodes)}
    try:
        times: Any = [_row("times", data["times"], nodes) for _, data in tasks.nodes(data=True)]
        edges: list[Edge] = [(index[u], index[v], data["bytes"]) for u, v, data in tasks.edges(data=True)]
        links = {name: _links(network, nodes, name) for name in ("latency", "inv_rate")}
        pinned = {index[t]: number[data["pinned"]] for t, data in tasks.nodes(data=True) if "pinned" in data}
        allowed: Any = None
        if any("allowed" in data for _, data in tasks.nodes(data=True)):
            everywhere = [True] * len(nodes)
            allowed = [_row("allowed", data.get("allowed", everywhere), nodes) for _, data in tasks.nodes(data=True)]
    except KeyError as error:
        raise ValueError(f"the graphs lack {error}") from None
    available: Any = None
    if any("available" in data for _, data in network.nodes(data=True)):
        available = [data.get("available", 0.0) for _, data in network.nodes(data=True)]
    quadratic = None
    if any("quadratic" in data for *_, data in network.edges(data=True)):
        quadratic = _links(network, nodes, "quadratic", 0.0)
    return Problem(times, edges, links["latency"], links["inv_rate"], pinned, quadratic, available, allowed)


def _row(name: str, value: Any, nodes: list[Any]) -> list[Any]:
    """[N] values given in the order of the nodes, or by node."""
    if isinstance(value, Mapping):
        return [value[n] for n in nodes]
    try:
        return list(value)
    except TypeError:
        raise ValueError(f"{name} of a task is {value!r}, expected a value per node") from None


def _links(network: nx.Graph[Any], nodes: list[Any], name: str, default: float | None = None) -> Any:
    """[N][N] of one link attribute, as given; KeyError names the missing link or attribute."""
    matrix: list[list[Any]] = [[0.0] * len(nodes) for _ in nodes]
    for i, a in enumerate(nodes):
        for j, b in enumerate(nodes):
            if a == b:
                continue
            if not network.has_edge(a, b):
                raise KeyError(f"a link from {a} to {b}")
            data = network.edges[a, b]
            matrix[i][j] = data[name] if default is None else data.get(name, default)
    return matrix
