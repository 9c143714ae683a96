from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_problems import problems

from schedulers import Problem, Schedule, names, schedule
from schedulers.errors import Infeasible
from schedulers.exhaustive import optimum
from schedulers.local import controllers
from schedulers.ranks import by_rank, upward_rank
from schedulers.replay import replay
from schedulers.stream import Change, stream
from schedulers.throughput import period
from schedulers.timeline import Timeline

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in names()),
    ("heft", {"insertion": False}),
    ("heft", {"rank_comm": False}),
    ("heft-balanced", {"cap": 1}),
]


@settings(deadline=None, max_examples=60)
@given(problems(), st.sampled_from(OPTIONS), st.booleans(), st.integers(0, 3))
def test_every_schedule_of_every_mapper_passes_the_check(
    p: Problem, mapper: tuple[str, dict[str, Any]], contention: bool, seed: int
) -> None:
    name, options = mapper
    s = schedule(name, p, seed=seed, contention=contention, **options)
    s.check(p)
    again = schedule(name, p, seed=seed, contention=contention, **options)
    for field in ("node", "start", "finish"):
        assert np.array_equal(getattr(s, field), getattr(again, field))


@settings(deadline=None, max_examples=60)
@given(problems(tasks=6), st.data())
def test_the_check_finds_a_task_that_was_moved_in_time_or_space(p: Problem, data: st.DataObject) -> None:
    """The dumb twin of the check says whether the changed schedule is one."""
    s = schedule("heft", p)
    node, start = s.node.copy(), s.start.copy()
    t = data.draw(st.integers(0, p.n_tasks - 1))
    node[t] = data.draw(st.integers(0, p.n_nodes - 1))
    start[t] += data.draw(st.integers(-6, 6))
    changed = Schedule(node, start, start + p.times[np.arange(p.n_tasks), node])
    if plainly_feasible(changed, p):
        changed.check(p)
    else:
        with pytest.raises(Infeasible):
            changed.check(p)


def plainly_feasible(s: Schedule, p: Problem) -> bool:
    node, start, finish = s.node.tolist(), s.start.tolist(), s.finish.tolist()
    tasks = range(p.n_tasks)
    placed = all(node[t] in p.nodes_for(t) and start[t] >= p.ready_from[node[t]] for t in tasks)
    fed = all(start[v] >= finish[u] + p.transfer(node[u], node[v], d) for u, v, d in p.edges)
    alone = all(finish[a] <= start[b] or finish[b] <= start[a] for a in tasks for b in range(a) if node[a] == node[b])
    return placed and fed and alone


@settings(deadline=None, max_examples=60)
@given(problems(), st.booleans())
def test_heft_with_its_bounds_decides_like_heft_that_tries_every_node(p: Problem, contention: bool) -> None:
    s = schedule("heft", p, contention=contention)
    node, start = plain_heft(p, contention)
    assert s.node.tolist() == node
    assert s.start.tolist() == start


def plain_heft(p: Problem, contention: bool) -> tuple[list[int], list[float]]:
    """The slow twin: one node, one parent, one card at a time."""
    node, start, finish = [-1] * p.n_tasks, [0.0] * p.n_tasks, [0.0] * p.n_tasks
    lines = [Timeline() for _ in range(p.n_nodes)]
    sends, receives = [0.0] * p.n_nodes, [0.0] * p.n_nodes
    for t in by_rank(p, upward_rank(p)):
        trials = []
        for n in p.nodes_for(t):
            out, into, ready = sends.copy(), receives.copy(), float(p.ready_from[n])
            for u, data in sorted(p.parents[t], key=lambda parent: finish[parent[0]]):
                host = node[u]
                arrival = finish[u] + p.transfer(host, n, data)
                if contention and host != n and data:
                    out[host] = into[n] = max(finish[u], out[host], into[n]) + p.busy_row(host, data)[n]
                    arrival = out[host] + p.latency[host, n]
                ready = max(ready, float(arrival))
            begin = lines[n].earliest(ready, float(p.times[t, n]))
            trials.append((begin + float(p.times[t, n]), n, begin, out, into))
        finish[t], node[t], start[t], sends, receives = min(trials, key=lambda trial: trial[:2])
        lines[node[t]].insert(start[t], finish[t])
    return node, start


@settings(deadline=None, max_examples=25)
@given(problems(tasks=5, nodes=3))
def test_no_mapper_beats_the_optimum(p: Problem) -> None:
    best = optimum(p)
    best.check(p)
    for name in names():
        assert schedule(name, p).makespan >= best.makespan
    assert replay(p, best.node, priority=(-best.start).tolist()).makespan >= best.makespan


@settings(deadline=None, max_examples=40)
@given(problems())
def test_network_cards_change_nothing_where_everything_is_on_one_node(p: Problem) -> None:
    everything_on_one = [0] * p.n_tasks
    free, charged = replay(p, everything_on_one), replay(p, everything_on_one, contention=True)
    assert charged.makespan == free.makespan
    assert free.makespan <= p.ready_from[0] + p.times[:, 0].sum()


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(1, 4), st.integers(0, 5), st.data())
def test_a_stream_keeps_every_rule_that_can_be_read_off_its_end(
    p: Problem, items: int, interval: int, data: st.DataObject
) -> None:
    node = [data.draw(st.sampled_from(p.nodes_for(t))) for t in range(p.n_tasks)]
    one = stream(p, node, contention=False)
    assert one.makespan == replay(p, node).makespan
    seen = stream(p, node, items=items, interval_s=interval)
    assert seen.makespan >= one.makespan
    assert (seen.latency >= 0).all()
    assert (seen.use() <= 1 + 1e-9).all()
    assert seen.makespan >= items * period(p, node, contention=True) * (1 - 1e-9)
    assert np.array_equal(
        stream(p, node, items=items, interval_s=interval, changes=[Change(3, p)]).finished, seen.finished
    )


@settings(deadline=None, max_examples=30)
@given(problems())
def test_a_problem_comes_back_from_networkx_as_it_was(p: Problem) -> None:
    again = Problem.from_networkx(*p.to_networkx())
    for name in ("times", "latency", "inv_rate", "ready_from"):
        assert np.array_equal(getattr(again, name), getattr(p, name))
    assert sorted(again.edges) == sorted(p.edges)
    assert again.pinned == p.pinned
    assert [again.nodes_for(t) for t in range(p.n_tasks)] == [p.nodes_for(t) for t in range(p.n_tasks)]
    if p.n_nodes > 1 and p.quadratic is not None:
        assert again.quadratic is not None
        assert np.array_equal(again.quadratic, p.quadratic)
    assert schedule("heft", again).node.tolist() == schedule("heft", p).node.tolist()


@settings(deadline=None, max_examples=60)
@given(problems(constraints=False), st.randoms(use_true_random=False))
def test_a_controller_is_a_parent_that_is_decided_before_however_parents_are_listed(p: Problem, rng: Random) -> None:
    parents = {t: [u for u, _ in p.parents[t]] for t in range(p.n_tasks)}
    chosen = controllers(range(p.n_tasks), parents)
    decided: list[int] = []
    for t, controller in chosen.items():
        busy = [u for u in sorted(parents[t]) if u in [chosen[d] for d in decided]]
        assert controller == next(iter(busy or sorted(parents[t])), None)
        assert set(parents[t]) <= set(decided)
        decided.append(t)
    assert decided == p.order
    shuffled = {t: rng.sample(above, len(above)) for t, above in parents.items()}
    assert controllers(range(p.n_tasks), shuffled) == chosen


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=12))
def test_the_gap_search_finds_the_first_start_that_overlaps_nothing(requests: list[tuple[int, int]]) -> None:
    line = Timeline()
    busy: list[tuple[float, float]] = []
    for ready, duration in requests:
        begin = line.earliest(ready, duration)
        starts = [float(ready), *(f for _, f in busy if f >= ready)]
        fits = [s for s in starts if all(f <= s or s + duration <= b for b, f in busy)]
        assert begin == min(fits)
        line.insert(begin, begin + duration)
        busy.append((begin, begin + duration))
