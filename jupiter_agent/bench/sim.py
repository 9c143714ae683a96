"""`jupiter bench sim`: membership in virtual time: storms of faults, planted bugs, figures of many members.

jupiter bench sim                  1,000 storms, and the figures of 106 members
jupiter bench sim --seeds 100      so many storms only
jupiter bench sim --seed 17        one storm, with its story on stderr: how a failing seed is replayed
jupiter bench sim --n 1000         the figures for so many members only
jupiter bench sim --mutations      whether the storms catch each planted bug within 200 seeds
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median

from jupiter_agent.bench import Figure
from jupiter_agent.sim import figures as sf
from jupiter_agent.sim.mutants import MUTANTS, planted
from jupiter_agent.sim.plan import OVERLAPPING, plan
from jupiter_agent.sim.storm import AGREE_S, IDLE_BYTES_PER_S, Outcome, storm

SEEDS, MUTANT_SEEDS = 1000, 200
MANY = 500
"""From here on the bounds are those of a thousand members."""


def run(
    seeds: int | None = None, seed: int | None = None, n: int | None = None, mutations: bool = False
) -> list[Figure]:
    """Without options: 1,000 storms and 106 members, about 15 min of two cores."""
    if seed is not None:
        return replayed(seed)
    if mutations:
        return [caught(name, MUTANT_SEEDS) for name in MUTANTS]
    if n is not None:
        return members(n)
    return storms(seeds or SEEDS) if seeds else [*storms(SEEDS), *members(106)]


# --- storms ------------------------------------------------------------------------------------------------------


def outcomes(seeds: Iterable[int], told: Callable[[int], Outcome] = storm) -> Iterator[Outcome]:
    """The storms of these seeds, in their order, on all cores."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("forkserver")) as pool:
        yield from pool.map(told, seeds, chunksize=2)


def storms(count: int) -> list[Figure]:
    """That many seeds from 0 on; each that breaks an invariant is told with the command that replays it."""
    done, failed = [], 0
    for outcome in outcomes(range(count)):
        done.append(outcome)
        if outcome.broken:
            failed += 1
            _say(failure(outcome))
    whole = [outcome for outcome in done if not outcome.broken]
    return [
        Figure(f"storms of {count} seeds, 3 to 40 members, that break an invariant", failed, "seeds", 0),
        Figure("faults that overlap, least", min(o.overlap for o in done), "faults", OVERLAPPING, at_least=True),
        Figure("virtual time of a storm, least", min((o.virtual_s for o in whole), default=0), "s", 120, at_least=True),
        Figure("members, most", max(o.size for o in done), "members"),
        Figure("after the last fault, until all agree, median", median(o.agreed_s for o in whole), "s"),
        Figure("the same, worst", max(o.agreed_s for o in whole), "s", AGREE_S),
        Figure("sent in quiet by the busiest", max(o.bytes_per_s for o in whole), "B/s", IDLE_BYTES_PER_S),
    ]


def failure(outcome: Outcome) -> str:
    what = f"seed {outcome.seed} ({outcome.size} members, {outcome.profile}): {outcome.broken}"
    return f"{what}\n  replay: {replay(outcome.seed)}"


def replay(seed: int) -> str:
    """The one command that shows it again."""
    return f"scripts/bench sim --seed {seed}"


def replayed(seed: int) -> list[Figure]:
    """One storm, its story and its end."""
    _say(plan(seed).text())
    outcome = storm(seed)
    _say(f"{outcome.broken or 'all invariants held'} (digest {outcome.digest})")
    return [
        Figure(f"storm {seed} breaks an invariant", float(bool(outcome.broken)), "", 0),
        Figure("members", outcome.size, "members"),
        Figure("after the last fault, until all agree", outcome.agreed_s, "s", AGREE_S),
        Figure("sent in quiet by the busiest", outcome.bytes_per_s, "B/s", IDLE_BYTES_PER_S),
    ]


# --- planted bugs ------------------------------------------------------------------------------------------------


def mutated(name: str, seed: int) -> Outcome:
    """The storm of a seed with the named bug in the machine."""
    with planted(name):
        return storm(seed)


def caught(name: str, seeds: int) -> Figure:
    """How many seeds it takes until the bug shows where the machine as it is stays whole; infinite if it never does."""
    for outcome in outcomes(range(seeds), partial(mutated, name)):
        if outcome.broken and not storm(outcome.seed).broken:
            _say(f"{name}: {failure(outcome)}")
            return Figure(f"planted bug '{name}': caught at seed number", outcome.seed + 1, "seeds", seeds)
    return Figure(f"planted bug '{name}': caught at seed number", float("inf"), "seeds", seeds)


# --- many members ------------------------------------------------------------------------------------------------


def members(size: int) -> list[Figure]:
    """What the table promises of so many members, in virtual time."""
    many = size >= MANY
    world, formed_s = sf.formed(size)
    of = f"{size} simulated members:"
    told = [
        Figure(f"{of} all see all after the start", formed_s, "s", 30),
        Figure(f"{of} profile change seen everywhere", sf.published_everywhere_s(world, "n2"), "s", 3 if many else 2.5),
        Figure(f"{of} killed, dead everywhere", sf.dead_everywhere_s(world, "n3", "closed"), "s", 3 if many else 4),
        Figure(f"{of} silent, dead everywhere", sf.dead_everywhere_s(world, "n5", "silent"), "s", 16 if many else 15),
        Figure(f"{of} last joiner seen by all", sf.joiner_everywhere_s(world, "n7"), "s", 1),
    ]
    for figure in told:
        _say(f"{figure.name}: {figure.value:.4g} {figure.unit}")
    if many:
        return told
    return [
        *told,
        Figure(f"{of} halves apart for 60 s, healed, one full view", sf.healed_s(world, 60.0), "s", 5),
        Figure(f"{of} 10 % loss for 10 min, lan: false deaths", sf.false_deaths(size, "lan", 0.1, 600.0), "deaths", 0),
        Figure(
            f"{of} 30 % loss for 10 min, manet: false deaths", sf.false_deaths(size, "manet", 0.3, 600.0), "deaths", 0
        ),
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
