"""The execution profiler of a node: sample runs for others, what it tells homes, what it remembers."""

from __future__ import annotations

import pytest
from job_rig import CHAIN, Around, make_job, of_type

from jupiter_agent.core.counters import Run
from jupiter_agent.core.effects import Append, Effect, KeepProfiles, OpenBundle, ProfileApp, Send
from jupiter_agent.core.events import BundleOpened, Profiled
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages.jobs import HomeVersion, Obj
from jupiter_agent.core.messages.profiling import Profiles, ProfilesWanted, SampleDone, SampleWanted, TaskProfile
from jupiter_agent.core.profiling.exec_profiler import (
    ALL_OF_FIRST,
    AT_ONCE,
    LEARN_AGAIN_S,
    SAVE_S,
    TELL_S,
    ExecProfiler,
)
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.errors import PeerError

BUNDLE = b"B" * 32
WANTED = SampleWanted("job1", BUNDLE, 10, None, 60.0, 5.0)


class Rig:
    """Node n1, which has the bundle but has not opened it."""

    def __init__(self) -> None:
        self.around = Around("n1")
        self.jobs = Jobs(self.around, RunQueue(4), Transfers("n1"))
        self.jobs.transfers.stored.add(BUNDLE)
        self.profiler = ExecProfiler(self.around, self.jobs)

    def opened(self) -> list[Effect]:
        self.jobs.bundles.on_opened(BundleOpened(BUNDLE, None))
        return self.profiler.on_here()

    def ran(self, seconds: float, now: float) -> None:
        job = make_job(CHAIN)
        self.profiler.ran(job, [Run("i", "a", now - seconds, now - seconds, now, 10, 5, seconds)], now)


def answers(effects: list[Effect]) -> list[SampleDone]:
    return [e.message for e in of_type(effects, Send) if isinstance(e.message, SampleDone)]


def test_a_sample_run_begins_when_the_app_is_here_and_answers_with_what_it_showed() -> None:
    rig = Rig()
    effects = rig.profiler.on_message("home1", WANTED, 1.0)
    assert of_type(effects, OpenBundle)
    assert of_type(effects, ProfileApp) == []
    [run] = of_type(rig.opened(), ProfileApp)
    assert (run.job, run.budget_s, run.task_s) == ("job1", 60.0, 5.0)
    assert rig.profiler.on_message("home1", WANTED, 2.0) == [], "it is asked again while it runs"
    event = Profiled("job1", {"a": 2.0}, {"home>a": 9, "a>b": 4}, False, "b: no", {"a": (1.9, 9)}, {"b": "no"}, 2.5)
    [done] = answers(rig.profiler.on_profiled(event, 0.0, 5.0) or [])
    assert (done.makespan_s, done.errors) == (2.5, {"b": "no"})
    told = {p.task: p for p in done.profiles}
    assert sorted(told) == ["a", "home"]
    assert (told["a"].edge_bytes, told["a"].size, told["a"].sampled) == ({"b": 4}, 9, True)
    assert told["home"].edge_bytes == {"a": 9}
    assert answers(rig.profiler.on_message("home1", WANTED, 6.0)) == [done], "its answer got lost"
    assert rig.profiler.on_profiled(event, 0.0, 7.0) is None


def test_a_large_sample_is_fetched_first() -> None:
    rig = Rig()
    wanted = SampleWanted("job1", BUNDLE, 10, Obj("s", b"S" * 32, 10**6), 60.0, 5.0)
    rig.profiler.on_message("home1", wanted, 1.0)
    assert of_type(rig.opened(), ProfileApp) == []
    rig.jobs.transfers.stored.add(b"S" * 32)
    assert of_type(rig.profiler.on_here(), ProfileApp)


def test_an_app_that_does_not_open_here_is_said() -> None:
    rig = Rig()
    rig.profiler.on_message("home1", WANTED, 1.0)
    [done] = answers(rig.profiler.on_here("it is damaged", BUNDLE))
    assert done.errors == {"": "it is damaged"}


def test_so_many_sample_runs_at_once_and_no_more_and_only_for_who_may_be_home() -> None:
    rig = Rig()
    for number in range(AT_ONCE):
        rig.profiler.on_message("home1", SampleWanted(f"j{number}", BUNDLE, 10, None, 60.0, 5.0), 1.0)
    [refused] = answers(rig.profiler.on_message("home1", WANTED, 1.0))
    assert "already" in refused.errors[""]
    rig.around.may_be_home = lambda node: False  # type: ignore[method-assign]
    with pytest.raises(PeerError):
        rig.profiler.on_message("n2", SampleWanted("x", BUNDLE, 10, None, 60.0, 5.0), 1.0)


def test_homes_hear_every_few_seconds_what_ran_here_and_whoever_asks_at_once() -> None:
    rig = Rig()
    rig.ran(2.0, 10.0)
    rig.ran(2.0, 11.0)
    [written] = rig.profiler.on_deadline(rig.profiler.next_deadline())
    assert isinstance(written, Append)
    assert rig.profiler.next_deadline() == 10.0 + TELL_S
    [told] = of_type(rig.profiler.on_deadline(12.0), Send)
    assert told.dst == "home1"
    assert isinstance(told.message, Profiles)
    [profile] = told.message.profiles
    assert (profile.task, profile.samples) == ("a", 2)
    rig.ran(2.0, 13.0)
    assert of_type(rig.profiler.on_deadline(15.0), Send) == [], "one more of three is no news"
    for second in range(3):
        rig.ran(2.0, 16.0 + second)
    assert of_type(rig.profiler.on_deadline(20.0), Send)
    [answer] = of_type(rig.profiler.on_message("n3", ProfilesWanted(7, BUNDLE), 13.0), Send)
    assert isinstance(answer.message, Profiles)
    assert (answer.dst, answer.message.seq, len(answer.message.profiles)) == ("n3", 7, 1)
    assert rig.profiler.on_message("n3", ProfilesWanted(8, b"other"), 13.0) == []


def test_what_is_new_is_kept_once() -> None:
    rig = Rig()
    rig.ran(2.0, 10.0)
    rig.profiler.on_message(
        "n2", Profiles(0, BUNDLE, [TaskProfile("b", *[(0.0, 0.0, 0.0)] * 2, 1, 1, 3, 0, 1.0)]), 11.0
    )
    kept = of_type(rig.profiler.on_deadline(10.0 + SAVE_S), KeepProfiles)
    assert [(task, node) for keep in kept for _, task, node, _ in keep.rows] == [("a", "n1"), ("b", "n2")]
    assert rig.profiler.next_deadline() == float("inf")


def test_an_estimate_is_of_the_size_that_is_expected_and_of_the_node_as_loaded_as_it_is() -> None:
    rig = Rig()
    rig.around.profiles = {"n2": {"speed": 2.0, "cpus": 2.0, "queue_length": 5.0}}
    job = make_job(CHAIN, edge_bytes={"a>b": 1000}, seconds={"b": 4.0})
    assert rig.profiler.time_of(job, "b", "n2").seconds == 6.0
    assert rig.profiler.time_of(job, "b", "n2", loaded=False).seconds == 2.0
    told = TaskProfile("b", (0.0, 0.0, 0.0), (0.0, 0.01, 0.0), 0.5, 2.0, 3, 10, 1.0)
    rig.profiler.on_message("n3", Profiles(0, BUNDLE, [told]), 1.0)
    assert rig.profiler.time_of(job, "b", "n3").seconds == pytest.approx(10.0)
    assert rig.profiler.time_of(job, "b", "n2", loaded=False).seconds == pytest.approx(5.0)
    assert job.home == HomeVersion(1, "home1", 1)


def test_of_a_thousand_runs_a_second_some_are_learned_from_and_of_few_all() -> None:
    few, many = Rig(), Rig()
    learned: dict[int, list[float]] = {id(few): [], id(many): []}
    for rig in (few, many):
        rig.profiler.book.learn = lambda bundle, run, now, rig=rig: learned[id(rig)].append(now)  # type: ignore[method-assign]
    for number in range(200):
        few.ran(0.1, number * 2 * LEARN_AGAIN_S)
    for number in range(2000):
        many.ran(0.001, number * 0.001)
    assert len(learned[id(few)]) == 200
    assert ALL_OF_FIRST < len(learned[id(many)]) <= ALL_OF_FIRST + 2.0 / LEARN_AGAIN_S
    assert max(learned[id(many)]) > 2.0 - 2 * LEARN_AGAIN_S, "to the end"
