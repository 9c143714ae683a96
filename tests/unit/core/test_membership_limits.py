"""What members say cannot make this node hold more than it has room for, nor keep it from hearing others."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core.membership import MembershipSettings, gossip
from jupiter_agent.core.messages.membership import (
    DEAD,
    LEFT,
    Ack,
    Buried,
    Data,
    Held,
    Hello,
    News,
    Ping,
    Range,
    Value,
    Want,
)
from jupiter_agent.sim.world import World

FEW = MembershipSettings(tombstones=3)


# --- tombstones ---


def test_strangers_that_left_or_died_fill_no_more_than_the_room_for_tombstones() -> None:
    rig, one = Rig(settings=FEW), Peer("one")
    rig.meet(one)
    for number in range(10):
        gone, dead = Peer(f"gone{number}"), Peer(f"dead{number}")
        rig.receive(one, News([gone.sign(left=True)], []))
        rig.receive(one, Data([dead.record], [], [], [Held(dead.id, 1, 0, DEAD)]))
    assert [member.present for member in rig.machine.members().values()].count(False) == 3


def test_of_one_that_left_and_found_no_room_older_words_count_no_more() -> None:
    rig, one = Rig(settings=FEW), Peer("one")
    rig.meet(one)
    rig.receive(one, News([Peer(f"gone{n}").sign(left=True) for n in range(4)], []))
    late = Peer("late")
    spoke, left = late.sign(incarnation=0), late.sign(incarnation=1, left=True)
    rig.receive(one, News([left], []))
    rig.receive(one, News([spoke], []))
    assert late.id not in rig.machine.members()
    rig.receive(one, News([late.sign(incarnation=2)], []))
    assert rig.state(late) == "alive", "it came back"


def test_with_as_many_tombstones_as_there_is_room_for_nobody_else_is_asked_for_theirs_nor_told_ours() -> None:
    rig, one = Rig(settings=FEW), Peer("one")
    rig.meet(one)
    for number in range(3):
        rig.receive(one, News([Peer(f"gone{number}").sign(left=True)], []))
    rig.clear()
    lines = [Held(Peer(f"old{number}").id, 1, 0, state) for number, state in enumerate((DEAD, LEFT))]
    rig.receive(one, Range("", "", [*lines, Held(one.id, 1, 0, 0)]))
    assert [record.id for data in rig.sent(Data) for record in data.records] == [rig.me.id]
    assert not [want for data in rig.sent(Data) for want in data.want]


def test_islands_full_of_tombstones_that_meet_stay_as_full_and_then_are_quiet() -> None:
    world = World(1, FEW)
    for name, seeds in (("n0", ()), ("n1", ("n0",)), ("m0", ()), ("m1", ("m0",))):
        world.join(name, *seeds)
    world.run(3)
    for number in range(4):
        for island in "nm":
            world.join(f"{island}x{number}", f"{island}0")
        world.run(1.0)
        for island in "nm":
            world.leave(f"{island}x{number}")
        world.run(1.5)
    world.nodes["n0"].machine.add_seed("m0:7000", "join")
    world.run(30)
    for name in ("n0", "n1", "m0", "m1"):
        members = world.nodes[name].machine.members().values()
        assert sorted(Counter(member.present for member in members).items()) == [(False, 3), (True, 4)]


def test_of_many_dead_those_who_died_lately_are_told_rather() -> None:
    rig, one = Rig(settings=MembershipSettings(tombstones=512)), Peer("one")
    rig.meet(one)
    rig.receive(one, Hello((1, 1), one.record, False, 0, []))
    dead = [Peer(f"dead{number}") for number in range(300)]
    for peer in dead:
        rig.receive(one, Data([peer.record], [], [], [Held(peer.id, 1, 0, DEAD)]))
    rig.clear()
    rig.run_to(300.0, answering=(one,))
    told = [peer for peer in dead if rig.sent(Buried, peer)]
    late = [peer for peer in told if peer in dead[-16:]]
    assert len(late) >= 12
    assert len(told) - len(late) >= 20, "the others have their turn"


# --- the log ---


def test_the_log_holds_no_keys_of_a_members_older_boots() -> None:
    rig, one = Rig(), Peer("one")
    rig.meet(one)
    before = len(rig.machine._context.view.log)
    for boot in range(1, 21):
        record = one.sign(boot=boot)
        values = [
            one.trust.signed_value(Value(one.id, f"k{boot}.{number}", boot, 1, msgspec.msgpack.encode({})))
            for number in range(30)
        ]
        rig.receive(one, Data([record], values))
    assert len(rig.machine.board.versions(one.id)[1]) == 30
    assert len(rig.machine._context.view.log) == before + 30


def test_a_value_of_a_later_boot_than_its_owners_record_waits_for_the_record() -> None:
    rig, one, other = Rig(), Peer("one"), Peer("other")
    rig.meet(one, other)
    value = one.trust.signed_value(Value(one.id, "k", 2, 1, msgspec.msgpack.encode({})))
    rig.clear()
    for _ in range(3):
        rig.receive(other, Data([], [value]))
    assert rig.machine.board.get(one.id, "k") is None
    assert [data.want for data in rig.sent(Data, other)] == [[Want(one.id, True, ["k"])]], "asked for once, not thrice"
    rig.receive(other, Data([one.sign(boot=2)], [value]))
    assert rig.machine.board.get(one.id, "k") == {}


# --- pulls ---


def test_invented_ids_of_one_member_keep_nobody_elses_news_from_being_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gossip, "PULLS_MAX", (100, 300))
    rig, liar, honest, new = Rig(), Peer("liar"), Peer("honest"), Peer("new")
    rig.meet(liar, honest)
    for turn in range(20):
        rig.receive(liar, Ping(turn, False, False, 0, 0, [Held(f"{turn}-{i}", 5, 0, 0) for i in range(1024)]))
    rig.clear()
    rig.receive(honest, Ping(1, False, True, 0, 0, [Held(new.id, 1, 0, 0)]))
    assert [want.id for ack in rig.sent(Ack, honest) for want in ack.want] == [new.id]
    assert len(rig.machine._gossip._pulls) == 101
    rig.clear()
    rig.run_to(rig.now + 1.5, answering=(liar, honest))
    assert [want.id for data in rig.sent(Data, honest) for want in data.want] == [new.id], "again before the invented"
    rig.run_to(rig.now + 60.0, answering=(liar, honest))
    assert not rig.machine._gossip._pulls
    assert not rig.machine._gossip._asked
