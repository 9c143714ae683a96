import pytest
from job_rig import CHAIN, DIAMOND, VERSION, Host, large, make_job, of_type, parcel, place, reg, sent, small

from jupiter_agent.core.counters import BOOT_SHIFT
from jupiter_agent.core.effects import Notice, StartRun, StartTask, StopTask, StoreInline
from jupiter_agent.core.events import ObjectStored, RunDone, RunFailed
from jupiter_agent.core.letters import AGAIN_S
from jupiter_agent.core.manifest import LISTED_BYTES, manifest_stamp, source_stamp
from jupiter_agent.core.messages.jobs import ItemFailed, Parcel, ParcelReceived, Registers, TaskReport
from jupiter_agent.core.wire import MAX_BYTES, encode


def injected(item: str = "i", data: bytes = b"x", number: int = 1, **more: object) -> Parcel:
    return parcel("home", "a", b"src", item=item, number=number, objects=[small(data)], **more)


def host(edges: dict[str, list[str]] = CHAIN, slots: int = 8, **places: str) -> Host:
    return Host(place(make_job(edges), **places), slots=slots)


def runs(effects: list) -> list[StartRun]:
    return of_type(effects, StartRun)


def answer(at: Host, run: StartRun, outputs: list, now: float = 1.0) -> list:
    attempt = at.queue.end(run.run)
    assert attempt is not None
    return at.execution.on_run_done(attempt, RunDone(run.run, outputs, 0.5), now)


def fail(at: Host, run: StartRun, now: float) -> list:
    attempt = at.queue.end(run.run)
    assert attempt is not None
    return at.execution.on_run_failed(attempt, RunFailed(run.run, "error", "ValueError: no"), now)


def parcels(effects: list) -> dict[str, tuple[str, Parcel]]:
    """receiving task -> (node, parcel)"""
    return {message.dst: (node, message) for node, message in sent(effects, Parcel)}


def test_the_tasks_hosted_here_start_when_the_app_is_open():
    at = host(a="n1", b="n2")
    [start] = of_type(at.started, StartTask)
    assert (start.job, start.task.name, start.bundle) == ("job1", "a", b"B" * 32)
    assert of_type(at.execution.on_registers(1.0), StartTask) == []


def test_a_parcel_is_acknowledged_with_the_boot_and_starts_a_run():
    at = host(a="n1", b="n2")
    at.around.boot = 7
    effects = at.execution.on_parcel("home1", injected(), 0.0)
    [(to, ack)] = sent(effects, ParcelReceived)
    assert (to, ack.item, ack.boot) == ("home1", "i", 7)
    [run] = runs(effects)
    assert (run.task, run.item, run.inputs) == ("a", "i", [("input", [small(b"x")])])


def test_a_repeated_parcel_is_acknowledged_and_not_run_again():
    at = host(a="n1", b="n2")
    at.execution.on_parcel("home1", injected(), 0.0)
    effects = at.execution.on_parcel("home1", injected(), 0.1)
    assert sent(effects, ParcelReceived)
    assert runs(effects) == []


def test_a_parcel_for_a_task_that_is_elsewhere_is_answered_with_the_register_and_not_held():
    at = host(a="n2", b="n1")
    effects = at.execution.on_parcel("home1", injected(), 0.0)
    [(to, told)] = sent(effects, Registers)
    assert (to, [r.task for r in told.registers]) == ("home1", ["a"])
    assert sent(effects, ParcelReceived) == []
    at.execution.check()


def test_a_parcel_is_not_acknowledged_by_a_host_that_does_not_hold_it():
    at = host(b="n2")
    at.job.merge([reg("a", "n1")])
    assert sent(at.execution.on_parcel("home1", injected(), 0.0), ParcelReceived) == []
    at.execution.on_registers(0.1)
    assert sent(at.execution.on_parcel("home1", injected(), 0.2), ParcelReceived)


def test_the_outputs_of_a_run_leave_on_every_edge_with_one_stamp():
    at = host(DIAMOND, a="n1", b="n2", c="n3")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    out = small(b"out")
    found = parcels(answer(at, run, [([], out)]))
    assert {task: node for task, (node, _) in found.items()} == {"b": "n2", "c": "n3"}
    stamp = manifest_stamp([("b", [out]), ("c", [out])])
    assert {p.stamp for _, p in found.values()} == {stamp}
    assert all(p.carried["a"] == stamp for _, p in found.values())
    assert {p.number for _, p in found.values()} == {(VERSION, 1)}


def test_a_child_that_gets_nothing_gets_a_token():
    at = host(DIAMOND, a="n1", b="n2", c="n3")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    found = parcels(answer(at, run, [(["c"], small(b"only for c"))]))
    assert found["b"][1].objects == []
    assert [obj.data for obj in found["c"][1].objects] == [b"only for c"]


def test_a_set_of_tokens_is_passed_on_without_a_run():
    at = host(a="n2", b="n1")
    effects = at.execution.on_parcel("n2", parcel("a", "b", objects=[]), 0.0)
    assert runs(effects) == []
    node, token = parcels(effects)["home"]
    assert (node, token.objects) == ("home1", [])


def test_tokens_beside_data_are_absent_from_the_inputs():
    at = host(DIAMOND, d="n1")
    at.execution.on_parcel("n2", parcel("b", "d", objects=[]), 0.0)
    [run] = runs(at.execution.on_parcel("n3", parcel("c", "d"), 0.0))
    assert [src for src, _ in run.inputs] == ["c"]


def test_a_run_waits_for_large_inputs_and_then_starts():
    at = host(a="n2", b="n1")
    obj = large(b"big")
    assert runs(at.execution.on_parcel("n2", parcel("a", "b", objects=[obj]), 0.0)) == []
    at.transfers.on_stored(ObjectStored(obj.sha256, obj.size), 1.0)
    assert len(runs(at.execution.on_object(1.0))) == 1


def test_a_repeated_parcel_names_another_source_of_an_object_that_is_still_missing():
    at = host(a="n2", b="n1")
    obj = large(b"big")
    at.execution.on_parcel("n2", parcel("a", "b", objects=[obj]), 0.0)
    at.execution.on_parcel("n3", parcel("a", "b", objects=[obj]), 1.0)
    assert {e.dst for e in at.transfers.on_deadline(10.0)} == {"n3"}


def test_a_second_attempt_of_an_ancestor_that_outputs_must_carry_is_run_again():
    """F4 of the model: B fired for A1; when A is repeated elsewhere, B must answer for A2 as well."""
    at = host(DIAMOND, b="n1", d="n2")
    assert runs(at.execution.on_parcel("n9", parcel("a", "b", b"A1", carried={"a": b"A1"}), 0.0))
    at.execution.on_parcel("n9", parcel("a", "b", b"A2", carried={"a": b"A2"}), 1.0)
    assert at.queue.counts("job1", "b") == (1, 1)


def test_a_second_attempt_of_an_ancestor_that_nobody_joins_is_not_run_again():
    at = host(CHAIN, b="n1")
    assert runs(at.execution.on_parcel("n9", parcel("a", "b", b"A1"), 0.0))
    at.execution.on_parcel("n9", parcel("a", "b", b"A2"), 1.0)
    assert at.queue.counts("job1", "b") == (0, 1)


def test_a_failed_run_is_repeated_with_back_off_and_then_reported_until_home_has_heard():
    at = host(a="n1", b="n2")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    fail(at, run, 1.0)
    [run] = runs(at.execution.on_deadline(1.2))
    fail(at, run, 2.0)
    assert runs(at.execution.on_deadline(2.7)) == []
    [run] = runs(at.execution.on_deadline(2.8))
    assert fail(at, run, 3.0)[0].event == "item failed"
    [(to, message)] = sent(at.execution.on_deadline(3.0), ItemFailed)
    assert (to, message.task, message.attempts, message.error) == ("home1", "a", 3, "ValueError: no")
    assert sent(at.execution.on_deadline(3.5), ItemFailed) == []
    assert sent(at.execution.on_deadline(3.0 + AGAIN_S), ItemFailed)
    at.execution.finished.add((VERSION, 1))
    at.execution.on_finished(6.0)
    assert sent(at.execution.on_deadline(99.0), ItemFailed) == []


def test_what_is_finished_is_freed_everywhere_and_not_taken_again():
    at = host(a="n1", b="n2")
    obj = large(b"big")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    answer(at, run, [([], obj)])
    at.execution.finished.add((VERSION, 1))
    at.execution.on_finished(2.0)
    assert at.execution.outbox.items() == set()
    assert [e.sha256 for e in at.transfers.on_deadline(99.0)] == [obj.sha256]
    effects = at.execution.on_parcel("home1", injected(), 3.0)
    assert sent(effects, ParcelReceived)
    assert runs(effects) == []
    at.execution.check()


def test_an_answer_for_a_finished_item_is_ignored_and_its_objects_go():
    at = host(a="n1", b="n2")
    obj = large(b"big")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    at.execution.finished.add((VERSION, 1))
    at.execution.on_finished(1.0)
    assert answer(at, run, [([], obj)], 2.0) == []
    assert [e.sha256 for e in at.transfers.on_deadline(99.0)] == [obj.sha256]


def test_a_task_that_moved_away_ends_here_once_its_attempts_have():
    at = host(a="n1", b="n2", slots=1)
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    at.execution.on_parcel("home1", injected("j", number=2), 0.0)
    at.job.merge([reg("a", "n3", epoch=2)])
    assert of_type(at.execution.on_registers(1.0), StopTask) == []
    assert at.queue.counts("job1", "a") == (0, 1), "what has not started is the new host's"
    fail(at, run, 1.0)
    assert of_type(at.execution.on_registers(1.1), StopTask) == [], "a repetition is due"
    [run] = runs(at.execution.on_deadline(1.2))
    assert of_type(answer(at, run, [], 1.3), StopTask) == [StopTask("job1", "a")]
    assert of_type(at.execution.on_registers(1.4), StopTask) == []


def test_reports_count_what_happened_and_come_at_most_five_times_a_second():
    at = host(a="n1", b="n2")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    answer(at, run, [], 0.05)
    assert sent(at.execution.on_deadline(0.1), TaskReport) == []
    [(to, report)] = sent(at.execution.on_deadline(0.2), TaskReport)
    assert to == "home1"
    assert report.tasks == [("a", "starting", 0, 0, 1, 0, 0, 0.5)]
    at.execution.on_task_up("a", 1.0)
    at.execution.on_task_down("a", 1.1)
    [(_, report)] = sent(at.execution.on_deadline(1.2), TaskReport)
    assert (report.sequence, report.tasks[0][6]) == ((at.around.boot << BOOT_SHIFT) + 2, 1)


def test_the_end_of_the_job_stops_its_processes_and_keeps_nothing():
    at = host(DIAMOND, a="n1", b="n1", c="n2", d="n2")
    obj = large(b"big")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    answer(at, run, [([], obj)])
    assert at.execution.busy()
    at.job.end("cancelled")
    effects = at.execution.stop(2.0)
    assert of_type(effects, StopTask) == [StopTask("job1")]
    assert (at.queue.committed(), at.execution.outbox.items()) == (0, set())
    assert not at.execution.busy()
    assert of_type(at.execution.on_registers(3.0), StartTask) == []
    at.execution.check()


def test_a_node_is_busy_while_runs_go_on_or_parcels_are_unconfirmed():
    at = host(a="n1", b="n2")
    assert not at.execution.busy()
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    assert at.execution.busy()
    [(_, out)] = parcels(answer(at, run, [([], small(b"o"))])).values()
    assert at.execution.busy()
    at.execution.on_signal("n2", ParcelReceived("job1", "i", "a", "b", out.stamp, out.carried, 1))
    assert not at.execution.busy()


@pytest.mark.parametrize("other", [[small(b"x", "other")], [small(b"y")], [], [small(b"x"), small(b"x")]])
def test_the_stamp_of_a_manifest_tells_names_contents_and_counts_apart(other):
    assert manifest_stamp([("b", [small(b"x")])]) != manifest_stamp([("b", other)])


def test_the_stamp_of_a_source_is_that_of_its_bytes_whatever_its_name():
    assert source_stamp([small(b"x", "one")]) == source_stamp([small(b"x", "two")])
    assert source_stamp([small(b"x")]) != source_stamp([small(b"y")])


def test_a_set_whose_bytes_never_come_gives_way_to_a_later_one_and_is_not_run_afterwards():
    at = host(CHAIN, b="n1")
    lost, found = large(b"lost"), large(b"found")
    at.execution.on_parcel("gone", parcel("a", "b", b"A1", objects=[lost]), 0.0)
    at.execution.on_parcel("n3", parcel("a", "b", b"A2", objects=[found]), 1.0)
    at.execution.on_parcel("n3", parcel("a", "b", b"A2", objects=[found]), 1.1)
    at.transfers.on_stored(ObjectStored(found.sha256, found.size), 2.0)
    [run] = runs(at.execution.on_object(2.0))
    assert run.inputs == [("a", [found])]
    at.transfers.on_stored(ObjectStored(lost.sha256, lost.size), 3.0)
    assert runs(at.execution.on_object(3.0)) == []
    assert at.queue.counts("job1", "b") == (0, 1)


def test_outputs_beyond_what_a_message_holds_travel_by_reference():
    at = host(CHAIN, a="n1", b="n2")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    outputs = [small(b"%02d" % n * 30_000, name=f"o{n}") for n in range(25)]
    effects = at.execution.on_run_done(at.queue.end(run.run), RunDone(run.run, [([], o) for o in outputs], 0.1), 0.5)
    [(_, told)] = sent(effects, Parcel)
    assert len(encode(told)) < MAX_BYTES
    assert [(o.name, o.sha256, o.size) for o in told.objects] == [(o.name, o.sha256, o.size) for o in outputs]
    assert told.stamp == manifest_stamp([("b", outputs)]), "the same manifest"
    referred = {o.sha256 for o in told.objects if o.data is None}
    assert 0 < len(referred) < 25
    assert {e.sha256 for e in of_type(effects, StoreInline)} == referred <= at.transfers.stored
    assert all(at.transfers._users[digest] == 1 for digest in referred), "kept until the item is over"


def test_outputs_that_no_message_can_name_fail_the_run_where_they_were_made_and_say_how_many_may_be():
    at = host(a="n1", b="n2")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    many = [([], small(b"x", f"part-{n:06}")) for n in range(20_000)]
    effects = answer(at, run, many)
    assert sent(effects, Parcel) == []
    [notice] = of_type(effects, Notice)
    most = LISTED_BYTES // (100 + len("part-000000"))
    assert notice.fields["error"].startswith(f"20000 output files for one item, at most {most} ")
    assert at.execution.next_deadline() < 2.0, "it is tried again, as any failure"


def test_as_many_outputs_as_are_allowed_fit_into_a_frame():
    at = host(a="n1", b="n2")
    [run] = runs(at.execution.on_parcel("home1", injected(), 0.0))
    most = LISTED_BYTES // (100 + len("part-000000"))
    many = [([], small(b"y" * 200, f"part-{n:06}")) for n in range(most)]
    [(_, message)] = sent(answer(at, run, many), Parcel)
    assert len(message.objects) == most
    assert len(encode(message)) <= MAX_BYTES


def test_while_the_job_is_being_mapped_a_task_starts_with_its_first_parcel_only():
    at = host(a="n1")
    assert of_type(at.started, StartTask) == []
    [start] = of_type(at.execution.on_parcel("home1", injected(), 0.0), StartTask)
    assert start.task.name == "a"
    other = host(b="n1")
    other.job.merge([reg("a", "n2")])
    [start] = of_type(other.execution.on_registers(1.0), StartTask)
    assert start.task.name == "b"
