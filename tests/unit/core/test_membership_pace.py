"""How often a node says something new of itself."""

import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core.membership import MembershipSettings
from jupiter_agent.core.messages.membership import News
from jupiter_agent.errors import CapacityError


def say(rig: Rig, every_s: float = 5.0, **content: object) -> None:
    rig.effects += rig.machine.publish("load", content, rig.now, every_s)


def said(rig: Rig) -> int:
    return rig.machine.board.version(rig.me.id, "load")[1]


def test_a_paced_key_changes_twice_at_once_and_then_once_per_pace():
    rig = Rig()
    rig.run_to(100.0)
    for i in range(4):
        say(rig, value=i)
    assert said(rig) == 2
    rig.run_to(104.8)
    assert said(rig) == 2
    rig.run_to(105.2)
    assert said(rig) == 3
    assert rig.machine.board.get(rig.me.id, "load") == {"value": 3}
    rig.run_to(200.0)
    assert said(rig) == 3


def test_a_key_without_pace_is_said_at_once_always():
    rig = Rig()
    for i in range(9):
        say(rig, 0.0, value=i)
    assert said(rig) == 9


def test_what_was_held_back_is_overtaken_by_an_urgent_value():
    rig = Rig()
    rig.run_to(100.0)
    for i in range(4):
        say(rig, value=i)
    say(rig, 0.0, value="urgent")
    assert rig.machine.board.get(rig.me.id, "load") == {"value": "urgent"}
    rig.run_to(120.0)
    assert said(rig) == 3


def test_the_pace_follows_the_number_of_members_and_the_budget():
    rig = Rig(settings=MembershipSettings(key_bps=100.0))
    peers = tuple(Peer(f"p{i}") for i in range(9))
    rig.meet(*peers)
    rig.run_to(10.0, answering=peers)
    for i in range(4):
        say(rig, value=i)
    assert said(rig) == 2
    rig.run_to(44.0, answering=peers)  # 10 members x (8 + 350) bytes / 100 bytes/s = 35.8 s
    assert said(rig) == 2
    rig.run_to(46.2, answering=peers)
    assert said(rig) == 3


def test_a_new_boot_says_everything_again_at_once():
    rig = Rig()
    rig.run_to(100.0)
    for i in range(4):
        say(rig, value=i)
    earlier = Peer("me")
    rig.meet(Peer("p"))
    rig.receive(Peer("p"), News([earlier.sign(boot=7)], []))
    rig.run_to(100.4, answering=(Peer("p"),))
    assert rig.me.boot == 8
    assert rig.machine.board.version(rig.me.id, "load") == (8, 1)


def test_a_value_over_the_limit_is_refused_whatever_its_pace():
    rig = Rig()
    with pytest.raises(CapacityError):
        say(rig, value="x" * 3000)
