from jupiter_agent.core.runqueue import Attempt, RunQueue


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
