"""Tasks that make items faster than the job takes them are held, and go on."""

from __future__ import annotations

from job_rig import CHAIN, VERSION, Around, job_spec, of_type, parcel, place, reg, sent, signed, small

from jupiter_agent.core.backlog import LEAST, UNANSWERED
from jupiter_agent.core.effects import Effect, HoldTask
from jupiter_agent.core.events import Produced
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages.jobs import Inject, Injected, Parcel
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.task_events import on_produced
from jupiter_agent.core.transfer import Transfers


def a_home(max_open: int = 2) -> Jobs:
    jobs, spec = Jobs(Around("home1"), RunQueue(8), Transfers("home1")), job_spec(CHAIN, max_open=max_open)
    local = jobs.create_home(signed(spec), spec, VERSION, 0.0)
    place(local.job, a="n1", b="n2")
    return jobs


def made(jobs: Jobs, number: int, task: str = "home") -> list[Effect]:
    """The script at home, or a task beside the DAG, makes a file."""
    return on_produced(jobs, Produced("job1", task, "a", small(b"%d" % number, f"f{number}")), 1.0)


def holds(effects: list[Effect]) -> list[tuple[str, bool]]:
    return [(effect.task, effect.held) for effect in of_type(effects, HoldTask)]


def take_away(jobs: Jobs, count: int) -> list[Effect]:
    """So many of the items that are open come to their end."""
    effects: list[Effect] = []
    for _ in range(count):
        home = jobs.local["job1"].home
        assert home is not None
        item = min(home.intake.admitted)
        result = parcel("b", "home", stamp=item.encode(), item=item, number=home.items[item].number[1])
        effects += jobs.on_message("n2", result, 2.0) or []
    return effects


def test_a_home_script_is_held_when_many_of_its_items_wait_and_goes_on_when_half_of_them_left() -> None:
    jobs = a_home()
    quiet = [holds(made(jobs, number)) for number in range(LEAST + 1)]
    assert not any(quiet)
    assert holds(made(jobs, LEAST + 1)) == [("home", True)]
    assert holds(take_away(jobs, LEAST // 2 - 1)) == []
    assert holds(take_away(jobs, 1)) == [("home", False)]
    assert holds(take_away(jobs, 10)) == []


def test_a_job_that_takes_many_at_a_time_has_a_longer_queue() -> None:
    home = a_home(max_open=1000).local["job1"].home
    assert home is not None
    assert home.backlog.limit == 4000


def test_files_of_other_nodes_are_answered_late_when_many_items_wait() -> None:
    jobs = a_home()
    jobs.local["job1"].job.involve(["n3"])
    for number in range(LEAST + 2):
        made(jobs, number)
    inject = Inject("job1", 1, "home", "a", small(b"x", "other"))
    for _ in range(3):  # told again until it is answered
        assert sent(jobs.on_message("n3", inject, 1.0) or [], Injected) == []
    home = jobs.local["job1"].home
    assert home is not None
    assert "other" in home.items, "taken in at once"
    answers = sent(take_away(jobs, LEAST // 2 + 2), Injected)
    assert answers == [("n3", Injected("job1", 1))]


def test_a_task_whose_files_home_leaves_unanswered_is_held_until_half_are_answered() -> None:
    jobs, spec = Jobs(Around("n1"), RunQueue(8), Transfers("n1")), job_spec(CHAIN)
    jobs.create(signed(spec), spec, VERSION, 0.0)
    jobs.local["job1"].job.merge([reg("a", "n1")])
    assert not any(holds(made(jobs, number, "camera")) for number in range(UNANSWERED - 1))
    assert holds(made(jobs, UNANSWERED, "camera")) == [("camera", True)]
    told = [jobs.on_message("home1", Injected("job1", seq), 2.0) for seq in range(1, UNANSWERED // 2 + 1)]
    assert [holds(effects or []) for effects in told] == [[]] * (UNANSWERED // 2 - 1) + [[("camera", False)]]


def test_who_is_home_no_longer_holds_nothing() -> None:
    jobs = a_home()
    for number in range(LEAST + 2):
        made(jobs, number, "camera")
    home = jobs.local["job1"].home
    assert home is not None
    assert ("camera", False) in holds(home.retire(2.0))
    assert sent(home.retire(2.0), Parcel) == []
