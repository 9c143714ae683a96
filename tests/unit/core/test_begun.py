"""A task that moves: what has begun at its old host is not begun at the new one, as long as the old one lives."""

import msgspec
from job_rig import CHAIN, Host, make_job, of_type, parcel, place, reg, sent, small

from jupiter_agent.core.effects import StartRun
from jupiter_agent.core.events import RunDone, RunFailed
from jupiter_agent.core.messages.jobs import Parcel
from jupiter_agent.core.messages.supervision import Moved, Spared


def injected(item: str, number: int) -> Parcel:
    return parcel("home", "a", b"src" + item.encode(), item=item, number=number, objects=[small(item.encode())])


def host(me: str = "n1", slots: int = 8, **places: str) -> Host:
    return Host(place(make_job(CHAIN), **places), me=me, slots=slots)


def give(at: Host, *items: str) -> list[str]:
    """Items whose runs start when these arrive."""
    effects = [e for n, item in enumerate(items) for e in at.execution.on_parcel("home1", injected(item, n + 1), 0.0)]
    return [run.item for run in of_type(effects, StartRun)]


def started(effects: list) -> list[str]:
    return [run.item for run in of_type(effects, StartRun)]


def moved_away(at: Host, now: float = 1.0) -> Moved:
    at.job.merge([reg("a", "n3", epoch=2)])
    [(to, moved)] = sent(at.execution.on_registers(now), Moved)
    assert to == "n3"
    return moved


def end(at: Host, item: str, now: float = 0.5, failed: bool = False) -> list:
    [run] = [run for run, attempt in at.queue.running.items() if attempt.item == item]
    attempt = at.queue.end(run)
    assert attempt is not None
    if failed:
        return at.execution.on_run_failed(attempt, RunFailed(run, "error", "no"), now)
    return at.execution.on_run_done(attempt, RunDone(run, [([], small(b"out"))], 0.5), now)


def test_the_old_host_names_what_is_done_and_under_way_and_gives_up_what_waits():
    at = host(a="n1", b="n2", slots=1)
    assert give(at, "i", "j", "k") == ["i"]
    end(at, "i")
    assert [attempt.item for attempt in at.queue.start()] == ["j"]
    moved = moved_away(at)
    assert (moved.job, moved.task, [run.item for run in moved.runs]) == ("job1", "a", ["i", "j"])
    assert {(run.node, run.boot) for run in moved.runs} == {("n1", 1)}
    assert at.queue.counts("job1", "a") == (0, 1)
    assert sent(at.execution.on_registers(1.1), Moved) == [], "said once"


def test_a_repetition_that_is_due_is_left_to_the_new_host():
    at = host(a="n1", b="n2")
    give(at, "i")
    end(at, "i", 0.9, failed=True)
    at.job.merge([reg("a", "n3", epoch=2)])
    assert sent(at.execution.on_registers(1.0), Moved) == []
    assert started(at.execution.on_deadline(9.0)) == []


def test_the_new_host_runs_only_what_the_old_one_has_not_begun_whichever_word_comes_first():
    old = host(a="n1", b="n2", slots=2)
    give(old, "i", "j", "k")
    moved = moved_away(old)
    before = host("n3", a="n3", b="n2")
    before.job.involve(["n1"])
    before.execution.on_moved("n1", moved, 1.0)
    assert give(before, "i", "j", "k") == ["j"]
    assert before.queue.counts("job1", "a") == (1, 1)
    after = host("n3", a="n3", b="n2", slots=1)
    after.job.involve(["n1"])
    after.queue.slots = 0
    assert give(after, "i", "j", "k") == []
    after.queue.slots = 8
    assert started(after.execution.on_moved("n1", moved, 1.0)) == ["j"]


def test_what_the_old_host_had_begun_is_run_when_it_is_lost_or_starts_again():
    old = host(a="n1", b="n2")
    give(old, "i")
    moved = moved_away(old)
    for lose in (lambda at: at.around.gone.add("n1"), lambda at: at.around.boots.update(n1=2)):
        new = host("n3", a="n3", b="n2")
        new.job.involve(["n1"])
        new.execution.on_moved("n1", moved, 1.0)
        assert give(new, "i") == []
        lose(new)
        assert started(new.execution.on_registers(2.0)) == ["i"]
        assert started(new.execution.on_registers(3.0)) == []


def test_a_task_that_comes_back_runs_what_was_withdrawn_and_not_what_was_done():
    at = host(a="n1", b="n2", slots=1)
    give(at, "i", "j")
    end(at, "i")
    moved_away(at)
    at.job.merge([reg("a", "n1", epoch=3)])
    assert started(at.execution.on_registers(2.0)) == ["j"]
    assert at.queue.counts("job1", "a") == (0, 1)


def test_what_others_have_begun_is_told_on_at_the_next_move():
    at = host("n3", a="n3", b="n2")
    at.job.involve(["n1"])
    spared = Spared("i", {}, "n1", 1)
    at.execution.on_moved("n1", Moved("job1", "a", [spared]), 1.0)
    at.job.merge([reg("a", "n2", epoch=2)])
    [(to, moved)] = sent(at.execution.on_registers(2.0), Moved)
    assert (to, moved.runs) == ("n2", [spared])


def test_the_host_that_a_register_leaves_is_believed_though_it_was_never_heard_of():
    at = host("n3", a="n3", b="n2")
    at.job.merge([msgspec.structs.replace(reg("a", "n3", epoch=2), left="n1")])
    at.execution.on_moved("n1", Moved("job1", "a", [Spared("i", {}, "n1", 1)]), 1.0)
    assert give(at, "i", "j") == ["j"]


def test_a_stranger_is_not_believed_and_nothing_is_kept_of_items_that_are_over():
    old = host(a="n1", b="n2")
    give(old, "i")
    moved = moved_away(old)
    new = host("n3", a="n3", b="n2")
    new.execution.on_moved("n9", moved, 1.0)
    assert give(new, "i") == ["i"]
    new = host("n3", a="n3", b="n2")
    new.job.involve(["n1"])
    new.execution.on_moved("n1", moved, 1.0)
    give(new, "i")
    new.execution.finished.add((injected("i", 1).number[0], 1))
    new.execution.on_finished(2.0)
    assert new.execution._begun._elsewhere == {}
    assert new.execution._begun._count == 0
