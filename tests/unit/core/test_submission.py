from hashlib import sha256
from typing import Any

import msgspec
import pytest
from job_rig import CHAIN, Around, of_type, sent, small, task_specs

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.effects import Append, Effect, Notice, OpenBundle, ProfileApp, Send, Solve
from jupiter_agent.core.estimate import Links
from jupiter_agent.core.events import BundleOpened, Profiled, Solved
from jupiter_agent.core.job import SETTLE_S
from jupiter_agent.core.jobs import Jobs, Local
from jupiter_agent.core.messages.jobs import Award
from jupiter_agent.core.messages.profiling import SampleDone, SampleWanted, TaskProfile
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.submission import Submissions
from jupiter_agent.core.submit_args import DEFAULT_MAPPER, SubmitArgs, mapper_name, to_input
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.views import job_detail
from jupiter_agent.errors import JupiterError, UsageError

BUNDLE = b"B" * 32


class Rig:
    """Submissions at home1, with an opened bundle."""

    def __init__(self, nodes: tuple[str, ...] = ("n1", "n2"), **app: Any) -> None:
        self.around = Around("home1", nodes)
        self.jobs = Jobs(self.around, RunQueue(4), Transfers("home1"))
        self.jobs.transfers.stored.add(BUNDLE)
        self.profiler = ExecProfiler(self.around, self.jobs)
        self.machine = Submissions(self.around, self.jobs, Links(), self.profiler)
        self.app = AppSpec("app", app.pop("tasks", task_specs(CHAIN)), **app)

    def submit(self, **args: Any) -> list[Effect]:
        """Up to the checked bundle."""
        fields: dict[str, Any] = {"bundle": BUNDLE.hex(), "size": 10, "app": "app", "ep": "off", **args}
        effects = self.machine.begin("client:1", 5, SubmitArgs(**fields), 1.0)
        if of_type(effects, OpenBundle):
            effects += self.machine.on_bundle_opened(BundleOpened(BUNDLE, self.app), 1.1)
        return effects

    def outcome(self) -> Local | JupiterError:
        [(submission, outcome)] = self.machine.finished
        assert (submission.client, submission.seq) == ("client:1", 5)
        return outcome

    def refused(self) -> JupiterError:
        outcome = self.outcome()
        assert isinstance(outcome, JupiterError)
        assert self.jobs.local == {}
        return outcome

    def accepted(self) -> Local:
        outcome = self.outcome()
        assert isinstance(outcome, Local)
        return outcome


def given(name: str, data: bytes = b"x", **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(data).hexdigest(), "size": len(data), "data": data, **more}


def test_an_unknown_mapper_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="'wave-greed'") as refused:
        mapper_name("wave-greed")
    assert refused.value.hint.startswith("did you mean 'wave-greedy'?")
    assert "heft" in refused.value.hint
    assert mapper_name("") == DEFAULT_MAPPER


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mapper": "best"}, "unknown mapper"),
        ({"ep": "never"}, "execution profiling"),
        ({"bundle": "zz"}, "hexadecimal"),
        ({"bundle": "00" * 32}, "did not arrive"),
    ],
)
def test_what_is_wrong_at_first_sight_is_refused_at_once(change, word):
    rig = Rig()
    with pytest.raises(UsageError, match=word):
        rig.submit(**change)
    assert rig.machine.finished == []


def test_a_bundle_that_is_no_app_is_refused_with_the_authors_mistake():
    rig = Rig()
    rig.machine.begin("client:1", 5, SubmitArgs(BUNDLE.hex(), 10, "app", ep="off"), 1.0)
    rig.machine.on_bundle_opened(
        BundleOpened(BUNDLE, None, "app_config.yaml:3: no such child", "did you mean 'b'?"), 1.1
    )
    error = rig.refused()
    assert (error.message, error.hint) == ("app_config.yaml:3: no such child", "did you mean 'b'?")


def test_a_job_is_recorded_before_anybody_hears_of_it_and_mapped_from_its_entries():
    rig = Rig()
    effects = rig.submit(inputs=[given("i")], name="mine", params={"k": "v"}, seed=3, mapper="wave-greedy")
    local = rig.accepted()
    first_award = next(i for i, effect in enumerate(effects) if sent([effect], Award))
    assert [e.record[2] for e in of_type(effects[:first_award], Append)][:3] == ["job", "register", "item"]
    assert (local.job.spec.name, local.job.spec.params, local.job.spec.seed) == ("mine", {"k": "v"}, 3)
    assert set(local.job.registers) == {"a"}
    assert local.home is not None
    with pytest.raises(UsageError, match="closed"):
        local.home.put([("late", small(b"late"))], "", False, 2.0)


def test_intake_stays_open_without_inputs_or_when_asked():
    for args in ({}, {"inputs": [given("i")], "keep_open": True}):
        rig = Rig()
        rig.submit(**args)
        home = rig.accepted().home
        assert home is not None
        assert home.put([("late", small(b"late"))], "", False, 2.0)[1] == ["late"]


def test_two_submits_of_one_bundle_are_two_jobs():
    rig = Rig()
    rig.submit()
    rig.machine.finished.clear()
    assert of_type(rig.submit(), OpenBundle)[:1] in ([], [OpenBundle(BUNDLE)])
    assert len(rig.jobs.local) == 2


@pytest.mark.parametrize(
    ("mapping", "code", "word"),
    [
        ({"a": "n1"}, 2, "lacks tasks: b"),
        ({"a": "n1", "b": "n1", "x": "n1"}, 2, "unknown tasks: x"),
        ({"a": "n1", "b": "gone"}, 3, "'b' wants node 'gone'"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(mapping, code, word):
    rig = Rig()
    rig.submit(mapping=mapping)
    error = rig.refused()
    assert (error.exit_code, word in error.message) == (code, True), error.message


def test_a_static_mapping_is_written_at_once_by_names_or_ids():
    rig = Rig()
    rig.submit(mapping={"a": "name-n1", "b": "n2", "home": "name-home1"})
    local = rig.accepted()
    assert {task: register.node for task, register in local.job.registers.items()} == {"a": "n1", "b": "n2"}
    assert local.home is not None
    assert local.home.mapped_at is not None


def test_a_bad_item_refuses_the_whole_job_and_lets_go_of_all_bytes():
    rig = Rig()
    big = sha256(b"big").digest()
    rig.jobs.transfers.stored.add(big)
    effects = rig.submit(inputs=[{"name": "big", "sha256": big.hex(), "size": 10**6}, given("a/b")])
    assert "a/b" in rig.refused().message
    assert of_type(effects, Append) == []
    assert rig.jobs.queue.committed() == 0
    rig.jobs.transfers.on_deadline(99.0)
    assert rig.jobs.transfers.stored == {BUNDLE}


def test_an_app_is_profiled_once_on_an_input_when_it_brings_no_sample():
    rig = Rig()
    [profile] = of_type(rig.submit(ep="auto", inputs=[given("i")]), ProfileApp)
    assert profile.sample is not None
    assert rig.jobs.local == {}
    rig.profiler.book.on_machine(1.0, 2.0)
    rig.machine.on_profiled(Profiled(profile.job, {"a": 3.0}, {"a>b": 9}, True), 2.0)
    spec = rig.accepted().job.spec
    assert spec.seconds == pytest.approx({"a": 6.0, "b": 6.0}), "at speed 1; what was not seen is as slow as the others"
    assert spec.edge_bytes["a>b"] == 9
    rig.machine.finished.clear()
    assert of_type(rig.submit(ep="auto", inputs=[given("j")]), ProfileApp) == []


def test_a_profile_that_failed_is_no_reason_to_refuse():
    rig = Rig(samples=["samples/one"])
    [profile] = of_type(rig.submit(ep="auto"), ProfileApp)
    assert profile.sample is None
    rig.machine.on_profiled(Profiled(profile.job, {}, {}, False, "timeout"), 2.0)
    assert rig.accepted().job.spec.seconds == {"a": 1.0, "b": 1.0}


def test_a_first_mapping_waits_a_second_for_its_sample_run_which_goes_on():
    rig = Rig(samples=["samples/one"])
    [profile] = of_type(rig.submit(ep="auto"), ProfileApp)
    assert 0 < profile.first_s < 1.0 < profile.budget_s
    asked_at = rig.machine.next_deadline()
    assert rig.machine.on_deadline(asked_at - 0.01) == []
    assert rig.jobs.local == {}
    rig.machine.on_deadline(asked_at)
    job = rig.accepted().job
    assert asked_at == pytest.approx(2.1)
    assert job.spec.seconds == {"a": 1.0, "b": 1.0}
    rig.machine.on_profiled(Profiled(profile.job, {"a": 3.0}, {}, False, goes_on=True), 2.5)
    rig.machine.on_profiled(Profiled(profile.job, {"a": 3.0, "b": 5.0}, {}, True), 9.0)
    found = {task: rig.profiler.time_of(job, task, "home1") for task in ("a", "b")}
    assert {task: (round(e.seconds, 3), e.samples, e.source) for task, e in found.items()} == {
        "a": (3.0, 1, "sampled"), "b": (5.0, 1, "sampled"),
    }  # fmt: skip
    rig.machine.finished.clear()
    assert of_type(rig.submit(ep="auto"), ProfileApp) == []


def test_a_full_profiling_asks_every_node_and_waits_for_all_of_them():
    rig = Rig(samples=["samples/one"])
    asked = sample_runs(rig.submit(ep="full"))
    assert sorted(asked) == ["home1", "n1", "n2"]
    job = asked["n1"].job
    for node, seconds in (("n1", 2.0), ("home1", 4.0)):
        rig.profiler.on_message(node, SampleDone(job, 2 * seconds, {}, [told("a", seconds), told("b", seconds)]), 2.0)
        rig.machine.go_on(2.0)
    assert rig.jobs.local == {}
    failed = SampleDone(job, 9.0, {"b": "ValueError: no"}, [told("a", 6.0)])
    rig.profiler.on_message("n2", failed, 3.0)
    rig.machine.go_on(3.0)
    spec = rig.accepted().job.spec
    assert spec.seconds == {"a": 4.0, "b": 3.0}
    outcome = rig.profiler.outcomes[job]
    assert outcome.makespans == {"n1": 4.0, "home1": 8.0, "n2": 9.0}
    assert outcome.errors == {"b": {"n2": "ValueError: no"}}
    rig.machine.finished.clear()
    assert list(sample_runs(rig.submit(ep="full"))) == ["n2"], "only who lacks a profile is asked again"


def test_a_full_profiling_ends_without_those_who_are_gone_or_much_slower_than_half():
    rig = Rig(nodes=("n1", "n2", "n3"), samples=["samples/one"])
    one = sample_runs(rig.submit(ep="full"))["n1"]
    rig.profiler.on_message("n1", SampleDone(one.job, 1.0, {}, [told("a", 1.0)]), 3.0)
    rig.profiler.on_message("home1", SampleDone(one.job, 1.0, {}, [told("a", 1.0)]), 11.0)
    assert rig.profiler._full[one.job].due == pytest.approx(20.9), "as long again as the first half took"
    rig.around.gone.add("n2")
    rig.profiler.on_deadline(16.0)
    assert rig.profiler.ready == []
    rig.profiler.on_deadline(21.0)
    rig.machine.go_on(21.0)
    rig.accepted()
    assert rig.profiler.outcomes[one.job].errors[""] == {"n3": "it did not answer in time"}
    late = SampleDone(one.job, 30.0, {}, [told("a", 30.0)])
    rig.profiler.on_message("n3", late, 60.0)
    assert rig.profiler.book.nodes_with(BUNDLE, ["a"], 60.0) == {"n1", "home1", "n3"}


def sample_runs(effects: list[Effect]) -> dict[str, SampleWanted]:
    """node -> what it is asked for"""
    return {e.dst: e.message for e in effects if isinstance(e, Send) and isinstance(e.message, SampleWanted)}


def told(task: str, seconds: float) -> TaskProfile:
    return TaskProfile(task, (0.0, 0.0, 0.0), (seconds, 0.0, 0.0), 0.9, 1.1, 1, 10, 1.0, True)


def test_a_centralised_mapper_is_asked_and_its_answer_written():
    rig = Rig(nodes=())
    effects = rig.submit(mapper="heft")
    [solve] = of_type(effects, Solve)
    local = rig.accepted()
    rig.machine.on_solved(Solved(solve.job, [0, 0, 0, 0], [], [], 0.01), 2.0)
    assert local.job.mapped
    assert local.wave.considered["a"]
    assert rig.machine.on_solved(Solved(solve.job, [0, 0, 0, 0], [], [], 0.01), 3.0) == []


@pytest.mark.parametrize(
    ("reasons", "task", "code", "why"),
    [
        (
            ["node 0: not allowed"],
            1,
            3,
            "not placeable: no node may run task 'b'; name-home1: is not 'n4'; name-n4: is gone",
        ),
        (["node 0: no licence"], 0, 3, "not placeable: mapper mine: no; node 0: no licence"),
        (["it is late"], None, 3, "not placeable: mapper mine: no; it is late"),
        (["node 9: not allowed"], 9, 3, "not placeable: mapper mine: no; node 9: not allowed"),
        ([], None, 1, "mapper mine: no; try another --mapper"),
    ],
)
def test_a_job_that_no_mapper_can_place_has_failed_and_says_why(reasons, task, code, why):
    first, second = task_specs(CHAIN)
    rig = Rig(nodes=("n4",), tasks=[first, msgspec.structs.replace(second, node="n4")])
    rig.submit(mapper="heft")
    rig.around.gone.add("n4")
    [solve] = of_type(rig.machine.on_deadline(2.0), Solve)
    effects = rig.machine.on_solved(Solved(solve.job, [], [], [], 0.0, "mapper mine: no", reasons, task), 2.0)
    local = rig.accepted()
    assert (local.job.over, local.home.state) == ("failed", "failed")
    detail = job_detail(local, str)
    assert (detail["exit_code"], detail["reason"]) == (code, why)
    assert "not mapped" in [notice.event for notice in of_type(effects, Notice)]


def test_after_a_restart_only_central_jobs_without_a_mapping_are_mapped_again():
    rig = Rig(nodes=())
    rig.submit(mapper="heft")
    rig.machine.finished.clear()
    rig.submit(mapping={"a": "home1", "b": "home1"})
    rig.machine.finished.clear()
    rig.submit(mapper="wave-greedy")
    rig.machine.resume(5.0)
    assert rig.machine.next_deadline() == 5.0 + SETTLE_S
    assert rig.machine.on_deadline(5.0) == [], "nobody knows yet who is here"
    assert len(of_type(rig.machine.on_deadline(5.0 + SETTLE_S), Solve)) == 1
    assert rig.machine.next_deadline() == float("inf")


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({}, "lacks"),
        ({"name": "i", "sha256": "zz", "size": 1}, "lacks"),
        (given("i", b"x") | {"data": b"y"}, "digest"),
        (given("i", b"x") | {"size": 2}, "digest"),
        (given("i", b"x") | {"data": None}, "did not arrive"),
    ],
)
def test_an_input_whose_bytes_are_not_what_it_says_is_refused(entry, word):
    with pytest.raises(UsageError, match=word):
        to_input(entry, Transfers("n1"))


def test_an_input_may_be_named_by_its_digest_alone_when_its_bytes_are_here():
    digest = sha256(b"x").digest()
    transfers = Transfers("n1")
    transfers.stored.add(digest)
    name, obj, task = to_input(given("i") | {"data": None, "task": "a"}, transfers)
    assert (name, obj.sha256, obj.data, task) == ("i", digest, None, "a")
