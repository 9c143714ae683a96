"""A mapping problem: how long tasks take where, what they send each other, and how fast the links are.

The model is the one of HEFT (IEEE TPDS 13(3), 2002, section 2) on unrelated machines: w[t, n] seconds of task t on
node n, one task at a time per node, and a transfer of d bytes from node p to node q taking

    l(p, q, d) = latency[p, q] + inv_rate[p, q] * d + quadratic[p, q] * d**2        0 if p is q

Differs: the paper has one start-up time per node and no quadratic term; measured links need both (the fit of DRUPE).
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schedulers.errors import Unplaceable

if TYPE_CHECKING:
    import networkx as nx

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Edge = tuple[int, int, float]


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """T tasks and N nodes, both named by index. Immutable: arrays are copied and made read-only.

    times (T, N) seconds; edges [(u, v, bytes >= 0)]; latency (N, N) seconds, inv_rate (N, N) seconds per byte and
    quadratic (N, N) seconds per byte**2, all [from, to] with diagonal 0; pinned {task: node}; available (N,) seconds
    before which a node does nothing; allowed (T, N) bool. Anything that converts to such arrays is accepted.

    ValueError for wrong shapes, NaN, negative or infinite numbers, a nonzero diagonal, unknown tasks or nodes,
    repeated edges, cycles, no task, no node. A task without a node is no bad input: `require_placeable` says so.
    """

    times: Floats
    edges: Sequence[Edge]
    latency: Floats
    inv_rate: Floats
    pinned: Mapping[int, int] | None = None
    quadratic: Floats | None = None
    available: Floats | None = None
    allowed: Bools | None = None

    parents: list[list[tuple[int, float]]] = field(init=False)  # parents[v] = [(u, bytes)] in the order of `edges`
    children: list[list[tuple[int, float]]] = field(init=False)  # children[u] = [(v, bytes)]
    order: list[int] = field(init=False)  # topological, ties by index
    ready_from: Floats = field(init=False)  # (N,) seconds: `available`, or zeros
    placeable: Bools | None = field(init=False)  # (T, N) `allowed` and `pinned` in one; None: every task everywhere
    horizon: float = field(init=False)  # seconds of everything one after another over the worst link

    def __post_init__(self) -> None:
        times = _times(self.times)
        tasks, nodes = times.shape
        edges = _edges(self.edges, tasks)
        pinned = _pinned(self.pinned or {}, tasks, nodes)
        available = None if self.available is None else _numbers("available", self.available, (nodes,))
        values = {
            "times": times,
            "edges": edges,
            "latency": _links("latency", self.latency, nodes),
            "inv_rate": _links("inv_rate", self.inv_rate, nodes),
            "quadratic": None if self.quadratic is None else _links("quadratic", self.quadratic, nodes),
            "pinned": pinned,
            "available": available,
            "ready_from": np.zeros(nodes) if available is None else available,
            "allowed": None if self.allowed is None else _flags("allowed", self.allowed, (tasks, nodes)),
            "parents": [[] for _ in range(tasks)],
            "children": [[] for _ in range(tasks)],
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for u, v, data in edges:
            self.children[u].append((v, data))
            self.parents[v].append((u, data))
        object.__setattr__(self, "order", _topological(self.parents, self.children))
        object.__setattr__(self, "placeable", self._placeable(pinned))
        object.__setattr__(self, "horizon", self._horizon())

    def __repr__(self) -> str:
        return f"Problem({self.n_tasks} tasks, {len(self.edges)} edges, {self.n_nodes} nodes)"

    @property
    def n_tasks(self) -> int:
        """T."""
        return len(self.times)

    @property
    def n_nodes(self) -> int:
        """N."""
        return len(self.ready_from)

    def busy_row(self, src: int, data: float) -> Floats:
        """(N,) seconds that `data` bytes keep the NICs of `src` and of each receiver busy; 0 for `src` itself."""
        busy: Floats = self.inv_rate[src] * data
        if self.quadratic is not None:
            busy += self.quadratic[src] * (data * data)
        return busy

    def transfer_row(self, src: int, data: float) -> Floats:
        """(N,) seconds from `src` to each node for `data` bytes; 0 for `src` itself."""
        seconds: Floats = self.busy_row(src, data)
        seconds += self.latency[src]
        return seconds

    def transfer(self, src: int, dst: int, data: float) -> float:
        """Seconds for `data` bytes from `src` to `dst`; 0 on the same node."""
        if src == dst:
            return 0.0
        busy = float(self.inv_rate[src, dst]) * data
        if self.quadratic is not None:
            busy += float(self.quadratic[src, dst]) * (data * data)
        return busy + float(self.latency[src, dst])

    def nodes_for(self, task: int) -> list[int]:
        """The nodes that may run `task`, ascending."""
        if self.placeable is None:
            return list(range(self.n_nodes))
        return [int(n) for n in np.flatnonzero(self.placeable[task])]

    @classmethod
    def from_networkx(cls, tasks: nx.DiGraph[Any], network: nx.Graph[Any]) -> Problem:
        """The problem of a task graph and a network (`graphs.from_networkx` says which attributes they have)."""
        from schedulers.graphs import from_networkx

        return from_networkx(tasks, network)

    def to_networkx(self) -> tuple[nx.DiGraph[Any], nx.DiGraph[Any]]:
        """(tasks, network), labelled by index; `from_networkx` gives an equal problem back."""
        from schedulers.graphs import to_networkx

        return to_networkx(self)

    def require_placeable(self) -> None:
        """Raise Unplaceable for the first task, in topological order, that no node may run."""
        if self.placeable is None or self.placeable.any(axis=1).all():
            return
        task = next(t for t in self.order if not self.placeable[t].any())
        pin = (self.pinned or {}).get(task)
        reasons = []
        for n in range(self.n_nodes):
            elsewhere = pin is not None and pin != n
            reasons.append(f"node {n}: " + (f"the task is pinned to node {pin}" if elsewhere else "not allowed"))
        raise Unplaceable(task, reasons)

    def _placeable(self, pinned: Mapping[int, int]) -> Bools | None:
        if self.allowed is None and not pinned:
            return None
        mask = np.ones(self.times.shape, dtype=np.bool_) if self.allowed is None else self.allowed.copy()
        for task, node in pinned.items():
            keep = mask[task, node]
            mask[task] = False
            mask[task, node] = keep
        mask.setflags(write=False)
        return mask

    def _horizon(self) -> float:
        """ValueError where twice of it, summed over all links, is no number: then some sum might not be one."""
        latency, inv_rate = float(self.latency.max()), float(self.inv_rate.max())
        total = sum(data for *_, data in self.edges)
        with np.errstate(over="ignore", invalid="ignore"):
            horizon = self.times.max(axis=1).sum() + self.ready_from.max() + latency + inv_rate
            horizon += len(self.edges) * latency + inv_rate * total
            if self.quadratic is not None:
                horizon += self.quadratic.max() * (1 + np.float64(total) * total)
            if not np.isfinite(2 * horizon * self.n_nodes**2):
                raise ValueError("times, sizes or links are so large that a schedule would overflow")
        return float(horizon)


def _numbers(name: str, value: npt.ArrayLike, shape: tuple[int, ...] | None) -> Floats:
    """A read-only copy of `value` with finite numbers >= 0 and, if given, that shape."""
    try:
        try:
            array = np.array(value, dtype=np.float64, order="C")
        except OverflowError:
            array = np.vectorize(_float, otypes=[np.float64])(np.array(value, dtype=object))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: not an array of numbers: {error}") from None
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name}{list(where)} is {array[where]}, expected a finite number >= 0")
    array.setflags(write=False)
    return array


def _float(value: Any) -> float:
    """What the number is as a float: infinite where it is an integer beyond all of them."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _times(value: npt.ArrayLike) -> Floats:
    times = _numbers("times", value, None)
    if times.ndim != 2 or not times.shape[0] or not times.shape[1]:
        raise ValueError(f"times has shape {times.shape}, expected (tasks, nodes) with at least one of each")
    return times


def _links(name: str, value: npt.ArrayLike, nodes: int) -> Floats:
    links = _numbers(name, value, (nodes, nodes))
    if links.diagonal().any():
        raise ValueError(f"{name} has a nonzero diagonal: staying on a node costs nothing")
    return links


def _flags(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> Bools:
    flags = _numbers(name, value, shape)
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(f"{name} has values other than true and false")
    return flags.astype(np.bool_)


def _index(what: str, value: object, limit: int) -> int:
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{what} is {value!r}, expected an integer") from None
    if not 0 <= index < limit:
        raise ValueError(f"{what} {index} is unknown: there are {limit}, counted from 0")
    return index


def _edges(value: Iterable[Edge], tasks: int) -> tuple[Edge, ...]:
    edges: dict[tuple[int, int], float] = {}
    try:
        given = iter(value)
    except TypeError:
        raise ValueError(f"edges is {value!r}, expected an iterable of (task, task, bytes)") from None
    for edge in given:
        try:
            source, target, size = edge
            data = _float(size)
        except (TypeError, ValueError):
            raise ValueError(f"edge {edge!r} is not (task, task, bytes)") from None
        u, v = _index("task", source, tasks), _index("task", target, tasks)
        if not 0 <= data < float("inf"):
            raise ValueError(f"edge ({u}, {v}) carries {data} bytes, expected a finite number >= 0")
        if (u, v) in edges:
            raise ValueError(f"edge ({u}, {v}) is given twice")
        edges[u, v] = data
    return tuple((u, v, data) for (u, v), data in edges.items())


def _pinned(value: Mapping[int, int], tasks: int, nodes: int) -> dict[int, int]:
    if not isinstance(value, Mapping):
        raise ValueError(f"pinned is {value!r}, expected a mapping from task to node")
    return {_index("pinned task", t, tasks): _index("node of a pinned task", n, nodes) for t, n in value.items()}


def _topological(parents: list[list[tuple[int, float]]], children: list[list[tuple[int, float]]]) -> list[int]:
    """Kahn's algorithm, smallest index first: O((T + E) log T). ValueError names the tasks on or behind a cycle."""
    waiting = [len(p) for p in parents]
    free = [t for t, count in enumerate(waiting) if not count]
    order = []
    while free:
        t = heapq.heappop(free)
        order.append(t)
        for v, _ in children[t]:
            waiting[v] -= 1
            if not waiting[v]:
                heapq.heappush(free, v)
    if len(order) < len(parents):
        stuck = [t for t, count in enumerate(waiting) if count]
        raise ValueError(f"the tasks are no DAG: a cycle keeps {stuck[:10]} from ever starting")
    return order
