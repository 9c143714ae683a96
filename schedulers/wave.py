"""WAVE: distributed mapping, simulated. Every decision is one that a live node could take, by the same code.

Home fixes the entry tasks. Every other task is decided by the node hosting its controller (`local.controllers`), in
topological order, by `local.random_choice` or `local.greedy_scores`. What a deciding node knows: the tasks it placed,
the tasks placed on it, where the parents of the task are, the links from there, and the times of this task.
A WAVE mapping has no plan of start times; the times are those of `replay`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

from schedulers import local
from schedulers.local import EVEN, Candidate, Resources, Score, Weights
from schedulers.problem import Problem
from schedulers.replay import replay
from schedulers.solution import Schedule

Places = Mapping[int, int]  # task -> node, as far as somebody knows


def wave_random(p: Problem, *, seed: int = 0, contention: bool = False) -> Schedule:
    """Every task but the entries on a node drawn with `seed`, profiles ignored. O(T log T + E)."""
    rng = Random(seed)
    places = decide_all(p, lambda t, known: local.random_choice(p.nodes_for(t), rng))
    return replay(p, places, contention=contention)


def wave_greedy(
    p: Problem,
    *,
    seed: int = 0,
    contention: bool = False,
    weights: Weights = EVEN,
    resources: Sequence[Resources] | None = None,
) -> Schedule:
    """Every task where the deciding node predicts the least weighted sum of transfer, computing and memory pressure.

    `resources` [N] are what the nodes say about themselves, idle machines with one CPU by default. O(E N + T N log N);
    nothing is drawn, so `seed` changes nothing. ValueError if `resources` has another length than N.
    """
    nodes = _resources(p, resources)
    weights = Weights(*weights)
    places = decide_all(p, lambda t, known: greedy_decision(p, t, known, nodes, weights)[0].node)
    return replay(p, places, contention=contention)


def wave_greedy_v4(
    p: Problem,
    *,
    seed: int = 0,
    contention: bool = False,
    resources: Sequence[Resources] | None = None,
    names: Sequence[str] | None = None,
) -> Schedule:
    """The greedy rule as Jupiter 4 had it (`local.greedy_choice_v4`), faults included: for comparison. O(T N log N).

    `names` [T], by default task0, task1...: the length of the name stands for the size of the input. Nothing is drawn.
    Differs: the original knew no constraints, and its entry tasks were placed by hand.
    """
    nodes = dict(enumerate(_resources(p, resources)))
    called = [f"task{t}" for t in range(p.n_tasks)] if names is None else list(names)
    if len(called) != p.n_tasks:
        raise ValueError(f"names are of {len(called)} tasks, the problem has {p.n_tasks}")
    control = local.controllers(range(p.n_tasks), {t: [u for u, _ in p.parents[t]] for t in p.order})
    chosen: dict[int, set[int]] = {n: set() for n in nodes}

    def choose(t: int, known: Places) -> int:
        controller = control[t]
        assert controller is not None  # entry tasks are not asked for
        here = known[controller]
        row = p.transfer_row(here, len(called[t]))
        node = local.greedy_choice_v4(here, {n: 1000 * float(row[n]) for n in p.nodes_for(t)}, nodes, chosen[here])
        chosen[here].add(node)
        return node

    return replay(p, decide_all(p, choose), contention=contention)


def _resources(p: Problem, given: Sequence[Resources] | None) -> list[Resources]:
    """[N] what the nodes say about themselves; idle machines where nothing is given."""
    nodes = [Resources()] * p.n_nodes if given is None else [Resources(*r) for r in given]
    if len(nodes) != p.n_nodes:
        raise ValueError(f"resources are of {len(nodes)} nodes, the problem has {p.n_nodes}")
    return nodes


def greedy_decision(
    p: Problem, t: int, known: Places, resources: Sequence[Resources], weights: Weights
) -> list[Score[int]]:
    """The scores of task `t` by a node that knows the places in `known`, cheapest first.

    Reads from `p` only row `t` of the times, the links from the hosts of the parents, the edges and the constraints.
    A node that is not available yet shows that backlog as load; tasks that take no time, as sources do, are none.
    """
    committed = Counter(node for u, node in known.items() if p.times[u].any())
    times = p.times[t].tolist()
    candidates = []
    for n in p.nodes_for(t):
        load, cpus, used = resources[n]
        if times[n] > 0:
            load += float(p.ready_from[n]) * cpus / times[n]
        candidates.append(Candidate(n, times[n], Resources(load, cpus, used), committed[n]))
    parents = [(known[u], data) for u, data in p.parents[t] if u in known]
    rows = {(host, data): p.transfer_row(host, data).tolist() for host, data in parents}
    return local.greedy_scores(candidates, parents, lambda host, n, data: rows[host, data][n], weights)


def decide_all(p: Problem, choose: Callable[[int, Places], int]) -> list[int]:
    """(T,) places. `choose(task, known places)` answers for the node hosting the controller of the task.

    Entry tasks go where they are pinned, the others one after another to node 0, 1, 2... of those that may run them.
    """
    p.require_placeable()
    control = local.controllers(range(p.n_tasks), {t: [u for u, _ in p.parents[t]] for t in p.order})
    places = [-1] * p.n_tasks
    known: list[dict[int, int]] = [{} for _ in range(p.n_nodes)]  # what each node knows
    entries = 0
    for t, controller in control.items():
        if controller is None:
            nodes = p.nodes_for(t)
            places[t] = nodes[entries % len(nodes)]
            entries += t not in (p.pinned or {})
        else:
            decider = places[controller]
            known[decider].update((u, places[u]) for u, _ in p.parents[t])
            places[t] = choose(t, known[decider])
            known[decider][t] = places[t]
        known[places[t]][t] = places[t]
    return places
