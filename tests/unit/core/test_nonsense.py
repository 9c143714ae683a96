"""What members and clients may say that has no sense: each was once the end of the agent that was told it."""

import tracemalloc
from hashlib import sha256

import msgspec
import pytest
from job_rig import CHAIN, VERSION, Around, job_spec, make_job, reg, sent, signed

from jupiter_agent.core import wire
from jupiter_agent.core.board import Board, to_data
from jupiter_agent.core.call_shapes import check_args
from jupiter_agent.core.control import Control
from jupiter_agent.core.estimate import Links
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.job import decode_spec
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.ledger import Issued
from jupiter_agent.core.messages.control import BlobWrite
from jupiter_agent.core.messages.jobs import (
    CHUNK_BYTES,
    EPOCH_MAX,
    Award,
    ChunkRequest,
    Finished,
    JobOver,
    Obj,
    Parcel,
    Registers,
    TaskReport,
)
from jupiter_agent.core.messages.membership import Value
from jupiter_agent.core.nodes import Nodes
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler
from jupiter_agent.core.published import Published
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.submission import Submissions
from jupiter_agent.core.surroundings import Profile
from jupiter_agent.core.transfer import WINDOW, Transfers
from jupiter_agent.core.uploads import Uploads
from jupiter_agent.errors import CapacityError, PeerError, UsageError

FINISHED = Finished("j", VERSION, [])


def refused(tag: int, *fields: object) -> str:
    with pytest.raises(PeerError) as caught:
        wire.decode(msgspec.msgpack.encode([tag, *fields]))
    return caught.value.message


# --- messages ----------------------------------------------------------------------------------------------------


def test_an_interval_that_ends_before_it_starts_is_malformed():
    assert refused(36, "j", VERSION, [(VERSION, [(5, 1)])]) == wire.MALFORMED
    assert wire.decode(wire.encode(FINISHED)) == FINISHED


def test_a_job_ends_completed_failed_or_cancelled_and_in_no_other_way():
    assert refused(39, "j", VERSION, "over") == wire.MALFORMED
    assert refused(39, "j", VERSION, "completed\n") == wire.MALFORMED
    assert wire.decode(wire.encode(JobOver("j", VERSION, "failed"))).state == "failed"


@pytest.mark.parametrize("size", [-1, (1 << 38) + 1, 1 << 50, 1 << 60, (1 << 64) - 1])
def test_no_object_is_larger_than_a_store_takes(size):
    assert refused(34, "j", "i", "a", "b", b"1" * 8, {}, [Obj("f", b"9" * 32, size)]) == wire.MALFORMED
    with pytest.raises(UsageError):
        check_args("put", {"inputs": [{"name": "i", "sha256": "0" * 64, "size": size}], "_here": True})


@pytest.mark.parametrize("number", [-1, 1 << 53, (1 << 64) - 1])
def test_no_epoch_is_so_large_that_the_next_one_cannot_be_sent(number):
    assert refused(32, "j", VERSION, [reg("a", "n1", epoch=number)]) == wire.MALFORMED
    assert refused(32, "j", VERSION, [reg("a", "n1", basis=number)]) == wire.MALFORMED
    assert refused(32, "j", VERSION, [reg("a", "n1", boot=number)]) == wire.MALFORMED


def test_the_highest_epoch_there_is_can_still_be_written_over_and_sent():
    job = make_job(CHAIN)
    job.merge([reg("a", "n1", epoch=EPOCH_MAX)])
    news = Registers(job.id, job.home, [job.write("a", "n2", ("n1", 1), "")])
    assert wire.decode(wire.encode(news)) == news


def test_a_sum_that_cannot_be_sent_is_too_large_not_a_crash():
    with pytest.raises(CapacityError):
        wire.encode(TaskReport("j", "n", 1 << 70, []))


# --- awards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"bogus": 1.0}},
        {"weights": {"cpu": -1.0}},
        {"seconds": {"a": float("nan")}},
        {"bundle_size": 1 << 60},
        {"ports": ["80:http"]},
        {"ports": ["0:80"]},
        {"id": "../../x"},
        {"edge_bytes": {"a>b": 1 << 60}},
    ],
)
def test_a_spec_without_sense_is_a_peers_mistake(change):
    with pytest.raises(PeerError):
        decode_spec(signed(job_spec(CHAIN, **change)))


def test_an_award_whose_tasks_form_no_dag_is_a_peers_mistake_and_makes_no_job():
    jobs = Jobs(Around("n1"), RunQueue(1), Transfers("n1"))
    for children in (["a"], ["nobody"]):
        spec = job_spec(CHAIN)
        spec = msgspec.structs.replace(spec, tasks=[msgspec.structs.replace(spec.tasks[0], children=children)])
        with pytest.raises(PeerError):
            jobs.on_message("home1", Award(signed(spec), VERSION, []), 0.0)
    assert not jobs.local


def test_parents_follow_from_the_children_whatever_a_spec_says_of_them():
    spec = job_spec(CHAIN)
    liars = [msgspec.structs.replace(task, parents=["nobody"]) for task in spec.tasks]
    job = make_job(CHAIN, tasks=liars)
    assert {name: task.parents for name, task in job.tasks.items()} == {"a": [], "b": ["a"]}
    assert job.controllers == {"a": None, "b": "a"}


# --- transfers and uploads ---------------------------------------------------------------------------------------


def test_a_fetch_of_a_huge_object_keeps_its_window_and_no_list_of_chunks():
    transfers = Transfers("me")
    tracemalloc.start()
    began = tracemalloc.get_traced_memory()[0]
    effects = transfers.want(b"9" * 32, 1 << 38, ["n2", "n3"], 0.0)
    grown = tracemalloc.get_traced_memory()[1] - began
    tracemalloc.stop()
    assert len(sent(effects, ChunkRequest)) == WINDOW
    assert grown < 100_000


def test_what_a_source_owes_is_asked_for_first_at_the_next_one():
    transfers = Transfers("me")
    transfers.want(b"9" * 32, 100 * CHUNK_BYTES, ["n2", "n3"], 0.0)
    again = sent(transfers.on_deadline(transfers.next_deadline()), ChunkRequest)
    assert [(node, m.offset) for node, m in again] == [("n3", k * CHUNK_BYTES) for k in range(WINDOW)]


def test_small_bytes_under_a_false_digest_are_not_kept_at_hand():
    uploads = Uploads(Transfers("me"))
    false, true = sha256(b"other").digest(), sha256(b"bytes").digest()
    for digest in (false, true):
        uploads.on_blob("client:1", BlobWrite(1, digest, 5, 0, b"bytes"), 0.0)
    rows = uploads.with_bytes({"inputs": [{"sha256": false.hex()}, {"sha256": true.hex()}]})["inputs"]
    assert [row.get("data") for row in rows] == [None, b"bytes"]


# --- calls -------------------------------------------------------------------------------------------------------


class Rig:
    """Control at n1, with a bundle of ten bytes in its store."""

    def __init__(self) -> None:
        self.around = Around("n1")
        self.jobs = Jobs(self.around, RunQueue(1), Transfers("n1"))
        self.bundle = b"B" * 32
        self.jobs.on_stored(ObjectStored(self.bundle, 10), 0.0)
        self.submissions = Submissions(self.around, self.jobs, Links(), ExecProfiler(self.around, self.jobs))
        nodes = Nodes("n1", Nobody(), Links(), Published(Board()))
        self.control = Control(self.around, self.jobs, self.submissions, nodes, lambda *_: Issued("T"))

    def submit(self, **args: object) -> None:
        given = {"bundle": self.bundle.hex(), "size": 10, "app": "app", **args}
        self.control.submit("client:1", 1, given, 0.0)


class Nobody:
    def members(self) -> dict:
        return {}


@pytest.mark.parametrize("args", [{"seed": "9" * 30}, {"seed": 1 << 63}, {"size": 1 << 60}, {"size": -1}])
def test_a_submission_with_a_senseless_number_is_refused(args):
    with pytest.raises(UsageError):
        Rig().submit(**args)


def test_a_submission_that_mistakes_the_size_of_its_bundle_is_refused():
    with pytest.raises(UsageError, match="another size"):
        Rig().submit(size=11)
    Rig().submit(size=10)


def test_an_input_in_the_store_that_is_said_to_have_another_size_is_refused():
    rig = Rig()
    digest = sha256(b"input").digest()
    rig.jobs.on_stored(ObjectStored(digest, 100_000), 0.0)
    rig.submit(inputs=[{"name": "i", "sha256": digest.hex(), "size": 99_999}])
    [submission] = rig.submissions._open.values()
    with pytest.raises(UsageError, match="another size"):
        rig.submissions._inputs(submission)


# --- what members publish ----------------------------------------------------------------------------------------


def published(**values: object) -> Published:
    board = Board()
    for version, (key, value) in enumerate(values.items(), 1):
        board.put(Value("n2", key, 1, version, to_data(value)))  # type: ignore[arg-type]
    return Published(board)


@pytest.mark.parametrize(
    "resources", [{"speed": 0}, {"speed": "x"}, {"speed": 1e30}, {"load": [1]}, {"cpus": 0}, {"memory_used": 7}]
)
def test_resources_without_sense_never_reach_a_mapper_and_are_counted_once(resources):
    told = published(resources=resources)
    assert [told.profile("n2"), told.profile("n2")] == [Profile(), Profile()]
    assert told.resources("n2") == {}
    assert told.senseless == 1


def test_resources_are_as_published_when_they_make_sense():
    told = published(resources={"speed": 2, "cpus": 8, "load": 0.5, "queue": 3, "draining": True})
    assert told.profile("n2").draining
    assert (told.profile("n2").speed, told.profile("n2").cpus, told.profile("n2").memory_used) == (2.0, 8.0, 0.0)
    assert told.resources("n2")["queue"] == 3
    assert told.profile("n3") == Profile()
    assert told.senseless == 0


@pytest.mark.parametrize("links", [{"n1": 5}, {"n1": ["a", "b"]}, {"n1": [-1.0, 1.0]}, {"n1": [0.1]}])
def test_links_without_sense_are_no_links(links):
    told = published(links=links)
    assert (told.links("n2"), told.senseless) == ({}, 1)


def test_links_may_say_more_in_a_later_version():
    assert published(links={"n1": [0.1, 1e6, 3]}).links("n2") == {"n1": (0.1, 1e6)}


def test_a_senseless_count_of_jobs_is_none():
    assert published(jobs={"homed": "x"}).homed("n2") == 0
    assert published(jobs={"homed": 3}).homed("n2") == 3


def test_a_parcel_within_all_bounds_passes():
    parcel = Parcel("j", "i", "a", "b", b"1" * 8, {}, [Obj("f", b"9" * 32, 1 << 38)], (VERSION, EPOCH_MAX))
    assert wire.decode(wire.encode(parcel)) == parcel
