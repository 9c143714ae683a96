"""CURVE keys and addresses in records: what no transport can use, and what is another's, is not taken."""

from __future__ import annotations

import pytest
from membership_rig import Peer, Rig

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
