import pytest
from job_rig import make_job, small, task_specs

from jupiter_agent.core.ids import HOME
from jupiter_agent.core.intake import SEAL_S, Intake, join_key
from jupiter_agent.core.messages.jobs import Obj, Parcel, TaskSpec
from jupiter_agent.errors import UsageError

TWO = {"a": ["c"], "b": ["c"], "c": []}
ONE = {"a": []}


def intake(edges: dict[str, list[str]], **changes: object) -> Intake:
    return Intake(make_job(edges, **changes))


def v4(files: int) -> Intake:
    return intake(ONE, contract="v4", item_files={"a": files})


def put(where: Intake, *objects: Obj, task: str = "", rename: bool = False) -> tuple[list[str], list[str]]:
    planned, ignored = where.plan([(obj.name, obj) for obj in objects], task, rename)
    for name, parts in planned.items():
        where.take(name, parts, 1_000_000.0)
    return list(planned), ignored


def brought(parcels: list[Parcel]) -> list[tuple[str, str, list[str]]]:
    """(item, task, names of its files); no file is a token."""
    return [(parcel.item, parcel.dst, [obj.name for obj in parcel.objects]) for parcel in parcels]


@pytest.mark.parametrize(
    ("name", "key"),
    [("1botnet.ipsum", "1botnet"), ("1split_0", "1split"), ("1anomalies_x.log", "1anomalies"), ("plain", "plain")],
)
def test_the_join_key_of_a_v4_file_ends_at_the_first_underscore_else_at_the_first_dot(name: str, key: str) -> None:
    assert join_key(name) == key


def test_a_v4_entry_takes_as_many_files_of_one_key_as_it_counts_for_one_item() -> None:
    here = v4(2)
    assert put(here, small(b"1", "k_a"))[0] == ["k"]
    assert here.leaving() == []
    assert put(here, small(b"2", "k_b"))[0] == ["k"]
    assert brought(here.leaving()) == [("k", "a", ["k_a", "k_b"])]


def test_more_files_of_a_key_make_the_next_item_and_the_same_file_is_ignored() -> None:
    here = v4(1)
    assert put(here, small(b"1", "k_1"), small(b"2", "k_2")) == (["k", "k-2"], [])
    assert put(here, small(b"2", "k_2")) == ([], ["k_2"])


def test_a_v4_file_of_the_same_name_with_other_bytes_is_refused_unless_renamed() -> None:
    here = v4(1)
    put(here, small(b"1", "k_1"))
    with pytest.raises(UsageError, match="other bytes"):
        put(here, small(b"2", "k_1"))
    assert put(here, small(b"2", "k_1"), rename=True)[0] == ["k-2"]


def test_a_put_item_waits_until_every_entry_has_its_part_and_goes_on_without_when_the_intake_closes() -> None:
    here = intake(TWO)
    put(here, small(b"1", "i"), task="a")
    assert here.leaving() == []
    here.close()
    assert brought(here.leaving()) == [("i", "a", ["i"]), ("i", "b", [])]


def test_a_part_for_an_item_that_has_gone_on_is_refused() -> None:
    here = intake(TWO)
    put(here, small(b"1", "i"), task="a")
    here.items["i"].sealed = True
    assert len(here.leaving()) == 2
    with pytest.raises(UsageError, match="gone on without"):
        put(here, small(b"2", "i"), task="b")


def test_no_more_items_are_open_than_allowed_and_one_that_is_over_makes_room() -> None:
    here = intake(ONE, max_open=2)
    put(here, *(small(b"%d" % n, f"i{n}") for n in range(3)))
    assert [parcel.item for parcel in here.leaving()] == ["i0", "i1"]
    here.check()
    here.over(here.items["i0"])
    assert [parcel.item for parcel in here.leaving()] == ["i2"]


def test_what_a_home_script_makes_leaves_part_by_part_and_is_sealed_when_nothing_more_comes() -> None:
    here = intake(TWO)
    here.produce("a", small(b"1", "base"), 0.0, 1_000_000.0)
    assert brought(here.leaving()) == [("base", "a", ["base"])]
    assert here.next_seal() == SEAL_S
    here.seal_due(SEAL_S - 0.1)
    assert here.leaving() == []
    here.seal_due(SEAL_S)
    assert brought(here.leaving()) == [("base", "b", [])]
    assert here.leaving() == []


def test_the_second_part_of_a_produced_item_has_the_same_stamp_and_seals_it() -> None:
    here = intake(TWO)
    here.produce("a", small(b"1", "base"), 0.0, 1_000_000.0)
    [first] = here.leaving()
    here.produce("b", small(b"2", "base"), 0.5, 1_000_000.5)
    [second] = here.leaving()
    assert (first.item, first.stamp) == (second.item, second.stamp)
    assert here.next_seal() == float("inf")


def test_a_home_script_that_starts_again_makes_no_item_twice() -> None:
    here = intake(ONE)
    assert here.produce("a", small(b"1", "base"), 0.0, 1_000_000.0) is not None
    assert here.produce("a", small(b"1", "base"), 9.0, 1_000_009.0) is None
    later = here.produce("a", small(b"2", "base"), 9.0, 1_000_009.0)
    assert later is not None
    assert later.name == "base-2"


def test_tasks_that_are_neither_entry_nor_fed_get_tokens() -> None:
    tasks = [*task_specs(ONE), TaskSpec("lonely", children=[HOME])]
    here = Intake(make_job(ONE, tasks=tasks, entries=["a"]))
    put(here, small(b"1", "i"))
    assert brought(here.leaving()) == [("i", "a", ["i"]), ("i", "lonely", [])]


def test_restored_items_keep_their_numbers_and_new_ones_go_on_counting() -> None:
    here = intake(ONE)
    put(here, small(b"1", "i"))
    again = intake(ONE)
    again.restore(here.items["i"])
    again.wait_again(again.items["i"])
    put(again, small(b"2", "j"))
    assert [parcel.number for parcel in again.leaving()] == [
        here.items["i"].number,
        (here.items["i"].number[0], here.items["i"].number[1] + 1),
    ]


def large(name: str, size: int) -> Obj:
    return Obj(name, name.encode().ljust(32, b"."), size)


def test_no_more_items_enter_while_the_inputs_of_the_open_ones_have_as_many_bytes_as_allowed() -> None:
    here = intake(ONE, max_open_bytes=100)
    put(here, large("i1", 60), large("i2", 60), large("i3", 1))
    assert [item for item, _, _ in brought(here.leaving())] == ["i1", "i2"]
    item = here.items["i1"]
    item.state = "done"
    here.over(item)
    here.check()
    assert [item for item, _, _ in brought(here.leaving())] == ["i3"]


def test_an_item_larger_than_all_that_is_allowed_enters_alone() -> None:
    here = intake(ONE, max_open_bytes=100)
    put(here, large("huge", 1000), large("i2", 1))
    assert [item for item, _, _ in brought(here.leaving())] == ["huge"]
    here.check()
    item = here.items["huge"]
    item.state = "failed"
    here.over(item)
    assert [item for item, _, _ in brought(here.leaving())] == ["i2"]
