"""What a node knows of the execution of apps, its own runs and others'."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jupiter_agent.core.counters import Run
from jupiter_agent.core.messages.profiling import Profiles, TaskProfile
from jupiter_agent.core.profiling.exec_book import MAX_BUNDLES, MAX_NODES, ExecBook, Node
from jupiter_agent.core.wire import decode, encode
from jupiter_agent.errors import PeerError

APP = b"a" * 32
ZERO = (0.0, 0.0, 0.0)
TOLD = TaskProfile("t", ZERO, (2.0, 0.0, 0.0), 0.8, 1.25, 9, 100, 1.0, False, {"u": 50})


def run(seconds: float, size: int = 100, cpu_s: float = 0.0, load: float = 0.0, **sent: int) -> Run:
    times = (0.0, 1.0, 1.0 + seconds)
    return Run("i", "t", *times, size, sum(sent.values()), seconds, cpu_s, 0, load, {}, dict(sent))


def test_a_node_estimates_from_its_own_runs_first() -> None:
    book = ExecBook("me")
    book.take("other", APP, [TOLD])
    book.learn(APP, run(0.5), 1.0)
    mine = book.estimate(APP, "t", Node("me"), None, 1.0)
    theirs = book.estimate(APP, "t", Node("other"), None, 1.0)
    assert mine is not None
    assert theirs is not None
    assert (mine.source, mine.samples) == ("measured", 1)
    assert mine.seconds == pytest.approx(0.5, rel=0.05)
    assert (theirs.seconds, theirs.low, theirs.high, theirs.samples) == (2.0, 1.6, 2.5, 9)


def test_where_nobody_ran_it_work_is_scaled_by_speed_and_load_and_idle_time_is_not() -> None:
    book = ExecBook("me")
    book.take("other", APP, [replace(TOLD, idle=(1.0, 0.0, 0.0))])
    fast = book.estimate(APP, "t", Node("fast", speed=4.0), None, 1.0)
    busy = book.estimate(APP, "t", Node("busy", cores=2.0, load=5.0), None, 1.0)
    assert fast is not None
    assert busy is not None
    assert (fast.seconds, fast.source) == (1.5, "scaled")
    assert busy.seconds == pytest.approx(7.0, rel=0.01)
    assert fast.low < 0.8 * fast.seconds
    assert fast.high > 1.25 * fast.seconds
    assert book.estimate(APP, "nobody-ran-it", Node("fast"), None, 1.0) is None
    assert book.prior(1.0, Node("x", speed=2.0)).source == "prior"


def test_a_profile_counts_for_the_node_that_sent_it_only() -> None:
    book = ExecBook("me")
    book.learn(APP, run(0.5), 1.0)
    book.take("liar", APP, [replace(TOLD, work=(1e6, 0.0, 0.0))])
    mine = book.estimate(APP, "t", Node("me"), None, 1.0)
    assert mine is not None
    assert mine.seconds < 1.0


@pytest.mark.parametrize(
    "change",
    [{"work": (-1.0, 0.0, 0.0)}, {"idle": (float("nan"), 0.0, 0.0)}, {"work": (0.0, 1e300, 0.0)},
     {"low": float("inf")}, {"samples": 0}, {"size": -5}, {"speed": 0.0}, {"edge_bytes": {"u": -1}}],
)  # fmt: skip
def test_absurd_profiles_do_not_decode(change: dict[str, object]) -> None:
    good = Profiles(1, APP, [TOLD])
    assert decode(encode(good)) == good
    with pytest.raises((PeerError, ValueError)):
        decode(encode(Profiles(1, APP, [replace(TOLD, **change)])))


@pytest.mark.parametrize("change", [{"work": (0.0, 1e9, 0.0), "size": 10**9}, {"low": 2.0, "high": 1.0}])
def test_profiles_without_sense_are_dropped_and_counted(change: dict[str, object]) -> None:
    book = ExecBook("me")
    book.take("liar", APP, [replace(TOLD, **change)])
    assert book.dropped == 1
    assert book.estimate(APP, "t", Node("liar"), None, 1.0) is None


def test_what_is_usual_is_the_median_over_nodes_and_sizes_are_per_edge() -> None:
    book = ExecBook("me")
    for number, seconds in enumerate((1.0, 2.0, 30.0)):
        told = replace(TOLD, work=(seconds, 0.0, 0.0), edge_bytes={"u": 10 * number, "v": 7})
        book.take(f"n{number}", APP, [told])
    assert book.usual(APP, 1.0) == ({"t": 2.0}, {"t>u": 10, "t>v": 7})
    assert not book.knows(b"other")


def test_what_was_saved_is_known_after_a_restart_until_it_is_forgotten() -> None:
    book = ExecBook("me", speed=2.0)
    book.learn(APP, run(0.5, u=40), 1.0)
    book.take("other", APP, [TOLD])
    rows = book.unsaved(1.0)
    assert {(task, node) for _, task, node, _ in rows} == {("t", "me"), ("t", "other")}
    assert book.unsaved(1.0) == []
    again = ExecBook("me", speed=2.0)
    again.recall(rows)
    assert again.knows(APP)
    mine = again.estimate(APP, "t", Node("me", speed=2.0), None, 0.0)
    assert mine is not None
    assert mine.seconds == pytest.approx(0.5, rel=0.05)
    assert [p.edge_bytes for p in again.own(APP, 0.0)] == [{"u": 40}]
    assert again.unsaved(0.0) == []
    assert again.forget(APP) == 1
    assert not again.knows(APP)


def test_everything_is_bounded() -> None:
    book = ExecBook("me")
    for number in range(MAX_BUNDLES + 5):
        book.learn(b"%d" % number, run(0.1), 1.0)
    assert len(book._own) == MAX_BUNDLES
    for number in range(MAX_NODES + 5):
        book.take(f"n{number}", APP, [TOLD])
    assert len(book._told[APP]["t"]) == MAX_NODES
    assert book.dropped == 5


def test_a_run_that_cannot_have_been_is_counted() -> None:
    book = ExecBook("me")
    book.learn(APP, run(float("nan")), 1.0)
    assert book.dropped == 1
    assert not book.knows(APP)


def test_a_few_runs_after_a_restart_do_not_replace_what_many_before_it_said() -> None:
    book = ExecBook("me")
    book.recall([(APP, "t", "me", replace(TOLD, samples=500))])
    for number in range(8):
        found = book.estimate(APP, "t", Node("me"), None, float(number))
        assert found is not None
        assert (found.seconds, found.samples) == (2.0, 500)
        book.learn(APP, run(6.0), float(number))
    found = book.estimate(APP, "t", Node("me"), None, 9.0)
    assert found is not None
    assert found.seconds == pytest.approx(6.0, rel=0.1)


def test_what_runs_of_items_say_replaces_an_earlier_sample_run_at_once() -> None:
    book = ExecBook("me")
    book.recall([(APP, "t", "me", replace(TOLD, samples=1, sampled=True))])
    book.learn(APP, run(6.0), 1.0)
    found = book.estimate(APP, "t", Node("me"), None, 1.0)
    assert found is not None
    assert (round(found.seconds, 3), found.source) == (6.0, "measured")


def test_whose_runs_are_scaled_is_chosen_again_when_something_is_learned() -> None:
    book = ExecBook("me")
    book.take("slow", APP, [replace(TOLD, work=(8.0, 0.0, 0.0))])
    first = book.estimate(APP, "t", Node("x"), None, 1.0)
    assert first is not None
    assert first.seconds == 8.0
    for number in range(4):
        book.take(f"n{number}", APP, [replace(TOLD, samples=20)])
    then = book.estimate(APP, "t", Node("x"), None, 1.0)
    assert then is not None
    assert then.seconds == 2.0
    book.forget(APP)
    assert book.estimate(APP, "t", Node("x"), None, 1.0) is None
