"""Garbage at both ports of a running agent: counted in /metrics, dropped, and the agent lives and serves."""

from __future__ import annotations

import json
import os
import random
import socket
import time
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import zmq
from e2e_rig import Agent, eventually

from jupiter_agent.adapters.curve import CurvePair
from jupiter_agent.adapters.keys import decode_token, derive_access
from jupiter_agent.adapters.link import open_link
from jupiter_agent.core.membership.conduct import STRIKES
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.wire import MESSAGES

Make = Callable[..., Agent]


@pytest.fixture
def victim(make_agent: Make) -> Iterator[Agent]:
    """One of two agents; afterwards both live, answer, and see each other unless one is banned (for a minute)."""
    agent = make_agent("victim")
    witness = make_agent("witness", JUPITER_TOKEN_FILE=str(agent.token_file))
    eventually(lambda: agent.metrics()["jupiter_members", (("state", "alive"),)] == 2, "they see each other")
    yield agent
    for each in (agent, witness):
        assert each.runs, each.log.read_text()[-3000:]
        assert each.page("/healthz")[0] == 200
        assert "Traceback" not in each.log.read_text()
        if not count(agent, "bans"):
            eventually(lambda a=each: they_see_each_other(a), "they see each other still", pause_s=0.5)


def they_see_each_other(agent: Agent) -> bool:
    nodes = agent.nodes()
    return [nodes[name]["state"] for name in ("victim", "witness")] == ["alive", "alive"]


def count(agent: Agent, *parts: str) -> float:
    """The sum of all counters whose name or reason holds one of these."""
    return sum(
        value
        for (name, labels), value in agent.metrics().items()
        if any(part in name or part in dict(labels).get("reason", "") for part in parts)
    )


def test_random_bytes_http_and_half_open_connections_are_counted_and_dropped(victim: Agent) -> None:
    before = count(victim, "handshakes_failed", "dropped")
    sent, silent = 0, []
    for port in (victim.port, victim.port + 1):
        for text in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(100_000), b"\xff" + b"\0" * 8 + b"\x7f\x03\x01CURVE",
            b"\0", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        ):  # fmt: skip
            with socket.create_connection(("127.0.0.1", port), 2) as stranger:
                try:
                    stranger.sendall(text)
                except OSError:
                    pass  # it may hang up in the middle
                sent += 1
        silent += [socket.create_connection(("127.0.0.1", port), 2) for _ in range(20)]
    victim.ctl("get", "nodes").ok()
    eventually(lambda: count(victim, "handshakes_failed", "dropped") > before, "it was counted")
    for stranger in silent:
        stranger.close()


def dealer(address: str, server_key: str, pair: CurvePair) -> zmq.Socket[bytes]:
    sock = zmq.Context.instance().socket(zmq.DEALER)
    sock.linger, sock.sndtimeo, sock.reconnect_ivl = 0, 1000, 100
    sock.curve_publickey, sock.curve_secretkey = pair.public.encode(), pair.secret.encode()
    sock.curve_serverkey = server_key.encode()
    sock.connect(f"tcp://{address}")
    return sock


def curve_secret(folder: Path) -> str:
    return str(json.loads((folder / "node.json").read_text())["curve_secret"])


def curve_key(agent: Agent) -> str:
    return zmq.curve_public(curve_secret(agent.folder).encode()).decode()


def test_a_foreign_key_opens_neither_port_and_the_operators_frames_are_judged_one_by_one(victim: Agent) -> None:
    access = derive_access(decode_token(victim.token_file.read_text()).join_secret)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    foreign, join = CurvePair(public, secret), f"127.0.0.1:{victim.port + 1}"

    before = count(victim, "dropped_unknown_key")
    knocks = [dealer(victim.address, curve_key(victim), foreign), dealer(join, access.join_server.public, foreign)]
    for sock in knocks:
        sock.send(b"let me in")
    eventually(lambda: count(victim, "dropped_unknown_key") >= before + 2, "both knocks are counted")

    operator = dealer(victim.address, curve_key(victim), access.operator)
    refused = count(victim, "frames_refused")
    for frame in (b"", b"\xc1", os.urandom(500), b"\x93" * 100_000, msgspec.msgpack.encode([60, 1, "get", "args"])):
        operator.send(frame)
    operator.send_multipart([b"one", b"two", b"three"])
    eventually(lambda: count(victim, "frames_refused") >= refused + 4, "garbage is counted")
    operator.send(msgspec.msgpack.encode(Call(7, "get", {"kind": "nodes"})))
    eventually(lambda: operator.poll(0), "the same session is served")
    assert msgspec.msgpack.decode(operator.recv())[:3] == [61, 7, 0]

    operator.send(b"x" * (2 << 20))  # libzmq ends the connection, and it connects again
    time.sleep(0.5)
    eventually(lambda: count(victim, "oversize", "handshakes", "bans", "dropped") > refused, "it is counted")
    asking = dealer(join, access.join_server.public, access.join_client)
    for frame in (b"", os.urandom(500), b"x" * (2 << 20)):
        asking.send(frame)
    victim.ctl("get", "nodes").ok()
    for sock in (*knocks, operator, asking):
        sock.close()


# --- messages that are well formed and make no sense ------------------------------------------------------------------


def value_of(hint: Any, rng: random.Random, depth: int = 0) -> Any:
    """Some value of this type as it travels, small and often odd."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint, include_extras=True)
        tag = [hint.__struct_config__.tag] if issubclass(hint, Message) else []
        return tag + [value_of(hints[name], rng, depth + 1) for name in hint.__struct_fields__]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    count = 0 if depth > 4 else rng.choice([0, 1, 1, 2])
    if origin is Annotated:
        return value_of(args[0], rng, depth)
    if origin in (typing.Union, types.UnionType):
        return value_of(rng.choice(args), rng, depth)
    if origin is list:
        return [value_of(args[0], rng, depth + 1) for _ in range(count)]
    if origin is dict:
        return {value_of(args[0], rng, 9): value_of(args[1], rng, depth + 1) for _ in range(count)}
    if origin is tuple:
        args = args[:1] * count if args[-1] is Ellipsis else args
        return tuple(value_of(arg, rng, depth + 1) for arg in args)
    words = ["", "home", "a", "..", "x" * 300, "node1", "\0", "127.0.0.1:9", "get", "submit", "last"]
    scalars: dict[Any, list[Any]] = {
        str: words, bytes: [b"", bytes(32), b"\xff" * 32, b"\xff" * 8], int: [0, 1, 2, 1 << 40, (1 << 63) - 1],
        float: [0.0, 1.0, 1e300], bool: [True, False], type(None): [None],
    }  # fmt: skip
    return rng.choice(scalars.get(hint, [None, 7, "x", [1], {"kind": "jobs"}, {"items": [1]}]))


@pytest.mark.parametrize("sender", ["operator", "member", "impersonator"])
def test_well_formed_nonsense_of_every_kind_changes_nothing(victim: Agent, make_agent: Make, sender: str) -> None:
    rng = random.Random(8)
    pair = derive_access(decode_token(victim.token_file.read_text()).join_secret).operator
    if sender == "member":
        rogue = make_agent("rogue", JUPITER_TOKEN_FILE=str(victim.token_file))
        secret = curve_secret(rogue.folder)
    if sender == "impersonator":
        secret = curve_secret(victim.folder.with_name("witness"))
    if sender != "operator":
        pair = CurvePair(zmq.curve_public(secret.encode()).decode(), secret)
    sock = dealer(victim.address, curve_key(victim), pair)
    sent, before = 0, count(victim, "frames_in")
    for kind in MESSAGES.values():
        for _ in range(25):
            frame = msgspec.msgpack.encode(value_of(kind, rng))
            sock.send(frame)
            sent += 1
        eventually(lambda: victim.page("/healthz")[0] == 200, f"it lives on after {kind.__name__}", 3)
        assert victim.runs, f"{kind.__name__}: {victim.log.read_text()[-3000:]}"
    sock.close()
    assert sent > 500
    came = count(victim, "frames_in") - before
    if sender == "operator":
        assert came >= sent * 0.9, "it did arrive"
    else:
        assert came >= STRIKES, "it did arrive"
        assert count(victim, "bans") == 1, "a member that goes on so is kept out; all kinds: test_messages_kill_nobody"
    assert victim.ctl("get", "jobs", "-o", "json").ok().json()["items"] == []


def test_an_upload_that_lies_is_refused_and_the_store_stays_usable(victim: Agent) -> None:
    client = victim.client()
    token = decode_token(victim.token_file.read_text())
    link = open_link(client._context, victim.address, token)
    for offset, size, data in (
        (0, 10, b"not what its digest says"),
        (5, 3, b""),
        (0, 1 << 62, b"x"),
        (0, 24, b"y" * 24),
    ):
        link.send(MESSAGES[62](1, bytes(32), size, offset, data))
    link.send(MESSAGES[62](2, b"short", 1, 0, b"x"))
    link.close()
    assert client.write_blob(b"hello")
    client.close()
