"""CURVE keys and addresses in records: what no transport can use, and what is another's, is not taken."""

from __future__ import annotations

import pytest
from membership_rig import Peer, Rig
from test_membership_relay import box, cluster

from jupiter_agent.core.effects import Ban, Learn
from jupiter_agent.core.events import JoinRequested
from jupiter_agent.core.membership import conduct
from jupiter_agent.core.messages.membership import Join, News, Refused
from jupiter_agent.core.trust import is_address, is_curve_key

UNUSABLE = [
    {"curve_key": "~" * 40},
    {"curve_key": "é" * 40},
    {"curve_key": "#" * 40},
    {"curve_key": "0" * 39},
    {"address": ""},
    {"address": "nonsense"},
    {"address": "host:0"},
    {"address": "host:65536"},
    {"address": ":7000"},
    {"address": "two words:7000"},
]
"""`#` is a digit of Z85, but five of them are no 32 bits"""


@pytest.mark.parametrize("changes", UNUSABLE, ids=lambda changes: repr(changes)[:30])
def test_a_record_that_no_transport_can_use_goes_no_further(changes: dict[str, str]) -> None:
    rig, one, two = Rig(), Peer("one"), Peer("two")
    rig.meet(one, two)
    rig.clear()
    bad = Peer("bad", **changes)
    rig.receive(one, News([bad.record], []))
    rig.run_to(1.0, answering=(one, two))
    assert bad.id not in rig.machine.members()
    assert not rig.of(Learn)
    assert not [news for news in rig.sent(News) if bad.record in news.records]


def test_a_record_that_no_transport_can_use_is_an_offence_of_who_signed_it() -> None:
    rig, one, bad = Rig(), Peer("one"), Peer("bad")
    rig.meet(one, bad)
    for number in range(conduct.STRIKES):
        rig.receive(one, News([bad.sign(address="nonsense", incarnation=1 + number)], []))
    assert [ban.peer for ban in rig.of(Ban)] == [bad.id]
    assert rig.machine.members()[bad.id].record.address == "bad:7000"


def test_who_passes_on_what_it_cannot_read_is_not_struck_for_it() -> None:
    rig, (relay, evil) = cluster(2)
    for number in range(conduct.STRIKES):
        made_up = Peer(f"made{number}", address="nonsense")
        rig.receive(relay, box(evil, rig, News([made_up.record], []), number + 1))
    assert [ban.peer for ban in rig.of(Ban)] == [evil.id]


def test_remembered_members_that_no_transport_can_use_are_dropped() -> None:
    rig, good = Rig(), Peer("good")
    bad = [Peer(f"bad{n}", **changes).record for n, changes in enumerate(UNUSABLE)]
    rig.effects += rig.machine.recall([*bad, good.record])
    assert [learn.peer for learn in rig.of(Learn)] == [good.id]


def test_a_joiner_whose_address_is_none_is_refused() -> None:
    rig = Rig()
    rig.event(JoinRequested("join:1", Join(Peer("new", address="nonsense").record)))
    assert rig.sent(Refused, "join:1")[0].reason == "the record is not in order"


def test_keys_and_addresses_are_known_by_their_form() -> None:
    assert is_curve_key("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")  # of the ZMTP CURVE documentation
    assert not is_curve_key("0" * 40 + "\n")
    assert all(map(is_address, ("10.0.0.1:7421", "[fe80::1]:7421", "[fe80::1%eth0]:1", "node.example:65535")))
    assert not any(map(is_address, ("fe80::1:7421", "[]:1", "h:-1", "h:٣", "h:7\n", "h\n:7", "h")))


# --- a key belongs to one id ---


def test_a_record_with_another_members_key_is_refused_whether_that_member_lives_or_not() -> None:
    for left in (False, True):
        rig, alice, good = Rig(), Peer("alice"), Peer("good")
        rig.meet(alice, good)
        rig.receive(alice, News([alice.sign(left=left, incarnation=1)], []))
        rig.clear()
        thief = Peer("thief", curve_key=alice.record.curve_key)
        for _ in range(3):
            rig.receive(good, News([thief.record], []))
        rig.run_to(1.0, answering=(alice, good))
        assert thief.id not in rig.machine.members()
        assert thief.id not in [learn.peer for learn in rig.of(Learn)]
        assert rig.notices().count("key conflict") == 1
        assert rig.machine.counters["offences"] == 0, "who passes it on may have met the thief first"


def test_my_own_key_is_nobody_elses() -> None:
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    rig.receive(one, News([Peer("thief", curve_key=rig.me.curve_key).record], []))
    assert "key conflict" in rig.notices()
    assert len(rig.machine.members()) == 2


def test_a_sponsor_admits_no_key_that_is_a_members_or_a_guests() -> None:
    rig, alice, guest = Rig(), Peer("alice"), Peer("guest")
    rig.meet(alice)
    rig.event(JoinRequested("join:1", Join(guest.record)))
    rig.clear()
    for victim in (alice, guest):
        rig.event(JoinRequested("join:2", Join(Peer("thief", curve_key=victim.record.curve_key).record)))
    assert [refused.reason for refused in rig.sent(Refused, "join:2")] == ["its CURVE key is another node's"] * 2
    assert rig.notices() == ["join refused"] * 2
    assert not rig.of(Learn)


def test_the_key_of_a_member_that_was_forgotten_is_free() -> None:
    rig, old, one = Rig(), Peer("old"), Peer("one")
    rig.meet(old, one)
    rig.receive(old, News([old.sign(left=True)], []))
    rig.effects += rig.machine.forget(old.id)
    again = Peer("again", curve_key=old.record.curve_key)
    rig.receive(one, News([again.record], []))
    assert rig.state(again) == "alive"


def test_who_asks_to_join_with_ever_other_keys_holds_but_its_own_and_the_last() -> None:
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    for number in range(50):
        request = Join(one.sign(boot=2, incarnation=number, curve_key=f"{number:040d}"))
        rig.event(JoinRequested("join:1", request))
    rig.clear()
    rig.event(JoinRequested("join:2", Join(Peer("new", curve_key=f"{7:040d}").record)))
    assert not rig.sent(Refused, "join:2")
    rig.event(JoinRequested("join:3", Join(Peer("thief", curve_key=one.record.curve_key).record)))
    assert rig.sent(Refused, "join:3")
