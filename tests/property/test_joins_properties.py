"""Merges are lattices, intervals are sets, and two attempts of one ancestor never meet: against brute force."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jupiter_agent.core.dag import Dag
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.intervals import FinishedSet, IntervalSet
from jupiter_agent.core.job import Job
from jupiter_agent.core.join import JoinBuffer, key_of
from jupiter_agent.core.messages.jobs import HomeVersion, JobSpec, Parcel, Register, SignedSpec, TaskSpec

VERSION = HomeVersion(1, "home", 1)

# --- intervals -----------------------------------------------------------------------------------------------------

spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda s: (s[0], s[0] + s[1])), max_size=8)
versions = st.sampled_from([HomeVersion(1, "a", 1), HomeVersion(1, "a", 2), HomeVersion(2, "b", 1)])
finished = st.lists(st.tuples(versions, spans), max_size=4)


@settings(deadline=None, max_examples=150)
@given(spans)
def test_an_interval_set_is_a_set(given_spans):
    numbers, twin = IntervalSet(), set()
    for lo, hi in given_spans:
        numbers.add(lo, hi)
        twin |= set(range(lo, hi + 1))
    assert [n for n in range(-1, 40) if n in numbers] == sorted(twin)
    assert all(a <= b for a, b in numbers.spans)
    assert all(b + 1 < c for (_, b), (c, _) in zip(numbers.spans, numbers.spans[1:], strict=False)), "maximal, sorted"


def merged(*parts: list[Any]) -> list[Any]:
    whole = FinishedSet()
    for part in parts:
        whole.merge(part)
    return [(home, numbers) for home, numbers in whole.to_intervals() if numbers]


@settings(deadline=None, max_examples=100)
@given(finished, finished, finished)
def test_merging_finished_sets_commutes_associates_and_repeats(a, b, c):
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(a, a) == merged(a)


# --- registers -----------------------------------------------------------------------------------------------------

TASKS = ["a", "b", "c"]


def fresh_job() -> Job:
    tasks = [TaskSpec("a", children=["b", "c"]), TaskSpec("b", parents=["a"]), TaskSpec("c", parents=["a"])]
    spec = JobSpec("j", "n", "n", b"", 0, tasks, "heft", 1, {}, {}, {}, {}, 0.0)
    return Job(SignedSpec(b"", "", b""), spec, VERSION)


def register(key: tuple[str, int, int, str, int]) -> Register:
    """One version is written once: the node follows from it."""
    task, basis, epoch, writer, boot = key
    return Register(task, f"n{basis}{epoch}{boot}{writer}", basis, epoch, writer, boot)


registers = st.lists(
    st.tuples(
        st.sampled_from(TASKS), st.integers(1, 3), st.integers(1, 3), st.sampled_from("xy"), st.integers(1, 2)
    ).map(register),
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(registers, st.randoms(use_true_random=False), st.integers(1, 4))
def test_registers_give_one_mapping_in_whatever_order_and_portions_they_come(given_registers, rng, portions):
    one, other = fresh_job(), fresh_job()
    one.merge(given_registers)
    shuffled = [*given_registers, *given_registers]
    rng.shuffle(shuffled)
    for i in range(portions):
        other.merge(shuffled[i::portions])
    assert one.registers == other.registers
    assert one.digest() == other.digest()
    highest: dict[str, Register] = {}
    for each in given_registers:
        if each.task not in highest or each.version() > highest[each.task].version():
            highest[each.task] = each
    assert one.registers == highest


@settings(deadline=None, max_examples=100)
@given(registers, st.sampled_from(TASKS), st.integers(1, 3))
def test_a_write_wins_everywhere_that_knew_no_more(given_registers, task, boot):
    writer, other = fresh_job(), fresh_job()
    writer.merge(given_registers)
    other.merge(given_registers)
    mine = writer.write(task, "chosen", ("w", boot), "")
    assert other.merge([mine]) == [mine]
    assert other.host(task) == "chosen"


# --- joins -----------------------------------------------------------------------------------------------------------


def random_dag(rng: Random) -> Dag:
    names = [f"t{i}" for i in range(rng.randrange(2, 8))]
    children: dict[str, list[str]] = {name: [] for name in names}
    for j in range(1, len(names)):
        for i in rng.sample(range(j), min(j, rng.choice([1, 1, 2, 2, 3]))):
            children[names[i]].append(names[j])
    for out in children.values():
        if out and rng.random() < 0.25:
            out.append(HOME)
    return Dag([TaskSpec(name, children=out) for name, out in children.items()])


class Lineage:
    """All runs of one item, by the rules of the product, with full lineage beside the stamps it carries.

    Any task may have been run up to `attempts` times per input, each with another stamp (it is not deterministic) or,
    half of the time, with the same. Everything reaches every join, in random order.
    """

    def __init__(self, dag: Dag, rng: Random, attempts: int) -> None:
        self.dag, self.rng, self.attempts = dag, rng, attempts
        self.full: dict[Any, dict[str, bytes]] = {}
        """(edge, key of parcel) -> ancestor -> stamp, complete"""
        self.count = 0

    def parcels_into(self, task: str, made: dict[tuple[str, str], list[Parcel]]) -> list[Parcel]:
        arriving = [parcel for src in self.dag.in_edges(task) for parcel in made[src, task]]
        self.rng.shuffle(arriving)
        return arriving

    def emit(self, task: str, stamps: dict[str, bytes], lineage: dict[str, bytes], made: Any) -> None:
        self.count += 1
        stamp = b"%s-%d" % (task.encode(), self.count)
        for child in self.dag.out_edges(task):
            carried = {a: s for a, s in {**stamps, task: stamp}.items() if a in self.dag.carry[task, child]}
            parcel = Parcel("j", "i", task, child, stamp, carried, [], (VERSION, 1))
            made.setdefault((task, child), []).append(parcel)
            self.full[task, child, key_of(parcel)] = {**lineage, task: stamp}

    def run(self) -> None:
        made: dict[tuple[str, str], list[Parcel]] = {}
        for entry in self.dag.entries:
            carried = {HOME: b"src"} if HOME in self.dag.carry[HOME, entry] else {}
            parcel = Parcel("j", "i", HOME, entry, b"src", carried, [], (VERSION, 1))
            made[HOME, entry] = [parcel]
            self.full[HOME, entry, key_of(parcel)] = {HOME: b"src"}
        for task in [*self.dag.order, HOME]:
            join = JoinBuffer(self.dag.in_edges(task))
            arriving = self.parcels_into(task, made)
            offered = []
            for parcel in arriving:
                join.add(parcel)
            fired = set()
            for stamps, parcels in join.sets("i"):
                lineage = self.whole(task, parcels)
                assert lineage is not None, f"{task} joins two attempts of one ancestor"
                offered.append(frozenset(map(key_of, parcels)))
                projection = frozenset((a, s) for a, s in stamps.items() if a in self.dag.need[task])
                if task != HOME and projection not in fired:
                    fired.add(projection)
                    for _ in range(self.rng.randrange(1, self.attempts + 1)):
                        self.emit(task, stamps, lineage, made)
            assert sorted(map(sorted, offered), key=repr) == sorted(map(sorted, self.brute(task, made)), key=repr)
            assert offered, f"{task} never got a whole set although every task ran"

    def whole(self, task: str, parcels: list[Parcel]) -> dict[str, bytes] | None:
        """The full lineage of a set; None when it holds two attempts of one ancestor."""
        lineage: dict[str, bytes] = {}
        for parcel in parcels:
            for ancestor, stamp in self.full[parcel.src, task, key_of(parcel)].items():
                if lineage.setdefault(ancestor, stamp) != stamp:
                    return None
        return lineage

    def brute(self, task: str, made: dict[tuple[str, str], list[Parcel]]) -> list[frozenset[Any]]:
        """Every set of one parcel per in-edge whose full lineages agree."""
        edges = [made[src, task] for src in self.dag.in_edges(task)]
        return [frozenset(map(key_of, s)) for s in product(*edges) if self.whole(task, list(s)) is not None]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6))
def test_joins_offer_exactly_the_sets_whose_full_lineage_agrees(seed):
    rng = Random(seed)
    dag = random_dag(rng)
    Lineage(dag, rng, attempts=2 if len(dag.order) < 6 else 1 + (seed % 2)).run()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6))
def test_a_join_offers_the_same_sets_in_whatever_order_the_parcels_come(seed):
    rng = Random(seed)
    stamps = [b"1", b"2"]
    parcels = [
        Parcel("j", "i", src, "t", rng.choice(stamps), {a: rng.choice(stamps) for a in "xy" if rng.random() < 0.6}, [])
        for src in ["b", "c", "d"] * rng.randrange(1, 3)
    ]
    found = []
    for _ in range(2):
        rng.shuffle(parcels)
        join = JoinBuffer(["b", "c", "d"])
        for parcel in [*parcels, rng.choice(parcels)]:
            join.add(parcel)
        found.append({tuple(key_of(p) for p in chosen) for _, chosen in join.sets("i")})
    assert found[0] == found[1]
