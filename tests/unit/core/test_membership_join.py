import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core import events
from jupiter_agent.core.effects import Connect, Halt, Learn, SendJoin
from jupiter_agent.core.membership import Joined
from jupiter_agent.core.messages.membership import USE, Ack, Iam, Join, News, Ping, Refused, Welcome, Who
from jupiter_agent.sim.trust import FakeAuthority, fake_member


def welcome(rig: Rig, *records: object, boot: int = 0) -> Welcome:
    authority = FakeAuthority()
    return Welcome(authority.issue(rig.me), b"", boot, list(records), authority.public())


def ask(rig: Rig, peer: Peer, **changes: object) -> None:
    record = peer.trust.signed(msgspec.structs.replace(peer.record, admission=b"", **changes))
    rig.event(events.JoinRequested("join:1", Join(record)))


# --- asking ---


def test_the_first_node_is_a_cluster_alone():
    rig = Rig()
    assert rig.machine.joined
    assert rig.machine.alive() == [rig.me.id]
    assert rig.of(Joined) == [Joined(1, rig.me.admission)]


def test_a_node_that_cannot_found_and_has_no_seed_stops():
    assert Rig(admin=False).of(Halt)


def test_a_worker_asks_its_seed_and_enters_with_one_more_than_the_highest_boot_known():
    rig, sponsor, other = Rig(("one:7000",), admin=False), Peer("one"), Peer("other")
    (asked,) = rig.of(SendJoin)
    assert asked.address == "one:7000"
    assert not rig.machine.joined
    rig.event(events.JoinAnswered("one:7000", welcome(rig, sponsor.record, other.record, boot=4)))
    assert rig.machine.joined
    assert rig.me.boot == 5
    assert rig.of(Joined)[0].boot == 5
    assert rig.machine.alive() == sorted([rig.me.id, sponsor.id, other.id])
    assert rig.machine.members()[sponsor.id].found_by == "join"
    assert rig.machine.members()[other.id].found_by == "gossip"
    rig.run_to(0.1)
    assert [effect.peer for effect in rig.of(Connect)] == [sponsor.id], "the sponsor first: others do not know us yet"
    rig.run_to(0.5)
    assert {effect.peer for effect in rig.of(Connect)} == {sponsor.id, other.id}


def test_the_stored_boot_counts_when_it_is_the_higher_one():
    rig = Rig(("one:7000",), admin=False, boot=9)
    rig.event(events.JoinAnswered("one:7000", welcome(rig, Peer("one").record, boot=4)))
    assert rig.me.boot == 9


def test_seeds_not_alive_here_are_tried_every_second_at_first_and_every_nine_later():
    rig = Rig(("one:7000",))
    for second in range(10):
        rig.run_to(float(second))
        rig.event(events.JoinAnswered("one:7000", None, "refused"))
    early = len(rig.of(SendJoin))
    assert 8 <= early <= 13
    rig.clear()
    for second in range(10, 100):
        rig.run_to(float(second))
        rig.event(events.JoinAnswered("one:7000", None, "timeout"))
    assert 7 <= len(rig.of(SendJoin)) <= 15


def test_a_seed_that_fails_brings_the_next_at_once():
    rig = Rig(("one:7000", "two:7000"), admin=False)
    (first,) = rig.of(SendJoin)
    rig.event(events.JoinAnswered(first.address, None, "refused"))
    assert {effect.address for effect in rig.of(SendJoin)} == {"one:7000", "two:7000"}


def test_a_seed_that_is_alive_is_left_alone():
    rig, one = Rig(("one:7000",)), Peer("one")
    rig.event(events.JoinAnswered("one:7000", None, "refused"))
    rig.meet(one)
    rig.clear()
    rig.run_to(5.0, answering=(one,))
    assert not rig.of(SendJoin)


def test_found_by_names_the_hint_that_led_there():
    rig, one = Rig(), Peer("one")
    rig.machine.add_seed("one:7000", "remembered")
    rig.meet(one)
    assert rig.machine.members()[one.id].found_by == "remembered"


def test_a_refusal_for_good_stops_a_node_that_knows_nobody():
    rig = Rig(("one:7000",), admin=False)
    rig.event(events.JoinAnswered("one:7000", Refused("the name is taken by a living member", "one:7000")))
    [halt] = rig.of(Halt)
    assert "the name is taken" in halt.error
    assert halt.hint == "its holder is at one:7000; choose another name: --name NAME"


def test_no_refusal_stops_a_node_that_has_a_cluster_be_it_alone() -> None:
    for seeds in ((), ("one:7000",)):
        rig, gone = Rig(seeds), Peer("one")
        rig.meet(gone)
        rig.receive(gone, News([gone.sign(left=True)], []))
        rig.event(events.SessionDown(gone.id, "closed"))
        rig.run_to(60.0)
        assert rig.of(SendJoin)[-1].address == "one:7000"
        rig.event(events.JoinAnswered("one:7000", None, "unauthorised"))
        rig.event(events.JoinAnswered("one:7000", Refused("the name is taken by a living member", "c:7000")))
        assert rig.notices().count("join refused") == 2
        assert not rig.of(Halt)


def test_only_what_the_user_named_can_stop_a_node_that_is_to_join() -> None:
    rig = Rig(("one:7000",), admin=False)
    rig.machine.add_seed("old:7000", "remembered")
    for message in (None, Refused("the name is taken by a living member", "c:7000")):
        rig.event(events.JoinAnswered("old:7000", message, "" if message else "unauthorised"))
    assert not rig.of(Halt)
    rig.event(events.JoinAnswered("one:7000", Refused("no common protocol version")))
    assert rig.of(Halt)


def test_a_refusal_that_may_pass_is_tried_again():
    rig = Rig(("one:7000",), admin=False)
    rig.event(events.JoinAnswered("one:7000", Refused("not a member myself yet")))
    rig.run_to(2.0)
    assert not rig.of(Halt)
    assert len(rig.of(SendJoin)) >= 2


def test_a_welcome_into_another_cluster_is_not_accepted():
    rig = Rig(("one:7000",), admin=False)
    foreign = FakeAuthority("elsewhere")
    rig.event(events.JoinAnswered("one:7000", Welcome(foreign.issue(rig.me), b"", 0, [], foreign.public())))
    assert not rig.machine.joined
    assert rig.machine.counters["peer_error: welcome: another cluster, or a false admission"] == 1


# --- sponsoring ---


def test_who_is_answered_with_key_and_protocol():
    rig = Rig()
    rig.event(events.JoinRequested("join:1", Who(5)))
    (iam,) = rig.sent(Iam, "join:1")
    assert (iam.seq, iam.id, iam.curve_key, iam.protocol) == (5, rig.me.id, rig.me.curve_key, (1, 1))
    assert iam.address == rig.me.address


def test_a_joiner_is_admitted_learned_and_told_who_is_there():
    rig, one, new = Rig(), Peer("one"), Peer("new")
    rig.meet(one)
    rig.clear()
    ask(rig, new)
    (answer,) = rig.sent(Welcome, "join:1")
    assert answer.records == [rig.me, one.record]
    assert FakeAuthority().verify_admission(msgspec.structs.replace(new.record, admission=answer.admission))
    assert answer.issuer_key == FakeAuthority().export()
    assert answer.boot == 0
    assert rig.of(Learn) == [Learn(new.id, new.record.address, new.record.curve_key)]
    assert new.id not in rig.machine.members(), "it is a member only by its own signed record"


def test_the_issuer_key_stays_with_admins():
    rig = Rig()
    ask(rig, Peer("new"), role="worker")
    assert rig.sent(Welcome, "join:1")[0].issuer_key == b""


def test_a_member_without_the_issuer_key_sends_the_joiner_on():
    rig = Rig(("one:7000",), admin=False)
    rig.event(events.JoinAnswered("one:7000", welcome(rig, Peer("one").record)))
    ask(rig, Peer("new"))
    assert rig.sent(Refused, "join:1")[0].reason == "cannot admit: the cluster's issuer key is not here"


def test_a_returning_node_is_told_its_highest_boot():
    rig, one = Rig(), Peer("one", boot=6)
    rig.meet(one)
    ask(rig, one, boot=2)
    assert rig.sent(Welcome, "join:1")[0].boot == 6


def test_a_replayed_request_moves_nobody() -> None:
    rig, one = Rig(), Peer("one")
    old = one.sign(address="old:7000")
    rig.meet(one)
    rig.receive(one, News([one.sign(boot=2, address="new:7000")], []))
    rig.event(events.SessionDown(one.id, "lost"))
    rig.clear()
    for boot in (1, 2):
        ask(rig, one, boot=boot, address=old.address)
        rig.run_to(rig.now + 3.0)
    assert len(rig.sent(Welcome, "join:1")) == 2, "it does not answer at its address: it may be its return"
    assert not [learn for learn in rig.of(Learn) if learn.peer == one.id]
    ask(rig, one, boot=3, address="third:7000")
    rig.run_to(rig.now + 3.0)
    assert [learn.address for learn in rig.of(Learn)] == ["third:7000"]


def test_who_asked_from_elsewhere_and_came_back_to_its_old_address_is_learned_there_again() -> None:
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.event(events.SessionDown(one.id, "lost"))
    ask(rig, one, boot=2, address="new:7000")
    rig.run_to(3.0)
    rig.receive(one, News([one.sign(boot=3)], []))
    assert [learn.address for learn in rig.of(Learn)] == ["one:7000", "new:7000", "one:7000"]


def test_who_shows_a_token_whose_use_cannot_be_counted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, authority = Rig(), FakeAuthority()
    monkeypatch.setattr("jupiter_agent.core.ledger.LEDGER_MAX", 1)
    monkeypatch.setattr(
        FakeAuthority, "use_of", lambda _, request: authority.signed_entry(USE, "t", 9, request.record.id.encode())
    )
    for name in ("one", "one", "two"):
        ask(rig, Peer(name))
    assert len(rig.sent(Welcome, "join:1")) == 2, "the same node may come again"
    (refused,) = rig.sent(Refused, "join:1")
    assert refused.reason == "the use of the token cannot be counted: the ledger is full"
    assert [learn.peer for learn in rig.of(Learn)] == [Peer("one").id] * 2


def test_a_living_name_is_not_given_away():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.clear()
    ask(rig, Peer("other", name="one"))
    assert not rig.sent(Refused), "the holder is asked for a sign of life first"
    seq = rig.sent(Ping, one)[-1].seq
    rig.receive(one, Ack(seq, 0, 0))
    (refused,) = rig.sent(Refused, "join:1")
    assert refused.reason == "the name is taken by a living member"
    assert refused.hint == one.record.address


def test_all_who_stand_in_a_joiners_way_are_asked_and_one_that_lives_is_enough() -> None:
    for living in (None, "holder", "other"):
        rig, old, holder, other = Rig(), Peer("old"), Peer("holder", name="b2"), Peer("other", name="b2")
        rig.meet(old, holder, other)
        rig.event(events.SessionDown(old.id, "lost"))
        rig.clear()
        ask(rig, old, address="new:7000", name="b2", boot=2)
        rig.run_to(2.0, answering=tuple(peer for peer in (holder, other) if peer.record.address == f"{living}:7000"))
        assert bool(rig.sent(Welcome, "join:1")) is (living is None)
        assert [refused.hint for refused in rig.sent(Refused, "join:1")] == ([f"{living}:7000"] if living else [])


def test_who_asks_twice_before_the_holder_has_answered_gets_one_answer():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.clear()
    ask(rig, Peer("other", name="one"))
    ask(rig, Peer("other", name="one"))
    rig.receive(one, Ack(rig.sent(Ping, one)[-1].seq, 0, 0))
    assert len(rig.sent(Refused, "join:1")) == 1


def test_my_own_name_is_not_given_away():
    rig = Rig()
    ask(rig, Peer("other", name="me"))
    assert rig.sent(Refused, "join:1")


def test_the_same_node_alive_at_another_address_is_a_conflict_and_not_alive_is_none():
    for alive in (True, False):
        rig, one = Rig(), Peer("one")
        rig.meet(one)
        rig.clear()
        ask(rig, one, address="elsewhere:7000")
        if alive:
            rig.receive(one, Ack(rig.sent(Ping, one)[-1].seq, 0, 0))
            assert rig.sent(Refused, "join:1")[0].reason == "the same node is alive at another address"
        rig.run_to(2.0)
        assert bool(rig.sent(Welcome, "join:1")) is not alive


def test_the_name_of_one_that_left_is_free():
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.receive(one, News([one.sign(left=True)], []))
    ask(rig, Peer("other", name="one"))
    assert rig.sent(Welcome, "join:1")


def test_a_joiner_without_common_protocol_is_refused_with_both_ranges():
    rig = Rig()
    ask(rig, Peer("new"), protocol=(2, 3))
    (refused,) = rig.sent(Refused, "join:1")
    assert refused.reason == "no common protocol version"
    assert "join refused" in rig.notices()


def test_a_forged_request_is_refused_and_counted():
    rig, new = Rig(), Peer("new")
    rig.event(events.JoinRequested("join:1", Join(msgspec.structs.replace(new.record, name="other"))))
    assert rig.sent(Refused, "join:1")[0].reason == "the record is not in order"
    assert rig.machine.counters["peer_error: record: bad signature"] == 1


def test_a_seed_that_is_this_node_itself_is_not_asked_twice():
    rig = Rig(("alias:7000",))
    draft, trust = fake_member("me")
    rig.event(events.JoinRequested("join:1", Join(trust.signed(draft))))
    (refused,) = rig.sent(Refused, "join:1")
    rig.event(events.JoinAnswered("alias:7000", refused))
    rig.clear()
    rig.run_to(30.0)
    assert not rig.of(SendJoin)


# --- what a sponsor or time can do to us ---


def test_a_sponsors_mere_word_raises_our_boot_by_a_thousand_at_most():
    rig = Rig(("one:7000",), admin=False)
    rig.event(events.JoinAnswered("one:7000", welcome(rig, Peer("one").record, boot=2_000_000_000)))
    assert rig.me.boot == 1002


def test_what_we_signed_ourselves_in_an_earlier_life_is_believed():
    rig = Rig(("one:7000",), admin=False)
    earlier = Peer("me").sign(boot=5000)
    rig.event(events.JoinAnswered("one:7000", welcome(rig, Peer("one").record, earlier, boot=5000)))
    assert rig.me.boot == 5001


def test_a_sponsor_shows_the_record_it_knows_of_the_joiner():
    rig, old = Rig(), Peer("old")
    rig.receive(old, News([old.sign(boot=5000)], []))
    rig.receive(old, News([old.sign(boot=5000, left=True)], []))
    ask(rig, old)
    (answer,) = rig.sent(Welcome, "join:1")
    assert answer.boot == 5000
    assert [record.boot for record in answer.records if record.id == old.id] == [5000]
    assert answer.records[0] == rig.me


def test_a_node_left_alone_tries_the_addresses_of_those_it_knew_for_ever():
    rig = Rig()
    gone = [Peer(f"gone{i}") for i in range(3)]
    for peer in gone:
        rig.receive(peer, News([peer.sign(left=True)], []))
    rig.run_to(400.0)
    tried = {effect.address for effect in rig.of(SendJoin)}
    assert tried == {peer.record.address for peer in gone}
    rig.clear()
    rig.run_to(520.0)
    assert 2 <= len(rig.of(SendJoin)) <= 12


def test_a_new_cluster_at_the_address_of_a_dead_member_is_joined():
    rig, old, new = Rig(), Peer("old"), Peer("new")
    rig.receive(old, News([old.sign(left=True)], []))
    rig.run_to(60.0)
    asked = rig.of(SendJoin)[-1]
    assert asked.address == old.record.address
    rig.event(events.JoinAnswered(asked.address, welcome(rig, new.sign(address=asked.address))))
    assert new.id in rig.machine.alive()
    assert rig.machine.members()[new.id].found_by == "remembered"
