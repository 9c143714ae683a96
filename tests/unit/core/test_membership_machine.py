import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core import events
from jupiter_agent.core.effects import Connect, Disconnect, Forget, Halt, Learn
from jupiter_agent.core.membership import MemberChanged, MembershipSettings, ProfileChanged
from jupiter_agent.core.messages.membership import (
    DEAD,
    VALUE_BYTES,
    Ack,
    Data,
    Held,
    Hello,
    News,
    Ping,
    Range,
    Refused,
    Want,
    WhoAreYou,
)
from jupiter_agent.errors import CapacityError


def test_a_new_session_is_greeted_with_the_protocol_the_record_and_all_that_is_held():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.run_to(0.3)
    rig.clear()
    rig.event(events.SessionDown(one.id, "lost"))
    rig.event(events.SessionUp(one.id))
    (hello,) = rig.sent(Hello, one)
    assert hello.protocol == (1, 1)
    assert hello.record == rig.me
    assert {line.id for line in hello.held} == {rig.me.id, one.id}


def test_a_hello_without_common_protocol_is_refused_on_both_sides_and_the_session_dropped():
    rig, one = Rig(), Peer("one")
    rig.event(events.SessionUp(one.id))
    rig.receive(one, Hello((2, 3), one.record, True, 0, []))
    assert rig.sent(Refused, one)
    assert rig.of(Disconnect) == [Disconnect(one.id)]
    assert "protocol refused" in rig.notices()
    assert one.id not in rig.machine.members()
    rig.clear()
    rig.receive(Peer("two"), Refused("no common protocol version", "we speak 2 to 3"))
    assert rig.notices() == ["protocol refused"]


def test_a_member_that_shares_our_protocol_is_not_shunned_for_nonsense_about_it():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.clear()
    rig.receive(one, Refused("", "node1"))
    rig.receive(one, Hello((2, 3), one.record, True, 0, []))
    rig.receive(one, Hello((2, 3), Peer("two", protocol=(2, 3)).record, True, 0, []))
    assert not rig.of(Disconnect)
    assert "protocol refused" not in rig.notices()
    rig.receive(one, Hello((2, 3), one.sign(boot=2, protocol=(2, 3)), True, 0, []))
    assert rig.of(Disconnect) == [Disconnect(one.id)]


def test_a_member_is_learned_connected_to_and_told_to_the_agent_and_to_all_others():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one)
    rig.clear()
    rig.receive(one, News([two.record], []))
    rig.meet(Peer("three"))
    rig.run_to(0.5)
    assert Learn(two.id, two.record.address, two.record.curve_key) in rig.of(Learn)
    assert Connect(two.id) in rig.of(Connect)
    assert MemberChanged(two.id, "alive", 1) in rig.of(MemberChanged)
    assert not any(two.record in news.records for news in rig.sent(News, one)), "not back to where it came from"
    assert any(two.record in news.records for news in rig.sent(News, Peer("three")))


@pytest.mark.parametrize(
    "change", [{"address": "evil:1"}, {"boot": 9}, {"left": True}, {"role": "submit"}, {"name": "x"}]
)
def test_a_record_changed_by_anybody_but_its_owner_is_refused_and_counted(change):
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    before = rig.machine.members()[two.id].record
    newer = two.sign(incarnation=5)
    rig.receive(one, News([msgspec.structs.replace(newer, **change)], []))
    assert rig.machine.members()[two.id].record == before
    assert rig.machine.counters["peer_error: record: bad signature"] == 1


def test_a_record_that_no_issuer_admitted_is_refused():
    rig, one = Rig(), Peer("one")
    stranger = Peer("stranger")
    foreign = stranger.trust.signed(msgspec.structs.replace(stranger.record, admission=b"made up"))
    rig.meet(one)
    rig.receive(one, News([foreign], []))
    assert stranger.id not in rig.machine.members()
    assert rig.machine.counters["peer_error: record: not admitted"] == 1


def test_a_member_cannot_speak_for_another_in_its_hello():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.event(events.SessionUp(one.id))
    rig.receive(one, Hello((1, 1), two.record, True, 0, []))
    assert two.id not in rig.machine.members()
    assert rig.machine.counters["peer_error: hello: speaks for another"] == 1


def test_a_stranger_is_not_answered_but_asked_for_its_record():
    rig, one = Rig(), Peer("one")
    rig.receive(one, Ping(1, False, True, 0, 0))
    assert not rig.sent(Ack)
    assert rig.sent(WhoAreYou, one)
    rig.receive(one, News([one.record], []))
    assert rig.state(one) == "alive"


def test_who_is_asked_who_it_is_by_a_member_says_so():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.clear()
    rig.receive(one, WhoAreYou())
    assert rig.sent(News, one) == [News([rig.me], [])]


def test_a_changed_address_is_learned_again():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.clear()
    rig.receive(one, News([one.sign(address="one:8000", incarnation=1)], []))
    assert rig.of(Learn) == [Learn(one.id, "one:8000", one.record.curve_key)]


def test_leaving_is_said_at_once_to_every_neighbour_and_is_the_last_word():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    rig.clear()
    rig.effects += rig.machine.leave(1.0)
    for peer in (one, two):
        (news,) = rig.sent(News, peer)
        assert (rig.me.id, True) in [(record.id, record.left) for record in news.records]
    assert rig.machine.next_deadline() == float("inf")
    assert rig.machine.on_event(events.SessionUp(one.id), 2.0) == []


def test_a_member_that_left_is_neither_connected_nor_tried_again():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.run_to(0.5)
    rig.receive(one, News([one.sign(left=True)], []))
    assert rig.state(one) == "left"
    assert Disconnect(one.id) in rig.of(Disconnect)
    assert rig.machine.alive() == [rig.me.id]
    rig.clear()
    rig.run_to(20.0)
    assert not rig.effects


def test_published_values_reach_the_board_are_offered_by_digest_and_sent_when_wanted():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.effects += rig.machine.publish("resources", {"cpu": 4}, rig.now)
    assert rig.machine.board.get(rig.me.id, "resources") == {"cpu": 4}
    assert ProfileChanged(rig.me.id, "resources") in rig.of(ProfileChanged)
    rig.clear()
    rig.receive(one, Ping(1, True, True, 0, 0))
    (ack,) = rig.sent(Ack, one)
    assert [line.keys for line in ack.held if line.id == rig.me.id] == [{"resources": 1}]
    rig.receive(one, Data([], [], [Want(rig.me.id, False, ["resources"])]))
    (data,) = rig.sent(Data, one)
    assert msgspec.msgpack.decode(data.values[0].data) == {"cpu": 4}


def test_the_same_value_again_is_no_news_and_too_large_a_one_is_refused():
    rig = Rig()
    assert rig.machine.publish("resources", {"cpu": 4}, 0.0)
    assert rig.machine.publish("resources", {"cpu": 4}, 1.0) == []
    with pytest.raises(CapacityError):
        rig.machine.publish("resources", {"x": "y" * VALUE_BYTES}, 2.0)


def test_nothing_new_is_published_while_nobody_answers():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.run_to(4.0)
    rig.effects += rig.machine.publish("resources", {"cpu": 4}, rig.now)
    assert rig.machine.board.get(rig.me.id, "resources") is None
    rig.run_to(6.0, answering=(one,))
    assert rig.machine.board.get(rig.me.id, "resources") == {"cpu": 4}


def test_what_a_digest_shows_is_pulled_once_and_again_when_the_answer_is_lost():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    rig.clear()
    line = Held(two.id, 1, 0, 0, {"resources": 3}, 1)
    rig.receive(one, Ping(1, True, True, 1, 0, [line]))
    rig.receive(one, Ping(2, True, True, 1, 0, [line]))
    assert [ack.want for ack in rig.sent(Ack)] == [[Want(two.id, False, ["resources"])], []]
    rig.run_to(1.5, answering=(one, two))
    assert [data.want for data in rig.sent(Data, one)] == [[Want(two.id, False, ["resources"])]]
    rig.receive(one, Data([], [two.value("resources", 3, cpu=8)]))
    assert rig.machine.board.get(two.id, "resources") == {"cpu": 8}


def test_a_value_not_signed_by_its_owner_is_refused():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    rig.receive(one, Data([], [msgspec.structs.replace(one.value("resources", 3, cpu=8), owner=two.id)]))
    assert rig.machine.board.get(two.id, "resources") is None
    assert rig.machine.counters["peer_error: value: bad signature"] == 1


def test_an_audited_range_is_answered_with_what_the_sender_lacks():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    rig.clear()
    rig.receive(one, Range("", "", [Held(one.id, 1, 0, 0), Held(rig.me.id, 1, 0, 0)]))
    (data,) = rig.sent(Data, one)
    assert data.records == [two.record]


def test_what_changed_is_repeated_until_the_other_end_has_confirmed_it():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.effects += rig.machine.publish("a", {"x": 1}, rig.now)
    rig.clear()
    for _ in range(2):
        rig.receive(one, Ping(1, True, True, 0, 0))
    rig.run_to(rig.now + 0.6)
    rig.receive(one, Ping(1, True, True, 0, 0))
    first, at_once, again = rig.sent(Ack, one)
    assert first.held == again.held != []
    assert (at_once.upto, at_once.held) == (0, [])  # on its way: neither repeated nor taken for confirmed
    rig.clear()
    rig.receive(one, Ping(2, True, True, 0, first.upto))
    assert rig.sent(Ack, one)[0].held == []


def test_a_neighbour_that_has_told_us_a_record_is_not_told_it_back_while_others_are():
    rig, one, two, three = Rig(), Peer("one"), Peer("two"), Peer("three")
    rig.meet(one, two)
    rig.run_to(rig.now + 5.0)
    rig.clear()
    for peer in (one, two):
        rig.receive(peer, News([three.record], []))
    rig.run_to(rig.now + 0.5)
    assert [news for peer in (one, two) for news in rig.sent(News, peer)] == []


def test_records_that_follow_each_other_are_gathered():
    rig, one, news = Rig(), Peer("one"), [Peer(f"new{i}") for i in range(3)]
    rig.meet(one)
    rig.run_to(rig.now + 5.0)
    rig.clear()
    for peer in news:
        rig.receive(peer, News([peer.record], []))
        rig.run_to(rig.now + 0.03)
    rig.run_to(rig.now + 0.4)
    told = [[record.id for record in each.records] for each in rig.sent(News, one)]
    assert told == [[news[0].id], [news[1].id, news[2].id]]


def test_a_value_said_at_once_does_not_wait_for_the_next_ping():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.run_to(rig.now + 0.3)
    rig.receive(one, Ping(1, True, True, 0, 0))  # ours was answered as well: the next is due in 1.6 s
    rig.clear()
    rig.effects += rig.machine.publish("a", {"x": 1}, rig.now)
    rig.run_to(rig.now + 0.25)
    assert any(line.keys == {"a": 1} for ping in rig.sent(Ping, one) for line in ping.held)


def test_a_peer_that_confirms_what_was_never_said_is_still_told():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.receive(one, Ping(1, True, True, 0, 2**40))
    rig.effects += rig.machine.publish("a", {"x": 1}, rig.now)
    rig.clear()
    rig.receive(one, Ping(2, True, True, 0, 0))
    assert rig.sent(Ack, one)[0].held


def test_a_digest_of_invented_ids_does_not_fill_the_memory():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    for batch in range(80):
        lines = [Held(f"{batch}-{i}", 1, 0, 0) for i in range(1000)]
        rig.receive(one, Ping(batch, True, True, 0, 0, lines))
    assert len(rig.machine._context.links[one.id].has) <= 65536
    assert len(rig.machine._gossip._pulls) <= 4096


def test_a_refused_peer_that_was_replaced_by_a_fitting_version_is_taken_back():
    rig, one = Rig(), Peer("one")
    rig.event(events.SessionUp(one.id))
    rig.receive(one, Hello((2, 3), one.record, True, 0, []))
    rig.receive(one, Hello((1, 3), one.record, True, 0, []))
    assert rig.state(one) == "alive"


def test_an_earlier_life_of_mine_with_a_higher_boot_is_stepped_over():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    mine = Peer("me").sign(boot=7, incarnation=3)
    rig.receive(one, News([mine], []))
    assert (rig.me.boot, rig.me.incarnation) == (8, 0)


def test_another_process_with_my_key_stops_me_instead_of_a_race_of_boots():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    for _ in range(4):
        assert not rig.of(Halt)
        twin = Peer("me").sign(boot=rig.me.boot + 1, address="elsewhere:7000")
        rig.receive(one, News([twin], []))
    assert "elsewhere:7000" in rig.of(Halt)[0].error
    assert rig.me.boot == 7


def test_reachable_means_a_session_or_a_fresh_ack():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    member = rig.machine.members()[one.id]
    assert member.reachable
    rig.run_to(3.0, answering=(one,))
    rig.event(events.SessionDown(one.id, "closed"))
    assert member.reachable
    assert member.rtt_s is not None
    rig.run_to(9.0)
    assert not member.reachable


def test_only_so_many_tombstones_are_kept_and_the_oldest_is_forgotten():
    rig = Rig(settings=MembershipSettings(tombstones=3))
    one, gone = Peer("one"), [Peer(f"gone{i}") for i in range(5)]
    rig.meet(one)
    for peer in gone:
        rig.receive(one, News([peer.record], []))
        rig.receive(one, News([peer.sign(left=True)], []))
    assert len(rig.machine.members()) == 5
    assert [effect.peer for effect in rig.of(Forget)] == [peer.id for peer in gone[:2]]


def test_the_record_of_one_long_dead_is_taken_as_dead_when_it_is_first_met():
    rig, one, old = Rig(), Peer("one"), Peer("old")
    rig.meet(one)
    rig.receive(one, Data([old.record], [], [], [Held(old.id, 1, 0, DEAD)]))
    assert rig.state(old) == "dead"


def test_with_many_members_only_ring_neighbours_and_one_other_are_linked():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    others = [Peer(f"p{i}") for i in range(40)]
    for start in range(0, 40, 20):
        rig.receive(one, News([peer.record for peer in others[start : start + 20]], []))
    rig.run_to(0.5)
    assert len(rig.machine.alive()) == 42
    assert 3 <= len({effect.peer for effect in rig.of(Connect)}) <= 5


def test_a_member_that_comes_to_have_a_living_name_is_noticed():
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    rig.receive(two, News([two.sign(incarnation=1)], []))
    assert "name conflict" not in rig.notices()
    rig.receive(two, News([two.sign(boot=2, name="one")], []))
    rig.receive(two, News([two.sign(boot=2, incarnation=1, name="one")], []))
    assert rig.notices().count("name conflict") == 1
