"""While a crowd comes to a large cluster its members' values wait; then they are asked for in bulk."""

from __future__ import annotations

from membership_rig import Peer, Rig

from jupiter_agent.core.messages.membership import Ack, Data, Held, News, Ping
from jupiter_agent.core.wire import decode, encode


def crowd(count: int) -> tuple[Rig, Peer, list[Peer]]:
    """A node with one neighbour, that has just told it of so many members, two of them within a second."""
    rig, near = Rig(), Peer("near")
    others = [Peer(f"p{i}") for i in range(count)]
    rig.meet(near)
    rig.receive(near, News([each.record for each in others[:-1]], []))
    rig.run_to(rig.now + 0.5, answering=(near,))
    rig.receive(near, News([others[-1].record], []))
    rig.clear()
    return rig, near, others


def told(rig: Rig, near: Peer, others: list[Peer], version: int = 1) -> None:
    """A digest: each of them has published its resources, so often."""
    lines = [Held(each.id, 1, 0, 0, {"resources": version}, 1) for each in others]
    rig.receive(near, Ping(version, True, True, version, 0, lines))


def asked(rig: Rig, near: Peer) -> list[str]:
    wants = [want for data in rig.sent(Data, near) for want in data.want]
    wants += [want for ack in rig.sent(Ack, near) for want in ack.want]
    return [want.id for want in wants for _ in want.keys]


def test_values_are_asked_for_in_one_message_when_no_more_members_come():
    rig, near, others = crowd(50)
    told(rig, near, others)
    rig.run_to(rig.now + 0.9, answering=(near,))
    told(rig, near, others, version=2)
    assert asked(rig, near) == []
    rig.run_to(rig.now + 0.5, answering=(near,))
    assert len([data for data in rig.sent(Data, near) if data.want]) == 1
    assert sorted(asked(rig, near)) == sorted(each.id for each in others)


def test_a_crowd_without_end_is_not_waited_for_longer_than_ten_seconds():
    rig, near, others = crowd(60)
    told(rig, near, others[:45])
    began = rig.now
    while not asked(rig, near) and rig.now < began + 30.0:
        rig.run_to(rig.now + 0.5, answering=(near,))
        rig.receive(near, News([Peer(f"late{rig.now}").record], []))
    assert 10.0 <= rig.now - began <= 11.5


def test_in_a_small_cluster_nothing_waits():
    rig, near, others = crowd(8)
    told(rig, near, others)
    assert sorted(asked(rig, near)) == sorted(each.id for each in others)


def test_what_came_meanwhile_is_not_asked_for():
    rig, near, others = crowd(50)
    told(rig, near, others[:2])
    rig.receive(near, Data([], [others[0].value("resources", 1, cpu=8)]))
    rig.run_to(rig.now + 1.5, answering=(near,))
    assert asked(rig, near) == [others[1].id]


def test_who_was_there_all_the_time_is_heard_at_once():
    rig, near, others = crowd(50)
    rig.run_to(rig.now + 61.0, answering=(near,))
    rig.receive(near, News([Peer("new1").record], []))
    rig.run_to(rig.now + 0.2, answering=(near,))
    rig.receive(near, News([Peer("new2").record], []))
    rig.clear()
    told(rig, near, [others[0], Peer("new1")])
    assert asked(rig, near) == [others[0].id]


def test_a_very_large_crowd_is_asked_for_in_messages_that_can_be_read():
    rig, near, others = crowd(1100)
    told(rig, near, others)
    rig.run_to(rig.now + 1.5, answering=(near,))
    pulls = [data for data in rig.sent(Data, near) if data.want]
    assert sum(len(data.want) for data in pulls) == 1100
    assert all(decode(encode(data)) == data for data in pulls)
