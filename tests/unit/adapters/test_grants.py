"""Tokens with a role: what they prove, what they open, and what nobody can make of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from jupiter_agent.adapters import grants
from jupiter_agent.adapters.authority import ClusterAuthority
from jupiter_agent.adapters.keys import (
    ClusterKeys,
    NodeIdentity,
    NodeKeys,
    Token,
    decode_token,
    derive_access,
    door_mark,
    encode_token,
    granted,
)
from jupiter_agent.adapters.state import StateDir
from jupiter_agent.core.membership.join import EXPIRED, FORBIDDEN, NO_ISSUER, REVOKED, USED_UP
from jupiter_agent.core.messages.membership import NODE_REVOKED, TOKEN_REVOKED, Join, Record
from jupiter_agent.core.trust import Trust
from jupiter_agent.errors import PeerError, UsageError

CLUSTER = ClusterKeys.found()
OWNER = Token(CLUSTER.fingerprint, CLUSTER.join_secret, ("10.0.0.1:7421",))


def admin() -> ClusterAuthority:
    return ClusterAuthority(CLUSTER)


def token(role: str, expires_s: float = 0.0) -> Token:
    return granted(OWNER, CLUSTER.issuer_secret, role, expires_s)


def draft(role: str) -> tuple[Record, Trust]:
    keys = NodeKeys.new()
    identity = NodeIdentity(keys.seed)
    record = Record(identity.id, "n", "h:1", identity.public, keys.curve.public, role, 1, 0)
    trust = Trust(identity, ClusterAuthority(ClusterKeys(CLUSTER.fingerprint, b"")))
    return trust.signed(record), trust


def request(given: Token, role: str) -> Join:
    keys = ClusterKeys(CLUSTER.fingerprint, given.join_secret, (), b"", b"", given.door, given.secret, given.grant)
    return ClusterAuthority(keys).request(draft(role)[0])


def test_a_token_with_a_role_survives_printing_and_hides_the_clusters_own_secret() -> None:
    given = token("worker", 3600)
    text = encode_token(given)
    assert decode_token(text) == given
    assert given.join_secret == b""
    assert CLUSTER.join_secret not in given.door + given.secret
    owner = derive_access(CLUSTER.join_secret)
    assert given.access().join_server == owner.join_server
    assert given.access().operator.public not in ("", owner.operator.public)
    for cut in range(6, len(text) - 1, 7):
        with pytest.raises(UsageError):
            decode_token(text[:cut])


def test_a_token_lets_in_its_role_and_an_admins_any() -> None:
    for role in ("admin", "submit", "worker", "observer"):
        assert admin().objection(request(token(role), role)) == ("", "")
        assert admin().objection(request(token("admin"), role)) == ("", "")
        assert admin().objection(request(OWNER, role)) == ("", "")
    for asked in ("admin", "submit", "observer"):
        assert admin().objection(request(token("worker"), asked))[0] == FORBIDDEN


def test_a_proof_is_for_one_node_and_one_role_only() -> None:
    for given in (token("worker"), token("admin"), OWNER):
        seen = request(given, "worker")
        other = draft("worker")[0]
        for stolen in (msgspec.structs.replace(seen, record=other), msgspec.structs.replace(seen, proof=b"")):
            assert admin().objection(stolen)[0] == FORBIDDEN
        raised = msgspec.structs.replace(seen, record=msgspec.structs.replace(seen.record, role="admin"))
        assert admin().objection(raised)[0] == FORBIDDEN


def test_a_holder_of_a_worker_token_cannot_pass_for_the_owner() -> None:
    """It has the keys of the door, but not what the owner's proof is made of."""
    given = token("worker")
    for secret in (given.secret, given.door[:32], given.door[32:64]):
        assert (
            admin().objection(Join(*(d := draft("admin"))[:1], b"", grants.owner_proof(secret, d[0])))[0] == FORBIDDEN
        )


def test_an_expired_token_opens_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given = token("worker", 60)
    asked = request(given, "worker")
    assert admin().client(given.grant)[1] == "worker"
    later = time.time() + 62
    monkeypatch.setattr("jupiter_agent.adapters.grants.time.time", lambda: later)
    assert admin().objection(asked)[0] == EXPIRED
    with pytest.raises(PeerError, match=EXPIRED):
        admin().client(given.grant)


def test_a_grant_that_was_changed_or_issued_by_another_cluster_is_refused() -> None:
    given = grants.from_bytes(token("worker", 60).grant)
    foreign = grants.issue(ClusterKeys.found().issuer_secret, b"s" * 32, "admin", 0)
    for forged in (
        foreign,
        msgspec.structs.replace(given, role="admin"),
        msgspec.structs.replace(given, expires_at=0),
        msgspec.structs.replace(given, operator="x" * 40),
    ):
        with pytest.raises(PeerError, match=FORBIDDEN):
            admin().client(grants.to_bytes(forged))
    for garbage in (b"", b"\x90", b"x" * 600, grants.to_bytes(msgspec.structs.replace(given, role="root"))):
        with pytest.raises(PeerError):
            admin().client(garbage)


def test_an_admitted_node_needs_no_token_again_and_one_without_the_owners_secret_does_not_judge_it() -> None:
    record, _ = draft("worker")
    admitted = msgspec.structs.replace(record, admission=admin().issue(record))
    assert admin().objection(Join(admitted)) == ("", "")
    assert admin().objection(Join(msgspec.structs.replace(admitted, role="admin")))[0] == FORBIDDEN
    given = token("admin")
    second = ClusterAuthority(
        replace(CLUSTER, join_secret=b"", door=given.door, token_secret=given.secret, grant=given.grant)
    )
    assert second.objection(request(OWNER, "worker"))[0] == NO_ISSUER
    assert second.objection(request(token("worker"), "worker")) == ("", "")


def test_a_state_folder_keeps_the_role_it_was_joined_with(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    keys = state.cluster_keys(token("observer"))
    assert keys.role == "observer"
    assert state.cluster_keys() == keys
    assert keys.access().join_client == derive_access(CLUSTER.join_secret).join_client
    assert keys.access().operator.public == derive_access(CLUSTER.join_secret).operator.public
    assert keys.access().operator.secret == ""
    assert CLUSTER.join_secret.hex() not in (tmp_path / "cluster.json").read_text()
    state.close()


def test_a_token_of_two_uses_lets_two_nodes_in_again_and_again_and_no_third() -> None:
    issuer = admin()
    given = granted(OWNER, CLUSTER.issuer_secret, "worker", 0.0, 2)
    asked = [request(given, "worker") for _ in range(3)]
    for join in asked[:2]:
        assert issuer.objection(join) == ("", "")
        use = issuer.use_of(join)
        assert use is not None
        assert issuer.verify_entry(use)
        assert issuer.ledger.add(use)
    assert issuer.objection(asked[0]) == ("", "")
    assert issuer.objection(asked[2])[0] == USED_UP


def test_a_token_of_one_use_shown_in_both_halves_of_a_network_lets_in_one_each_and_nobody_after_they_meet() -> None:
    left, right = admin(), admin()
    given = granted(OWNER, CLUSTER.issuer_secret, "worker", 0.0, 1)
    asked = [request(given, "worker") for _ in range(3)]
    for issuer, join in ((left, asked[0]), (right, asked[1])):
        assert issuer.objection(join) == ("", "")
        use = issuer.use_of(join)
        assert use is not None
        issuer.ledger.add(use)
    for issuer, other in ((left, right), (right, left)):
        for entry in other.ledger.beyond(issuer.ledger.keys()):
            assert issuer.verify_entry(entry)
            issuer.ledger.add(entry)
    assert left.ledger.digest == right.ledger.digest
    for issuer in (left, right):
        assert [issuer.objection(join)[0] for join in asked] == ["", "", USED_UP], "who came in stays"
        assert len(issuer.ledger.uses(grants.from_bytes(given.grant).id)) == 2


def test_nobody_can_enter_a_use_of_a_token_that_is_not_in_its_hands() -> None:
    issuer = admin()
    given, other = (granted(OWNER, CLUSTER.issuer_secret, "worker", 0.0, 2) for _ in range(2))
    mine, theirs = (issuer.use_of(request(token, "worker")) for token in (given, other))
    assert mine is not None
    assert theirs is not None
    for forged in (
        msgspec.structs.replace(mine, data=theirs.data),
        msgspec.structs.replace(mine, number=1),
        msgspec.structs.replace(mine, subject=theirs.subject),
        msgspec.structs.replace(mine, data=b"\x90"),
        msgspec.structs.replace(mine, signature=b""),
    ):
        assert not issuer.verify_entry(forged)
    assert issuer.use_of(request(token("worker"), "worker")) is None


def test_a_revoked_token_opens_nothing_and_a_revoked_node_needs_more_than_its_admission() -> None:
    issuer = admin()
    given = token("worker")
    asked = request(given, "worker")
    revoked = issuer.signed_entry(TOKEN_REVOKED, grants.from_bytes(given.grant).id)
    expelled = issuer.signed_entry(NODE_REVOKED, asked.record.id)
    assert revoked is not None
    assert expelled is not None
    issuer.ledger.load([revoked])
    assert issuer.objection(asked)[0] == REVOKED
    with pytest.raises(PeerError, match=REVOKED):
        issuer.client(given.grant)
    admitted = msgspec.structs.replace(asked.record, admission=issuer.issue(asked.record))
    assert issuer.objection(Join(admitted)) == ("", "")
    issuer.ledger.load([expelled])
    assert issuer.objection(Join(admitted))[0] == REVOKED


def test_entries_of_the_ledger_are_the_issuers_alone() -> None:
    entry = admin().signed_entry(NODE_REVOKED, "n" * 16)
    assert entry is not None
    assert admin().verify_entry(entry)
    assert not admin().verify_entry(msgspec.structs.replace(entry, subject="m" * 16))
    assert ClusterAuthority(replace(CLUSTER, issuer_secret=b"")).signed_entry(NODE_REVOKED, "n") is None
    foreign = ClusterAuthority(ClusterKeys.found()).signed_entry(NODE_REVOKED, "n")
    assert foreign is not None
    assert not admin().verify_entry(foreign)


def test_an_admin_of_a_role_token_takes_the_join_secret_that_fits_its_door_and_judges_all_tokens() -> None:
    given = token("admin")
    second = ClusterAuthority(
        replace(CLUSTER, join_secret=b"", door=given.door, token_secret=given.secret, grant=given.grant)
    )
    mark, whole = second.door()
    assert (mark, whole) == (admin().door()[0], False)
    for false in (b"x" * 32, b"", given.door):
        assert not second.take_over(false, mark)
    assert second.take_over(admin().hand_over("admin"), mark)
    assert second.objection(request(OWNER, "worker")) == ("", "")
    assert second.keys.own() == CLUSTER.own()


def test_after_a_rotation_a_worker_takes_the_doors_keys_and_never_the_secret() -> None:
    given = token("worker")
    worker = ClusterAuthority(
        ClusterKeys(CLUSTER.fingerprint, b"", (), b"", b"", given.door, given.secret, given.grant)
    )
    owner = admin()
    secret, mark = owner.new_secret()
    assert not worker.take_over(owner.hand_over("worker"), mark), "the old door does not fit"
    assert owner.take_over(secret, mark)
    assert not worker.take_over(owner.hand_over("admin"), mark)
    assert worker.take_over(owner.hand_over("worker"), mark)
    assert worker.keys.access().join_client == derive_access(secret).join_client
    assert (worker.keys.join_secret, worker.keys.role) == (b"", "worker")


def test_another_token_makes_an_admin_no_less_and_opens_a_door_that_was_changed(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.keep_cluster(CLUSTER)
    with pytest.raises(UsageError, match="is of role admin, the token of role worker"):
        state.cluster_keys(token("worker"))
    assert state.cluster_keys(token("admin")).join_secret == CLUSTER.join_secret
    rotated = Token(CLUSTER.fingerprint, b"r" * 32)
    for after in (rotated, granted(rotated, CLUSTER.issuer_secret, "admin", 0.0)):
        state.keep_cluster(CLUSTER)
        kept = state.cluster_keys(after)
        assert (kept.role, kept.issuer_secret) == ("admin", CLUSTER.issuer_secret)
        assert kept.access().join_client == derive_access(b"r" * 32).join_client
    newest = door_mark(derive_access(b"r" * 32))
    state.keep_cluster(replace(CLUSTER, join_secret=b"r" * 32))
    assert state.cluster_keys(OWNER, newest).join_secret == b"r" * 32, "an older token takes nothing back"
    state.close()
