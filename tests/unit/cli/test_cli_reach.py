"""Whom a command asks, and with which key."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupiter_agent.adapters.client import Client
from jupiter_agent.cli import reach
from jupiter_agent.cli.reach import Caller, Where, addresses, find_token, open_client
from jupiter_agent.errors import UnauthorisedError, UnreachableError, UsageError


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reach, "SYSTEM_DIR", tmp_path / "system")
    return tmp_path


def make_agent(folder: Path, address: str, token: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "agent.json").write_text(json.dumps({"pid": 1, "name": folder.name, "address": address}))
    if token:
        (folder / "token").write_text(token + "\n")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which this machine's agent is somewhere under the test's folder."""
    return {"HOME": str(tmp_path / "home"), "JUPITER_STATE_DIR": str(tmp_path / "machine")}


def test_without_any_word_it_is_the_environment_then_the_local_cluster_then_this_machine(
    tmp_path: Path, env: dict[str, str]
) -> None:
    make_agent(tmp_path / "machine", "m:1", "machine")
    assert addresses(Where(env=env)) == ["m:1"]
    assert find_token(Where(env=env))[0] == "machine"
    make_agent(tmp_path / ".jupiter" / "node1", "l:1")
    (tmp_path / ".jupiter" / "token").write_text("local")
    assert addresses(Where(env=env)) == ["l:1"]
    assert find_token(Where(env=env))[0] == "local"
    assert addresses(Where(env=env | {"JUPITER_PEER": "p:1,q:2"})) == ["p:1", "q:2"]
    assert addresses(Where(peers=("x:1",), env=env | {"JUPITER_PEER": "p:1"})) == ["x:1"]


def test_a_folder_names_all_its_agents_in_number_order_and_holds_the_key(tmp_path: Path, env: dict[str, str]) -> None:
    for number in (10, 2, 1):
        make_agent(tmp_path / "c" / f"node{number}", f"h:{number}")
    (tmp_path / "c" / "token").write_text("t")
    where = Where(dir=tmp_path / "c", env=env | {"JUPITER_PEER": "p:1"})
    assert addresses(where) == ["h:1", "h:2", "h:10"]
    assert find_token(where)[0] == "t"
    by_env = Where(env=env | {"JUPITER_DIR": str(tmp_path / "c")})
    assert (addresses(by_env)[0], find_token(by_env)[0]) == ("h:1", "t")


def test_who_went_into_a_folder_is_told_of_the_cluster_further_up(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path.resolve() / "project"
    make_agent(above / ".jupiter" / "node1", "127.0.0.1:7")
    (above / "apps" / "mine").mkdir(parents=True)
    monkeypatch.chdir(above / "apps" / "mine")
    with pytest.raises(UnreachableError) as caught:
        addresses(Where(env=env))
    assert caught.value.hint == f"there is a cluster in {above}/.jupiter: --dir {above}/.jupiter"


def test_a_peer_and_a_folder_together_are_an_address_and_a_key(tmp_path: Path, env: dict[str, str]) -> None:
    make_agent(tmp_path / "c", "h:1", "t")
    where = Where(peers=("x:1",), dir=tmp_path / "c", env=env)
    assert (addresses(where), find_token(where)[0]) == (["x:1"], "t")


def test_damaged_agent_files_are_passed_over(tmp_path: Path, env: dict[str, str]) -> None:
    make_agent(tmp_path / "c" / "node1", "h:1")
    for number, content in enumerate(("", "[]", "{}", "\xff"), 2):
        (tmp_path / "c" / f"node{number}").mkdir()
        (tmp_path / "c" / f"node{number}" / "agent.json").write_bytes(content.encode("latin-1"))
    assert addresses(Where(dir=tmp_path / "c", env=env)) == ["h:1"]


def test_nobody_to_ask_is_unreachable_and_a_wrong_peer_is_usage(tmp_path: Path, env: dict[str, str]) -> None:
    for where in (Where(env=env), Where(dir=tmp_path / "none", env=env)):
        with pytest.raises(UnreachableError):
            addresses(where)
    with pytest.raises(UsageError, match="not HOST:PORT"):
        addresses(Where(peers=("nonsense",), env=env))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_reachability_is_judged_before_authorisation_also_without_a_key(
    listener: socket.socket, env: dict[str, str]
) -> None:
    peer = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(UnauthorisedError, match="no key") as caught:
        open_client(Where(peers=(peer,), env=env))
    assert caught.value.exit_code == 5
    listener.close()
    with pytest.raises(UnreachableError) as gone:
        open_client(Where(peers=(peer,), env=env))
    assert gone.value.exit_code == 4


def test_only_who_meant_a_local_cluster_is_sent_to_the_command_for_those(tmp_path: Path, env: dict[str, str]) -> None:
    make_agent(tmp_path / "c" / "node1", "127.0.0.1:1", "t")
    (tmp_path / "c" / "token").write_text("t")
    make_agent(tmp_path / "local" / "node1", "127.0.0.1:1", "t")
    (tmp_path / "local" / "token").write_text("t")
    (tmp_path / "local" / "cluster.json").write_text("{}")
    for where, hint in (
        (Where(peers=("127.0.0.1:1",), dir=tmp_path / "c", env=env), ""),
        (Where(dir=tmp_path / "c", env=env), ""),
        (Where(dir=tmp_path / "local", env=env), f"is it running? `jupiter local status --dir {tmp_path}/local`"),
    ):
        with pytest.raises(UnreachableError, match="no agent answers") as caught:
            open_client(where)
        assert caught.value.hint.removesuffix(" shows it") == hint


def test_a_refused_key_names_the_address_that_was_typed_and_where_the_key_is_from(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(addresses: list[str], token: str) -> Caller:
        raise UnauthorisedError("the agent at 127.0.0.1:7422 refused our key", "the token is old")

    monkeypatch.setattr(Client, "open", refuse)
    monkeypatch.setattr(reach, "_somebody_listens", lambda tried: True)
    (tmp_path / "token").write_text("t")
    with pytest.raises(UnauthorisedError) as caught:
        open_client(Where(peers=("cam.local:7421",), dir=tmp_path, env=env))
    assert caught.value.message == "the agent at cam.local:7421 refused our key"
    assert f"the token is old; the key is from {tmp_path}/token;" in caught.value.hint


def test_after_a_rotation_a_local_cluster_is_called_with_the_token_of_a_node_that_knows_it(
    tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "token").write_text("old")
    (tmp_path / "node1").mkdir()
    (tmp_path / "node1" / "token").write_text("new")
    os.utime(tmp_path / "token", (1.0, 1.0))
    assert find_token(Where(dir=tmp_path, env=env)) == ("old", tmp_path / "token")
    (tmp_path / "node1" / "ledger").write_text("")
    assert find_token(Where(dir=tmp_path, env=env)) == ("new", tmp_path / "node1" / "token")


def test_a_named_token_file_must_be_there(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="cannot read the token file"):
        open_client(Where(peers=("127.0.0.1:1",), token_file=tmp_path / "none", env=env))
