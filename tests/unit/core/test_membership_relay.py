"""Members that cannot be reached directly: shut, relayed through others, routed by what is published."""

from __future__ import annotations

import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core import events, wire
from jupiter_agent.core.effects import Send
from jupiter_agent.core.membership import Delivered, MembershipSettings
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.messages.membership import (
    SUSPECTED,
    Ack,
    Buried,
    Check,
    Checked,
    Data,
    News,
    Ping,
    Relayed,
    Sealed,
)

CALL = Call(7, "get", {})


def cluster(count: int, **settings: object) -> tuple[Rig, list[Peer]]:
    rig, peers = Rig(settings=MembershipSettings(**settings)), [Peer(f"p{i}") for i in range(count)]
    rig.meet(*peers)
    rig.clear()
    return rig, peers


def known(rig: Rig, by: Peer, peer: Peer) -> None:
    """A member of whom `by` told us, without a session."""
    rig.receive(by, News([peer.record], []))


def shut(rig: Rig, peer: Peer, reason: str = "timeout") -> None:
    rig.event(events.SessionDown(peer.id, reason))


def near(rig: Rig, owner: Peer, *peers: Peer, version: int = 1, far: bool = False) -> None:
    value = owner.value("near", version, near=[peer.id for peer in peers], far=far)
    rig.receive(owner, Data([], [value]))


def box(src: Peer, rig: Rig, message: object, /, seq: int = 1, **changes: object) -> Relayed:
    inner = Sealed(src.id, rig.me.id, src.record.boot, rig.me.boot, seq, wire.encode(message))  # type: ignore[arg-type]
    inner = msgspec.structs.replace(inner, **changes)
    assert src.trust.sealer is not None
    return Relayed(src.id, rig.me.id, 2, src.trust.sealer.seal(rig.me.curve_key, msgspec.msgpack.encode(inner)))


def errors(rig: Rig) -> list[str]:
    return [key for key in rig.machine.counters if key.startswith("peer_error")]


# --- sending ---


def test_what_is_for_a_member_that_could_not_be_opened_goes_sealed_through_another():
    rig, (one, two) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    (send,) = rig.machine.relayed(far.id, CALL, rig.now)
    assert isinstance(send, Send)
    assert send.dst in (one.id, two.id)
    assert isinstance(send.message, Relayed)
    assert (send.message.src, send.message.dst, send.message.ttl) == (rig.me.id, far.id, 4)
    assert far.trust.sealer is not None
    plain = far.trust.sealer.unseal(rig.me.curve_key, send.message.sealed)
    assert plain is not None
    inner = msgspec.msgpack.decode(plain, type=Sealed)
    assert (inner.src, inner.dst, inner.boot, inner.dst_boot) == (rig.me.id, far.id, rig.me.boot, far.record.boot)
    assert wire.decode(inner.frame) == CALL


def test_no_two_relayed_messages_have_the_same_number():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    sealed = [rig.machine.relayed(far.id, CALL, rig.now)[0] for _ in range(2)]
    assert sealed[0] != sealed[1]


def test_a_session_that_comes_up_ends_the_relaying():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    assert rig.machine.is_shut(far.id)
    rig.meet(far)
    assert not rig.machine.is_shut(far.id)
    assert rig.machine.reach(far.id) is True


@pytest.mark.parametrize("reason", ["timeout", "refused", "handshake"])
def test_a_member_is_shut_when_no_session_can_be_opened(reason):
    rig, (one, _) = cluster(2)
    known(rig, one, Peer("far"))
    shut(rig, Peer("far"), reason)
    assert rig.machine.is_shut(Peer("far").id)


@pytest.mark.parametrize("reason", ["lost", "closed"])
def test_a_session_that_ended_shuts_nobody(reason):
    rig, (one, _) = cluster(2)
    shut(rig, one, reason)
    assert not rig.machine.is_shut(one.id)


def test_a_shut_member_that_moves_is_tried_directly_again():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    rig.receive(one, News([far.sign(address="elsewhere:1", incarnation=1)], []))
    assert not rig.machine.is_shut(far.id)


def test_a_shut_member_is_tried_directly_after_ten_seconds_and_ever_more_rarely():
    rig, peers = cluster(3)
    far = Peer("far")
    known(rig, peers[0], far)
    shut(rig, far)

    def tries(until: float) -> int:
        rig.run_to(until, answering=tuple(peers))
        return sum(isinstance(e.message, Ping) for e in rig.of(Send) if e.dst == far.id)

    assert tries(9.9) == 0
    assert tries(10.3) == 1
    assert tries(25.0) == 1
    assert tries(36.0) == 2


def test_a_message_too_large_to_seal_is_dropped_and_counted():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    huge = Call(7, "get", {"x": "y" * 950_000})
    assert rig.machine.relayed(far.id, huge, rig.now) == []
    assert rig.machine.counters["relay_too_large"] == 1


# --- receiving ---


def test_what_arrives_sealed_is_taken_as_its_senders_word():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    rig.receive(one, box(far, rig, CALL))
    assert rig.of(Delivered) == [Delivered(far.id, CALL)]


def test_membership_messages_are_handled_but_prove_no_link():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    rig.receive(one, box(far, rig, Ping(5, False, True, 0, 0)))
    assert [ack.seq for ack in rig.sent(Ack, far)] == [5]
    rig.receive(one, box(far, rig, Ack(5, 0, 0), seq=2))
    assert rig.machine.members()[far.id].last_ack == float("-inf")


def test_a_repeated_frame_is_taken_once():
    rig, (one, two) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    frame = box(far, rig, CALL, seq=9)
    rig.receive(one, frame)
    rig.receive(two, frame)
    rig.receive(one, box(far, rig, CALL, seq=8))
    rig.receive(one, box(far, rig, CALL, seq=8))
    assert len(rig.of(Delivered)) == 2
    assert errors(rig) == ["peer_error: relay: seen before"]


def test_a_number_below_the_window_is_old():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    rig.receive(one, box(far, rig, CALL, seq=2000))
    rig.receive(one, box(far, rig, CALL, seq=2000 - 1023))
    rig.receive(one, box(far, rig, CALL, seq=2000 - 1024))
    assert len(rig.of(Delivered)) == 2


def test_a_relay_can_neither_change_a_frame_nor_claim_it_for_another():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    frame = box(far, rig, CALL)
    rig.receive(one, msgspec.structs.replace(frame, sealed=frame.sealed[:-1] + b"!"))
    rig.receive(one, msgspec.structs.replace(frame, src=one.id))
    assert rig.of(Delivered) == []
    assert errors(rig) == ["peer_error: relay: not sealed by its sender"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"dst": "somebody"}, "sealed for another"),
        ({"src": "somebody"}, "sealed for another"),
        ({"boot": 2}, "of another boot"),
        ({"dst_boot": 2}, "of another boot"),
        ({"frame": b"nonsense"}, ""),
    ],
)
def test_a_box_must_name_sender_receiver_and_both_boots(change, error):
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    rig.receive(one, box(far, rig, CALL, **change))
    assert rig.of(Delivered) == []
    assert error in errors(rig)[0]


def test_a_relayed_message_within_a_relayed_one_is_refused():
    rig, (one, _) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    rig.receive(one, box(far, rig, box(far, rig, CALL, seq=5)))
    assert errors(rig) == ["peer_error: relay: within a relay"]


def test_nothing_is_taken_from_a_stranger_or_a_dead_member():
    rig, (one, _) = cluster(2)
    rig.receive(one, box(Peer("stranger"), rig, CALL))
    left = Peer("left")
    rig.receive(one, News([left.sign(left=True)], []))
    rig.receive(one, box(left, rig, CALL))
    assert rig.of(Delivered) == []
    assert errors(rig) == ["peer_error: relay: from nobody we take it from"]


# --- passing on ---


def test_a_relay_hands_on_to_the_receiver_with_one_hop_less():
    rig, (one, two) = cluster(2)
    rig.receive(one, Relayed(one.id, two.id, 4, b"sealed"))
    assert rig.sent(Relayed, two) == [Relayed(one.id, two.id, 3, b"sealed")]


def test_a_relay_uses_up_its_hops():
    rig, (one, two) = cluster(2)
    rig.receive(one, Relayed(one.id, two.id, 0, b"sealed"))
    assert rig.sent(Relayed) == []
    assert rig.machine.counters["relay_dropped"] == 1


def test_a_relay_follows_what_members_publish_of_their_links():
    rig, (one, two, three) = cluster(3)
    middle, far = Peer("middle"), Peer("far")
    known(rig, one, middle)
    known(rig, one, far)
    shut(rig, far)
    shut(rig, middle)
    near(rig, two, middle, far=True)
    rig.receive(two, Data([], [middle.value("near", 1, near=[far.id], far=False)]))
    rig.run_to(rig.now + 1.3, answering=(one, two, three))
    for _ in range(5):
        (send,) = rig.machine.relayed(far.id, CALL, rig.now)
        assert isinstance(send, Send)
        assert send.dst == two.id
    assert rig.machine.reach(far.id) == two.id


def test_nothing_goes_back_to_where_it_came_from():
    rig, (one, two) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    rig.receive(one, Relayed(one.id, far.id, 4, b"sealed"))
    assert [send.dst for send in rig.of(Send) if isinstance(send.message, Relayed)] == [two.id]


def test_a_sender_gets_no_more_carried_than_its_allowance():
    rig, (one, two) = cluster(2, relay_bps=1000.0)
    for _ in range(3):
        rig.receive(one, Relayed(one.id, two.id, 4, b"x" * 400_000))
    assert len(rig.sent(Relayed, two)) == 2
    assert rig.machine.counters["relay_over_budget"] == 1


def test_what_a_member_passes_on_in_others_names_is_charged_to_it_and_uses_nothing_of_theirs_up():
    rig, peers = cluster(8, relay_bps=1000.0)
    liar, dst, one, *others = peers
    for name in (one, *others, one):
        for _ in range(4):
            rig.receive(liar, Relayed(name.id, dst.id, 4, b"x" * 400_000))
    carried = len(rig.sent(Relayed, dst))
    assert carried == 2, "as much as one member may send, whomever it names"
    rig.clear()
    rig.receive(one, Relayed(one.id, dst.id, 4, b"x" * 900_000))
    assert rig.sent(Relayed, dst), "its own allowance is whole"


def test_links_are_published_only_while_somebody_needs_routes():
    rig, (one, two, three) = cluster(3)
    rig.run_to(5.0, answering=(one, two, three))
    assert rig.machine.board.get(rig.me.id, "near") is None
    near(rig, one, two, far=True)
    rig.run_to(7.0, answering=(one, two, three))
    published = rig.machine.board.get(rig.me.id, "near")
    assert published == {"near": sorted((one.id, two.id, three.id)), "far": False, "beat": 0}
    rig.run_to(23.0, answering=(one, two, three))
    published = rig.machine.board.get(rig.me.id, "near")
    assert published is not None
    assert published["beat"] == 1, "it lives"
    near(rig, one, version=2)
    rig.run_to(60.0, answering=(one, two, three))
    assert rig.machine.board.get(rig.me.id, "near") == {}


# --- suspicion and the overlay where members are out of reach ---


def test_a_member_never_met_is_not_accused_while_there_is_news_of_it():
    rig, peers = cluster(4)
    far = Peer("far")
    known(rig, peers[0], far)
    for _ in range(20):
        shut(rig, far)
        rig.run_to(rig.now + 2.0, answering=tuple(peers))
    assert SUSPECTED not in {claim.kind for claim in rig.claims()}
    assert rig.machine.counters["bad_edges"] >= 1
    assert rig.machine.reach(far.id) is not True


def test_a_member_out_of_reach_is_accused_when_nothing_is_heard_of_it_for_long():
    rig, peers = cluster(4)
    far = Peer("far")
    known(rig, peers[0], far)
    for _ in range(70):
        shut(rig, far)
        rig.run_to(rig.now + 2.0, answering=tuple(peers))
    assert (SUSPECTED, far.id) in {(claim.kind, claim.subject) for claim in rig.claims()}


def test_a_silent_member_that_answers_on_a_way_round_has_only_a_bad_edge():
    rig, peers = cluster(4)
    far = Peer("far")
    known(rig, peers[0], far)
    shut(rig, far)
    rig.run_to(rig.now + 2.9, answering=tuple(peers))
    boxes = [send.message for send in rig.of(Send) if isinstance(send.message, Relayed) and send.message.dst == far.id]
    assert boxes, "it was pinged through a neighbour"
    assert far.trust.sealer is not None
    plain = far.trust.sealer.unseal(rig.me.curve_key, boxes[0].sealed) or b""
    ping = wire.decode(msgspec.msgpack.decode(plain, type=Sealed).frame)
    assert isinstance(ping, Ping)
    rig.receive(peers[0], box(far, rig, Ack(ping.seq, 0, 0)))
    rig.run_to(rig.now + 1.0, answering=tuple(peers))
    assert rig.claims() == []
    assert rig.machine.counters["bad_edges"] == 1


def test_where_some_are_out_of_reach_a_suspected_member_is_asked_by_all_and_becomes_a_neighbour():
    rig, peers = cluster(4)
    far, lost = Peer("far"), Peer("lost")
    known(rig, peers[0], far)
    known(rig, peers[0], lost)
    for _ in range(3):
        shut(rig, far)
        rig.run_to(rig.now + 2.0, answering=tuple(peers))
    rig.meet(lost)
    rig.event(events.SessionDown(lost.id, "closed"))
    rig.clear()
    rig.receive(peers[1], News([], [peers[1].claims(SUSPECTED, lost.record)]))
    assert rig.sent(Ping, lost)
    rig.receive(lost, Ack(0, 0, 0))
    assert rig.sent(Buried, lost)
    rig.receive(lost, News([lost.sign(incarnation=1)], []))
    assert rig.state(lost) == "alive"
    assert lost.id in rig.machine._context.bridges


def test_a_check_is_answered_on_the_way_it_came():
    rig, (one, two) = cluster(2)
    far = Peer("far")
    known(rig, one, far)
    shut(rig, far)
    rig.receive(two, Ping(1, True, True, 0, 0))
    rig.clear()
    rig.receive(one, box(far, rig, Check(rig.me.id)))
    (send,) = (send for send in rig.of(Send) if isinstance(send.message, Relayed))
    assert far.trust.sealer is not None
    plain = far.trust.sealer.unseal(rig.me.curve_key, send.message.sealed) or b""
    assert wire.decode(msgspec.msgpack.decode(plain, type=Sealed).frame) == Checked(rig.me.id)
