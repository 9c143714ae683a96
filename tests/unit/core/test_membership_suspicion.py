import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core import events
from jupiter_agent.core.effects import Connect, TestPort
from jupiter_agent.core.membership import MembershipSettings
from jupiter_agent.core.messages.membership import (
    DEAD,
    REFUSED,
    SUSPECTED,
    VOUCHED,
    Ack,
    Buried,
    Check,
    Checked,
    Claim,
    Data,
    Held,
    News,
    Ping,
    Want,
)


def cluster(size: int, settings: MembershipSettings | None = None) -> tuple[Rig, list[Peer]]:
    rig = Rig(settings=settings)
    peers = [Peer(f"p{i}") for i in range(size - 1)]
    rig.meet(*peers)
    rig.run_to(0.3, answering=tuple(peers))
    rig.clear()
    return rig, peers


def accuse(rig: Rig, victim: Peer, *accusers: Peer, kind: int = SUSPECTED) -> None:
    for accuser in accusers:
        rig.receive(accuser, News([], [accuser.claims(kind, rig.machine.members()[victim.id].record)]))


# --- silence ---


def test_a_silent_neighbour_is_checked_through_others_before_it_is_accused():
    rig, (victim, *others) = cluster(6)
    rig.run_to(6.0, answering=tuple(others))
    assert rig.sent(Check)
    asked_at = next(i for i, e in enumerate(rig.effects) if getattr(e, "message", None) == Check(victim.id))
    accused_at = next(i for i, e in enumerate(rig.effects) if getattr(getattr(e, "message", None), "claims", None))
    assert asked_at < accused_at
    assert {(claim.kind, claim.subject, claim.by) for claim in rig.claims()} == {(SUSPECTED, victim.id, rig.me.id)}
    assert rig.state(victim) == "suspect"


def test_an_edge_is_blamed_and_not_the_node_when_a_neighbour_of_it_gets_answers():
    rig, (victim, *others) = cluster(6)
    while not rig.sent(Check):
        rig.run_to(rig.now + 0.1, answering=tuple(others))
    rig.receive(others[0], Checked(victim.id))
    rig.run_to(rig.now + 10.0, answering=tuple(others))
    assert rig.claims() == []
    assert rig.state(victim) == "alive"
    assert rig.machine.counters["bad_edges"] == 1


def test_when_nobody_answers_it_is_me_and_nobody_is_accused():
    rig, peers = cluster(6)
    rig.run_to(20.0)
    assert rig.claims() == []
    assert all(rig.state(peer) == "alive" for peer in peers)
    assert rig.machine.counters["self_blamed"] > 0


def test_the_last_two_of_a_cluster_cannot_ask_anybody_and_accuse():
    rig, (victim,) = cluster(2)
    rig.run_to(12.0)
    assert rig.state(victim) == "dead"


@pytest.mark.parametrize(("accusers", "after_s"), [(1, 24.0), (2, 11.4), (3, 4.0)])
def test_a_suspicion_ends_the_sooner_the_more_members_confirm_it(accusers, after_s):
    rig, (victim, *others) = cluster(10)
    started = rig.now
    accuse(rig, victim, *others[:accusers])
    rig.run_to(started + after_s - 0.3, answering=(victim, *others))
    assert rig.state(victim) == "suspect"
    rig.run_to(started + after_s + 0.3, answering=(victim, *others))
    assert rig.state(victim) == "dead"


def test_one_accuser_counts_once_however_often_it_says_so():
    rig, (victim, other, *rest) = cluster(10)
    accuse(rig, victim, other)
    rig.receive(rest[0], News([], [other.claims(SUSPECTED, victim.record)] * 5))
    assert rig.machine.members()[victim.id].suspicion.accusers == {other.id}


def test_newer_words_of_the_accused_drop_the_suspicion_when_it_expires():
    rig, (victim, *others) = cluster(10)
    accuse(rig, victim, *others[:3])
    rig.run_to(rig.now + 1.0, answering=tuple(others))
    rig.receive(others[0], Data([], [victim.value("resources", 1, cpu=1)]))
    rig.run_to(rig.now + 8.0, answering=(victim, *others))
    assert rig.state(victim) == "alive"
    assert rig.machine.counters["acquitted"] == 1


def test_words_as_old_as_the_suspicion_are_no_evidence():
    rig, (victim, *others) = cluster(10)
    accuse(rig, victim, *others[:3])
    rig.receive(others[0], Data([], [victim.value("resources", 1, cpu=1)]))
    rig.run_to(rig.now + 8.0, answering=tuple(others))
    assert rig.state(victim) == "dead"


def test_the_accused_refutes_by_a_newer_incarnation():
    rig, (one, *_) = cluster(6)
    was = rig.me.incarnation
    accuse(rig, Peer("me", boot=1), one)
    rig.run_to(rig.now + 0.1)
    assert rig.me.incarnation == was + 1
    assert any(rig.me in news.records for news in rig.sent(News))


def test_a_refutation_clears_the_suspicion_and_older_claims_are_ignored():
    rig, (victim, *others) = cluster(6)
    stale = others[1].claims(SUSPECTED, victim.record)
    accuse(rig, victim, others[0])
    rig.receive(victim, News([victim.sign(incarnation=1)], []))
    assert rig.state(victim) == "alive"
    rig.receive(others[1], News([], [stale]))
    assert rig.state(victim) == "alive"


def test_a_claim_in_anothers_name_is_refused():
    rig, (victim, one, two, *_) = cluster(6)
    forged = msgspec.structs.replace(one.claims(SUSPECTED, victim.record), by=two.id)
    rig.receive(one, News([], [forged]))
    assert rig.state(victim) == "alive"
    assert rig.machine.counters["peer_error: claim: bad signature"] == 1


def test_claims_of_unknown_kinds_or_people_are_ignored_and_counted():
    rig, (victim, one, *_) = cluster(6)
    rig.receive(one, News([], [Claim(77, victim.id, 1, 0, one.id), Claim(SUSPECTED, victim.id, 1, 0, "nobody")]))
    assert rig.state(victim) == "alive"
    assert rig.machine.counters["claims_ignored"] == 2


def test_after_a_pause_of_ours_nobody_is_accused_and_suspicions_start_later():
    rig, (victim, *others) = cluster(10)
    accuse(rig, victim, *others[:3])
    started = rig.now
    rig.pause_to(started + 3.5)
    rig.run_to(started + 5.2, answering=tuple(others))
    assert rig.state(victim) == "suspect"
    assert [claim for claim in rig.claims() if claim.by == rig.me.id] == []
    rig.run_to(started + 9.0, answering=tuple(others))
    assert rig.state(victim) == "dead"


def test_where_messages_get_lost_each_member_asks_once_more_before_it_concludes():
    rig, (victim, *others) = cluster(7, MembershipSettings(last_checks=1, heal_s=1000.0))
    rig.event(events.SessionDown(victim.id, "closed"))
    accuse(rig, victim, *others[:3])
    began = rig.now
    rig.clear()
    rig.run_to(began + 2.0, answering=tuple(others))
    assert rig.sent(Ping, victim) == []
    rig.run_to(began + 2.8, answering=tuple(others))
    assert len(rig.sent(Ping, victim)) == 1
    rig.receive(victim, Ack(0, 0, 0))
    assert rig.state(victim) == "alive"
    rig.run_to(began + 3.8, answering=tuple(others))
    assert rig.state(victim) != "dead"
    assert rig.sent(Buried, victim), "it is told, so that it refutes it everywhere"


def test_a_last_question_that_stays_unanswered_saves_nobody():
    rig, (victim, *others) = cluster(7, MembershipSettings(last_checks=1, heal_s=1000.0))
    rig.event(events.SessionDown(victim.id, "closed"))
    accuse(rig, victim, *others[:3])
    rig.run_to(rig.now + 5.0, answering=tuple(others))
    assert rig.state(victim) == "dead"


def test_ticks_a_little_late_count_once_a_second():
    rig, _ = cluster(3)
    rig.run_to(10.0)
    health, lags = rig.machine._context.health, rig.machine.counters["lags"]
    for _ in range(5):
        rig.pause_to(rig.machine.next_deadline() + 0.2)
    assert (rig.machine.counters["lags"] - lags, rig.machine.counters["pauses"]) == (2, 0)
    assert rig.machine._context.health == min(8, health + 2)


# --- lost session and refused connection ---


def heard(rig: Rig, peer: Peer) -> None:
    rig.receive(peer, Ping(1, True, True, 0, 0))


def test_a_lost_session_is_followed_by_a_plain_connect_and_its_refusal_by_a_claim():
    rig, (victim, *_) = cluster(6)
    heard(rig, victim)
    rig.event(events.SessionDown(victim.id, "lost"))
    assert rig.of(TestPort) == [TestPort(victim.id, victim.record.address)]
    rig.event(events.PortTested(victim.id, "refused"))
    rig.run_to(rig.now + 0.1)
    assert {(claim.kind, claim.subject) for claim in rig.claims()} == {(REFUSED, victim.id)}
    rig.run_to(rig.now + 1.2)
    assert len(rig.of(TestPort)) == 2


def test_two_witnesses_and_nobody_vouching_make_a_death_in_two_seconds():
    rig, (victim, one, *others) = cluster(6)
    heard(rig, victim)
    rig.event(events.PortTested(victim.id, "refused"))
    rig.run_to(rig.now + 3.0, answering=(one, *others))
    assert rig.state(victim) == "alive", "one witness is not enough"
    accuse(rig, victim, one, kind=REFUSED)
    rig.run_to(rig.now + 1.8, answering=(one, *others))
    assert rig.state(victim) == "dead"
    assert "member dead" in rig.notices()


def test_a_vouch_stops_the_fast_way():
    rig, (victim, one, two, *others) = cluster(6)
    accuse(rig, victim, one, two, kind=REFUSED)
    rig.receive(others[0], News([], [others[0].claims(VOUCHED, victim.record)]))
    rig.run_to(rig.now + 4.0, answering=(victim, one, two, *others))
    assert rig.state(victim) == "alive"


def test_only_the_answer_to_a_ping_sent_after_the_accusation_vouches():
    rig, (victim, one, *_) = cluster(6)
    while not rig.sent(Ping, victim):
        rig.run_to(rig.now + 0.1)
    in_flight = rig.sent(Ping, victim)[-1].seq
    accuse(rig, victim, one, kind=REFUSED)
    rig.receive(victim, Ack(in_flight, 0, 0))
    rig.run_to(rig.now + 0.1)
    assert VOUCHED not in {claim.kind for claim in rig.claims()}
    rig.receive(victim, Ack(in_flight + 1, 0, 0))
    rig.run_to(rig.now + 0.1)
    assert VOUCHED in {claim.kind for claim in rig.claims()}


def test_a_refusal_at_an_address_where_the_member_was_never_heard_is_no_evidence():
    rig, (victim, *_) = cluster(6)
    rig.receive(Peer("p1"), News([victim.sign(address="elsewhere:1", incarnation=1)], []))
    rig.event(events.PortTested(victim.id, "refused"))
    rig.run_to(rig.now + 0.1)
    assert rig.claims() == []


def test_a_refusal_an_age_after_the_last_word_is_no_evidence():
    rig, (victim, *others) = cluster(6)
    heard(rig, victim)
    rig.run_to(70.0, answering=tuple(others))
    rig.clear()
    rig.event(events.PortTested(victim.id, "refused"))
    assert REFUSED not in {claim.kind for claim in rig.claims()}


def test_a_vouch_holds_for_a_while():
    rig, (victim, one, two, *others) = cluster(6)
    rig.receive(others[0], News([], [others[0].claims(VOUCHED, victim.record)]))
    accuse(rig, victim, one, two, kind=REFUSED)
    assert rig.machine.members()[victim.id].refusals == {}


def test_right_after_a_pause_of_ours_a_refusal_is_no_evidence():
    rig, (victim, *_) = cluster(6)
    heard(rig, victim)
    rig.pause_to(rig.now + 3.0)
    rig.event(events.PortTested(victim.id, "refused"))
    rig.run_to(rig.now + 0.1)
    assert rig.claims() == []


def test_a_session_that_cannot_be_opened_is_no_refusal_until_a_connect_of_our_own_says_so():
    rig, (victim, *_) = cluster(6)
    heard(rig, victim)
    rig.event(events.SessionDown(victim.id, "refused"))
    rig.run_to(rig.now + 0.1)
    assert rig.claims() == []
    assert rig.of(TestPort) == [TestPort(victim.id, victim.record.address)]
    rig.event(events.PortTested(victim.id, "timeout"))
    rig.run_to(rig.now + 0.1)
    assert rig.claims() == []


# --- the dead and the deaths of others ---


def test_whoever_is_held_dead_and_speaks_is_told_and_comes_back_with_a_newer_record():
    rig, (victim, *others) = cluster(7, MembershipSettings(heal_s=1000.0))
    accuse(rig, victim, *others[:3])
    rig.run_to(rig.now + 5.0, answering=tuple(others))
    assert rig.state(victim) == "dead"
    rig.clear()
    rig.receive(victim, Ping(9, True, True, 0, 0))
    (buried,) = rig.sent(Buried, victim)
    assert (buried.boot, buried.incarnation, buried.record) == (1, 0, rig.me)
    rig.receive(victim, News([victim.sign(incarnation=1)], []))
    assert rig.state(victim) == "alive"
    rig.run_to(rig.now + 0.3)
    assert Connect(victim.id) in rig.of(Connect)


def test_one_told_that_it_is_buried_answers_with_a_newer_record():
    rig, (one, *_) = cluster(6)
    rig.receive(one, Buried(rig.me.boot, rig.me.incarnation, one.record))
    assert rig.me.incarnation == 1
    assert rig.sent(News, one)[-1].records == [rig.me]


def test_nobodys_mere_word_moves_my_boot_and_incarnation():
    rig, (one, *_) = cluster(6)
    rig.receive(one, Buried(2**40, 7, one.record))
    rig.receive(one, Ping(1, True, True, 1, 0, [Held(rig.me.id, 5, 5, DEAD)]))
    assert (rig.me.boot, rig.me.incarnation) == (1, 0)
    assert Want(rig.me.id, True) in rig.sent(Data, one)[0].want, "but what I may have said in another life does"
    rig.receive(one, Data([Peer("me").sign(boot=5, incarnation=5)], []))
    assert (rig.me.boot, rig.me.incarnation) == (6, 0)


def test_a_death_in_a_digest_is_told_to_the_member_if_it_answers_me():
    rig, (victim, one, *_) = cluster(6)
    rig.receive(one, Ping(1, True, True, 1, 0, [Held(victim.id, 1, 0, DEAD)]))
    assert rig.sent(Buried, victim)
    assert rig.state(victim) == "alive"


def test_a_death_in_a_digest_is_believed_only_after_the_member_gave_no_sign_of_life():
    rig, (one, *others) = cluster(4)
    unlinked = Peer("unlinked")
    rig.receive(one, News([unlinked.record], []))
    rig.receive(one, Ping(1, True, True, 1, 0, [Held(unlinked.id, 1, 0, DEAD)]))
    rig.run_to(rig.now + 2.5, answering=(one, *others))
    assert rig.state(unlinked) == "alive"
    rig.run_to(rig.now + 3.0, answering=(one, *others))
    assert rig.sent(Ping, unlinked)
    assert rig.state(unlinked) == "dead"


def test_one_asked_to_check_answers_from_fresh_acks_or_asks_first():
    rig, (victim, one, *_) = cluster(6)
    rig.receive(one, Check(victim.id))
    assert rig.sent(Checked, one) == [Checked(victim.id)]
    far = Peer("far")
    rig.receive(one, News([far.record], []))
    rig.clear()
    rig.receive(one, Check(far.id))
    assert rig.sent(Ping, far)
    assert not rig.sent(Checked, one)
    rig.receive(far, Ack(0, 0, 0))
    assert rig.sent(Checked, one) == [Checked(far.id)]


def test_a_member_that_is_forgotten_while_others_wait_for_its_sign_of_life_is_nobodys_fault():
    rig, one, two, gone = Rig(), Peer("one"), Peer("two"), Peer("gone")
    rig.meet(one, two, gone)
    rig.event(events.SessionDown(gone.id, "lost"))
    rig.receive(one, Check(gone.id))
    rig.receive(two, News([gone.sign(left=True)], []))
    rig.effects += rig.machine.forget(gone.id)
    rig.run_to(3.0, answering=(one, two))
    assert gone.id not in rig.machine.members()
