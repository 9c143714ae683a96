"""Who is believed when a message names the home of a job."""

from __future__ import annotations

import pytest
from job_rig import CHAIN, Around, job_spec, signed

from jupiter_agent.core.job import LEAP
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import Award, Deputies, HomeNews, HomeVersion, Registers
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
