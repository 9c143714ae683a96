from hashlib import sha256
from typing import Any

import pytest
from job_rig import CHAIN, Around, make_job, of_type, sent, signed

from jupiter_agent.core.board import Board
from jupiter_agent.core.control import HERE, TAKEN_OVER_S, Control
from jupiter_agent.core.effects import Effect, ReadLog
from jupiter_agent.core.estimate import Links
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.ledger import Issued
from jupiter_agent.core.listing import resolve
from jupiter_agent.core.messages.control import Answer, BlobWrite, Call, LogChunk
from jupiter_agent.core.messages.jobs import ChunkRequest, HomeVersion
from jupiter_agent.core.nodes import Nodes
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler
from jupiter_agent.core.published import Published
from jupiter_agent.core.relay import FORWARD_S, GATHER_S
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.submission import Submissions
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.wire import encode
from jupiter_agent.errors import EXIT_UNREACHABLE, EXIT_USAGE, UsageError

CLIENT = "client:1"


class Empty:
    """A membership that knows nobody."""

    def members(self) -> dict[str, Any]:
        return {}


class Rig:
    """Control at one node; `homes` are jobs that have their home here."""

    def __init__(self, me: str = "n1", nodes: tuple[str, ...] = ("n2",), homes: tuple[str, ...] = ()) -> None:
        self.around = Around(me, nodes)
        self.jobs = Jobs(self.around, RunQueue(4), Transfers(me))
        for job in homes:
            made = make_job(CHAIN, id=job, name=f"name-of-{job}")
            self.jobs.create_home(signed(made.spec), made.spec, HomeVersion(1, me, 1), 0.0)
        links = Links()
        profiler = ExecProfiler(self.around, self.jobs)
        nodes_view = Nodes(me, Empty(), links, Published(Board()))
        self.control = Control(
            self.around,
            self.jobs,
            Submissions(self.around, self.jobs, links, profiler),
            nodes_view,
            lambda *_: Issued("T"),
        )
        self.control.profiler = profiler

    def call(self, verb: str, src: str = CLIENT, seq: int = 9, now: float = 0.0, **args: Any) -> list[Effect]:
        return self.control.on_call(src, Call(seq, verb, args), now)


def answer(effects: list[Effect], to: str = CLIENT) -> Answer:
    [(node, message)] = sent(effects, Answer)
    assert node == to
    return message


def asked(effects: list[Effect]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(node, m.verb, m.args) for node, m in sent(effects, Call)]


def row(job: str, **more: Any) -> dict[str, Any]:
    return {"id": job, "name": "x", "app": "x", "home": "n2", "submitted_at": 1.0, **more}


@pytest.mark.parametrize(
    ("verb", "args", "word"),
    [
        ("dance", {}, "does not know 'dance'"),
        ("get", {"kind": "cats"}, "cats"),
        ("describe", {"kind": "cat"}, "cat"),
        ("results", {"job": ""}, "which job"),
    ],
)
def test_what_nobody_knows_is_a_usage_error(verb, args, word):
    told = answer(Rig().call(verb, **args))
    assert (told.exit_code, word in told.error) == (EXIT_USAGE, True), told.error


def test_a_job_whose_home_just_died_is_looked_for_until_the_others_know_it():
    rig = Rig(nodes=("n2", "n3"))
    rig.around.gone.add("n3")
    rig.control.on_members(1.0)
    [(_, question)] = sent(rig.call("get", kind="jobs", id="job1", now=1.1), Call)
    told = rig.control.on_answer("n2", Answer(question.seq, 0, {"items": []}), 1.2)
    assert not sent(told, Answer), "n2 does not know of the death yet"
    [(_, again)] = sent(rig.control.on_deadline(rig.control.next_deadline()), Call)
    told = rig.control.on_answer("n2", Answer(again.seq, 0, {"items": []}), 1.0 + TAKEN_OVER_S)
    assert answer(told).exit_code == EXIT_USAGE, "by now somebody would be home"


def test_a_call_about_a_job_whose_home_is_here_is_answered_here():
    told = answer(Rig(homes=("job1",)).call("get", kind="jobs", id="job1"))
    assert [item["id"] for item in told.body["items"]] == ["job1"]


def test_all_jobs_are_those_of_all_homes_oldest_first():
    rig = Rig(homes=("job1",))
    effects = rig.call("get", kind="jobs")
    [(node, verb, args)] = asked(effects)
    assert (node, verb, args[HERE]) == ("n2", "get", True)
    [(_, question)] = sent(effects, Call)
    effects = rig.control.on_answer("n2", Answer(question.seq, 0, {"items": [row("early"), row("job1")]}), 0.1)
    assert [item["id"] for item in answer(effects).body["items"]] == ["early", "job1"]


def test_who_does_not_answer_in_time_is_left_out():
    rig = Rig(homes=("job1",))
    rig.call("get", kind="jobs", now=1.0)
    assert rig.control.next_deadline() == 1.0 + GATHER_S
    effects = rig.control.on_deadline(1.0 + GATHER_S)
    assert [item["id"] for item in answer(effects).body["items"]] == ["job1"]
    assert answer(effects).body["missing"] == [rig.around.name("n2")]


def test_an_answer_that_was_not_asked_for_is_ignored():
    rig = Rig(nodes=("n2", "n3"))
    effects = rig.call("get", kind="jobs")
    [(_, question), _] = sent(effects, Call)
    assert rig.control.on_answer("n9", Answer(question.seq, 0, {"items": []}), 0.1) == []
    assert rig.control.on_answer("n2", Answer(999, 0, {"items": []}), 0.1) == []
    assert rig.control.on_answer("n2", Answer(question.seq, 0, {"items": []}), 0.1) == []
    assert rig.control.on_answer("n2", Answer(question.seq, 0, {"items": []}), 0.1) == [], "twice is once"
    assert answer(rig.control.on_answer("n3", Answer(question.seq, 0, {"items": []}), 0.1)).body == {"items": []}


def found_elsewhere(rig: Rig, verb: str, **args: Any) -> Call:
    """Ask about a job whose home is n2, up to the call that is passed on."""
    [(_, question)] = sent(rig.call(verb, **args), Call)
    effects = rig.control.on_answer("n2", Answer(question.seq, 0, {"items": [row("job7")]}), 0.1)
    [(node, call)] = sent(effects, Call)
    assert node == "n2"
    return call


def test_a_call_about_another_nodes_job_is_passed_on_and_so_is_its_answer():
    rig = Rig()
    call = found_elsewhere(rig, "get", kind="tasks", id="last/a")
    assert (call.verb, call.args["id"], call.args[HERE]) == ("get", "job7/a", True)
    effects = rig.control.on_answer("n2", Answer(call.seq, 0, {"items": [1]}), 0.2)
    told = answer(effects)
    assert (told.seq, told.body) == (9, {"items": [1]})


def test_a_home_that_does_not_answer_is_unreachable():
    rig = Rig()
    found_elsewhere(rig, "cancel", job="job7")
    told = answer(rig.control.on_deadline(0.1 + FORWARD_S))
    assert (told.seq, told.exit_code) == (9, EXIT_UNREACHABLE)


def test_a_call_that_was_passed_on_never_travels_further():
    rig = Rig()
    told = answer(rig.call("cancel", "n2", job="job7", **{HERE: True}), "n2")
    assert told.exit_code == EXIT_UNREACHABLE


def test_references_are_ids_last_unique_prefixes_or_the_newest_of_a_name():
    rows = [row("aa1", name="n"), row("ab2", name="n"), row("b3", name="m")]
    assert [resolve(ref, rows)["id"] for ref in ("last", "aa1", "aa", "b", "n", "m")] == [
        "b3", "aa1", "aa1", "b3", "ab2", "b3",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="several") as refused:
        resolve("a", rows)
    assert "aa1, ab2" in refused.value.hint
    for ref in ("", "zz"):
        with pytest.raises(UsageError, match="no job"):
            resolve(ref, rows)
    with pytest.raises(UsageError, match="no job"):
        resolve("last", [])


# --- bytes -----------------------------------------------------------------------------------------------------------


def blob(data: bytes, seq: int = 1) -> BlobWrite:
    return BlobWrite(seq, sha256(data).digest(), len(data), 0, data)


def test_a_small_upload_is_put_with_its_bytes_at_the_home_elsewhere():
    rig = Rig()
    rig.control.uploads.on_blob(CLIENT, blob(b"small"), 0.0)
    entry = {"name": "i", "sha256": sha256(b"small").hexdigest(), "size": 5}
    call = found_elsewhere(rig, "put", job="job7", inputs=[entry])
    assert call.args["inputs"][0]["data"] == b"small"


def test_a_put_that_was_passed_on_waits_for_its_large_bytes():
    rig = Rig(homes=("job1",))
    digest = sha256(b"large").digest()
    entry = {"name": "i", "sha256": digest.hex(), "size": 10**6}
    effects = rig.call("put", "n2", job="job1", inputs=[entry], **{HERE: True})
    assert {node for node, _ in sent(effects, ChunkRequest)} == {"n2"}
    assert sent(effects, Answer) == []
    event = ObjectStored(digest, 10**6)
    rig.jobs.on_stored(event, 1.0)
    told = answer(rig.control.on_stored(event, 1.0), "n2")
    assert told.body["accepted"] == ["i"]


def test_a_put_whose_bytes_do_not_come_is_refused_in_time():
    rig = Rig(homes=("job1",))
    entry = {"name": "i", "sha256": "ab" * 32, "size": 10**6}
    rig.call("put", "n2", now=2.0, job="job1", inputs=[entry], **{HERE: True})
    told = answer(rig.control.on_deadline(2.0 + FORWARD_S), "n2")
    assert told.exit_code == EXIT_UNREACHABLE


def test_a_put_of_bytes_that_never_came_is_refused_at_once():
    rig = Rig(homes=("job1",))
    told = answer(rig.call("put", job="job1", inputs=[{"name": "i", "sha256": "ab" * 32, "size": 10**6}]))
    assert (told.exit_code, "submit it again" in told.hint) == (EXIT_USAGE, True)


def test_results_that_another_node_has_can_be_fetched_here():
    rig = Rig()
    call = found_elsewhere(rig, "results", job="job7")
    digest = sha256(b"result").digest()
    item = {"name": "i", "state": "done", "results": [{"sink": "b", "name": "o", "sha256": digest.hex(), "size": 6}]}
    body = {"job": "job7", "state": "completed", "home": "n2", "items": [item]}
    assert answer(rig.control.on_answer("n2", Answer(call.seq, 0, body), 0.2)).body["items"] == [item]
    effects = rig.jobs.transfers.on_request(CLIENT, ChunkRequest(digest, 0, 6), 0.3)
    assert {node for node, _ in sent(effects, ChunkRequest)} == {"n2"}


# --- logs, events, token ---------------------------------------------------------------------------------------------


def test_a_log_is_read_here_and_answered_once():
    rig = Rig()
    effects = rig.call("read-log", job="job1", task="a", offset=3, length=10)
    [read] = of_type(effects, ReadLog)
    assert (read.dst, read.job, read.task, read.offset, read.length) == ("n1", "job1", "a", 3, 10)
    chunk = LogChunk(read.seq, 3, 5, b"hi")
    assert answer(rig.control.on_log("n1", chunk, 1.0)).body == {"data": b"hi", "end": 5}
    assert rig.control.on_log("n1", chunk, 1.0) == []


def test_events_are_numbered_and_given_from_where_one_asks():
    rig = Rig()
    for name in "abc":
        rig.control.note({"event": name})
    body = answer(rig.call("events", since=1)).body
    assert ([event["event"] for event in body["events"]], body["next"]) == (["b", "c"], 3)


def test_the_token_is_told_to_who_asks():
    assert answer(Rig().call("token")).body == {"token": "T"}


def test_a_list_of_another_home_that_comes_in_pages_is_asked_for_to_its_end():
    rig = Rig()
    [(_, question)] = sent(rig.call("get", kind="jobs"), Call)
    effects = rig.control.on_answer("n2", Answer(question.seq, 0, {"items": [row("a")], "next": 1}), 0.1)
    [(node, again)] = sent(effects, Call)
    assert (node, again.seq, again.args) == ("n2", question.seq, {**question.args, "offset": 1})
    effects = rig.control.on_answer("n2", Answer(question.seq, 0, {"items": [row("b")]}), 0.2)
    assert [item["id"] for item in answer(effects).body["items"]] == ["a", "b"]


def test_a_list_too_long_for_a_frame_is_answered_in_pages():
    rig = Rig(nodes=())
    rows = [row(f"job{n:04}", mapping={"t": "x" * 500}) for n in range(3300)]
    rig.control._job_rows = lambda: rows
    found, offset = [], 0
    while offset is not None:
        body = answer(rig.call("get", kind="jobs", offset=offset)).body
        encode(Answer(9, 0, body))
        found += [item["id"] for item in body["items"]]
        offset = body.get("next")
    assert found == [each["id"] for each in rows]
