"""What goes in time, and what never does."""

from __future__ import annotations

from job_rig import CHAIN, VERSION, Around, job_spec, large, of_type, parcel, place, signed

from jupiter_agent.core.effects import Append, DropObject, Notice
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages.jobs import Deputies, HomeVersion, JobOver
from jupiter_agent.core.retention import (
    BUNDLES_KEPT_FULL_S,
    BUNDLES_KEPT_S,
    HOME_AFTER_COPIES_S,
    JOBS_KEPT_S,
    LOOK_S,
)
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.shelf import Shelf
from jupiter_agent.core.transfer import LINGER_S, Transfers

BUNDLE = b"B" * 32
RESULT = large(b"result")


def node(me: str) -> Jobs:
    jobs = Jobs(Around(me), RunQueue(8), Transfers(me))
    jobs.transfers.on_stored(ObjectStored(BUNDLE, 10), 0.0)
    return jobs


def a_home() -> Jobs:
    """Of a job that is over since 1.0, with one result."""
    jobs, spec = node("home1"), job_spec(CHAIN)
    local = jobs.create_home(signed(spec), spec, VERSION, 0.0)
    place(local.job, a="home1", b="home1")
    jobs.need_bundle(local, "home1", 0.0)
    home = local.home
    assert home is not None
    home.begin(0.0)
    home.put([("i", large(b"input"))], "", False, 0.0)
    jobs.transfers.on_stored(ObjectStored(RESULT.sha256, RESULT.size), 0.5)
    jobs.on_message("home1", parcel("b", "home", objects=[RESULT]), 1.0)
    jobs.settle(local, home.close(1.0), 1.0)
    jobs.on_deadline(1.0)
    assert (local.job.over, jobs.transfers.needs(RESULT.sha256)) == ("completed", True)
    return jobs


def dropped(jobs: Jobs, now: float) -> set[bytes]:
    return {effect.sha256 for effect in of_type(jobs.transfers.on_deadline(now + LINGER_S), DropObject)}


def test_a_job_that_is_over_is_forgotten_with_its_results_after_a_month_and_not_before() -> None:
    jobs = a_home()
    last = 1.0 + JOBS_KEPT_S + HOME_AFTER_COPIES_S
    jobs.retention.on_deadline(last - LOOK_S)
    assert "job1" in jobs.local
    effects = jobs.retention.on_deadline(last + LOOK_S)
    assert [effect.record[2] for effect in of_type(effects, Append)] == ["freed"]
    assert [effect.event for effect in of_type(effects, Notice)] == ["job forgotten"]
    assert (jobs.local, jobs.homed) == ({}, 0)
    assert RESULT.sha256 in dropped(jobs, last + LOOK_S)


def test_a_job_that_goes_on_is_never_forgotten() -> None:
    jobs, spec = node("home1"), job_spec(CHAIN)
    jobs.create_home(signed(spec), spec, VERSION, 0.0)
    assert jobs.retention.on_deadline(10 * JOBS_KEPT_S) == []
    assert "job1" in jobs.local


def test_what_was_forgotten_stays_so_over_a_restart() -> None:
    jobs = a_home()
    made = [record for home in jobs.homes() for record in home.records()]
    records = [(*head, value() if callable(value) else value) for *head, value in made]
    again = node("home1")
    again.succession.replay([*records, ("home", "job1", "freed", None)], 5.0)
    assert (again.local, again.homed) == ({}, 0)


def test_copies_of_a_job_that_is_over_go_before_its_home_forgets_it() -> None:
    jobs, spec = node("n1"), job_spec(CHAIN)
    shelf = jobs.succession.shelves["job1"] = Shelf(signed(spec), VERSION, Deputies(1, ["n1"]))
    jobs.succession.receiving.want_bundle(shelf, "home1", 0.0)
    assert jobs.retention.on_deadline(JOBS_KEPT_S + 2 * LOOK_S) == [], "it goes on"
    shelf.apply("over", "completed", from_home=True)
    effects = jobs.retention.on_deadline(JOBS_KEPT_S + 4 * LOOK_S)
    assert [effect.record[:3] for effect in of_type(effects, Append)] == [("copy", "job1", "freed")]
    assert not jobs.succession.shelves
    assert 4 * LOOK_S < HOME_AFTER_COPIES_S


def a_host() -> Jobs:
    """Of a job that ended at 1.0."""
    jobs, spec = node("n1"), job_spec(CHAIN)
    local = jobs.create(signed(spec), spec, VERSION, 0.0)
    jobs.need_bundle(local, "home1", 0.0)
    jobs.on_message("home1", JobOver("job1", VERSION, "completed"), 1.0)
    assert not jobs.local
    return jobs


def test_a_bundle_stays_for_a_week_after_its_last_job_and_is_opened_anew_for_a_later_one() -> None:
    jobs = a_host()
    jobs.retention.on_deadline(LOOK_S)
    jobs.retention.on_deadline(BUNDLES_KEPT_S - LOOK_S)
    assert BUNDLE not in dropped(jobs, BUNDLES_KEPT_S - LOOK_S)
    jobs.retention.on_deadline(BUNDLES_KEPT_S + LOOK_S)
    assert BUNDLE in dropped(jobs, BUNDLES_KEPT_S + LOOK_S)
    assert jobs.retention.next_deadline() > BUNDLES_KEPT_S
    spec = job_spec(CHAIN)
    local = jobs.create(signed(spec), spec, HomeVersion(2, "home1", 1), BUNDLES_KEPT_S + 2 * LOOK_S)
    assert jobs.need_bundle(local, "home1", BUNDLES_KEPT_S + 2 * LOOK_S), "it is fetched again"


def test_a_bundle_goes_sooner_where_the_disk_is_nearly_full_and_never_under_a_job() -> None:
    jobs = a_host()
    jobs.around.profiles["n1"] = {"full": True}  # type: ignore[attr-defined]
    jobs.retention.on_deadline(LOOK_S)
    jobs.retention.on_deadline(BUNDLES_KEPT_FULL_S + LOOK_S)
    assert BUNDLE in dropped(jobs, BUNDLES_KEPT_FULL_S + LOOK_S)
    busy, spec = node("n1"), job_spec(CHAIN)
    busy.need_bundle(busy.create(signed(spec), spec, VERSION, 0.0), "home1", 0.0)
    for turn in range(1, 5):
        busy.retention.on_deadline(turn * BUNDLES_KEPT_S)
    assert BUNDLE not in dropped(busy, 5 * BUNDLES_KEPT_S)
