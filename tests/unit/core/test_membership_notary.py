"""The notary: entries of the ledger spread, expel nodes and change the door; and the ways back in past it."""

from __future__ import annotations

import msgspec
from membership_rig import Peer, Rig

from jupiter_agent.core import events
from jupiter_agent.core.effects import Forget, Halt, Learn, SendJoin
from jupiter_agent.core.ledger import key_of
from jupiter_agent.core.membership import Recorded, Rekeyed
from jupiter_agent.core.membership.join import NO_ISSUER
from jupiter_agent.core.messages.membership import (
    NODE_REVOKED,
    ROTATION,
    TOKEN_REVOKED,
    USE,
    Buried,
    Data,
    Entries,
    Entry,
    Held,
    Join,
    LedgerDigest,
    LedgerKeys,
    News,
    Refused,
    Secret,
    SecretWanted,
    Welcome,
)
from jupiter_agent.errors import EXIT_UNAUTHORISED
from jupiter_agent.sim.trust import FakeAuthority, fake_member


def signed(kind: int, subject: str, number: int = 0) -> Entry:
    entry = FakeAuthority().signed_entry(kind, subject, number)
    assert entry is not None
    return entry


def met(*names: str) -> tuple[Rig, *tuple[Peer, ...]]:
    rig, peers = Rig(), tuple(Peer(name) for name in names)
    rig.meet(*peers)
    rig.clear()
    return (rig, *peers)


def test_an_entry_seen_first_is_kept_and_told_to_all_but_its_sender_and_once() -> None:
    rig, b, c = met("b", "c")
    entry = signed(TOKEN_REVOKED, "t")
    for _ in range(2):
        rig.receive(b, Entries([entry]))
    assert rig.sent(Entries, c) == [Entries([entry])]
    assert rig.sent(Entries, b) == []
    assert rig.of(Recorded) == [Recorded(entry)]
    assert rig.machine.trust.ledger.is_token_revoked("t")


def test_a_token_that_was_used_more_often_than_it_allows_is_reported() -> None:
    rig, b = met("b")
    uses = [FakeAuthority().signed_entry(USE, "t", 1, joiner) for joiner in (b"one", b"two")]
    rig.receive(b, Entries([uses[0]]))
    assert "token used too often" not in rig.notices()
    rig.receive(b, Entries([uses[1]]))
    assert "token used too often" in rig.notices()


def test_an_entry_that_the_issuer_did_not_sign_changes_nothing() -> None:
    rig, b = met("b")
    for forged in (
        Entry(NODE_REVOKED, b.id, 0, signature=b"x"),
        msgspec.structs.replace(signed(NODE_REVOKED, "x"), subject=b.id),
    ):
        rig.receive(b, Entries([forged]))
    assert (rig.state(b), len(rig.machine.trust.ledger)) == ("alive", 0)
    assert rig.machine.counters["peer_error: ledger: an entry nobody may have made"] == 2


def test_ledgers_that_differ_when_a_session_opens_are_made_equal() -> None:
    rig, b, c = met("b", "c")
    mine, theirs = signed(TOKEN_REVOKED, "mine"), signed(TOKEN_REVOKED, "theirs")
    rig.receive(c, Entries([mine]))
    rig.clear()
    d = Peer("d")
    rig.event(events.SessionUp(d.id))
    ledger = rig.machine.trust.ledger
    assert rig.sent(LedgerDigest, d) == [LedgerDigest(ledger.digest, 1)]
    rig.receive(b, LedgerDigest(ledger.digest, 1))
    assert rig.sent(LedgerKeys) == []
    rig.receive(b, LedgerDigest(b"other", 1))
    assert rig.sent(LedgerKeys, b) == [LedgerKeys(ledger.keys(), True)]
    rig.receive(b, LedgerKeys(b"12345678", True))
    assert rig.sent(Entries, b) == [Entries([mine])]
    assert rig.sent(LedgerKeys, b)[1:] == [LedgerKeys(ledger.keys(), False)]
    rig.receive(b, Entries([theirs]))
    assert ledger.is_token_revoked("theirs")


def test_a_revoked_member_is_dead_at_once_its_sessions_end_and_nothing_of_it_counts() -> None:
    rig, b, bad = met("b", "bad")
    rig.receive(b, Entries([signed(NODE_REVOKED, bad.id)]))
    assert (rig.state(bad), rig.of(Forget)) == ("dead", [Forget(bad.id)])
    assert rig.sent(Entries, bad), "it is told, before its session ends"
    told = [at for at, effect in enumerate(rig.effects) if getattr(effect, "dst", "") == bad.id]
    assert max(told) < rig.effects.index(Forget(bad.id))

    rig.event(events.SessionDown(bad.id, "closed"))
    rig.clear()
    newer = bad.sign(incarnation=7)
    rig.receive(b, News([newer], []))
    rig.receive(b, Data([newer], [bad.value("resources", 1, cpu=1)]))
    line = Held(bad.id, 9, 9, 0, {"resources": 9}, 9)
    rig.receive(b, Data([], [], [], [line]))
    assert rig.state(bad) == "dead"
    assert [want for data in rig.sent(Data) for want in data.want] == []
    rig.run_to(30.0, answering=(b,))
    assert not [effect for effect in rig.effects if getattr(effect, "dst", "") == bad.id], "nobody speaks to it"
    assert rig.of(Learn) == []


def test_one_that_is_revoked_while_it_is_only_remembered_is_let_in_no_more_and_not_spoken_to() -> None:
    rig, gone, b = Rig(), Peer("gone"), Peer("b")
    rig.effects += rig.machine.recall([gone.record])
    assert [learn.peer for learn in rig.of(Learn)] == [gone.id]
    rig.clear()
    rig.receive(b, News([b.sign(left=True)], []))
    rig.receive(b, Entries([signed(NODE_REVOKED, gone.id)]))
    assert rig.of(Forget) == [Forget(gone.id)]
    rig.run_to(10.0)
    assert not rig.sent(Buried, gone)


def test_a_node_that_learns_that_it_was_revoked_ends() -> None:
    rig, b = met("b")
    rig.receive(b, Entries([signed(NODE_REVOKED, rig.me.id)]))
    assert rig.of(Halt)[0].exit_code == EXIT_UNAUTHORISED


def test_after_a_rotation_a_member_asks_until_it_has_the_secret_that_was_announced() -> None:
    rig, b = met("b")
    secret, mark = FakeAuthority().new_secret()
    rig.receive(b, Entries([signed(ROTATION, mark, 1)]))
    rig.run_to(3.0, answering=(b,))
    assert rig.sent(SecretWanted, b)[0] == SecretWanted(1)
    rig.receive(b, Secret(1, b"false"))
    assert rig.of(Rekeyed) == []
    rig.receive(b, Secret(1, secret))
    assert len(rig.of(Rekeyed)) == 1
    rig.clear()
    rig.run_to(20.0, answering=(b,))
    assert rig.sent(SecretWanted) == []
    rig.receive(b, SecretWanted(1))
    assert rig.sent(Secret, b) == [Secret(1, secret)]


def test_the_new_secret_goes_to_nobody_before_the_revocations_that_it_was_made_after_are_known() -> None:
    rig, b, c = met("b", "c")
    secret, mark = FakeAuthority().new_secret()
    revoked = signed(NODE_REVOKED, c.id)
    rotation = FakeAuthority().signed_entry(ROTATION, mark, 1, key_of(revoked))
    assert rotation is not None
    rig.receive(b, Entries([rotation]))
    rig.receive(b, Secret(1, secret))
    rig.receive(c, SecretWanted(1))
    assert rig.sent(Secret) == []
    rig.receive(b, Entries([revoked]))
    rig.receive(c, SecretWanted(1))
    rig.receive(b, SecretWanted(1))
    assert (rig.sent(Secret, b), rig.sent(Secret, c)) == ([Secret(1, secret)], [])


def test_who_has_not_heard_of_the_last_rotation_hands_out_nothing() -> None:
    rig, b = met("b")
    rig.receive(b, Entries([signed(ROTATION, "ab" * 32, 1)]))
    rig.receive(b, SecretWanted(1))
    assert rig.sent(Secret) == []


def test_members_of_an_earlier_life_are_spoken_to_until_one_is_there() -> None:
    b, revoked = Peer("b"), Peer("revoked")
    rig = Rig()
    rig.machine.trust.ledger.load([signed(NODE_REVOKED, revoked.id)])
    rig.effects += rig.machine.recall([b.record, revoked.record, rig.me])
    assert rig.of(Learn) == [Learn(b.id, b.record.address, b.record.curve_key)]
    rig.run_to(3.0)
    assert rig.sent(Buried, b)[0].record == rig.me
    rig.receive(b, News([b.record], []))
    rig.clear()
    rig.run_to(12.0, answering=(b,))
    assert [told for told in rig.sent(Buried) if told.boot == 0] == []


def test_a_door_that_was_changed_ends_strangers_and_no_member() -> None:
    stranger, member = Rig(("b:7000",), admin=False), Rig(("b:7000",))
    member.effects += member.machine.recall([Peer("b").record])
    for rig in (stranger, member):
        rig.event(events.JoinAnswered("b:7000", None, "unauthorised"))
    assert (len(stranger.of(Halt)), member.of(Halt)) == (1, [])
    assert "join refused" not in member.notices(), "members it remembers had no time to answer"
    member.run_to(21.0)
    member.event(events.JoinAnswered("b:7000", None, "unauthorised"))
    assert "join refused" in member.notices()
    assert not member.of(Halt)


def test_a_joiner_is_sent_on_to_an_admin_in_the_same_round() -> None:
    rig = Rig(("worker:7000",), admin=False)
    rig.clear()
    ask = ["admin:7000", "two:7000", "three:7000", "four:7000", "five:7000"]
    rig.event(events.JoinAnswered("worker:7000", Refused(NO_ISSUER, "", ask)))
    [asked] = rig.of(SendJoin)
    assert asked.address in ask[:4], "no more than four are taken from one"
    member = Rig(("worker:7000",))
    member.clear()
    member.event(events.JoinAnswered("worker:7000", Refused(NO_ISSUER, "", ask)))
    assert member.of(SendJoin) == []


def test_a_worker_that_cannot_admit_names_living_admins() -> None:
    rig = Rig(("one:7000",), admin=False)
    sponsor, dead = Peer("one"), Peer("dead", left=True)
    authority = FakeAuthority()
    answer = Welcome(authority.issue(rig.me), b"", 0, [sponsor.record, dead.record], authority.public())
    rig.event(events.JoinAnswered("one:7000", answer))
    draft, trust = fake_member("new", admin=False)
    rig.event(events.JoinRequested("join:1", Join(trust.signed(draft))))
    [refused] = rig.sent(Refused)
    assert (refused.reason, refused.ask) == (NO_ISSUER, ["one:7000"])
