"""What every transport must do (adapters/transport.py), asked of each in the same words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from transport_rigs import MemoryRig, Rig, ZmqRig, introduce


@pytest.fixture(params=[ZmqRig, MemoryRig], ids=["zmq", "memory"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    world: Rig = request.param()
    yield world
    world.close()


@pytest.mark.smoke
def test_frames_arrive_complete_and_in_order(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    frames = [b"%d " % number + b"x" * (number * 37) for number in range(50)]
    for frame in frames:
        a.send(b, frame)
    rig.run(lambda: len(b.frames()) == 50)
    assert b.frames() == frames
    assert {what[1] for what in b.told} == {"a"}


def test_a_kept_session_is_reported_up_at_both_ends_before_its_frames(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up", "b") and b.heard("up", "a"))
    a.send(b, b"1")
    b.send(a, b"2")
    rig.run(lambda: a.frames() and b.frames())
    assert a.told == [("up", "b"), ("frame", "b", b"2")]
    assert b.told == [("up", "a"), ("frame", "a", b"1")]


@pytest.mark.smoke
def test_one_session_serves_both_directions(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: b.heard("up", "a"))
    b.do("connect", "a")
    b.send(a, b"back")
    rig.run(lambda: a.frames() == [b"back"])
    rig.run_for(0.3)
    assert a.transport.counters()["sessions"] == b.transport.counters()["sessions"] == 1
    assert a.heard("up") == b.heard("up") == 1


def test_sessions_opened_crosswise_are_reported_once_and_lose_nothing(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    b.do("connect", "a")
    for number in range(20):
        a.send(b, b"%d" % number)
        b.send(a, b"%d" % number)
    rig.run(lambda: len(a.frames()) == len(b.frames()) == 20)
    rig.run_for(3.0)
    assert a.heard("up") == b.heard("up") == 1
    assert not a.heard("down")
    assert not b.heard("down")
    assert a.transport.counters()["sessions"] == b.transport.counters()["sessions"] == 1


def test_a_session_opens_on_demand_and_closes_when_idle(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.send(b, b"hello")
    rig.run(lambda: b.frames() == [b"hello"])
    rig.run(lambda: a.heard("down") and b.heard("down"), rig.idle_s * 3 + 1)
    assert a.told == [("up", "b"), ("down", "b", "closed")]
    assert b.told == [("up", "a"), ("frame", "a", b"hello"), ("down", "a", "closed")]


def test_a_kept_session_does_not_close_when_idle_until_it_is_let_go(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run_for(rig.idle_s * 3)
    assert a.told == [("up", "b")]
    a.do("disconnect", "b")
    rig.run(lambda: a.heard("down", "b", "closed") and b.heard("down", "a", "closed"), rig.idle_s * 3 + 1)


def test_both_ends_hear_that_a_kept_peer_is_gone_and_up_again_when_it_restarts_at_its_address(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    rig.stop(b)
    rig.run(lambda: a.heard("down", "b", "lost"))
    rig.run(lambda: a.heard("down", "b", "refused"))
    b.told.clear()
    rig.restart(b)
    b.learn(a)
    rig.run(lambda: a.heard("up") == 2 and b.heard("up") == 1)
    a.send(b, b"again")
    rig.run(lambda: b.frames() == [b"again"])


def test_the_opener_going_away_is_heard_too(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: b.heard("up"))
    rig.stop(a)
    rig.run(lambda: b.heard("down", "a", "lost"))


def test_what_is_sent_on_demand_to_a_dead_peer_is_dropped_reported_and_counted(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    rig.stop(b)
    a.send(b, b"anybody?")
    rig.run(lambda: a.heard("down", "b", "refused"))
    assert sum(n for name, n in a.transport.counters().items() if name.startswith("dropped_")) == 1
    rig.restart(b)
    b.learn(a)
    rig.run_for(1.0)
    a.send(b, b"now")
    rig.run(lambda: b.frames() == [b"now"])


def test_frames_for_unknown_peers_are_dropped_and_counted(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    a.send(b, b"who?")
    rig.run_for(0.3)
    assert a.transport.counters()["dropped_unknown"] == 1
    assert a.told == b.told == []


def test_a_peer_is_not_let_in_before_it_is_known_and_soon_after(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    a.learn(b)
    a.do("connect", "b")
    rig.run_for(1.0)
    assert b.told == []
    assert not a.heard("up")
    b.learn(a)
    rig.run(lambda: a.heard("up") and b.heard("up"))


@pytest.mark.smoke
def test_an_impostor_at_a_peers_address_is_refused(rig: Rig) -> None:
    a, b, thief = rig.node("a"), rig.node("b"), rig.node("thief")
    thief.learn(a)
    a.learn(b, address=thief.address)
    a.do("connect", "b")
    a.send(b, b"secret")
    rig.run(lambda: a.heard("down", "b", "handshake"))
    assert not a.heard("up")
    assert thief.told == []


def test_a_stranger_who_shows_another_key_than_the_known_one_is_not_taken_for_the_peer(rig: Rig) -> None:
    a, b, thief = rig.node("a"), rig.node("b"), rig.node("thief")
    b.learn(a)
    thief.name = "a"
    thief.learn(b)
    thief.send(b, b"I am a")
    rig.run_for(1.5)
    assert b.told == []
    assert not thief.heard("up")


def test_a_peer_that_moved_is_found_at_its_new_address(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up"))
    rig.stop(b)
    rig.run(lambda: a.heard("down"))
    rig.restart(b, move=True)
    b.learn(a)
    a.learn(b)
    rig.run(lambda: a.heard("up") == 2)
    a.send(b, b"found you")
    rig.run(lambda: b.frames() == [b"found you"])


def test_a_forgotten_peer_is_cut_off_and_stays_out(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    b.do("forget", "a")
    rig.run(lambda: a.heard("down") and b.heard("down", "a", "closed"))
    a.send(b, b"still me")
    b.send(a, b"and you")
    rig.run_for(1.5)
    assert a.frames() == b.frames() == []
    assert b.heard("up") == 1


def test_forgetting_ends_sessions_this_side_opened(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    a.do("forget", "b")
    rig.run(lambda: b.heard("down", "a", "closed") and a.heard("down", "b", "closed"))
    rig.run_for(1.0)
    assert b.heard("up") == 1


def test_who_is_banned_stays_out_for_its_time_although_it_is_learned_anew_and_then_comes_in(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    b.do("ban", "a", 4.0)
    rig.run(lambda: a.heard("down") and b.heard("down", "a", "closed"))
    introduce(a, b)
    a.send(b, b"still me")
    rig.run_for(2.0)
    assert b.frames() == []
    rig.run(lambda: b.heard("up") == 2)


def test_a_port_test_tells_open_from_refused(rig: Rig) -> None:
    a, b, c = rig.node("a"), rig.node("b"), rig.node("c")
    rig.stop(c)
    a.do("test_port", "b", b.address)
    a.do("test_port", "c", c.address)
    rig.run(lambda: a.heard("port") == 2)
    assert a.heard("port", "b", "open") == a.heard("port", "c", "refused") == 1


def test_frames_and_bytes_are_counted_at_both_ends(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.send(b, b"12345")
    a.send(b, b"678")
    rig.run(lambda: len(b.frames()) == 2)
    sent, received = a.transport.counters(), b.transport.counters()
    assert (sent["frames_out"], sent["bytes_out"]) == (received["frames_in"], received["bytes_in"]) == (2, 8)


def test_nothing_is_reported_after_close(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    for _ in range(20):
        b.send(a, b"late")
    a.do("test_port", "b", b.address)
    rig.stop(a)
    told = list(a.told)
    rig.run(lambda: b.heard("down"))
    rig.run_for(0.5)
    assert a.told == told
