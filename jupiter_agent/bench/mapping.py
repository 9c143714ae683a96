"""`jupiter bench mapping`: the schedulers against published examples, against HEFT, and against SAGA's HEFT.

All times are CPU seconds, so that neighbours on the machine do not count. All instances are drawn from fixed seeds:
the ratios are the same on every machine, but those of the portfolio, which searches for a second of CPU each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from jupiter_agent.bench import Figure
from jupiter_agent.bench.saga import beside_saga
from jupiter_agent.errors import UsageError

if TYPE_CHECKING:
    from schedulers import Problem

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"
REPEATS = 15


def run(short: bool = False, live: bool = False, nodes: int = 106, net: str = "lan") -> list[Figure]:
    """All rows; about 4 minutes of CPU, most of it the portfolio. `short`: fewer instances, no SAGA, 20 s.

    `live`: real agents instead, `nodes` of them on loopback, or those of `net` wan8.
    """
    if live:
        return agents(nodes, net)
    each = 1 if short else 9
    figures = published() + speed()
    if not short:
        figures.append(beside_saga(cpu_s))
    figures += portfolio(18 if short else 150, 0.2 if short else 1.0)
    return figures + contention(1 if short else 4) + auction(each) + streams(each)


def agents(nodes: int, net: str) -> list[Figure]:
    """Mappings by real agents. UsageError for another network."""
    from jupiter_agent.bench import mapping_live, mapping_wan

    if net not in ("lan", "wan8"):
        raise UsageError(f"no net {net!r}", "one of: lan, wan8")
    return mapping_wan.run() if net == "wan8" else mapping_live.run(nodes)


def instances(each: int, pin: bool = False) -> Iterator[Problem]:
    """36 shapes (tasks x nodes x communication) times `each` seeds: layered, dummy and fork-join DAGs in turn."""
    from schedulers.generate import dummy, fork_join, layered, pinned

    seed = 0
    for tasks in (12, 30, 60, 100):
        for nodes in (8, 10, 30):
            for ccr in (0.2, 1.0, 5.0):
                for _ in range(each):
                    kind = seed % 3
                    if kind == 0:
                        p = layered(tasks, nodes, seed, ccr)
                    elif kind == 1:
                        p = dummy(tasks, nodes, seed, ccr)
                    else:
                        p = fork_join(tasks // 6, max(1, tasks // (tasks // 6 + 1)), nodes, seed, ccr)
                    yield pinned(p, seed % nodes) if pin else p
                    seed += 1


def published() -> list[Figure]:
    """The examples of the papers, out of the source tree, where the citations stand too."""
    import numpy as np

    from schedulers import Problem, schedule

    figures = []
    for name in ("heft-2002", "peft-2014"):
        file = VECTORS / f"{name}.json"
        if not file.exists():
            figures.append(Figure(f"{name}: {file} IS NOT HERE", float("inf"), "", 0.0))
            continue
        table = json.loads(file.read_text())
        p = Problem(table["times"], table["edges"], np.zeros((3, 3)), 1 - np.eye(3))
        for mapper in ("heft", "cpop", "peft"):
            wanted = table.get(f"{mapper}_makespan")
            if wanted is not None:
                off = abs(schedule(mapper, p).makespan - wanted)
                figures.append(Figure(f"example of {name}: {mapper} off the published {wanted}", off, "", 0.0))
    return figures


def cpu_s(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """The least CPU time of some calls."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def speed() -> list[Figure]:
    """HEFT on layered DAGs, and how it grows."""
    from schedulers import schedule
    from schedulers.generate import layered

    def heft_s(tasks: int, nodes: int) -> float:
        p = layered(tasks, nodes, 1)
        return cpu_s(lambda: schedule("heft", p))

    base = heft_s(200, 106)
    large = heft_s(1000, 500)
    return [
        Figure("heft, 106 nodes, 200 tasks, CPU", 1000 * base, "ms", 8.0),
        Figure("heft, 500 nodes, 1000 tasks, CPU", 1000 * large, "ms", 150.0),
        Figure("heft, 212 nodes instead of 106", heft_s(200, 212) / base, "x", 2.3),
        Figure("heft, 400 tasks instead of 200", heft_s(400, 106) / base, "x", 2.3),
        Figure("heft, 1000 nodes instead of 500, 1000 tasks", heft_s(1000, 1000) / large, "x", 2.3),
        Figure("heft, 2000 tasks instead of 1000, 500 nodes", heft_s(2000, 500) / large, "x", 2.3),
    ]


def portfolio(count: int, budget_s: float) -> list[Figure]:
    """Makespans over those of HEFT."""
    from statistics import mean

    from schedulers import schedule
    from schedulers.portfolio import variants

    ratios, lists = [], []
    for seed, p in enumerate(_spread(list(instances(5)), count)):
        heft = schedule("heft", p).makespan
        searched = schedule("portfolio", p, seed=seed, budget_s=budget_s, clock=time.process_time)
        ratios.append(searched.makespan / heft)
        lists.append(min(each.makespan for each in variants(p, False)) / heft)
    what = f"{len(ratios)} instances"
    return [
        Figure(f"portfolio / heft, {what}, {budget_s:g} s of CPU each, mean", mean(ratios), "x", 0.95),
        Figure(f"the best list schedule alone / heft, {what}, mean", mean(lists), "x"),
    ]


def contention(each: int) -> list[Figure]:
    """Plans that charge network cards and plans that do not, both replayed with one-port cards; layered DAGs."""
    from statistics import mean

    from schedulers import schedule
    from schedulers.generate import layered
    from schedulers.replay import replay

    def gain(mapper: str, p: Problem, seed: int) -> float:
        plain, aware = (
            replay(p, schedule(mapper, p, seed=seed, contention=charged).node, contention=True).makespan
            for charged in (False, True)
        )
        return aware / plain

    gains: dict[str, list[float]] = {"heft": [], "cpop": [], "peft": [], "wave-auction": []}
    shapes = list(product((30, 100, 200), (10, 30, 106), (0.2, 1.0, 5.0))) * each
    for seed, (tasks, nodes, ccr) in enumerate(shapes):
        p = layered(tasks, nodes, seed, ccr)
        for mapper, ratios in gains.items():
            if mapper == "heft" or seed % 4 == 0:
                ratios.append(gain(mapper, p, seed))
    what = "with contention / without, one-port replay,"
    return [
        Figure(f"{m} {what} {len(r)} layered DAGs, mean", mean(r), "x", 0.8 if m == "heft" else None)
        for m, r in gains.items()
    ]


def auction(each: int) -> list[Figure]:
    """The auction with local knowledge against HEFT, which knows all; entry tasks pinned for both."""
    from schedulers import schedule
    from schedulers.auction import simulate
    from schedulers.generate import drifted
    from schedulers.replay import replay

    planned: list[float] = []
    replayed: list[float] = []
    fresh: list[float] = []
    stale: list[float] = []
    rounds: list[float] = []
    over = -float("inf")
    for seed, p in enumerate(instances(each, pin=True)):
        heft, outcome = schedule("heft", p), simulate(p, seed=seed)
        planned.append(outcome.schedule.makespan / heft.makespan)
        replayed.append(replay(p, outcome.schedule.node).makespan / replay(p, heft.node).makespan)
        promised = [2 * (len(parents) + 10) + 4 for parents in p.parents]
        over = max(over, *(m - most for m, most in zip(outcome.messages, promised, strict=True)))
        rounds.append(outcome.rounds / p.n_tasks)
        now = drifted(p, 0.5, seed)
        oracle = schedule("heft", now).makespan
        fresh.append(simulate(now, seed=seed, gossip=p).schedule.makespan / oracle)
        stale.append(replay(now, heft.node).makespan / oracle)
    what = f"{len(planned)} instances"
    return [
        Figure(f"wave-auction / heft, planned, {what}, median", _share(planned, 0.5), "x", 1.01),
        Figure(f"wave-auction / heft, planned, {what}, p95", _share(planned, 0.95), "x", 1.06),
        Figure(f"wave-auction / heft, replayed, {what}, median", _share(replayed, 0.5), "x", 1.01),
        Figure(f"wave-auction / heft, replayed, {what}, p95", _share(replayed, 0.95), "x", 1.08),
        Figure("wave-auction, messages per task above 2 (parents + 10) + 4, most", over, "messages", 0.0),
        Figure("wave-auction, rounds per task, median", _share(rounds, 0.5), ""),
        Figure(
            "speeds drifted by sigma 0.5 since: wave-auction / heft that knows, median", _share(fresh, 0.5), "x", 1.05
        ),
        Figure("speeds drifted by sigma 0.5 since: the old plan of heft / the same, median", _share(stale, 0.5), "x"),
        *_others(each),
    ]


def _others(each: int) -> list[Figure]:
    """For comparison: the WAVE rules without bids, replayed."""
    from schedulers import schedule
    from schedulers.replay import replay

    rules = ("wave-greedy", "wave-greedy-v4", "wave-random")
    ratios: dict[str, list[float]] = {rule: [] for rule in rules}
    for seed, p in enumerate(instances(each, pin=True)):
        heft = replay(p, schedule("heft", p).node).makespan
        for rule in rules:
            ratios[rule].append(schedule(rule, p, seed=seed).makespan / heft)
    return [Figure(f"{rule} / heft, replayed, median", _share(ratios[rule], 0.5), "x") for rule in rules]


def streams(each: int) -> list[Figure]:
    """Throughput of tp-heft over that of HEFT's mapping, by the period; and makespan it costs."""
    from schedulers import schedule
    from schedulers.stream import stream
    from schedulers.throughput import period

    links: list[float] = []
    cards: list[float] = []
    seen: list[float] = []
    cost: list[float] = []
    for k, p in enumerate(instances(max(1, each // 3))):
        pairs = [(schedule("heft", p, contention=c), schedule("tp-heft", p, contention=c)) for c in (False, True)]
        for charged, gains in ((False, links), (True, cards)):
            heft, fast = pairs[charged]
            gains.append(period(p, heft.node, charged) / period(p, fast.node, charged))
        cost.append(pairs[0][1].makespan / pairs[0][0].makespan)
        if k % 4 == 0:
            heft, fast = pairs[True]
            seen.append(stream(p, fast.node, items=30).throughput / stream(p, heft.node, items=30).throughput)
    what = f"{len(links)} instances"
    return [
        Figure(f"tp-heft / heft, throughput, {what}, median", _share(links, 0.5), "x", 1.6, at_least=True),
        Figure(f"the same, network cards charged, {what}, median", _share(cards, 0.5), "x", 1.6, at_least=True),
        Figure(f"the same, 30 items run through, {len(seen)} instances, median", _share(seen, 0.5), "x"),
        Figure("tp-heft / heft, makespan of one item, median", _share(cost, 0.5), "x"),
    ]


def _share(values: list[float], share: float) -> float:
    """The quantile."""
    import numpy as np

    return float(np.quantile(values, share))


def _spread(problems: list[Problem], count: int) -> list[Problem]:
    """`count` of them, evenly."""
    return [problems[k * len(problems) // count] for k in range(min(count, len(problems)))]
