from typing import Any

import pytest
from job_rig import CHAIN, VERSION, Around, Host, large, make_job, of_type, parcel, place, reg, sent, small

from jupiter_agent.core.effects import Append, Effect, StoreInline
from jupiter_agent.core.home import Home
from jupiter_agent.core.messages.jobs import Finished, ItemFailed, JobOver, Obj, Parcel, TaskReport
from jupiter_agent.core.telling import OVER_AGAIN_S, OVER_TIMES, SPREAD_S
from jupiter_agent.errors import JupiterError, UsageError

ENTRIES = {"a": ["c"], "b": ["c"], "c": []}


class Rig:
    """A home with everything on n1; `records` is its journal."""

    def __init__(self, edges: dict[str, list[str]] = CHAIN, **spec: Any) -> None:
        self.job = place(make_job(edges, **spec), **dict.fromkeys(edges, "n1"))
        self.host = Host(self.job, "home1")
        self.home: Home = self.host.with_home()
        self.records: list[Any] = []

    def did(self, effects: list[Effect]) -> list[Effect]:
        self.records += [effect.record for effect in of_type(effects, Append)]
        self.home.check()
        return effects

    def put(self, *names: str, data: bytes = b"x", task: str = "", rename: bool = False, now: float = 0.0) -> tuple:
        inputs = [(name, small(data, name)) for name in names]
        effects, taken, ignored = self.home.put(inputs, task, rename, now)
        return self.did(effects), taken, ignored

    def result(self, item: str, data: bytes = b"r", objects: list[Obj] | None = None, now: float = 1.0) -> list[Effect]:
        """The last task's answer arrives for an item."""
        number = self.home.items[item].number[1] if item in self.home.items else 99
        given = [small(data)] if objects is None else objects
        last = self.job.dag.sinks[-1]
        effects = self.host.execution.on_parcel("n1", parcel(last, "home", data, item, number, objects=given), now)
        arrived, self.host.execution.arrived_home = self.host.execution.arrived_home, []
        return self.did(effects + self.home.on_arrived(arrived, now))

    def states(self) -> dict[str, str]:
        return {name: item.state for name, item in self.home.items.items()}


def again(rig: Rig) -> Rig:
    """The same home after a restart."""
    fresh = Rig({task: spec.children for task, spec in rig.job.tasks.items()}, max_open=rig.job.spec.max_open)
    fresh.job.registers.clear()
    for _, _, kind, value in rig.records:
        fresh.home.restore(kind, value)
    return fresh


def test_an_item_is_recorded_and_goes_to_every_entry():
    rig = Rig(ENTRIES)
    effects, taken, _ = rig.put("i")
    assert taken == ["i"]
    assert isinstance(effects[0], Append)
    assert effects[0].sync
    assert {m.dst for _, m in sent(effects, Parcel)} == {"a", "b"}
    assert {m.number for _, m in sent(effects, Parcel)} == {(VERSION, 1)}


def test_no_more_items_are_open_than_the_app_allows():
    rig = Rig(max_open=2)
    effects, _, _ = rig.put("i", "j", "k")
    assert [m.item for _, m in sent(effects, Parcel)] == ["i", "j"]
    assert rig.states() == {"i": "running", "j": "running", "k": "queued"}
    assert [m.item for _, m in sent(rig.result("i"), Parcel)] == ["k"]


def test_same_bytes_are_ignored_other_bytes_refused_and_renamed_on_request():
    rig = Rig()
    rig.put("i")
    assert rig.put("i")[1:] == ([], ["i"])
    with pytest.raises(UsageError, match="other bytes"):
        rig.put("new", "i", data=b"other")
    assert list(rig.home.items) == ["i"], "all or nothing"
    assert rig.put("i", data=b"other", rename=True)[1:] == (["i-2"], [])
    assert rig.put("i", data=b"third", rename=True)[1:] == (["i-3"], [])
    assert rig.put("i", data=b"other", rename=True)[1:] == ([], ["i"])


@pytest.mark.parametrize("name", ["", "a/b", "..", "x\0y", "n" * 201])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(UsageError, match="cannot be an item's name"):
        Rig().put(name)


def test_an_unknown_entry_and_a_closed_intake_are_refused():
    rig = Rig(ENTRIES)
    with pytest.raises(UsageError, match="no entry task") as refused:
        rig.put("i", task="c")
    assert refused.value.hint == "entry tasks: a, b"
    rig.did(rig.home.close(0.0))
    with pytest.raises(UsageError, match="closed"):
        rig.put("i")


def test_an_item_waits_for_its_parts_and_goes_without_them_when_intake_closes():
    rig = Rig(ENTRIES)
    assert sent(rig.put("i", task="a")[0], Parcel) == []
    assert sent(rig.put("j", task="a", data=b"y")[0], Parcel) == []
    assert {m.dst for _, m in sent(rig.put("i", task="b", data=b"z")[0], Parcel)} == {"a", "b"}
    found = {m.dst: m.objects for _, m in sent(rig.home.close(1.0), Parcel) if m.item == "j"}
    assert (len(found["a"]), found["b"]) == (1, [])


def test_a_put_for_all_entries_gives_the_missing_part_of_an_item_that_has_one():
    rig = Rig(ENTRIES)
    rig.put("i", task="a")
    effects, taken, _ = rig.put("i")
    assert taken == ["i"]
    assert {m.dst for _, m in sent(effects, Parcel)} == {"a", "b"}


def test_parts_of_other_bytes_give_the_source_another_stamp():
    one, two = Rig(ENTRIES), Rig(ENTRIES)
    stamps = [
        {m.stamp for _, m in sent(rig.put("i", data=data)[0], Parcel)} for rig, data in ((one, b"x"), (two, b"y"))
    ]
    assert all(len(stamp) == 1 for stamp in stamps)
    assert stamps[0] != stamps[1]


def test_a_result_is_stored_and_recorded_as_one():
    rig = Rig()
    rig.put("i")
    effects = rig.result("i", b"r")
    assert [e.data for e in of_type(effects, StoreInline)] == [b"r"]
    item = rig.home.items["i"]
    assert (item.state, [(sink, obj.data) for sink, obj in item.results]) == ("done", [("b", None)])
    assert rig.states() == {"i": "done"}


def test_an_item_whose_large_result_is_still_coming_is_not_done():
    rig = Rig()
    rig.put("i")
    obj = large(b"big")
    rig.result("i", objects=[obj])
    assert rig.states() == {"i": "running"}
    rig.host.transfers.stored.add(obj.sha256)
    rig.did(rig.home.on_object(2.0))
    assert rig.states() == {"i": "done"}


def test_a_result_whose_bytes_never_come_gives_way_to_that_of_a_later_run():
    rig = Rig()
    rig.put("i")
    lost, found = large(b"lost"), large(b"found")
    rig.result("i", b"first", objects=[lost])
    rig.host.transfers.stored.add(found.sha256)
    rig.result("i", b"second", objects=[found])
    assert [obj.sha256 for _, obj in rig.home.items["i"].results] == [found.sha256]


def test_a_second_result_of_an_item_changes_nothing():
    rig = Rig()
    rig.put("i")
    rig.result("i", b"first")
    before = len(rig.records)
    rig.result("i", b"second")
    assert len(rig.records) == before


def test_home_is_the_last_join_and_commits_only_what_agrees():
    """F1 of the model: a router's two attempts reach home by two sinks."""
    rig = Rig({"a": ["x", "y"], "x": [], "y": []})
    rig.put("i")

    def arrives(src: str, run: bytes, objects: list[Obj]) -> str:
        from_sink = parcel(src, "home", src.encode() + run, carried={"a": run}, objects=objects)
        effects = rig.host.execution.on_parcel("n1", from_sink, 1.0)
        arrived, rig.host.execution.arrived_home = rig.host.execution.arrived_home, []
        rig.did(effects + rig.home.on_arrived(arrived, 1.0))
        return rig.states()["i"]

    assert arrives("x", b"A1", [small(b"x1")]) == "running"
    assert arrives("y", b"A2", [small(b"y2")]) == "running"
    assert arrives("x", b"A2", []) == "done"
    assert [sink for sink, _ in rig.home.items["i"].results] == ["y"]


def test_what_is_over_is_spread_to_all_hosts_but_the_gone():
    rig = Rig()
    rig.job.merge([reg("b", "n2", epoch=2)])
    rig.host.around.gone.add("n1")
    rig.put("i")
    rig.result("i", now=1.0)
    assert rig.home.next_deadline() == 1.0 + SPREAD_S
    [(to, message)] = sent(rig.home.on_deadline(1.0 + SPREAD_S), Finished)
    assert (to, message.intervals) == ("n2", [(VERSION, [(1, 1)])])


def test_a_job_completes_when_intake_is_closed_and_nothing_is_open():
    rig = Rig()
    rig.put("i")
    rig.did(rig.home.close(0.5))
    assert rig.home.state == "running"
    rig.result("i", now=3.0)
    assert (rig.home.state, rig.home.makespan_s) == ("completed", 3.0)


def test_a_failed_item_fails_the_job_and_tells_why():
    rig = Rig()
    rig.put("i", "j")
    rig.did(rig.home.close(0.0))
    failed = ItemFailed("job1", "i", "b", "n1", 3, "error", "ValueError: no")
    rig.did(rig.home.on_failed(failed, 1.0))
    rig.did(rig.home.on_failed(failed, 1.1))
    assert rig.states() == {"i": "failed", "j": "running"}
    where = {"task": "b", "item": "i", "node": "name-n1", "kind": "error"}
    assert rig.home.items["i"].error == {**where, "error": "ValueError: no"}
    rig.result("j")
    assert rig.home.state == "failed"


def test_a_failure_told_again_is_answered_with_what_is_over():
    rig = Rig()
    rig.put("i")
    failed = ItemFailed("job1", "i", "b", "n1", 3, "error", "no")
    rig.did(rig.home.on_failed(failed, 1.0))
    rig.home.on_deadline(1.0 + SPREAD_S)
    rig.did(rig.home.on_failed(failed, 3.0))
    assert sent(rig.home.on_deadline(3.0 + SPREAD_S), Finished)


def test_the_end_is_told_a_few_times_and_later_to_who_reports():
    rig = Rig()
    rig.did(rig.home.close(0.0))
    told = []
    while rig.home.next_deadline() < 100.0:
        told += sent(rig.home.on_deadline(rig.home.next_deadline()), JobOver)
    assert [(to, m.state) for to, m in told] == [("n1", "completed")] * OVER_TIMES
    report = TaskReport("job1", "n2", 1, [])
    assert sent(rig.home.on_report(report), JobOver)[0][0] == "n2"
    assert OVER_AGAIN_S * OVER_TIMES >= 5.0


def test_a_cancelled_job_lets_go_of_its_inputs():
    rig = Rig(max_open=1)
    big = large(b"big", name="i")
    rig.host.transfers.stored.add(big.sha256)
    effects, _, _ = rig.home.put([("i", big), ("j", big)], "", False, 0.0)
    rig.did(effects)
    rig.did(rig.home.cancel(1.0))
    assert rig.states() == {"i": "cancelled", "j": "cancelled"}
    assert rig.home.cancel(2.0) == []
    assert [e.sha256 for e in rig.host.transfers.on_deadline(99.0)] == [big.sha256]


def test_a_finished_item_lets_go_of_its_input_and_keeps_its_result():
    rig = Rig()
    source, result = large(b"in", name="i"), large(b"out")
    rig.host.transfers.stored |= {source.sha256, result.sha256}
    rig.did(rig.home.put([("i", source)], "", False, 0.0)[0])
    rig.result("i", objects=[result])
    assert [e.sha256 for e in rig.host.transfers.on_deadline(99.0)] == [source.sha256]
    assert rig.host.transfers.has(result)


def test_an_upload_of_bytes_that_are_there_already_is_dropped():
    rig = Rig()
    source = large(b"in", name="i")
    rig.host.transfers.stored.add(source.sha256)
    rig.did(rig.home.put([("i", source)], "", False, 0.0)[0])
    rig.result("i")
    rig.host.transfers.on_deadline(50.0)
    rig.host.transfers.stored.add(source.sha256)
    assert rig.home.put([("i", source)], "", False, 60.0)[2] == ["i"]
    assert [e.sha256 for e in rig.host.transfers.on_deadline(99.0)] == [source.sha256]


# --- after a restart ---------------------------------------------------------------------------------------------


def test_a_restarted_home_knows_its_results_and_lets_the_rest_in_again():
    rig = Rig(max_open=1)
    rig.put("i", "j", "k")
    rig.result("i")
    rig.did(rig.home.on_mapped(2.0))
    fresh = again(rig)
    effects = fresh.home.resume(9.0)
    assert fresh.states() == {"i": "done", "j": "running", "k": "queued"}
    assert [m.item for _, m in sent(effects, Parcel)] == ["j"]
    assert fresh.home.items["i"].results == rig.home.items["i"].results
    assert fresh.job.registers == rig.job.registers
    assert fresh.put("l")[1] == ["l"]
    assert fresh.home.items["l"].number == (VERSION, 4)


def test_a_restarted_home_keeps_a_result_that_an_intermediate_object_equals():
    rig = Rig()
    obj = large(b"same")
    rig.host.transfers.stored.add(obj.sha256)
    rig.put("i")
    rig.result("i", objects=[obj])
    fresh = again(rig)
    fresh.host.transfers.stored.add(obj.sha256)
    fresh.home.resume(0.0)
    fresh.host.transfers.keep([obj], "n1", 1.0)
    fresh.host.transfers.release([obj], 2.0)
    assert fresh.host.transfers.on_deadline(99.0) == []


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_restarted_home_of_a_job_that_is_over_begins_nothing(end):
    rig = Rig()
    rig.put("i")
    if end == "completed":
        rig.result("i")
        rig.did(rig.home.close(2.0))
    else:
        rig.did(rig.home.cancel(2.0))
    fresh = again(rig)
    assert sent(fresh.home.resume(9.0), Parcel) == []
    assert (fresh.home.state, fresh.states()["i"]) == (end, "done" if end == "completed" else "cancelled")
    with pytest.raises(UsageError):
        fresh.put("j")


@pytest.mark.parametrize(("code", "kind"), [(3, "unplaceable"), (1, "mapper")])
def test_items_of_a_job_that_no_mapper_could_place_have_failed_also_after_a_restart(code, kind):
    rig = Rig(max_open=1)
    rig.put("i", "j")
    rig.did(rig.home.refuse(JupiterError("not placeable", "n1: no GPU", code), 2.0))
    assert rig.home.state == "failed"
    fresh = again(rig)
    fresh.home.resume(9.0)
    assert (fresh.home.state, fresh.states()) == ("failed", {"i": "failed", "j": "failed"})
    errors = [fresh.home.items[name].error for name in "ij"]
    assert [(error["kind"], error["error"]) for error in errors] == [(kind, "not placeable; n1: no GPU")] * 2
    assert [name for name, _, _ in fresh.home.failed_inputs("")] == ["i", "j"], "they can be tried again"


def test_a_job_without_items_that_no_mapper_could_place_has_failed():
    rig = Rig()
    rig.did(rig.home.refuse(JupiterError("x" * 10**6, "n1: no GPU", 3), 2.0))
    assert rig.home.state == "failed"
    with pytest.raises(UsageError):
        rig.put("i")


def test_a_restarted_home_that_missed_the_end_comes_to_it():
    rig = Rig()
    rig.put("i")
    rig.result("i")
    rig.records.append(("home", "job1", "close", None))
    fresh = again(rig)
    fresh.home.resume(9.0)
    assert fresh.home.state == "completed"


def test_the_mapping_is_recorded_and_timed_once():
    rig = Rig()
    effects = rig.did(rig.home.on_mapped(0.25))
    assert [e.record[2] for e in of_type(effects, Append)] == ["registers", "mapped"]
    assert rig.home.mapping_s == 0.25
    assert rig.home.on_mapped(0.5) == []
    rig.job.merge([reg("b", "n2", epoch=2)])
    assert [e.record[2] for e in of_type(rig.home.on_mapped(1.0), Append)] == ["registers"]
    assert Around("home1").wall(0.0) == 1_000_000.0


def test_of_the_error_of_a_failed_item_the_end_is_kept():
    rig = Rig()
    rig.put("i")
    rig.did(rig.home.on_failed(ItemFailed("job1", "i", "b", "n1", 3, "error", "x" * 900_000 + "the end"), 1.0))
    error = rig.home.items["i"].error["error"]
    assert (len(error), error[-7:]) == (4096, "the end")


@pytest.mark.parametrize(("ended", "strikes"), [(True, 1), (False, 0)])
def test_what_was_open_at_a_home_that_ended_has_a_strike_and_at_one_that_gave_it_away_none(ended, strikes):
    rig = Rig()
    rig.put("i")
    rig.did(rig.home.on_mapped(2.0))
    fresh = again(rig)
    [(_, injected)] = sent(fresh.home.resume(9.0, ended=ended), Parcel)
    assert injected.strikes == strikes
