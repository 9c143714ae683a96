"""The record of a run: times, bytes per edge, what it used, and the load it met."""

from __future__ import annotations

import pytest

from jupiter_agent.core.counters import Counters, run_of
from jupiter_agent.core.events import RunDone
from jupiter_agent.core.messages.jobs import Obj, Parcel
from jupiter_agent.core.runqueue import Attempt


def obj(name: str, size: int, data: bytes | None = b"x") -> Obj:
    return Obj(name, name.encode().ljust(32), size, data)


def parcel(src: str, *objects: Obj) -> Parcel:
    return Parcel("j", "i", src, "t", b"s", {}, list(objects))


def attempt(*parcels: Parcel, entered: float = 2.0, started: float = 3.0) -> Attempt:
    made = Attempt(("j", "t", "i"), {}, list(parcels))
    made.entered, made.started = entered, started
    return made


def test_bytes_are_counted_per_edge_not_summed() -> None:
    made = attempt(parcel("a", obj("x", 10), obj("y", 5)), parcel("b", obj("z", 100)))
    done = RunDone(1, [([], obj("o", 7)), (["c"], obj("p", 3))], 0.5)
    run = run_of(made, done, ["c", "d"], 4.0, 0.0)
    assert {src: size for src, (size, _, _) in run.edges_in.items()} == {"a": 15, "b": 100}
    assert run.edges_out == {"c": 10, "d": 7}
    assert (run.bytes_in, run.bytes_out) == (115, 10)
    assert (run.enter, run.execute, run.finish, run.seconds) == (2.0, 3.0, 4.0, 0.5)


def test_a_transfer_begins_when_its_parcel_comes_and_ends_when_its_bytes_are_here() -> None:
    counters, small, large = Counters(1), parcel("a", obj("x", 1)), parcel("b", obj("y", 10**6, None))
    made, here = attempt(small, large), set[str]()

    def has(each: Obj) -> bool:
        return each.data is not None or each.name in here

    counters.came(large, 1.0)
    counters.came(small, 1.5)
    assert not counters.arrived(made, has, 1.5)
    here.add("y")
    assert counters.arrived(made, has, 4.0)
    run = run_of(made, RunDone(1, [], 0.1), [], 5.0, 0.0)
    assert run.edges_in == {"a": (1, 1.5, 1.5), "b": (10**6, 1.0, 4.0)}
    counters.free("i")
    assert not counters._came


@pytest.mark.parametrize(
    ("queue", "beside", "cpu_s", "took", "load"),
    [
        ((0.0, 0.0), 0, 0.9, 1.0, 0.0),
        ((2.0, 3.0), 0, 0.0, 1.0, 2.5),  # it slept: it is not in the queue
        ((3.0, 3.0), 0, 40.0, 40.0, 2.0),  # a long one is
        ((3.0, 3.0), 0, 0.1, 0.1, 2.975),  # a short one hardly
        ((0.0, 0.0), 3, 1.0, 1.0, 3.0),  # those beside it begin as it does
    ],
)
def test_the_load_of_a_run_is_who_else_wanted_a_core(
    queue: tuple[float, float], beside: int, cpu_s: float, took: float, load: float
) -> None:
    made = attempt(parcel("a"), started=10.0)
    made.load, made.beside = queue[0], beside
    assert run_of(made, RunDone(1, [], took, cpu_s), [], 10.0 + took, queue[1]).load == pytest.approx(load)
