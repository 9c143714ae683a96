"""`tp-heft`: the mapping that takes a stream of items fastest, instead of one item soonest.

In a pipeline every task works on every item, so the rate of a mapping is limited by the resource that is busy longest
per item, the period (objective of TPHEFT, arXiv 2112.13875; bottleneck of Al-Sinayyid and Zhu, J. Supercomputing 76,
2020):

    period = max over nodes n of sum of w(t, n)                                  over the tasks t on n
             max over links (p, q) of sum of inv_rate * d + quadratic * d**2     over the edges from p to q
    rate   = 1 / period

With `contention=True` the second line is per network card: what a node sends, and what it receives, of all its links.
Two steps: tasks by upward rank, each to the node that leaves the least bottleneck; then bottleneck moves: a task of the
busiest resource, on the node or at an end of the link or card, goes where the period becomes least, ties by the sum
of the squares of all loads, until no move gains. That starts from several mappings; the best end wins.

Differs: latency delays items but keeps nobody busy, so it does not count; TPHEFT looks at the loads of the one node and
its links only, and splits and duplicates tasks, which needs an executor that does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import frexp, ldexp

import numpy as np
import numpy.typing as npt

from schedulers.heft import heft, heft_balanced
from schedulers.problem import Floats, Ints, Problem
from schedulers.ranks import by_rank, upward_rank
from schedulers.replay import mapping, replay
from schedulers.solution import Schedule

GAIN = 1e-9  # of the period: less is no gain


def tp_heft(p: Problem, *, seed: int = 0, contention: bool = False, moves: int | None = None) -> Schedule:
    """The mapping of the least period found; times are those of one item alone (`replay`).

    At most `moves` moves from each start, by default 2 T. O(moves x tasks of the bottleneck x (N parents + N**2));
    nothing is drawn, so `seed` changes nothing. ValueError for `moves` below 0.
    """
    most = 2 * p.n_tasks if moves is None else moves
    if most < 0:
        raise ValueError(f"moves is {most}, expected at least 0")
    p.require_placeable()
    scaled = _scaled(p)
    ends = [refine(scaled, start, most, contention) for start in _starts(scaled, contention)]
    best = min(ends, key=lambda node: period(scaled, node, contention))
    return replay(p, best, contention=contention)


def period(p: Problem, node: npt.ArrayLike, contention: bool = False) -> float:
    """Seconds per item of the busiest resource under the mapping `node` (T,) int. O(T + E + N**2).

    ValueError for what `replay.mapping` refuses.
    """
    return _Loads(p, mapping(p, node), contention).period


def refine(p: Problem, node: Sequence[int] | Ints, moves: int, contention: bool) -> Ints:
    """The mapping after at most `moves` bottleneck moves; its period is never larger."""
    loads = _Loads(p, np.array(node, dtype=np.int64), contention)
    for _ in range(moves):
        found = min((loads.best_move(t) for t in loads.bottleneck()), default=None)
        if found is None:
            break
        now, potential, t, n = found
        gains = now < loads.period * (1 - GAIN) or (now <= loads.period and potential < loads.potential * (1 - GAIN))
        if not gains:
            break
        loads.move(t, n)
    return loads.node


def _scaled(p: Problem) -> Problem:
    """`p` in a unit of time in which squares of loads are numbers: a power of two, which rounds nothing of weight."""
    unit = ldexp(1.0, frexp(p.horizon)[1] - 1)
    quadratic = None if p.quadratic is None else p.quadratic / unit
    available = None if p.available is None else p.available / unit
    latency, inv_rate = p.latency / unit, p.inv_rate / unit
    return Problem(p.times / unit, p.edges, latency, inv_rate, p.pinned, quadratic, available, p.allowed)


def _starts(p: Problem, contention: bool) -> Iterator[Sequence[int] | Ints]:
    """Mappings to begin with: by bottleneck, by finish time, evenly spread, and all on the fastest node."""
    loads = _Loads(p, np.full(p.n_tasks, -1), contention)
    for t in by_rank(p, upward_rank(p)):
        loads.move(t, loads.best_move(t)[3])
    yield loads.node
    yield heft(p, contention=contention).node
    yield heft_balanced(p, contention=contention).node
    fastest = int(p.times.sum(axis=0).argmin())
    allowed = [p.nodes_for(t) for t in range(p.n_tasks)]
    yield [fastest if fastest in nodes else nodes[0] for nodes in allowed]


class _Loads:
    """Seconds per item of every resource; a task on node -1 is not placed and loads nothing.

    `cards` is (2, N), sent and received, under contention, else (N, N) of the links.
    """

    def __init__(self, p: Problem, node: Ints, contention: bool) -> None:
        self.p, self.node, self.contention = p, node, contention
        self.nodes = np.zeros(p.n_nodes)
        self.cards = np.zeros((2 if contention else p.n_nodes, p.n_nodes))
        placed = np.flatnonzero(node >= 0)
        np.add.at(self.nodes, node[placed], p.times[placed, node[placed]])
        for u, v, data in p.edges:
            if node[u] >= 0 and node[v] >= 0 and node[u] != node[v]:
                self._carry(int(node[u]), int(node[v]), float(p.busy_row(int(node[u]), data)[node[v]]))

    @property
    def period(self) -> float:
        return max(float(self.nodes.max()), float(self.cards.max()))

    @property
    def potential(self) -> float:
        """The sum of the squares of all loads: falls when load goes from full resources to empty ones."""
        return float((self.nodes**2).sum() + (self.cards**2).sum())

    def _carry(self, a: int, b: int, seconds: float) -> None:
        if self.contention:
            self.cards[0, a] += seconds
            self.cards[1, b] += seconds
        else:
            self.cards[a, b] += seconds

    def bottleneck(self) -> list[int]:
        """The tasks that load the busiest resource, ascending."""
        if self.nodes.max() >= self.cards.max():
            return [int(t) for t in np.flatnonzero(self.node == self.nodes.argmax())]
        a, b = np.unravel_index(self.cards.argmax(), self.cards.shape)
        ends = set()
        for u, v, data in self.p.edges:
            source, target = self.node[u], self.node[v]
            hit = (source if a == 0 else target) == b if self.contention else (source, target) == (a, b)
            if hit and source != target and data:
                ends |= {u, v}
        return sorted(ends)

    def move(self, t: int, n: int) -> None:
        """Put `t` on node `n`. O(parents + children)."""
        self._put(t, -1.0)
        self.node[t] = n
        self._put(t, 1.0)

    def _put(self, t: int, sign: float) -> None:
        n = int(self.node[t])
        if n < 0:
            return
        self.nodes[n] += sign * self.p.times[t, n]
        for u, data in self.p.parents[t]:
            if 0 <= self.node[u] != n:
                self._carry(int(self.node[u]), n, sign * float(self.p.busy_row(int(self.node[u]), data)[n]))
        for v, data in self.p.children[t]:
            if 0 <= self.node[v] != n:
                self._carry(n, int(self.node[v]), sign * float(self.p.busy_row(n, data)[self.node[v]]))

    def best_move(self, t: int) -> tuple[float, float, int, int]:
        """(period, potential, t, node) of the best node for `t`, all nodes at once; nothing is changed in the end."""
        here = int(self.node[t])
        self._put(t, -1.0)
        self.node[t] = -1
        mine = self.nodes + self.p.times[t]
        peak = np.maximum(mine, self.period)
        potential = self.potential + mine**2 - self.nodes**2
        for added, base in self._added(t):
            np.maximum(peak, (base + added).max(axis=0), out=peak)
            potential += (added * (2 * base + added)).sum(axis=0)
        if self.p.placeable is not None:
            peak[~self.p.placeable[t]] = np.inf
        self.node[t] = here
        self._put(t, 1.0)
        n = int(np.lexsort((potential, peak))[0])
        return float(peak[n]), float(potential[n]), t, n

    def _added(self, t: int) -> Iterator[tuple[Floats, Floats]]:
        """(k, N) seconds that `t` on each node adds to k resources, and (k, N) or (k, 1) what they carry already."""
        into: dict[int, Floats] = {}
        out: dict[int, Floats] = {}
        for u, data in self.p.parents[t]:
            if (h := int(self.node[u])) >= 0:
                into[h] = into.get(h, 0.0) + self.p.busy_row(h, data)
        for v, data in self.p.children[t]:
            if (h := int(self.node[v])) >= 0:
                out[h] = out.get(h, 0.0) + self._busy_column(h, data)
        for side, rows in ((0, into), (1, out)):
            if not rows:
                continue
            hosts, added = list(rows), np.array(list(rows.values()))
            if self.contention:
                yield added, self.cards[side][hosts][:, None]
                yield added.sum(axis=0)[None], self.cards[1 - side][None]
            else:
                yield added, self.cards[hosts] if side == 0 else self.cards[:, hosts].T

    def _busy_column(self, target: int, data: float) -> Floats:
        """(N,) seconds that `data` bytes to `target` keep each sender busy."""
        busy: Floats = self.p.inv_rate[:, target] * data
        if self.p.quadratic is not None:
            busy += self.p.quadratic[:, target] * (data * data)
        return busy
