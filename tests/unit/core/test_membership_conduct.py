"""Members that send garbage or forgeries are kept out for a while; nobody else is."""

from __future__ import annotations

import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core.effects import Ban, Connect, Learn
from jupiter_agent.core.events import Garbled, SessionDown
from jupiter_agent.core.membership import conduct
from jupiter_agent.core.messages.membership import Ack, LedgerKeys, News, Ping


def forged(rig: Rig, by: Peer, about: Peer) -> None:
    """Words about another, with a signature that is not its own."""
    record = msgspec.structs.replace(about.record, incarnation=99, left=True)
    rig.receive(by, News([record], []))


def offended(rig: Rig, by: Peer, times: int = conduct.STRIKES) -> None:
    for _ in range(times):
        rig.event(Garbled(by.id, "malformed frame"))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_member_that_sends_garbage_is_banned_for_a_minute_and_then_let_back_in(rig: Rig) -> None:
    bad, good = Peer("bad"), Peer("good")
    rig.meet(bad, good)
    offended(rig, bad, conduct.STRIKES - 1)
    assert rig.of(Ban) == []
    offended(rig, bad, 1)
    assert rig.of(Ban) == [Ban(bad.id, 60.0)]
    assert "peer banned" in rig.notices()
    rig.clear()
    rig.run_to(59.0, (good,))
    assert rig.of(Learn) == []
    rig.run_to(61.0, (good,))
    assert [learn.peer for learn in rig.of(Learn)] == [bad.id]


def test_a_member_that_forges_is_banned_and_what_it_says_then_is_dropped(rig: Rig) -> None:
    bad, other = Peer("bad"), Peer("other")
    rig.meet(bad, other)
    for _ in range(conduct.STRIKES):
        forged(rig, bad, other)
    assert rig.of(Ban) == [Ban(bad.id, 60.0)]
    rig.clear()
    rig.receive(bad, Ping(1, True, True, 0, 0))
    assert rig.sent(Ack) == []
    assert rig.machine.reach(bad.id) is False
    assert rig.state(bad) == "alive"


def test_who_is_banned_is_no_neighbour_until_its_time_is_up(rig: Rig) -> None:
    bad, good = Peer("bad"), Peer("good")
    rig.meet(bad, good)
    rig.run_to(1.0, (bad, good))
    offended(rig, bad)
    rig.event(SessionDown(bad.id, "closed"))
    rig.clear()
    rig.run_to(50.0, (good,))
    assert bad.id not in [connect.peer for connect in rig.of(Connect)]
    rig.run_to(62.0, (good,))
    assert bad.id in [connect.peer for connect in rig.of(Connect)]


def test_each_ban_is_twice_as_long_as_the_last_up_to_an_hour(rig: Rig) -> None:
    bad = Peer("bad")
    rig.meet(bad)
    for _ in range(9):
        offended(rig, bad)
        rig.run_to(rig.now + rig.of(Ban)[-1].for_s + 1.0)
    assert [ban.for_s for ban in rig.of(Ban)] == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0, 3600.0]


def test_a_member_that_offends_for_years_is_banned_for_an_hour_each_time(rig: Rig) -> None:
    bad = Peer("bad")
    rig.meet(bad)
    for _ in range(1100):
        offended(rig, bad)
        rig.now += rig.of(Ban)[-1].for_s + 1.0
        rig.effects = [*rig.of(Ban)[-1:], *rig.machine.on_deadline(rig.now)]
    assert rig.of(Ban)[-1].for_s == 3600.0


def test_a_mistake_now_and_then_is_forgiven(rig: Rig) -> None:
    clumsy = Peer("clumsy")
    rig.meet(clumsy)
    for turn in range(40):
        rig.run_to(turn * 20.0, (clumsy,))
        rig.event(Garbled(clumsy.id, "malformed frame"))
    assert rig.of(Ban) == []


def test_what_an_honest_member_may_say_too_late_or_too_often_is_no_offence(rig: Rig) -> None:
    eager = Peer("eager")
    rig.meet(eager)
    for _ in range(3 * conduct.STRIKES):
        rig.receive(eager, LedgerKeys(b"", ask=True))
    assert any(name.startswith("peer_error: ledger") for name in rig.machine.counters)
    assert rig.of(Ban) == []


def test_strangers_and_clients_have_no_sheet(rig: Rig) -> None:
    for _ in range(2 * conduct.STRIKES):
        rig.event(Garbled("client:worker:1", "malformed frame"))
        rig.event(Garbled("join:0102", "malformed frame"))
    assert rig.of(Ban) == []
    assert rig.machine.counters["offences"] == 0
