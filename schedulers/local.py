"""What a single node decides with what it knows: plain Python, shared by the live agents and the simulated WAVE.

Nothing here sees a global matrix. The caller hands in the few numbers a node has (its own board, answers of peers);
what nobody measured is None or NaN and is replaced by a named assumption, never by a number that looks measured.

* `controllers` - who decides where a task goes (routine 1 of WAVE).
* `greedy_scores`, `greedy_choice` - the WAVE greedy rule, every number kept so that a decision can be explained.
* `greedy_choice_v4` - the greedy rule as the original had it, for comparison.
* `random_choice` - WAVE random.
* `eft` - earliest finish time on one timeline (HEFT, IEEE TPDS 13(3), 2002, equations 5 and 6).

How nodes bid for tasks and how bids are awarded is in `bidding`, plain Python too.

All costs are seconds. Differs: the original greedy rule adds milliseconds and two percentages, takes one size for every
edge, never keeps a task on the deciding node and forgets its own earlier choices except the last on each node.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import isfinite, isnan
from random import Random
from typing import Generic, NamedTuple, TypeVar

from schedulers.errors import Unplaceable
from schedulers.timeline import Timeline

K = TypeVar("K", str, int)  # a task or a node: a name, or an index in a simulation

V4_FARTHEST = 15.0  # times the shortest delay: nodes farther away than that were left out
V4_CHOSEN_MS = 100_000.0  # the delay that a node was given once it had been chosen
MEMORY_HIGH_WATER = 0.8  # used share of memory from which on a node is expected to slow down


def controllers(
    tasks: Iterable[K],
    parents: Mapping[K, Collection[K]],
    is_dag: Mapping[K, bool] | None = None,
    home: str | None = "home",
) -> dict[K, K | None]:
    """The controller of each DAG task, None for home; in the order in which the tasks are decided.

    `tasks` are in file order. `home`, self-edges and tasks with `is_dag[t]` False are dropped. Order: topological,
    ties in file order. Routine 1: no parent, home; otherwise the first parent in file order that already controls
    something, else the first parent. ValueError for a task given twice, an unknown parent, a cycle.
    """
    everything = list(tasks)
    place = {t: i for i, t in enumerate(everything)}
    if len(place) < len(everything):
        raise ValueError("a task is given twice")
    kept = [t for t in everything if t != home and (is_dag is None or is_dag.get(t, True))]
    inside = set(kept)
    above: dict[K, list[K]] = {}
    for t in kept:
        unknown = [u for u in parents.get(t, ()) if u not in place and u != home]
        if unknown:
            raise ValueError(f"parent {unknown[0]!r} of task {t!r} is unknown")
        above[t] = sorted({u for u in parents.get(t, ()) if u in inside and u != t}, key=place.__getitem__)
    chosen: dict[K, K | None] = {}
    controlling = set()
    for t in _file_order(kept, above):
        first = above[t][0] if above[t] else None
        controller = next((u for u in above[t] if u in controlling), first)
        chosen[t] = controller
        if controller is not None:
            controlling.add(controller)
    return chosen


def _file_order(kept: Sequence[K], above: Mapping[K, Sequence[K]]) -> list[K]:
    """Topological order, ties in the order of `kept`."""
    place = {t: i for i, t in enumerate(kept)}
    waiting = {t: len(above[t]) for t in kept}
    below: dict[K, list[K]] = {t: [] for t in kept}
    for t in kept:
        for u in above[t]:
            below[u].append(t)
    free = [place[t] for t in kept if not waiting[t]]
    order = []
    while free:
        t = kept[heapq.heappop(free)]
        order.append(t)
        for v in below[t]:
            waiting[v] -= 1
            if not waiting[v]:
                heapq.heappush(free, place[v])
    if len(order) < len(kept):
        raise ValueError(
            f"the tasks are no DAG: a cycle keeps {[t for t in kept if waiting[t]][:10]} from ever starting"
        )
    return order


class Weights(NamedTuple):
    """What a second of transfer, of computing and of memory pressure counts in the greedy rule; each >= 0."""

    net: float = 1.0
    cpu: float = 1.0
    memory: float = 1.0


EVEN = Weights()


class Resources(NamedTuple):
    """What a node says about itself; NaN where it does not, which counts as idle."""

    load: float = 0.0  # tasks running or waiting for a CPU
    cpus: float = 1.0
    memory_used: float = 0.0  # share 0..1


IDLE = Resources()


class Candidate(NamedTuple, Generic[K]):
    """A node that may run the task, as the deciding node knows it."""

    node: K
    exec_s: float | None  # the task alone on this node; None or NaN if nobody measured it
    resources: Resources = IDLE
    committed: int = 0  # tasks of this job that the deciding node knows to be there and that `load` does not show yet


class Score(NamedTuple, Generic[K]):
    """The predicted cost of one candidate: net * transfer_s + cpu * compute_s + memory * memory_s."""

    cost_s: float
    node: K
    transfer_s: float  # the slowest input
    compute_s: float  # exec_s * (1 + (load + committed) / cpus)
    memory_s: float
    exec_s: float
    candidate: Candidate[K]
    slowest: K | None  # the host the slowest input comes from
    assumed: tuple[str, ...]  # what was not known and taken instead

    @property
    def reasons(self) -> list[str]:
        """The numbers in words, for `explain`."""
        load, cpus, used = self.candidate.resources
        if self.slowest is None:
            transfer = "no transfer: no parent on another node"
        else:
            transfer = f"transfer {self.transfer_s:.6g} s, the slowest input is from {self.slowest}"
        compute = f"computing {self.compute_s:.6g} s: {self.exec_s:.6g} s alone, load {load:g} and "
        compute += f"{self.candidate.committed} committed on {cpus:g} cpus"
        lines: list[str] = [transfer, compute]
        if self.memory_s:
            lines.append(f"memory pressure {self.memory_s:.6g} s: {used:.0%} used")
        return [*lines, *self.assumed]


def greedy_scores(
    candidates: Iterable[Candidate[K]],
    parents: Sequence[tuple[K, float]],
    transfer_s: Callable[[K, K, float], float | None],
    weights: Weights = EVEN,
) -> list[Score[K]]:
    """The WAVE greedy rule: all candidates, cheapest first. O(candidates x parents), plus the sort.

    `parents` [(host, bytes on the edge)] are those whose place is known; `transfer_s(host, node, bytes)` predicts a
    transfer between two different nodes, None or NaN where nobody knows. Seconds of a candidate:

        transfer  the slowest input; 0 from the same node
        compute   exec_s * (1 + (load + committed) / cpus)
        memory    exec_s * (memory_used - 0.8) / 0.2 above 80 % used: a full node is expected to take twice as long

    An unknown transfer counts as the slowest known one from that host, an unknown time as the mean of the known
    ones; 0 if none is known. Ties: the shorter transfer, then no transfer at all, then the smaller node. ValueError for
    a weight that is negative or no finite number.
    """
    if not all(isfinite(w) and w >= 0 for w in weights):
        raise ValueError(f"{weights} must be finite numbers >= 0")
    listed = list(candidates)
    known = [c.exec_s for c in listed if c.exec_s is not None and isfinite(c.exec_s)]
    usual_s = sum(known) / len(known) if known else 0.0
    columns = [_inputs(host, data, listed, transfer_s) for host, data in parents]
    rows: Iterable[Sequence[_Input[K]]] = zip(*columns, strict=True) if columns else [()] * len(listed)
    scores = [_score(candidate, row, usual_s, weights) for candidate, row in zip(listed, rows, strict=True)]
    return sorted(scores, key=lambda s: (s.cost_s, s.transfer_s, s.slowest is not None, s.node))


def greedy_choice(
    candidates: Iterable[Candidate[K]],
    parents: Sequence[tuple[K, float]],
    transfer_s: Callable[[K, K, float], float | None],
    weights: Weights = EVEN,
    task: K | None = None,
) -> Score[K]:
    """The cheapest of `greedy_scores`. Unplaceable (naming `task`) without candidates."""
    scores = greedy_scores(candidates, parents, transfer_s, weights)
    if not scores:
        raise Unplaceable(task, [])
    return scores[0]


def greedy_choice_v4(
    here: K, delays_ms: Mapping[K, float], resources: Mapping[K, Resources], chosen: Collection[K]
) -> K:
    """The greedy rule of Jupiter 4: the least delay_ms + CPU % + memory % seen from node `here`. O(nodes).

    `delays_ms` are the transfers from here of as many bytes as the name of the task is long (the original took that
    for the size of its input), `chosen` the nodes that this node has chosen before: their delay counts 100 s. Nodes
    farther than 15 times the shortest delay are left out, and `here` itself, unless there is no other. Times of tasks
    do not count. Ties by node. Unplaceable without nodes.
    """
    others = [n for n in sorted(delays_ms) if n != here] or sorted(delays_ms)
    if not others:
        raise Unplaceable(None, [])
    delay = {n: V4_CHOSEN_MS if n in chosen else delays_ms[n] for n in others}
    shortest = min(delay.values())
    near = [n for n in others if delay[n] < V4_FARTHEST * shortest] or others

    def cost(n: K) -> float:
        load, cpus, used = resources.get(n, IDLE)
        if not (load >= 0 and cpus > 0 and used >= 0):
            load, cpus, used = IDLE
        return delay[n] + 100 * load / cpus + 100 * used

    return min(near, key=cost)


def random_choice(nodes: Iterable[K], rng: Random, task: K | None = None) -> K:
    """Any of `nodes`, all equally likely; the order they are given in does not matter. Unplaceable without nodes."""
    ordered = sorted(nodes)
    if not ordered:
        raise Unplaceable(task, [])
    return ordered[rng.randrange(len(ordered))]


def eft(timeline: Timeline, arrivals: Iterable[float], exec_s: float, ready_from: float = 0.0) -> tuple[float, float]:
    """(start, finish) of a task in the earliest gap after its last input and `ready_from`; reserves nothing."""
    start = timeline.earliest(max([ready_from, *arrivals]), exec_s)
    return start, start + exec_s


class _Input(NamedTuple, Generic[K]):
    seconds: float
    host: K
    assumed: str  # "" if the seconds were predicted


def _inputs(
    host: K, data: float, candidates: Sequence[Candidate[K]], transfer_s: Callable[[K, K, float], float | None]
) -> list[_Input[K]]:
    """One input, as it would reach each of the candidates."""
    found = [0.0 if c.node == host else transfer_s(host, c.node, data) for c in candidates]
    worst = max((s for s in found if s is not None and isfinite(s)), default=0.0)
    assumption = f"link from {host} not measured: taken as the slowest known, {worst:.6g} s"
    return [_Input(worst, host, assumption) if s is None or isnan(s) else _Input(s, host, "") for s in found]


def _score(candidate: Candidate[K], inputs: Sequence[_Input[K]], usual_s: float, weights: Weights) -> Score[K]:
    exec_s, assumed = candidate.exec_s, [i.assumed for i in inputs if i.assumed]
    if exec_s is None or isnan(exec_s):
        exec_s = usual_s
        assumed.append(f"time here not measured: taken as the mean of the others, {usual_s:.6g} s")
    load, cpus, used = candidate.resources
    if not (load >= 0 and cpus > 0 and used >= 0):
        load, cpus, used = IDLE
        candidate = candidate._replace(resources=IDLE)
        assumed.append("resources not known: taken as idle")
    transfer, slowest = 0.0, None
    for seconds, host, _ in inputs:
        if host != candidate.node and (slowest is None or seconds > transfer):
            transfer, slowest = seconds, host
    compute = exec_s * (1 + (load + candidate.committed) / cpus)
    memory = exec_s * max(0.0, used - MEMORY_HIGH_WATER) / (1 - MEMORY_HIGH_WATER)
    parts = zip(weights, (transfer, compute, memory), strict=True)
    cost = sum((weight * seconds for weight, seconds in parts if weight), 0.0)  # 0 * inf would be no number
    return Score(cost, candidate.node, transfer, compute, memory, exec_s, candidate, slowest, tuple(assumed))
