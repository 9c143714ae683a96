"""Roles and expiry of tokens, with real agents and the real command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from e2e_rig import EXAMPLE, JUPITER_AGENT, Agent, eventually, jupiter, run

from jupiter_agent.adapters.keys import decode_token, encode_token

Make = Callable[..., Agent]


def token_of(agent: Agent, path: Path, *words: str) -> Path:
    """A file with a new token that this agent issues."""
    path.write_text(agent.ctl("token", "create", *words).ok().out)
    return path


def secret_of(agent: Agent) -> bytes:
    """The join secret in the token that this agent prints."""
    return decode_token(agent.token_file.read_text()).join_secret


def test_a_worker_runs_tasks_and_neither_it_nor_its_token_can_submit(make_agent: Make, tmp_path: Path) -> None:
    a = make_agent("a")
    token = token_of(a, tmp_path / "worker", "--role", "worker")
    w = make_agent("w", JUPITER_TOKEN_FILE=str(token))
    eventually(lambda: a.nodes().get("w", {}).get("state") == "alive", "a sees the worker")
    assert (a.nodes()["w"]["role"], w.nodes()["a"]["role"]) == ("worker", "admin")

    kept = json.loads((w.folder / "cluster.json").read_text())
    assert kept["issuer_secret"] == kept["join_secret"] == "", "a worker holds no key that makes it more"
    assert w.token_file.read_text() != a.token_file.read_text()

    for asked in (a, w):
        worker = ("ctl", "--peer", asked.address, "--token-file", token)
        jupiter(*worker, "get", "nodes").ok()
        jupiter(*worker, "submit", EXAMPLE, "--samples").refused(5, "role worker may not submit", "--role R")
        jupiter(*worker, "token", "create").refused(5, "role worker may not token")
        jupiter(*worker, "drain", "a").refused(5, "role worker may not drain")
    only_w = replace(decode_token(token.read_text()), seeds=(w.address,))
    (tmp_path / "only-w").write_text(encode_token(only_w))
    second = make_agent("second", JUPITER_TOKEN_FILE=str(tmp_path / "only-w"))
    eventually(lambda: a.nodes().get("second", {}).get("state") == "alive", "who asks a worker is sent on to an admin")
    assert second.terminate() == 0

    submitter = token_of(a, tmp_path / "submit", "--role", "submit")
    for file in (a.token_file, submitter):
        words = ("ctl", "--peer", w.address, "--token-file", file, "-o", "json", "submit", EXAMPLE, "--samples")
        assert jupiter(*words).ok().json()["home"] == "a", "who may submit is sent on to a node that takes the job"
    assert a.nodes()["w"]["state"] == "alive"

    assert w.terminate() == 0
    w.env = {}
    w.run()
    eventually(lambda: a.nodes()["w"]["state"] == "alive", "it is back without a token")
    assert a.nodes()["w"]["role"] == "worker"


def test_an_expired_token_joins_nobody_calls_nothing_and_ends_its_sessions(make_agent: Make, tmp_path: Path) -> None:
    a = make_agent("a")
    token = token_of(a, tmp_path / "short", "--role", "submit", "--expires", "6s")
    words = ("ctl", "--peer", a.address, "--token-file", token)
    jupiter(*words, "get", "nodes").ok()
    jupiter(*words, "token", "create").refused(5, "role submit may not token")
    s = make_agent("s", JUPITER_TOKEN_FILE=str(token))
    time.sleep(7.5)
    jupiter(*words, "get", "nodes").refused(5, "the token has expired", "token create")
    late = [JUPITER_AGENT, "run", "--name", "late", "--bind", "127.0.0.1:0", "--state-dir", tmp_path / "late"]
    run(late, 20, JUPITER_TOKEN_FILE=str(token)).refused(5, "the token has expired")
    s.terminate()
    s.run()
    eventually(lambda: a.nodes()["s"]["state"] == "alive", "who was admitted stays a member")


def test_a_token_for_one_use_admits_one_node_and_a_revoked_one_ends_its_sessions(
    make_agent: Make, tmp_path: Path
) -> None:
    a = make_agent("a")
    once = token_of(a, tmp_path / "once", "--role", "worker", "--uses", "1")
    make_agent("w", JUPITER_TOKEN_FILE=str(once))
    eventually(lambda: a.nodes().get("w", {}).get("state") == "alive", "the first comes in")
    late = [JUPITER_AGENT, "run", "--name", "late", "--bind", "127.0.0.1:0", "--state-dir", tmp_path / "late"]
    run(late, 20, JUPITER_TOKEN_FILE=str(once)).refused(5, "the token has been used up", "token create")

    [row] = a.ctl("token", "list", "-o", "json").ok().json()["items"]
    assert (row["role"], row["state"], row["used"], row["uses"]) == ("worker", "used up", 1, 1)

    words = ("ctl", "--peer", a.address, "--token-file", once)
    jupiter(*words, "get", "nodes").ok()
    a.ctl("token", "revoke", row["id"][:6]).ok()
    jupiter(*words, "get", "nodes").refused(5, "it was revoked", "token create")
    assert a.terminate() == 0
    a.run()
    jupiter(*words, "get", "nodes").refused(5, "it was revoked")


def test_an_expelled_node_is_out_everywhere_and_the_old_tokens_open_nothing(make_agent: Make, tmp_path: Path) -> None:
    a = make_agent("a")
    old = tmp_path / "old"
    old.write_text(a.token_file.read_text())
    second = token_of(a, tmp_path / "second", "--role", "admin")
    b = make_agent("b", JUPITER_TOKEN_FILE=str(second))
    c = make_agent("c", JUPITER_TOKEN_FILE=str(second))
    bad = make_agent("bad", JUPITER_TOKEN_FILE=str(second))
    eventually(lambda: all(len(each.nodes()) == 4 for each in (a, b, c)), "all see all")
    founded = secret_of(a)
    eventually(lambda: secret_of(b) == founded, "an admin that came with such a token holds what judges all tokens")
    assert c.terminate() == 0

    told = b.ctl("token", "revoke", "--node", "bad").ok()
    assert "revoked bad" in told.out
    for each in (a, b):
        eventually(lambda each=each: each.nodes()["bad"]["state"] == "dead", "it is dead for all")
    eventually(lambda: not bad.runs, "it was told, and ends")
    secret = decode_token(told.out.splitlines()[-1]).join_secret
    assert secret != founded
    eventually(lambda: secret_of(a) == secret, "a has the new secret")
    ended = jupiter("ctl", "--peer", a.address, "--token-file", old, "get", "nodes")
    ended.refused(5, "refused our key")
    again = [JUPITER_AGENT, "run", "--name", "bad", "--bind", "127.0.0.1:0", "--state-dir", bad.folder]
    run(again, 30).refused(5)

    c.env = {}
    c.run()
    eventually(lambda: secret_of(c) == secret, "who was away has the new secret as well")
    eventually(lambda: c.nodes().get("bad", {}).get("state", "dead") == "dead", "and knows who is out")
    assert {name for name, row in a.nodes().items() if row["state"] == "alive"} == {"a", "b", "c"}
