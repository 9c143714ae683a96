"""When membership wakes up: seldom while all is well, soon when something happens."""

from __future__ import annotations

from membership_rig import Peer, Rig

from jupiter_agent.core.messages.membership import Ping


def wakes(rig: Rig, until: float, *peers: Peer) -> list[float]:
    """The times of its deadlines, each served when it was due; pings are answered at once."""
    times = []
    while (due := rig.machine.next_deadline()) <= until:
        times.append(due)
        rig.run_to(due, answering=peers)
    return times


def quiet(count: int = 6) -> tuple[Rig, tuple[Peer, ...]]:
    rig, peers = Rig(), tuple(Peer(f"p{i}") for i in range(count))
    rig.meet(*peers)
    rig.run_to(10.0, answering=peers)
    return rig, peers


def test_a_node_whose_pings_are_answered_wakes_up_twice_a_second_at_most():
    rig, peers = quiet()
    rig.clear()
    times = wakes(rig, 40.0, *peers)
    pings = [message for peer in peers for message in rig.sent(Ping, peer)]
    assert len(times) <= 60, "of five a second before"
    assert len(pings) >= 6 * 30 / 1.25 * 0.9, "and no link is pinged less often"
    assert len(pings) <= 6 * 30 / 1.25 * 1.25


def test_a_ping_that_is_not_answered_is_judged_when_its_time_is_up_not_at_the_next_round_of_a_grid():
    rig, _ = quiet(1)
    rig.clear()
    while not rig.sent(Ping):
        rig.run_to(rig.machine.next_deadline())
    at = rig.now
    assert rig.machine.next_deadline() == at + 0.5
    rig.run_to(at + 0.49)
    before = len(rig.sent(Ping))
    rig.run_to(at + 0.5)
    assert len(rig.sent(Ping)) > before, "asked again at once"


def test_what_is_said_at_once_waits_for_a_fifth_of_a_second():
    rig, _ = quiet()
    due = rig.machine.next_deadline()
    rig.machine.publish("resources", {"full": True}, rig.now)
    assert rig.machine.next_deadline() == min(due, rig.now + 0.2)


def test_a_node_that_nobody_answers_does_not_wake_up_for_what_it_may_not_say():
    rig, peers = quiet()
    for number in range(4):
        rig.machine.publish("resources", {"load": number}, rig.now, every_s=5.0)
    rig.run_to(rig.now + 4.0)
    times = wakes(rig, rig.now + 10.0)
    assert len(times) <= 10 / 0.2 + 10, "as often as anybody whom nothing reaches"
    assert peers


def test_an_operators_word_is_looked_at_soon():
    rig, _ = quiet()
    rig.machine.decided(rig.now, lambda notary: None)
    assert rig.machine.next_deadline() <= rig.now + 0.2
