from jupiter_agent.core.effects import Send
from jupiter_agent.core.messages.jobs import RunStarted
from jupiter_agent.core.runqueue import Attempt, RunQueue, start_runs
from jupiter_agent.core.strikes import LEAD_S


def queue(slots: int = 2, **lanes: tuple[float, int]) -> RunQueue:
    """Open lanes of job `j`: task -> (rank, parallel)."""
    made = RunQueue(slots)
    for task, (rank, parallel) in lanes.items():
        made.lane(("j", task), rank, parallel)
        made.open("j", task)
    return made


def push(made: RunQueue, task: str, *items: str, job: str = "j") -> None:
    for item in items:
        made.push(Attempt((job, task, item), {}, []))


def started(made: RunQueue) -> list[tuple[str, str]]:
    return [(attempt.task, attempt.item) for attempt in made.start()]


def test_attempts_start_by_rank_then_by_arrival():
    made = queue(4, low=(1.0, 2), high=(2.0, 2))
    push(made, "low", "1", "2")
    push(made, "high", "1", "2", "3")
    assert started(made) == [("high", "1"), ("high", "2"), ("low", "1"), ("low", "2")]


def test_no_more_run_than_the_task_allows_and_the_node_has_slots():
    made = queue(2, a=(2.0, 1), b=(1.0, 9))
    push(made, "a", "1", "2")
    push(made, "b", "1", "2")
    assert started(made) == [("a", "1"), ("b", "1")]
    assert started(made) == []
    made.end(1)
    assert started(made) == [("a", "2")]
    assert made.counts("j", "b") == (1, 1)


def test_nothing_starts_before_the_lane_is_open():
    made = RunQueue(1)
    made.lane(("j", "a"), 1.0, 1)
    push(made, "a", "1")
    assert started(made) == []
    made.open("j", "a")
    assert started(made) == [("a", "1")]


def test_every_start_has_a_fresh_id_and_ends_once():
    made = queue(1, a=(1.0, 1))
    push(made, "a", "1")
    first = next(made.start())
    assert made.end(first.id) is first
    assert made.end(first.id) is None
    made.push(first)
    assert next(made.start()).id != 1


def test_what_waits_for_an_item_that_is_over_is_forgotten():
    made = queue(1, a=(1.0, 1))
    push(made, "a", "1", "2", "1")
    assert started(made) == [("a", "1")]
    made.drop_item("j", "1")
    assert made.counts("j", "a") == (1, 1)
    made.drop_item("other", "2")
    made.end(1)
    assert started(made) == [("a", "2")]


def test_a_dropped_job_frees_its_slots_and_its_late_answers_find_nothing():
    made = queue(1, a=(1.0, 1))
    made.lane(("k", "a"), 1.0, 1)
    made.open("k", "a")
    push(made, "a", "1", "2")
    push(made, "a", "9", job="k")
    assert started(made) == [("a", "1")]
    made.drop("j")
    assert made.end(1) is None
    assert started(made) == [("a", "9")]
    assert (made.committed(), made.counts("j", "a")) == (1, (0, 0))


def test_one_task_of_a_job_can_be_dropped():
    made = queue(4, a=(2.0, 1), b=(1.0, 1))
    push(made, "a", "1")
    push(made, "b", "1")
    assert len(started(made)) == 2
    made.drop("j", "a")
    assert [attempt.task for attempt in made.running.values()] == ["b"]


def lanes(slots: int, *jobs: str, parallel: int = 9) -> RunQueue:
    """Open lanes of the task `a` of each job."""
    made = RunQueue(slots)
    for job in jobs:
        made.lane((job, "a"), 1.0, parallel)
        made.open(job, "a")
    return made


def test_a_job_with_ten_thousand_attempts_does_not_starve_another():
    made = lanes(2, "big", "small")
    push(made, "a", *map(str, range(10_000)), job="big")
    assert [attempt.job for attempt in made.start()] == ["big", "big"]
    push(made, "a", "x", "y", job="small")
    made.end(1)
    assert [attempt.job for attempt in made.start()] == ["small"]
    order = []
    for run in range(2, 8):
        made.end(run)
        order += [attempt.job for attempt in made.start()]
    assert order == ["big", "small", "big", "big", "big", "big"]


def test_places_are_shared_equally_whatever_the_ranks_of_the_jobs():
    made = RunQueue(6)
    for job, rank in (("one", 100.0), ("two", 1.0), ("three", 10.0)):
        made.lane((job, "a"), rank, 9)
        made.open(job, "a")
        push(made, "a", *"123456", job=job)
    assert sorted(attempt.job for attempt in made.start()) == ["one", "one", "three", "three", "two", "two"]


def struck(made: RunQueue, item: str, strikes: int, job: str = "j") -> Attempt:
    attempt = Attempt((job, "a", item), {}, [])
    attempt.strikes = strikes
    made.push(attempt)
    return attempt


def test_an_attempt_with_two_strikes_runs_without_another_of_its_job():
    made = lanes(4, "j", "other")
    push(made, "a", "1")
    assert [attempt.item for attempt in made.start()] == ["1"]
    struck(made, "bad", 2)
    push(made, "a", "3", "4")
    push(made, "a", "else", job="other")
    assert [attempt.item for attempt in made.start()] == ["else"], "it waits for those that run"
    made.end(1)
    assert [attempt.item for attempt in made.start()] == ["bad"]
    assert list(made.start()) == [], "and the others wait for it"
    made.end(3)
    assert [attempt.item for attempt in made.start()] == ["3", "4"]


def test_a_run_with_strikes_is_announced_a_moment_before_it_starts():
    made = lanes(1, "j")
    attempt = struck(made, "bad", 1)
    attempt.watchers = ["n2", "home1"]
    *told, run = start_runs(made, 0.0)
    assert told == [Send("n2", RunStarted("j", "bad", "a")), Send("home1", RunStarted("j", "bad", "a"))]
    assert run.after_s == LEAD_S
    made.end(run.run)
    struck(made, "good", 0)
    [run] = start_runs(made, 0.0)
    assert run.after_s == 0.0
