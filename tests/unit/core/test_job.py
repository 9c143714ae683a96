import pytest
from job_rig import CHAIN, DIAMOND, VERSION, Around, job_spec, make_job, place, reg, signed

from jupiter_agent.core.job import LEAP, NAMED, decode_spec
from jupiter_agent.core.messages.jobs import EPOCH_MAX, HomeVersion, SignedSpec
from jupiter_agent.errors import PeerError


def test_a_spec_survives_the_wire_and_garbage_is_a_peers_mistake():
    spec = job_spec(DIAMOND)
    assert decode_spec(signed(spec)) == spec
    with pytest.raises(PeerError, match="does not decode"):
        decode_spec(SignedSpec(b"garbage", "n", b""))


def test_the_higher_register_wins_whatever_comes_first():
    older, newer = reg("a", "n1", epoch=1), reg("a", "n2", epoch=2)
    one, two = make_job(CHAIN), make_job(CHAIN)
    assert one.merge([older, newer]) == [older, newer]
    assert two.merge([newer, older]) == [newer]
    assert one.registers == two.registers == {"a": newer}
    assert one.digest() == two.digest()


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (reg("a", "n1", basis=1, epoch=9), reg("a", "n2", basis=2, epoch=1)),
        (reg("a", "n1", writer="x"), reg("a", "n2", writer="y")),
        (reg("a", "n1", boot=1), reg("a", "n2", boot=2)),
    ],
)
def test_the_basis_counts_first_then_epoch_writer_and_boot(lower, higher):
    job = make_job(CHAIN)
    job.merge([higher, lower])
    assert job.registers["a"] == higher


def test_registers_of_unknown_tasks_are_ignored():
    job = make_job(CHAIN)
    assert job.merge([reg("x", "n1")]) == []
    assert (job.registers, job.changes) == ({}, 0)
    job.check()


def test_no_register_and_no_home_leaps_to_an_epoch_that_nobody_could_pass():
    job = make_job(CHAIN)
    job.merge([reg("a", "n1", epoch=5)])
    assert job.merge([reg("a", "bad", epoch=EPOCH_MAX), reg("b", "bad", basis=EPOCH_MAX)]) == []
    assert not job.merge_home(HomeVersion(EPOCH_MAX, "bad", 1))
    assert (job.host("a"), job.host("b"), "bad" in job.participants()) == ("n1", None, False)
    job.merge([reg("a", "bad", epoch=5 + LEAP)])
    assert job.write("a", "n2", ("n1", 1), "").epoch == 6 + LEAP, "a smaller step is made good by the next writer"


def test_what_is_written_wins_over_what_is_known_here():
    job = place(make_job(CHAIN), a="n1")
    job.merge([reg("b", "n1", epoch=7, basis=3)])
    mine = job.write("b", "n2", ("n1", 4), "because")
    assert (mine.basis, mine.epoch, mine.writer, mine.boot) == (3, 8, "n1", 4)
    assert job.host("b") == "n2"


def test_a_write_is_based_on_the_controllers_epoch():
    job = make_job(CHAIN)
    job.merge([reg("a", "n1", epoch=5)])
    assert job.write("b", "n2", ("n1", 1), "").basis == 5
    assert job.write("a", "n2", ("home1", 1), "").basis == VERSION.epoch


def test_who_decides_is_the_host_of_the_controller_and_home_for_entries():
    job = place(make_job(DIAMOND), a="n1", b="n2")
    assert {task: job.controller_host(task) for task in job.tasks} == {
        "a": "home1",
        "b": "n1",
        "c": "n1",
        "d": "n2",
    }
    assert job.ancestry("d") == ["b", "a"]


def test_a_job_is_mapped_when_every_task_has_a_register():
    job = place(make_job(CHAIN), a="n1")
    assert not job.mapped
    place(job, b="n1")
    assert job.mapped
    assert job.hosted_by("n1") == ["a", "b"]


def test_former_hosts_stay_participants_but_are_no_hosts():
    job = place(make_job(CHAIN), a="n1", b="n2")
    job.merge([reg("b", "n3", epoch=2), reg("a", "n9", epoch=0)])
    assert job.hosts() == ["n1", "n3", "home1"]
    assert set(job.participants()) == {"n1", "n2", "n3", "n9", "home1"}


def test_home_tells_only_what_it_wrote():
    job = make_job(CHAIN)
    mine, other = reg("a", "n1"), reg("b", "n2", writer="n1")
    job.merge([mine, other])
    assert job.tellable(Around("home1")) == [mine]
    assert job.tellable(Around("n1")) == [mine, other]


def test_an_ended_job_stays_ended_and_cancelled_beats_completed():
    job = make_job(CHAIN)
    assert job.end("completed")
    assert not job.end("failed")
    assert job.end("cancelled")
    assert not job.end("completed")
    assert job.over == "cancelled"


def test_only_a_higher_home_version_is_taken():
    job = make_job(CHAIN)
    assert not job.merge_home(VERSION)
    assert job.merge_home(HomeVersion(2, "n1", 1))
    assert job.host("home") == "n1"


def test_the_digest_tells_registers_and_home_apart():
    jobs = [make_job(CHAIN), place(make_job(CHAIN), a="n1"), place(make_job(CHAIN), a="n2"), make_job(CHAIN)]
    jobs[3].merge_home(HomeVersion(2, "n1", 1))
    assert len({job.digest() for job in jobs}) == 4


def test_of_nodes_that_took_part_once_the_last_ones_are_told_and_those_that_do_now_always():
    job = place(make_job(CHAIN), a="n1", b="n2")
    job.involve([f"old{n}" for n in range(NAMED + 10)])
    told = job.participants()
    assert {"n1", "n2", "home1", f"old{NAMED + 9}"} <= set(told)
    assert "old0" not in told
    assert len(told) <= NAMED + 3
