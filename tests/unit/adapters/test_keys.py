"""Keys, tokens and the state folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from jupiter_agent.adapters.authority import ClusterAuthority
from jupiter_agent.adapters.keyring import Keyring
from jupiter_agent.adapters.keys import (
    TOKEN_PREFIX,
    ClusterKeys,
    NodeIdentity,
    NodeKeys,
    Token,
    decode_token,
    derive_access,
    encode_token,
    founding_token,
    is_token,
    plain_token,
)
from jupiter_agent.adapters.state import BOOT_FILE, CLUSTER_FILE, NODE_FILE, StateDir, read_cluster, set_aside
from jupiter_agent.core.ids import node_id
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.trust import Trust
from jupiter_agent.errors import PeerError, UsageError

TOKEN = Token(b"f" * 16, b"s" * 32, ("10.0.0.1:7421", "[fe80::1]:7421", "node.example:1"))


def record_of(identity: NodeIdentity, curve_key: str = "k" * 40) -> Record:
    return Record(identity.id, "n1", "127.0.0.1:7000", identity.public, curve_key, "worker", 1, 0)


# --- signatures ------------------------------------------------------------------------------------------------


def test_a_node_is_called_by_the_fingerprint_of_its_key() -> None:
    identity = NodeIdentity(b"1" * 32)
    assert identity.id == node_id(identity.public)
    assert NodeIdentity(b"1" * 32).id == identity.id != NodeIdentity(b"2" * 32).id


def test_a_signature_holds_for_its_key_and_text_only_and_checking_never_raises() -> None:
    one, two = NodeIdentity(b"1" * 32), NodeIdentity(b"2" * 32)
    signature = one.sign(b"text")
    assert len(signature) == 64
    assert two.verify(one.public, b"text", signature)
    assert not two.verify(one.public, b"other", signature)
    assert not two.verify(two.public, b"text", signature)
    for key, sign in ((b"", signature), (one.public, b""), (b"x" * 31, signature), (b"\xff" * 32, b"\0" * 64)):
        assert not two.verify(key, b"text", sign)


def test_only_a_holder_of_the_issuer_key_admits_and_everybody_can_check() -> None:
    cluster = ClusterKeys.found()
    issuer = ClusterAuthority(cluster)
    worker = ClusterAuthority(ClusterKeys(cluster.fingerprint, b""))
    identity = NodeIdentity(os.urandom(32))
    record = record_of(identity)
    assert worker.issue(record) == worker.export() == worker.public() == b""
    admitted = Record(*(getattr(record, f) for f in Record.__struct_fields__[:-2]), admission=issuer.issue(record))
    assert issuer.verify_admission(admitted)
    assert not worker.verify_admission(admitted)
    assert worker.adopt(issuer.public(), b"")
    assert worker.verify_admission(admitted)
    assert not worker.verify_admission(record)
    trust = Trust(identity, worker)
    trust.verify(trust.signed(admitted))
    with pytest.raises(PeerError):
        trust.verify(admitted)


def test_an_authority_adopts_its_own_clusters_key_only() -> None:
    cluster, other = ClusterKeys.found(), ClusterKeys.found()
    kept: list[ClusterKeys] = []
    authority = ClusterAuthority(ClusterKeys(cluster.fingerprint, b""), on_change=kept.append)
    for public, secret in (
        (other.issuer, b""), (b"", b""), (cluster.issuer, other.issuer_secret), (cluster.issuer, b"short"),
    ):  # fmt: skip
        assert not authority.adopt(public, secret)
    assert authority.public() == authority.export() == b""
    assert authority.adopt(cluster.issuer, cluster.issuer_secret)
    assert authority.adopt(cluster.issuer, b"")
    assert authority.export() == cluster.issuer_secret
    assert [(keys.issuer, keys.issuer_secret) for keys in kept] == [(cluster.issuer, cluster.issuer_secret)]


# --- derived keys and tokens -------------------------------------------------------------------------------------


def test_the_join_secret_gives_everybody_the_same_three_pairs() -> None:
    keys, again, other = derive_access(b"s" * 32), derive_access(bytes(b"s" * 32)), derive_access(b"t" * 32)
    assert keys == again
    pairs = [keys.join_server, keys.join_client, keys.operator]
    assert len({pair.secret for pair in pairs} | {pair.secret for pair in (other.join_server, other.operator)}) == 5
    assert all(zmq.curve_public(pair.secret.encode()).decode() == pair.public for pair in pairs)


def test_the_derivation_is_fixed_so_that_versions_understand_each_other() -> None:
    assert derive_access(bytes(32)).join_server.public == "FfOY^vlM^LnbhX)y(75-Wlj=WwvD5Byp=f/LsWYV"


def test_secrets_do_not_show_in_texts() -> None:
    cluster, keys = ClusterKeys.found(), NodeKeys.new()
    shown = f"{cluster} {keys} {Token(cluster.fingerprint, cluster.join_secret)} {keys.curve}"
    for secret in (cluster.join_secret, cluster.issuer_secret, keys.seed):
        assert secret.hex() not in shown
        assert str(secret) not in shown
    assert keys.curve.secret not in shown


def test_a_token_is_one_word_that_comes_back_whole() -> None:
    text = encode_token(TOKEN)
    assert text.startswith(TOKEN_PREFIX)
    assert text.split() == [text]
    assert decode_token(text) == TOKEN
    assert decode_token(f"  {text[:20]}\n{text[20:]}\n") == TOKEN
    assert decode_token(encode_token(Token(b"f" * 16, b"s" * 32))).seeds == ()


def test_who_starts_with_a_founding_token_holds_the_issuers_key_and_hands_on_tokens_without_it(tmp_path: Path) -> None:
    keys = ClusterKeys.found()
    text = encode_token(founding_token(keys))
    assert is_token(text)
    token = decode_token(text)
    assert (token.fingerprint, token.join_secret, token.issuer_secret) == (
        keys.fingerprint, keys.join_secret, keys.issuer_secret,
    )  # fmt: skip
    for name in ("one", "two"):
        state = StateDir(tmp_path / name)
        found = state.cluster_keys(token)
        assert (found.issuer, found.issuer_secret, found.role) == (keys.issuer, keys.issuer_secret, "admin")
        assert decode_token(Keyring(state, token).token(()).text).issuer_secret == b""
        state.close()
    plain = decode_token(encode_token(plain_token(token)))
    assert (plain.join_secret, plain.issuer_secret) == (keys.join_secret, b"")


def test_a_founding_token_of_two_clusters_is_refused() -> None:
    one, two = ClusterKeys.found(), ClusterKeys.found()
    mixed = encode_token(Token(one.fingerprint, one.join_secret, issuer_secret=two.issuer_secret))
    with pytest.raises(UsageError, match="damaged"):
        decode_token(mixed)


def test_tokens_are_told_from_addresses() -> None:
    assert is_token(encode_token(TOKEN))
    assert is_token("jup1.cut")
    assert not any(map(is_token, ("10.0.0.1:7421", "jupiter.example:7421", "[::1]:7421")))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a token"),
        ("hello", "not a token"),
        ("jup1.", "cut short"),
        ("jup1.!!!", "damaged"),
        ("jup2." + encode_token(TOKEN)[5:], "another version"),
        (encode_token(TOKEN)[:-1], "damaged"),
        (encode_token(TOKEN)[:60], "cut short"),
        (encode_token(TOKEN).replace("Zm", "Zn", 1), "damaged"),
    ],
)
def test_what_is_no_whole_token_of_ours_is_refused_with_a_hint(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        decode_token(text)
    assert "jupiter ctl token" in caught.value.hint


@given(st.text(max_size=200) | st.binary(max_size=120).map(lambda raw: TOKEN_PREFIX + raw.hex()))
def test_garbage_is_a_usage_error_and_nothing_else(text: str) -> None:
    with pytest.raises(UsageError):
        decode_token(text)


# --- the state folder --------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_once_private_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    state = StateDir(folder)
    keys, cluster = state.node_keys(), state.cluster_keys()
    state.close()
    again = StateDir(folder)
    assert (again.node_keys(), again.cluster_keys()) == (keys, cluster)
    assert again.notices == []
    again.close()
    assert mode(folder) == 0o700
    assert {path.name for path in folder.iterdir() if mode(path) != 0o600} == set()
    assert read_cluster(folder) == cluster


def test_boots_are_counted_and_can_be_raised(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert [state.next_boot(), state.next_boot()] == [1, 2]
    state.set_boot(41)
    assert state.next_boot() == 42
    state.close()
    (tmp_path / BOOT_FILE).write_text("many")
    state = StateDir(tmp_path)
    with pytest.raises(UsageError, match=BOOT_FILE):
        state.next_boot()
    state.close()


def test_modes_that_are_too_open_are_tightened_and_said(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.node_keys()
    state.close()
    tmp_path.chmod(0o755)
    (tmp_path / NODE_FILE).chmod(0o644)
    state = StateDir(tmp_path)
    state.node_keys()
    state.close()
    assert (mode(tmp_path), mode(tmp_path / NODE_FILE)) == (0o700, 0o600)
    assert len(state.notices) == 2
    assert "mode 644" in state.notices[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.node_keys()
    os.chown(tmp_path / NODE_FILE, 12345, -1)
    with pytest.raises(UsageError, match="another user"):
        state.node_keys()
    state.close()


def test_damaged_and_foreign_key_files_are_refused_not_replaced(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    for text in ("", "[]", "{}", '{"version": 2}', '{"version": 1}', '{"version": 1, "seed": "00", "curve_secret": 3}'):
        (tmp_path / NODE_FILE).write_text(text)
        (tmp_path / CLUSTER_FILE).write_text(text)
        with pytest.raises(UsageError):
            state.node_keys()
        with pytest.raises(UsageError):
            state.cluster_keys()
        assert (tmp_path / NODE_FILE).read_text() == text
    state.close()


def a_node_of(folder: Path, cluster: ClusterKeys) -> NodeKeys:
    """The keys that an agent with that cluster's token has in the folder."""
    state = StateDir(folder)
    try:
        keys = state.node_keys()
        state.cluster_keys(founding_token(cluster))
        return keys
    finally:
        state.close()


def test_a_folder_of_another_cluster_is_set_aside_whole_and_comes_back_with_its_token(tmp_path: Path) -> None:
    folder, one, two = tmp_path / "agent", ClusterKeys.found(), ClusterKeys.found()
    assert set_aside(folder, one.fingerprint) is None
    first = a_node_of(folder, one)
    assert set_aside(folder, one.fingerprint) is None
    aside = set_aside(folder, two.fingerprint)
    assert aside == tmp_path / f"agent-{one.fingerprint.hex()[:16]}"
    assert not folder.exists()
    second = a_node_of(folder, two)
    assert (second != first, read_cluster(aside).fingerprint) == (True, one.fingerprint)
    assert set_aside(folder, one.fingerprint) == tmp_path / f"agent-{two.fingerprint.hex()[:16]}"
    assert a_node_of(folder, one) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent", f"agent-{two.fingerprint.hex()[:16]}"]


def test_a_folder_that_was_on_its_way_back_when_the_power_went_is_found(tmp_path: Path) -> None:
    folder, cluster = tmp_path / "agent", ClusterKeys.found()
    first = a_node_of(folder, cluster)
    folder.rename(tmp_path / f"agent-{cluster.fingerprint.hex()[:16]}")
    assert set_aside(folder, cluster.fingerprint) is None
    assert a_node_of(folder, cluster) == first


def test_what_is_left_of_a_folder_gets_into_no_other_clusters_state(tmp_path: Path) -> None:
    folder, one, two = tmp_path / "agent", ClusterKeys.found(), ClusterKeys.found()
    first = a_node_of(folder, one)
    set_aside(folder, two.fingerprint)
    for again in ("", ".2"):
        a_node_of(folder, two)
        (folder / "jobs").mkdir()
        (folder / CLUSTER_FILE).unlink()  # its removal was cut short
        assert set_aside(folder, two.fingerprint) == tmp_path / f"agent-leftovers{again}"
        assert not folder.exists()
    a_node_of(folder, two)
    (folder / CLUSTER_FILE).unlink()
    assert set_aside(folder, one.fingerprint) == tmp_path / "agent-leftovers.3"
    assert (a_node_of(folder, one), (folder / "jobs").exists()) == (first, False), "the one that was aside is whole"


def test_a_name_that_is_taken_keeps_no_agent_from_its_start(tmp_path: Path) -> None:
    folder, one, two = tmp_path / "agent", ClusterKeys.found(), ClusterKeys.found()
    mark = one.fingerprint.hex()[:16]
    (tmp_path / f"agent-{mark}").mkdir()
    (tmp_path / f"agent-{mark}" / "something").touch()
    first = a_node_of(folder, one)
    assert set_aside(folder, two.fingerprint) == tmp_path / f"agent-{mark}.2"
    assert a_node_of(folder, two) != first
    set_aside(folder, one.fingerprint)
    assert a_node_of(folder, one) == first


def test_a_folder_that_is_empty_or_was_just_made_is_no_leftover(tmp_path: Path) -> None:
    folder, one = tmp_path / "agent", ClusterKeys.found()
    folder.mkdir()
    assert set_aside(folder, one.fingerprint) is None
    StateDir(folder).close()
    assert set_aside(folder, one.fingerprint) is None
    assert folder.exists()


def test_a_folder_that_an_agent_uses_is_not_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    a_node_of(folder, ClusterKeys.found())
    state = StateDir(folder)
    with pytest.raises(UsageError, match="another agent"):
        set_aside(folder, ClusterKeys.found().fingerprint)
    state.close()
    assert folder.exists()


def test_a_token_decides_the_cluster_of_a_fresh_folder(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    cluster = state.cluster_keys(TOKEN)
    assert (cluster.fingerprint, cluster.join_secret, cluster.seeds) == (b"f" * 16, b"s" * 32, TOKEN.seeds)
    assert cluster.issuer == cluster.issuer_secret == b""
    assert state.cluster_keys() == cluster
    with pytest.raises(UsageError, match="another cluster"):
        state.cluster_keys(Token(b"g" * 16, b"s" * 32))
    rotated = state.cluster_keys(Token(b"f" * 16, b"r" * 32))
    assert (rotated.join_secret, rotated.seeds) == (b"r" * 32, TOKEN.seeds)
    assert state.cluster_keys() == rotated
    state.close()


def test_an_issuer_key_handed_over_at_joining_is_kept(tmp_path: Path) -> None:
    founder = ClusterKeys.found()
    state = StateDir(tmp_path)
    cluster = state.cluster_keys(Token(founder.fingerprint, founder.join_secret))
    assert ClusterAuthority(cluster, on_change=state.keep_cluster).adopt(founder.issuer, founder.issuer_secret)
    assert state.cluster_keys() == founder
    state.close()


def test_two_agents_do_not_share_a_folder(tmp_path: Path) -> None:
    program = "import sys\nfrom pathlib import Path\nfrom jupiter_agent.adapters.state import StateDir\n"
    program += f"StateDir(Path({str(tmp_path)!r}))\nprint('locked', flush=True)\nsys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(UsageError, match=f"process {other.pid}") as caught:
        StateDir(tmp_path)
    assert "--state-dir" in caught.value.hint
    other.communicate()
    StateDir(tmp_path).close()


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot use"):
        StateDir(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot use"):
        StateDir(Path("/proc/no/such"))
