from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_rig import CHAIN, Around, large, make_job, of_type, sent, small

from jupiter_agent.core import records
from jupiter_agent.core.copies import AGAIN_S, Stream
from jupiter_agent.core.effects import Effect, StoreInline
from jupiter_agent.core.intake import Item
from jupiter_agent.core.messages.jobs import Copied, Copy, Deputies, HomeKnown, HomeNews, HomeVersion, Obj
from jupiter_agent.core.records import Entry, merged
from jupiter_agent.core.replication import STREAMS, Replication
from jupiter_agent.errors import PeerError

HOME = HomeVersion(1, "home1", 1)
REGISTER = (HOME, Deputies(1, ["n1"]))


def entries(*names: str) -> list[Entry]:
    return [Entry("item", name, 10) for name in names]


def stream(*rest: str, at: int = 0) -> Stream:
    return Stream("job1", "n1", (1, 1), iter(entries(*rest)), at)


def batch(effects: list[Effect]) -> tuple[int, list[Any], bool]:
    [(_, copy)] = sent(effects, Copy)
    return copy.first, [value for _, value in copy.records], copy.whole


def copied(upto: int, *lacking: int, stream: tuple[int, int] = (1, 1)) -> Copied:
    return Copied("job1", HOME, 1, stream, upto, list(lacking))


def test_one_batch_is_under_way_at_a_time_and_what_comes_meanwhile_makes_up_the_next():
    it = stream("job")
    assert batch(it.pump(REGISTER, 0.0)) == (1, ["job"], True)
    for number, name in enumerate("abc", 1):
        it.push(number, Entry("item", name, 10))
    assert it.pump(REGISTER, 0.1) == []
    it.on_copied(copied(1), 0.2)
    assert batch(it.pump(REGISTER, 0.2)) == (2, ["a", "b", "c"], True)
    assert not it.has(3)
    it.on_copied(copied(4), 0.3)
    assert it.has(3)
    assert it.idle


def test_a_batch_nobody_confirms_is_sent_again_and_confirmed_once():
    it = stream("job")
    it.pump(REGISTER, 0.0)
    assert it.next_deadline() == AGAIN_S
    assert batch(it.on_deadline(REGISTER, AGAIN_S)) == (1, ["job"], True)
    it.on_copied(copied(1), 1.1)
    it.on_copied(copied(1), 1.2)
    assert it.whole
    assert it.on_copied(copied(9, stream=(1, 2)), 1.3) is False


def test_a_record_whose_object_is_not_there_is_not_durable_and_asked_about_again():
    it = stream("job")
    it.pump(REGISTER, 0.0)
    it.on_copied(copied(1), 0.1)
    it.push(1, Entry("item", "large", 10))
    it.push(2, Entry("item", "small", 10))
    it.pump(REGISTER, 0.1)
    it.on_copied(copied(3, 2), 0.2)
    assert (it.has(1), it.has(2)) == (False, True)
    assert batch(it.on_deadline(REGISTER, 0.2 + AGAIN_S)) == (4, [], True)
    it.on_copied(copied(3), 2.0)
    assert it.has(1)


def test_an_older_confirmation_does_not_take_back_what_a_newer_one_said():
    it = stream("job")
    it.pump(REGISTER, 0.0)
    it.on_copied(copied(1), 0.1)
    it.push(1, Entry("item", "large", 10))
    it.pump(REGISTER, 0.1)
    it.on_copied(copied(2, 2), 0.2)
    it.on_copied(copied(1), 0.3)  # of before
    assert not it.has(1)
    it.on_copied(copied(2), 0.4)
    it.on_copied(copied(2, 2), 0.5)  # of before
    assert it.has(1)


def test_a_receiver_that_forgot_the_stream_is_noticed():
    it = stream("job")
    it.pump(REGISTER, 0.0)
    it.on_copied(copied(1), 0.1)
    it.push(1, Entry("item", "a", 10))
    it.pump(REGISTER, 0.1)
    it.on_copied(copied(0), 0.2)
    assert it.forgotten


# --- gates ---------------------------------------------------------------------------------------------------------


class Rig:
    """The deputies of a home at home1; everybody but it is n1, n2, n3."""

    def __init__(self, replicas: int = 1) -> None:
        self.around = Around("home1")
        self.copies = Replication(make_job(CHAIN, replicas=replicas), self.around, lambda: iter(entries("job")))
        self.done: list[str] = []
        self.copies.replace()
        self.copies.on_deadline(0.0)

    def change(self, name: str, full: bool = False) -> None:
        self.copies.add(Entry("item", name, 10), 1.0)
        self.copies.when(full, lambda at: self.did(name), 1.0)
        self.copies.on_deadline(1.0)

    def did(self, name: str) -> list[Effect]:
        self.done.append(name)
        return []

    def confirm(self, node: str, upto: int) -> None:
        number = list(self.copies._streams).index(node) + 1
        self.copies.on_copied(node, Copied("job1", HOME, self.copies.deputies.n, (1, STREAMS + number), upto), 1.5)


def test_what_waits_is_done_when_every_living_deputy_has_it():
    rig = Rig()
    [deputy] = rig.copies.deputies.nodes
    rig.confirm(deputy, 1)
    rig.change("a")
    assert rig.done == []
    rig.confirm(deputy, 2)
    assert rig.done == ["a"]
    assert not rig.copies.degraded


def test_a_home_left_alone_goes_on_but_says_nothing_is_finished():
    rig = Rig()
    rig.around.gone |= {"n1", "n2", "n3"}
    rig.change("intake")
    rig.change("finished", full=True)
    assert rig.done == ["intake"]
    assert rig.copies.degraded


def test_where_nobody_ever_was_the_homes_own_disk_is_all_there_is():
    around = Around("home1", ())
    copies = Replication(make_job(CHAIN, replicas=1), around, lambda: iter(entries("job")))
    assert copies.replace() is False
    assert copies.when(True, lambda at: [StoreInline(b"x", b"x")], 1.0) == [StoreInline(b"x", b"x")]
    assert copies.degraded


def test_a_lost_deputy_is_replaced_and_the_register_grows():
    rig = Rig()
    [deputy] = rig.copies.deputies.nodes
    rig.around.gone.add(deputy)
    assert rig.copies.replace()
    assert rig.copies.deputies.n == 2
    assert deputy not in rig.copies.deputies.nodes


def test_a_register_names_a_replaced_deputy_until_that_one_knows_that_it_may_let_go():
    rig = Rig()
    [first] = rig.copies.deputies.nodes
    rig.copies.on_known(first, HomeKnown("job1", HOME, 1, True), 1.0)
    for _ in range(2):
        rig.around.gone |= {*rig.copies.deputies.nodes}
        assert rig.copies.replace()
        assert first in rig.copies.deputies.former, "it has copies under the first register, and may not know the next"
    rig.around.gone.clear()
    rig.copies.on_known(first, HomeKnown("job1", HOME, 3, True), 2.0)
    assert not rig.copies.name_former([first])
    assert first not in rig.copies.led()
    assert rig.copies.name_former(["n9"])
    assert (rig.copies.deputies.n, rig.copies.deputies.former[-1]) == (4, "n9")
    assert first not in rig.copies.deputies.former


def test_the_register_is_told_until_each_participant_confirmed_it():
    rig = Rig()
    [deputy] = rig.copies.deputies.nodes
    rig.copies._job.involve([deputy])
    assert {node for node, _ in sent(rig.copies.tell(2.0), HomeNews)} == {deputy}
    rig.copies.on_known(deputy, HomeKnown("job1", HOME, rig.copies.deputies.n, False), 2.1)
    assert sent(rig.copies.tell(20.0), HomeNews) == []


# --- merging ---------------------------------------------------------------------------------------------------------


def result(data: bytes) -> tuple[str, Obj]:
    return ("b", Obj("r", small(data).sha256, len(data)))


@st.composite
def items(draw: st.DrawFn) -> Item:
    state = draw(st.sampled_from(["queued", "failed", "done"]))
    homes = [HomeVersion(1, "a", 1), HomeVersion(2, "b", 1), HomeVersion(3, "a", 2)]
    item = Item("i", (draw(st.sampled_from(homes)), draw(st.integers(1, 3))), {}, 1.0, state)
    item.parts = {"a": [small(draw(st.sampled_from([b"same", b"same", b"other"])))]}
    if state != "queued":
        item.decided = draw(st.sampled_from(homes))
    if state == "done":
        item.results = [result(draw(st.sampled_from([b"1", b"2"])))]
    return item


@given(items(), items())
def test_it_does_not_matter_who_tells_whom(one, other):
    assert merged(one, other) == merged(other, one)
    assert merged(merged(one, other), other) == merged(one, other)


@given(items(), items())
def test_a_finished_result_is_never_replaced_by_nothing(one, other):
    both = merged(one, other)
    if records.same_input(one, other) and "done" in (one.state, other.state):
        assert both.state == "done"
    assert {one.number, other.number} == {both.number, *both.others}


def test_what_does_not_fit_into_a_record_goes_by_reference():
    item = Item("i", (HOME, 1), {"a": [small(bytes([n]) * 60_000, f"f{n}") for n in range(6)]}, 1.0)
    stores = of_type(records.lighten(item), StoreInline)
    assert len(stores) == 2
    assert [obj.data is None for obj in item.parts["a"]] == [False] * 4 + [True] * 2
    assert records.item_entry(item).size < 300_000
    assert records.kept(item) == item.objects()
    assert large(b"x") not in records.kept(item)


def a_copy(*entries: tuple[str, Any]) -> Copy:
    return Copy("j", HOME, Deputies(), (1, 1), 1, list(entries))


def test_a_batch_with_a_record_that_does_not_decode_is_refused_as_a_whole():
    whole = ("registers", [])
    records.decoded(a_copy(whole, ("close", None), ("of a later version", 7)))
    for broken in (("item", 7), ("registers", "x"), ("inside", [1]), ("led", [1])):
        with pytest.raises(PeerError):
            records.decoded(a_copy(whole, broken))


def test_an_item_is_decoded_once_and_what_is_kept_of_it_shares_nothing_with_the_batch():
    item = Item("i", (HOME, 1), {"a": [small(b"1", "f")]}, 1.0)
    copy = records.decoded(a_copy(("item", records.plain(item))))
    assert copy.records == [("item", item)]
    assert records.decoded(copy) == copy
    kept, _ = records.stored(copy.records[0][1])
    kept.parts["a"].append(small(b"2", "g"))
    assert copy.records == [("item", item)]
