"""What members say cannot make this node hold more than it has room for, nor keep it from hearing others."""

from __future__ import annotations

from collections import Counter

from membership_rig import Peer, Rig

from jupiter_agent.core.membership import MembershipSettings
from jupiter_agent.core.messages.membership import DEAD, LEFT, Buried, Data, Held, Hello, News, Range
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
