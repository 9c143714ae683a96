from math import inf
from typing import Any

import msgspec
import pytest
from job_rig import CHAIN, DIAMOND, VERSION, Around, make_job, place, reg, sent, signed, task_specs

from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.intervals import FinishedSet
from jupiter_agent.core.job import Job
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages.jobs import Award, Awarded, Parcel, Register, RegisterDigest, Registers
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.spreading import AWARD_AGAIN_S, COLLECT_S, EACH_S
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.wave import GRACE_S, PARENTS_WAIT_S, STRANGER_S, Wave

JOIN = {"a": ["c"], "b": ["c"], "c": []}


def wave(me: str, edges: dict[str, list[str]], mapper: str = "wave-greedy", **spec: Any) -> tuple[Wave, Job, Around]:
    around = Around(me)
    job = make_job(edges, mapper, **spec)
    return Wave(job, around, 0.0), job, around


def awards(effects: list[Effect]) -> dict[str, list[str]]:
    """node -> tasks of the registers it was awarded with"""
    return {node: [register.task for register in m.registers] for node, m in sent(effects, Award)}


def news(effects: list[Effect]) -> dict[str, list[Register]]:
    return {node: m.registers for node, m in sent(effects, Registers)}


@pytest.mark.parametrize("mapper", ["wave-greedy", "wave-random"])
def test_home_decides_the_entries_only_and_takes_none_itself(mapper):
    machine, job, _ = wave("home1", JOIN, mapper)
    effects = machine.step(0.0)
    assert set(job.registers) == {"a", "b"}
    assert "home1" not in {register.node for register in job.registers.values()}
    assert set(awards(effects)) == {register.node for register in job.registers.values()}
    assert all(tasks == ["a", "b"] for tasks in awards(effects).values())


def test_a_task_pinned_to_a_node_that_is_not_here_waits_for_it_and_that_is_said_once():
    first, second = task_specs({"a": [], "b": []})
    pinned = [msgspec.structs.replace(first, node="n4"), second]
    machine, job, around = wave("home1", {"a": [], "b": []}, tasks=pinned)
    notices = [n for now in (0.0, 1.0) for n in machine.step(now) if isinstance(n, Notice) and n.level == "warning"]
    why = "waits for node 'n4', to which it is pinned"
    assert [n.fields for n in notices] == [{"job": job.id, "task": "a", "why": why}]
    assert (machine.waits(), set(job.registers)) == ({"a": why}, {"b"})
    around.nodes.append("n4")
    machine.step(2.0)
    assert (machine.waits(), job.registers["a"].node) == ({}, "n4")
    around.gone.add("n4")
    machine.waits()
    assert [n.fields["why"] for n in machine.step(9.0) if isinstance(n, Notice)] == [why], "it waits anew"


def test_who_is_asked_what_waits_and_decides_nothing_says_nothing_of_it():
    tasks = [msgspec.structs.replace(task, node="n4") for task in task_specs({"a": []})]
    machine, _, _ = wave("n2", {"a": []}, tasks=tasks)
    assert set(machine.waits()) == {"a"}
    assert machine.step(1.0) == []


def test_a_task_that_cannot_leave_a_draining_node_does_not_wait():
    tasks = [msgspec.structs.replace(task, node="n1") for task in task_specs({"a": []})]
    machine, job, around = wave("n1", {"a": []}, tasks=tasks)
    place(job, a="n1")
    around.profiles = {"n1": {"draining": True}}
    assert machine.evacuate(1.0) + machine.step(1.0) == []


def test_the_host_of_the_controller_decides_the_child_and_tells_every_participant():
    machine, job, _ = wave("n1", CHAIN)
    job.merge([reg("a", "n1")])
    effects = machine.step(0.0)
    register = job.registers["b"]
    assert (register.writer, register.boot, register.basis) == ("n1", 1, 1)
    told = {*awards(effects), *news(effects)}
    assert told >= {"home1"}
    assert [n.fields["task"] for n in effects if isinstance(n, Notice)] == ["b"]


def test_nobody_else_decides_it():
    machine, job, _ = wave("n2", CHAIN)
    job.merge([reg("a", "n1")])
    assert machine.step(100.0) == []


def test_a_job_alone_in_the_world_is_mapped_to_its_home():
    around = Around("home1", ())
    job = make_job(CHAIN)
    machine = Wave(job, around, 0.0)
    machine.step(0.0)
    assert {task: register.node for task, register in job.registers.items()} == {"a": "home1", "b": "home1"}


def test_a_controller_waits_for_the_places_of_all_parents_but_not_for_long():
    machine, job, _ = wave("n1", JOIN)
    job.merge([reg("a", "n1")])
    machine.step(1.0)
    assert "c" not in job.registers
    assert machine.next_deadline() <= 1.0 + PARENTS_WAIT_S
    machine.on_deadline(1.0 + PARENTS_WAIT_S)
    assert "c" in job.registers


def test_a_controller_decides_at_once_when_the_last_parent_has_a_place():
    machine, job, _ = wave("n1", JOIN)
    job.merge([reg("a", "n1")])
    machine.step(1.0)
    won = job.merge([reg("b", "n2")])
    machine.on_registers("home1", won, won, 1.1)
    assert "c" in job.registers


def test_greedy_takes_the_faster_node_and_tells_the_numbers():
    machine, job, around = wave("n1", CHAIN, seconds={"b": 10.0})
    around.profiles = {"n2": {"speed": 4.0}, "n3": {"speed": 0.5}}
    job.merge([reg("a", "n1")])
    machine.step(0.0)
    assert job.registers["b"].node == "n2"
    considered = machine.considered["b"]
    assert considered[0].node == "name-n2"
    costs = [each.cost_s for each in considered]
    assert costs == sorted(costs)
    assert len(costs) == 4
    assert "computing 2.5 s" in " ".join(considered[0].reasons)
    assert "lowest cost" in job.registers["b"].why


def test_greedy_stays_where_the_data_is_when_links_are_slow():
    machine, job, around = wave("n1", CHAIN, seconds={"b": 1.0}, edge_bytes={"a>b": 10**9})
    around.profiles = {"n2": {"speed": 4.0}}
    job.merge([reg("a", "n1")])
    machine.step(0.0)
    assert job.registers["b"].node == "n1"


def test_random_depends_on_the_seed_alone():
    chosen = []
    for me_first in ("n1", "n1"):
        machine, job, _ = wave(me_first, CHAIN, "wave-random", seed=5)
        job.merge([reg("a", "n1")])
        machine.step(0.0)
        chosen.append(job.registers["b"].node)
    assert chosen[0] == chosen[1]


def test_a_pin_and_draining_nodes_are_obeyed():
    tasks = task_specs(CHAIN)
    pinned = [
        tasks[0],
        type(tasks[1])(**{**{f: getattr(tasks[1], f) for f in tasks[1].__struct_fields__}, "node": "name-n3"}),
    ]
    machine, job, around = wave("n1", CHAIN, tasks=pinned)
    job.merge([reg("a", "n1")])
    machine.step(0.0)
    assert job.registers["b"].node == "n3"
    machine, job, around = wave("n1", CHAIN, "wave-random")
    around.profiles = {node: {"draining": True} for node in ("n1", "n3", "home1")}
    job.merge([reg("a", "n1")])
    machine.step(0.0)
    assert job.registers["b"].node == "n2"


def test_a_pinned_task_whose_node_is_gone_waits_for_it():
    tasks = task_specs(CHAIN, node="n3")
    machine, job, around = wave("n1", CHAIN, tasks=tasks)
    place(job, a="n1", b="n3")
    around.gone.add("n3")
    assert [notice.event for notice in machine.step(0.0)] == ["task waits"]
    assert (machine.step(1.0), job.registers["b"].node) == ([], "n3")


def test_a_centralised_mapping_is_never_made_by_a_controller():
    machine, job, _ = wave("n1", CHAIN, "heft")
    job.merge([reg("a", "n1")])
    assert machine.step(100.0) == []


# --- repair ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapper", ["wave-greedy", "wave-random", "heft", "static"])
def test_the_nearest_living_ancestors_host_repairs(mapper):
    chain = {"a": ["b"], "b": ["c"], "c": []}
    deciders = {}
    for gone in (("n3",), ("n3", "n2"), ("n3", "n2", "n1")):
        for me in ("home1", "n1", "n2"):
            machine, job, around = wave(me, chain, mapper)
            place(job, a="n1", b="n2", c="n3")
            around.gone.update(gone)
            machine.step(0.0)
            if me not in gone and job.registers["c"].node not in gone:
                deciders[gone] = me
                assert "is gone" in job.registers["c"].why
    assert list(deciders.values()) == ["n2", "n1", "home1"]


def test_without_home_and_ancestors_the_first_living_host_repairs():
    for me, repairs in (("n2", True), ("n3", False)):
        machine, job, around = wave(me, {"a": [], "b": [], "c": []})
        place(job, a="n1", b="n2", c="n3")
        around.gone.update({"n1", "home1"})
        machine.step(0.0)
        assert (job.registers["a"].node != "n1") is repairs


def test_a_late_register_that_names_the_dead_is_repaired_as_well():
    machine, job, around = wave("n1", CHAIN)
    around.gone.add("n2")
    job.merge([reg("a", "n1")])
    won = job.merge([reg("b", "n2", epoch=9, basis=9)])
    machine.on_registers("n3", won, won, 5.0)
    assert job.registers["b"].node == "n2", "somebody has just named it: perhaps it lives"
    machine.on_deadline(5.0 + GRACE_S)
    assert job.registers["b"].node != "n2"
    assert job.registers["b"].version() > won[0].version()


def test_a_host_nobody_ever_heard_of_counts_as_lost_after_a_while():
    machine, job, around = wave("n1", CHAIN)
    place(job, a="n1", b="n2")
    around.unknown.add("n2")
    machine.step(1.0)
    machine.step(STRANGER_S)
    assert job.registers["b"].node == "n2"
    machine.step(1.0 + STRANGER_S)
    assert job.registers["b"].node != "n2"


def test_a_host_that_is_heard_of_in_time_keeps_its_task():
    machine, job, around = wave("n1", CHAIN)
    place(job, a="n1", b="n2")
    around.unknown.add("n2")
    machine.step(1.0)
    around.unknown.clear()
    machine.step(2.0)
    around.unknown.add("n2")
    machine.step(1.0 + STRANGER_S)
    assert job.registers["b"].node == "n2"


# --- telling -------------------------------------------------------------------------------------------------------


def test_an_award_is_repeated_until_it_is_confirmed_but_not_to_the_gone():
    machine, job, around = wave("home1", CHAIN)
    machine.step(0.0)
    [node] = {register.node for register in job.registers.values()}
    assert list(awards(machine.on_deadline(AWARD_AGAIN_S))) == [node]
    machine.on_awarded(node, Awarded("job1", 0))
    assert awards(machine.on_deadline(2 * AWARD_AGAIN_S)) == {}
    machine.award(node, 10.0)
    around.gone.add(node)
    assert node not in awards(machine.on_deadline(10.0 + AWARD_AGAIN_S))


def test_a_host_of_an_entry_passes_news_on_and_home_does_not():
    for me, passes in (("n1", True), ("home1", False)):
        machine, job, _ = wave(me, DIAMOND)
        place(job, a="n1", b="n2", c="n3", d="n3")
        won = job.merge([reg("d", "n2", epoch=2, writer="n2")])
        told = news(machine.on_registers("n2", won, won, 0.0))
        assert (set(told) == {"n3", "home1"}) is passes


def test_a_different_digest_is_answered_with_what_may_be_told():
    machine, job, _ = wave("n1", CHAIN)
    place(job, a="n1", b="n2")
    nothing = machine.finished.digest()
    assert machine.on_digest("n2", RegisterDigest("job1", job.digest(), nothing)) == []
    assert [r.task for r in news(machine.on_digest("n2", RegisterDigest("job1", 0)))["n2"]] == ["a", "b"]
    machine, job, _ = wave("home1", CHAIN)
    job.merge([reg("b", "n2", writer="n1")])
    asked = RegisterDigest("job1", 0, machine.finished.digest())
    asking = RegisterDigest("job1", 0, asked.finished, answer=True, asker="n2")
    expected = [Send("n1", asking), Send("n2", machine.digest(answer=True))]
    assert machine.on_digest("n2", asked) == expected, "home wrote nothing, so it asks who did to tell"


def test_a_decider_tells_the_node_for_which_home_asks():
    machine, job, _ = wave("n1", CHAIN)
    place(job, a="n1", b="n2")
    [told] = machine.on_digest("home1", RegisterDigest("job1", 0, 0, answer=True, asker="n3"))
    assert told.dst == "n3"
    assert [register.task for register in told.message.registers] == ["a", "b"]


def test_home_speaks_for_a_decider_that_is_gone_or_has_started_again():
    machine, job, around = wave("home1", CHAIN)
    job.merge([reg("b", "n2", writer="n1")])
    around.gone.add("n1")
    assert [r.task for r in news(machine.on_digest("n2", RegisterDigest("job1", 0)))["n2"]] == ["b"]
    around.gone.clear()
    around.boots["n1"] = 2
    assert [r.task for r in news(machine.on_digest("n2", RegisterDigest("job1", 0)))["n2"]] == ["b"]


def test_who_did_not_hear_that_an_item_is_over_is_told_with_the_digests():
    machine, job, _ = wave("n1", CHAIN)
    place(job, a="n1", b="n2")
    machine.finished.add((job.home, 1))
    [told, back] = machine.on_digest("n2", RegisterDigest("job1", job.digest(), FinishedSet().digest()))
    assert told.message.intervals == [(job.home, [(1, 1)])]
    assert back.message == machine.digest(answer=True)
    assert machine.on_digest("n2", msgspec.structs.replace(back.message, digest=job.digest())) == []


def test_a_former_host_is_asked_too_whether_it_knows_the_same():
    machine, job, around = wave("n1", CHAIN)
    place(job, a="n1", b="n2")
    job.merge([reg("b", "n1", epoch=2)])
    around.gone.add("home1")
    asked = set()
    for i in range(20):
        asked |= {node for node, _ in sent(machine.on_deadline(10.0 * i), RegisterDigest)}
    assert asked == {"n2"}


def test_a_job_that_is_over_needs_no_time():
    machine, job, _ = wave("n1", CHAIN)
    job.end("completed")
    assert machine.next_deadline() == inf
    assert machine.step(0.0) == []


# --- what the jobs of a node make of it ------------------------------------------------------------------------------


def taking_part(me: str, edges: dict[str, list[str]], *registers: Register) -> tuple[Jobs, Around]:
    around = Around(me)
    jobs = Jobs(around, RunQueue(8), Transfers(me))
    spec = signed(make_job(edges).spec)
    jobs.on_message("home1", Award(spec, VERSION, list(registers)), 0.0)
    return jobs, around


def test_parcels_leave_for_a_task_that_a_step_of_the_clock_has_placed():
    jobs, _ = taking_part("n1", JOIN, reg("a", "n1"))
    local = jobs.local["job1"]
    owed = Parcel("job1", "i", "a", "c", b"s", {}, [], (VERSION, 1))
    local.execution.emit([owed], 0.5)
    effects = jobs.on_deadline(PARENTS_WAIT_S)
    host = local.job.host("c")
    assert host is not None
    assert host == "n1" or [node for node, _ in sent(effects, Parcel)] == [host]


def test_parcels_leave_for_a_task_that_a_death_has_moved():
    jobs, around = taking_part("n1", CHAIN, reg("a", "n1"), reg("b", "n2", writer="n1"))
    local = jobs.local["job1"]
    local.execution.emit([Parcel("job1", "i", "a", "b", b"s", {}, [], (VERSION, 1))], 0.5)
    around.gone.add("n2")
    around.nodes = ["home1", "n1", "n2", "n3"]
    around.profiles = {"n3": {"speed": 100.0}}
    effects = jobs.on_members(1.0)
    assert local.job.host("b") == "n3"
    assert [node for node, _ in sent(effects, Parcel)] == ["n3"]


def test_an_award_without_a_members_signature_is_refused():
    around = Around("n1")
    around.verify = lambda node, data, signature: False  # type: ignore[method-assign]
    jobs = Jobs(around, RunQueue(8), Transfers("n1"))
    with pytest.raises(Exception, match="not signed"):
        jobs.on_message("home1", Award(signed(make_job(CHAIN).spec), VERSION, []), 0.0)
    assert jobs.local == {}


def test_the_first_hub_collects_longer_for_many_until_the_job_is_mapped():
    edges = {f"e{n}": [] for n in range(20)}
    around = Around("n0", ("home1", *(f"n{n}" for n in range(20))))
    job = make_job(edges)
    machine = Wave(job, around, 0.0)
    job.merge([reg(f"e{n}", f"n{n}") for n in range(18)])
    machine.on_registers("home1", [], [job.registers["e17"]], 10.0)
    participants = len(job.participants())
    assert machine._news_at == 10.0 + COLLECT_S + EACH_S * participants
    last = [reg(f"e{n}", f"n{n}") for n in (18, 19)]
    machine.on_registers("home1", last, job.merge(last), 10.01)
    assert machine._news_at == 10.01 + COLLECT_S
