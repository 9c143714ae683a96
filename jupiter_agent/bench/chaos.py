"""`jupiter bench chaos`: jobs under faults: nothing lost, doubled, wrong or left behind.

jupiter bench chaos                        2 seeds with real processes, 100 in virtual time
jupiter bench chaos --seeds 20             20 real ones, 300 virtual
jupiter bench chaos --seed 7               one real seed, told as it goes
jupiter bench chaos --virtual --seeds N    virtual time only
jupiter bench chaos --virtual --seed 7     one of them, with its story on stderr, shrunk when it fails
jupiter bench chaos --mutations            each rule of the executor switched off: how many seeds until that is noticed
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from jupiter_agent.bench import Figure
from jupiter_agent.bench.chaos_real import Verdict, play_real
from jupiter_agent.sim.chaos.mutations import MUTATIONS, Mutation
from jupiter_agent.sim.chaos.run import Outcome, play_seed, shrink
from jupiter_agent.sim.chaos.scenario import draw

MORTAL_HOME = True
"""Whether homes are lost for good, too."""

REAL_SEEDS, SEEDS, MANY_SEEDS = 2, 100, 300
MUTANT_SEEDS, ENOUGH = 1500, 3


def run(
    seed: int | None = None, seeds: int | None = None, virtual: bool = False, mutations: bool = False
) -> list[Figure]:
    """Without options: what CI runs, at most 5 min of two cores."""
    if mutations:
        return [caught(mutation) for mutation in MUTATIONS]
    if virtual:
        return simulated(range(seeds or SEEDS)) if seed is None else told(seed)
    if seed is not None:
        return real([play_real(seed)])
    figures = real([play_real(number) for number in range(seeds or REAL_SEEDS)])
    return [*figures, *simulated(range(MANY_SEEDS if seeds else SEEDS))]


def real(verdicts: list[Verdict]) -> list[Figure]:
    for verdict in verdicts:
        for problem in verdict.bad:
            _say(f"real seed {verdict.seed}: {problem}")
    return [
        Figure("real seeds", len(verdicts), "seeds"),
        Figure("real: items", sum(verdict.items for verdict in verdicts), "items"),
        Figure("real: kill -9", sum(verdict.kills for verdict in verdicts), "kills"),
        Figure("real: items lost", sum(len(verdict.lost) for verdict in verdicts), "items", 0),
        Figure("real: items twice", sum(len(verdict.twice) for verdict in verdicts), "items", 0),
        Figure("real: items wrong", sum(len(verdict.wrong) for verdict in verdicts), "items", 0),
        Figure("real: worker killed, next item elsewhere", max(v.worker_s for v in verdicts), "s after detection", 5),
        Figure("real: home killed, results flow again", max(v.home_s for v in verdicts), "s after detection", 10),
        Figure("real: longest seed", max(verdict.seconds for verdict in verdicts), "s", 90),
    ]


def simulated(seeds: Iterable[int]) -> list[Figure]:
    done = list(_outcomes(seeds))
    for outcome in done:
        if outcome.failure:
            _say(f"seed {outcome.seed}: {outcome.failure}; replay: jupiter bench chaos --virtual --seed {outcome.seed}")
    items, runs = sum(outcome.items for outcome in done), sum(outcome.runs for outcome in done)
    return [
        Figure("virtual seeds", len(done), "seeds"),
        Figure("virtual: items", items, "items"),
        Figure("virtual: runs per item", runs / max(1, items), "runs"),
        Figure("virtual: seeds that failed", sum(bool(outcome.failure) for outcome in done), "seeds", 0),
    ]


def told(seed: int) -> list[Figure]:
    """One seed with its story; a failing one is shrunk first."""
    outcome = play_seed(seed, MORTAL_HOME)
    if outcome.failure:
        outcome = shrink(draw(seed), MORTAL_HOME)
    _say("\n".join([outcome.story, *outcome.log, outcome.failure or "nothing lost, doubled, wrong or left behind"]))
    return [Figure("virtual: seeds that failed", bool(outcome.failure), "seeds", 0)]


def caught(mutation: Mutation) -> Figure:
    """Seeds played until a few noticed that the rule is off."""
    noticed, count = [], 0
    for outcome in _outcomes(range(MUTANT_SEEDS), mutation.name):
        count += 1
        if outcome.failure:
            noticed.append(f"{outcome.seed} ({outcome.kind})")
        if len(noticed) == ENOUGH:
            break
    _say(f"{mutation.name}: {len(noticed)} of {count}: {', '.join(noticed)}")
    return Figure(f"off: {mutation.rule}: caught by", len(noticed), f"of {count} seeds", 1, at_least=True)


def _outcomes(seeds: Iterable[int], mutation: str = "") -> Iterator[Outcome]:
    """On all cores, in the order of the seeds."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("forkserver")) as pool:
        yield from pool.map(partial(_play, mutation), seeds, chunksize=1)
        pool.shutdown(cancel_futures=True)


def _play(mutation: str, seed: int) -> Outcome:
    found = [each for each in MUTATIONS if each.name == mutation]
    if not found:
        return play_seed(seed, MORTAL_HOME)
    with found[0].applied():
        outcome = play_seed(seed, MORTAL_HOME)
    if outcome.failure and play_seed(seed, MORTAL_HOME).failure:
        outcome.failure = ""  # it fails without the mutation, too
    return outcome


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
