"""Agents started by hand: how they join, leave, come back, what they show, and what they refuse to start with."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from e2e_rig import JUPITER_AGENT, Agent, eventually, run

from jupiter_agent.adapters.keys import decode_token, encode_token

Make = Callable[..., Agent]


def state_of(asked: Agent, name: str) -> str:
    found = asked.nodes().get(name)
    return str(found["state"]) if found else "unknown"


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}


def test_an_agent_shows_its_pages_leaves_when_asked_and_rejoins_as_itself_with_a_higher_boot(make_agent: Make) -> None:
    before = os.umask(0)
    try:
        a = make_agent("a")
        b = make_agent("b", JUPITER_TOKEN_FILE=str(a.token_file))
    finally:
        os.umask(before)
    eventually(lambda: state_of(a, "b") == "alive", "a sees b")
    first = a.nodes()["b"]
    assert (first["boot"], b.page("/healthz")[0], b.page("/nonsense")[0]) == (1, 200, 404)
    assert a.metrics()["jupiter_members", (("state", "alive"),)] == 2
    for agent in (a, b):
        found = modes(agent.folder)
        assert {"node.json", "cluster.json", "token"} <= found.keys()
        assert all(mode == 0o600 for mode in found.values()), found
        assert agent.folder.stat().st_mode & 0o777 == 0o700

    assert b.terminate() == 0
    eventually(lambda: state_of(a, "b") == "left", "b has left", 3)
    assert "Traceback" not in b.log.read_text()

    b.run()
    eventually(lambda: state_of(a, "b") == "alive", "b is back")
    assert (a.nodes()["b"]["id"], a.nodes()["b"]["boot"]) == (first["id"], 2)
    b.kill()
    eventually(lambda: state_of(a, "b") == "dead", "b is dead")
    b.run()
    eventually(lambda: state_of(a, "b") == "alive", "b is back again")
    assert a.nodes()["b"]["boot"] == 3


def test_an_agent_is_let_in_by_a_token_on_its_command_line(make_agent: Make) -> None:
    a = make_agent("a")
    b = make_agent("b", "--join", a.token_file.read_text().strip())
    eventually(lambda: state_of(a, "b") == "alive", "a sees b")
    assert b.nodes()["a"]["state"] == "alive"


def test_an_agent_that_holds_the_secret_joins_by_address_alone(make_agent: Make) -> None:
    a = make_agent("a")
    b = make_agent("b", "--join", a.token_file.read_text().strip())
    eventually(lambda: state_of(a, "b") == "alive", "a sees b")
    b.terminate()
    (b.folder / "peers.json").unlink()
    a.terminate()
    a.port += 100  # where neither b's token nor its memory says
    a.run()
    b.run("--join", a.address)
    eventually(lambda: state_of(b, "a") == "alive" and state_of(a, "b") == "alive", "they see each other")


def test_remembered_peers_are_enough_when_the_founder_is_gone(make_agent: Make) -> None:
    a = make_agent("a")
    join = ("--join", a.token_file.read_text().strip())
    b, c = make_agent("b", *join), make_agent("c", *join)
    eventually(lambda: state_of(b, "c") == "alive", "b sees c")
    b.terminate()
    a.kill()
    shutil.rmtree(a.folder)
    b.run("--profile", "lan")
    eventually(lambda: state_of(c, "b") == "alive", "c sees b again")
    assert b.nodes()["c"]["found_by"] in ("remembered", "gossip")
    d = make_agent("d", JUPITER_TOKEN_FILE=str(b.token_file))
    eventually(lambda: state_of(c, "d") == "alive", "a newcomer is let in without the founder")
    assert state_of(d, "b") == "alive"


def test_a_stranger_with_another_secret_is_not_let_in_and_says_why(make_agent: Make, tmp_path: Path) -> None:
    a, other = make_agent("a"), make_agent("other")
    foreign = replace(decode_token(other.token_file.read_text()), seeds=(a.address,))
    words = ["run", "--name", "x", "--bind", "127.0.0.1:0", "--state-dir", tmp_path / "x"]
    ended = run([JUPITER_AGENT, *words, "--join", encode_token(foreign)], 20)
    ended.refused(5, f"{a.address} refused us: the join secret is not this cluster's", "check the token")
    run([JUPITER_AGENT, *words[:-1], tmp_path / "y", "--join", a.address], 20).refused(2, "give the token")
    assert not (tmp_path / "y" / "cluster.json").exists(), "the right token must still be welcome later"
    a.ctl("--token-file", other.token_file, "get", "nodes").refused(5)
    assert set(a.nodes()) == {"a"}


def test_an_agent_that_cannot_start_says_why_and_the_one_in_its_way_lives(make_agent: Make, tmp_path: Path) -> None:
    a = make_agent("a")
    below_a_file = tmp_path / "file"
    below_a_file.write_text("in the way")

    def refused(*words: object, **flags: object) -> None:
        given: dict[str, object] = {"bind": "127.0.0.1:0", "state-dir": tmp_path / "state", **flags}
        command = [JUPITER_AGENT, "run", *(f"--{name}={value}" for name, value in given.items())]
        run(command, 15).refused(2, *(str(word) for word in words))

    refused("another agent", str(a.process.pid if a.process else 0), **{"state-dir": a.folder})
    refused(f"port {a.port}", "is taken", "--bind", bind=a.address)
    refused("is taken", bind=f"127.0.0.1:{a.port + 1}")
    with socket.create_server(("127.0.0.1", a.port + 3)):
        refused("is taken", "the one after it", bind=f"127.0.0.1:{a.port + 2}")
    refused(f"127.0.0.1:{a.http}", "--http", http=f"127.0.0.1:{a.http}")
    refused("not loopback", http="0.0.0.0:0")
    refused("Not a directory", "--state-dir", **{"state-dir": below_a_file / "state"})
    refused("--state-dir", **{"state-dir": "/proc/jupiter"})
    refused("token", join="no-token-and-no-address")
    refused("HOST:PORT", bind="here")
    assert "lock" not in {path.name for path in tmp_path.iterdir()}
    assert a.page("/healthz")[0] == 200
    assert set(a.nodes()) == {"a"}


def test_keys_that_were_open_to_others_are_closed_and_it_is_said(make_agent: Make) -> None:
    a = make_agent("a")
    a.terminate()
    (a.folder / "node.json").chmod(0o644)
    a.run()
    assert modes(a.folder)["node.json"] == 0o600
    assert "was open to others" in a.log.read_text()
