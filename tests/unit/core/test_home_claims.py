"""Who is believed when a message names the home of a job."""

from __future__ import annotations

from hashlib import sha256

import pytest
from job_rig import CHAIN, VERSION, Around, job_spec, parcel, reg, sent, signed, small

from jupiter_agent.core import records
from jupiter_agent.core.intake import Item
from jupiter_agent.core.job import LEAP
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import (
    Award,
    Deputies,
    Finished,
    HomeNews,
    HomeVersion,
    Inject,
    ItemFailed,
    JobOver,
    JobUnknown,
    Obj,
    RegisterDigest,
    Registers,
)
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.errors import PeerError


class Ranked(Around):
    """`n2` is a worker."""

    def may_be_home(self, node: str) -> bool:
        return node != "n2"


def jobs_with_a_home() -> Jobs:
    around = Ranked("n1")
    jobs, spec = Jobs(around, RunQueue(8), Transfers("n1")), job_spec(CHAIN)
    jobs.create_home(signed(spec), spec, HomeVersion(1, "n1", 1), 0.0)
    return jobs


def claims(writer: str) -> list[Message]:
    later = HomeVersion(2, writer, 1)
    return [HomeNews("job1", later, Deputies()), Registers("job1", later, [])]


@pytest.mark.parametrize("claim", claims("n2"))
@pytest.mark.parametrize("src", ["n2", "n3"])
def test_home_does_not_step_down_for_a_member_whose_role_is_home_of_nothing(src: str, claim: Message) -> None:
    jobs = jobs_with_a_home()
    with pytest.raises(PeerError):
        jobs.on_message(src, claim, 1.0)
    assert jobs.local["job1"].home is not None
    assert jobs.local["job1"].job.home == HomeVersion(1, "n1", 1)


@pytest.mark.parametrize("claim", claims("n3"))
def test_home_steps_down_for_one_that_may_be_home(claim: Message) -> None:
    jobs = jobs_with_a_home()
    jobs.on_message("n3", claim, 1.0)
    assert jobs.local["job1"].home is None
    assert "job1" in jobs.succession.shelves


def test_nobody_starts_to_take_part_in_a_job_whose_home_is_said_to_be_such_a_member() -> None:
    jobs = Jobs(Ranked("n1"), RunQueue(8), Transfers("n1"))
    with pytest.raises(PeerError):
        jobs.on_message("n3", Award(signed(job_spec(CHAIN)), HomeVersion(1, "n2", 1), []), 1.0)
    assert not jobs.local
    jobs.on_message("n3", Award(signed(job_spec(CHAIN)), HomeVersion(1, "n3", 1), []), 1.0)
    assert list(jobs.local) == ["job1"]


def test_a_word_of_a_home_of_far_too_high_an_epoch_keeps_no_copies_out_later() -> None:
    jobs = Jobs(Ranked("n1"), RunQueue(8), Transfers("n1"))
    for epoch, heard in ((LEAP + 2, None), (3, HomeVersion(3, "n3", 1))):
        jobs.on_message("n3", HomeNews("job1", HomeVersion(epoch, "n3", 1), Deputies()), 1.0)
        newest = jobs.succession.receiving.newest("job1")
        assert (newest[0] if newest else None) == heard


def over(home: HomeVersion = VERSION, state: str = "completed") -> JobOver:
    return JobOver("job1", home, state)


def jobs_of_a_host(around: Around) -> Jobs:
    """Of `n1`, which hosts task a; n3 hosts b, home1 is home."""
    jobs, spec = Jobs(around, RunQueue(8), Transfers("n1")), job_spec(CHAIN)
    jobs.create(signed(spec), spec, VERSION, 0.0)
    jobs.local["job1"].job.merge([reg("a", "n1"), reg("b", "n3")])
    return jobs


def test_a_host_believes_its_home_that_the_job_is_over() -> None:
    jobs = jobs_of_a_host(Around("n1"))
    jobs.on_message("home1", over(), 1.0)
    assert not jobs.local
    assert jobs.past["job1"].job.over == "completed"


def test_of_a_node_that_takes_no_part_in_a_job_nothing_is_believed_about_it() -> None:
    jobs = jobs_of_a_host(Around("n1"))
    before = jobs.local["job1"].execution.finished.to_intervals()
    with pytest.raises(PeerError):
        jobs.on_message("n2", over(), 1.0)
    with pytest.raises(PeerError):
        jobs.on_message("n2", over(state="cancelled"), 1.0)
    assert jobs.on_message("n2", Finished("job1", VERSION, [(VERSION, [(1, 9)])]), 1.0) == []
    assert jobs.local["job1"].execution.finished.to_intervals() == before


def test_what_another_host_says_of_the_end_is_asked_of_the_home_that_lives() -> None:
    jobs = jobs_of_a_host(Around("n1"))
    [(to, question)] = sent(jobs.on_message("n3", over(), 1.0) or [], RegisterDigest)
    assert (to, question.job) == ("home1", "job1")
    assert "job1" in jobs.local
    jobs.on_message("home1", over(), 2.0)
    assert "job1" not in jobs.local


def test_another_host_is_believed_about_the_end_when_the_home_knows_nothing_of_the_job_or_is_gone() -> None:
    forgetful = jobs_of_a_host(Around("n1"))
    forgetful.on_message("n3", over(state="failed"), 1.0)
    forgetful.on_message("home1", JobUnknown("job1"), 2.0)
    assert forgetful.past["job1"].job.over == "failed"
    around = Around("n1")
    around.gone.add("home1")
    orphaned = jobs_of_a_host(around)
    orphaned.on_message("n3", over(state="failed"), 1.0)
    assert orphaned.past["job1"].job.over == "failed"


def test_a_home_is_not_cancelled_by_a_host() -> None:
    jobs = jobs_with_a_home()
    jobs.local["job1"].job.merge([reg("a", "n2"), reg("b", "n3")])
    for src in ("n3", "n4"):
        jobs.on_message(src, over(HomeVersion(1, "n1", 1), "cancelled"), 1.0)
    assert jobs.local["job1"].job.over == ""
    jobs.on_message("n3", over(HomeVersion(2, "n3", 1), "cancelled"), 1.0)
    assert jobs.local["job1"].job.over == "cancelled", "the home of another half may"


@pytest.mark.parametrize(("src", "node", "task", "believed"), [
    ("n3", "n3", "b", True), ("n3", "n2", "b", False), ("n2", "n2", "b", False), ("n3", "n3", "z", False),
])  # fmt: skip
def test_an_item_is_failed_only_by_a_host_of_the_jobs_tasks(src: str, node: str, task: str, believed: bool) -> None:
    jobs = jobs_with_a_home()
    jobs.local["job1"].job.merge([reg("a", "n1"), reg("b", "n3")])
    home = jobs.local["job1"].home
    assert home is not None
    home.put([("i", small(b"1"))], "", False, 0.0)
    letter = ItemFailed("job1", "i", task, node, 3, "error", "why")
    if believed:
        jobs.on_message(src, letter, 1.0)
    else:
        with pytest.raises(PeerError):
            jobs.on_message(src, letter, 1.0)
    assert home.items["i"].state == ("failed" if believed else "running")


def test_files_are_injected_only_from_where_tasks_run_that_make_some() -> None:
    jobs = jobs_with_a_home()
    jobs.local["job1"].job.merge([reg("a", "n1"), reg("b", "n3")])
    for src, task in (("n2", "home"), ("n3", "b")):
        with pytest.raises(PeerError):
            jobs.on_message(src, Inject("job1", 1, task, "a", small(b"1", "f")), 1.0)
    jobs.on_message("n3", Inject("job1", 1, "home", "a", small(b"1", "f")), 1.0)
    assert list(jobs.local["job1"].home.items) == ["f"]  # type: ignore[union-attr]


FORGED = Obj("o", sha256(b"right").digest(), 5, b"wrong")
SHORT = Obj("o", sha256(b"right").digest(), 6, b"right")


@pytest.mark.parametrize("lie", [FORGED, SHORT])
def test_bytes_that_are_not_what_their_digest_says_are_refused_where_they_come_in(lie: Obj) -> None:
    jobs = jobs_of_a_host(Around("n1"))
    with pytest.raises(PeerError):
        jobs.on_message("home1", parcel("home", "a", objects=[lie]), 1.0)
    assert jobs.local["job1"].execution.check() is None
    home = jobs_with_a_home()
    with pytest.raises(PeerError):
        home.on_message("n1", Inject("job1", 1, "home", "a", lie), 1.0)
    item = Item("i", (VERSION, 1), {"a": [small(b"1")]}, 1.0, state="done", results=[("b", lie)])
    with pytest.raises(PeerError):
        records.to_item(records.plain(item))
