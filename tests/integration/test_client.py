"""The control client against agents that are only a transport and a few answers, each on a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
import zmq

from jupiter_agent.adapters import client as client_module
from jupiter_agent.adapters.authority import ClusterAuthority
from jupiter_agent.adapters.client import Client
from jupiter_agent.adapters.keys import ClusterKeys, NodeIdentity, NodeKeys, Token, derive_access, encode_token
from jupiter_agent.adapters.link import Link, LostError
from jupiter_agent.adapters.ports import format_address, join_address, parse_address
from jupiter_agent.adapters.zeromq import ZmqTransport
from jupiter_agent.core.ids import node_id
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.control import Answer, BlobWrite, Call
from jupiter_agent.core.messages.jobs import Chunk, ChunkRequest, Missing
from jupiter_agent.core.messages.membership import Iam, Record, Who
from jupiter_agent.core.wire import decode, encode
from jupiter_agent.errors import (
    EXIT_TIMEOUT,
    EXIT_UNAUTHORISED,
    EXIT_UNPLACEABLE,
    CapacityError,
    JupiterError,
    UnauthorisedError,
    UnreachableError,
    UsageError,
)

pytestmark = pytest.mark.smoke

CLUSTER = ClusterKeys.found()
TOKEN = encode_token(Token(CLUSTER.fingerprint, CLUSTER.join_secret))


class FakeAgent:
    """Answers `Who`, calls and blobs."""

    def __init__(
        self,
        store: dict[bytes, bytes],
        protocol: tuple[int, int] = (1, 1),
        issuer: ClusterKeys = CLUSTER,
        said: str | None = None,
    ) -> None:
        """`said`: the address that it tells, if not its own."""
        self.store, self.protocol, self.issuer, self._said = store, protocol, issuer, said
        self.calls: list[str] = []
        self._keys = NodeKeys.new()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up, self._ended = threading.Event(), False
        self._thread.start()
        assert self._up.wait(5)

    def _run(self) -> None:
        self._loop.call_soon(self._start)
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _start(self) -> None:
        access = derive_access(CLUSTER.join_secret)
        self._transport = ZmqTransport(self, self._keys.curve, access, "127.0.0.1:0")
        self.address = self._transport.address
        self._up.set()

    def die(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(5)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._transport.close()
        self._loop.stop()

    def on_join(self, src: str, frame: bytes) -> None:
        who = decode(frame)
        assert isinstance(who, Who)
        sign_key, curve_key = NodeIdentity(self._keys.seed).public, self._keys.curve.public
        record = Record(node_id(sign_key), "n1", self.address, sign_key, curve_key, "admin", 1, 0)
        shown = (sign_key, "admin", ClusterAuthority(self.issuer).issue(record), self.issuer.issuer)
        said = self.address if self._said is None else self._said
        self._say(src, Iam(who.seq, record.id, "n1", curve_key, self.protocol, "9.9", *shown, said))

    def on_frame(self, src: str, frame: bytes) -> None:
        assert src.startswith("client:")
        message = decode(frame)
        if isinstance(message, Call):
            self._on_call(src, message)
        elif isinstance(message, BlobWrite):
            self.store[message.sha256] = self.store.get(message.sha256, b"")[: message.offset] + message.data
            self._say(src, Answer(message.seq, 0, {"offset": message.offset + len(message.data)}))
        elif isinstance(message, ChunkRequest):
            data = self.store.get(message.sha256)
            part = b"" if data is None else data[message.offset : message.offset + message.length]
            whole = Missing(message.sha256) if data is None else Chunk(message.sha256, len(data), message.offset, part)
            self._say(src, whole)

    def _on_call(self, src: str, call: Call) -> None:
        self.calls.append(call.verb)
        if call.verb == "refuse":
            self._say(src, Answer(call.seq, EXIT_UNPLACEABLE, None, "no node fits", "add one"))
        elif call.args.get("ask") and self.address not in call.args["ask"]:
            self._say(src, Answer(call.seq, EXIT_UNAUTHORISED, {"ask": call.args["ask"]}, "may not", "ask there"))
        elif call.args.get("die"):
            self._end()
        elif call.verb != "hang":
            self._say(src, Answer(call.seq - 1, 0, "of an earlier call"))
            self._say(src, Answer(call.seq, 0, {"by": self.address, **call.args}))

    def _say(self, dst: str, message: Message) -> None:
        self._transport.send(dst, encode(message))

    def on_up(self, peer: str) -> None: ...

    def on_down(self, peer: str, reason: str) -> None: ...

    def on_port(self, peer: str, outcome: str) -> None: ...


class Split:
    """An address whose two ports lead to two agents, as those of a Service do that has many behind it."""

    def __init__(self, agent: FakeAgent, door: FakeAgent) -> None:
        self._listening: list[socket.socket] = []
        self._open: list[socket.socket] = []
        port = free_pair()
        for at, target in ((port, agent.address), (port + 1, join_address(door.address))):
            self._listening.append(socket.create_server(("127.0.0.1", at)))
            self._start(self._accept, self._listening[-1], parse_address(target))
        self.address = f"127.0.0.1:{port}"

    def _start(self, work: Callable[..., None], *args: object) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self, listening: socket.socket, target: tuple[str, int]) -> None:
        with suppress(OSError):
            while True:
                near, far = listening.accept()[0], socket.create_connection(target)
                self._open += [near, far]
                self._start(self._pass_on, near, far)
                self._start(self._pass_on, far, near)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self._listening + self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def free_pair() -> int:
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, suppress(OSError):
            port = int(first.getsockname()[1])
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port


Start = Callable[..., FakeAgent]


@pytest.fixture
def start() -> Iterator[Start]:
    agents: list[FakeAgent] = []
    store: dict[bytes, bytes] = {}

    def one(**options: object) -> FakeAgent:
        agents.append(FakeAgent(store, **options))  # type: ignore[arg-type]
        return agents[-1]

    yield one
    for agent in agents:
        agent.die()


@pytest.fixture
def opened(start: Start) -> Iterator[tuple[Client, FakeAgent, FakeAgent]]:
    """A client of two agents, talking to the first."""
    one, two = start(), start()
    client = Client.open([one.address, two.address], TOKEN)
    yield client, one, two
    client.close()


Opened = tuple[Client, FakeAgent, FakeAgent]


def test_a_call_gets_its_own_answer(opened: Opened) -> None:
    client, one, _ = opened
    assert client.address == one.address
    assert client.call("get", {"kind": "nodes"}) == {"by": one.address, "kind": "nodes"}
    assert client.call("submit", {}) == {"by": one.address}


def test_a_refusal_carries_error_hint_and_exit_code(opened: Opened) -> None:
    with pytest.raises(JupiterError) as caught:
        opened[0].call("refuse", {})
    assert (caught.value.message, caught.value.hint) == ("no node fits", "add one")
    assert caught.value.exit_code == EXIT_UNPLACEABLE


def test_no_answer_in_time_is_a_timeout(opened: Opened) -> None:
    began = time.monotonic()
    with pytest.raises(JupiterError) as caught:
        opened[0].call("hang", {}, 0.2)
    assert caught.value.exit_code == EXIT_TIMEOUT
    assert time.monotonic() - began < 1.0
    assert opened[0].call("get", {})


def test_an_idempotent_call_moves_on_when_the_agent_dies(opened: Opened) -> None:
    client, one, two = opened
    assert client.call("get", {}) == {"by": one.address}
    one.die()
    assert client.call("get", {}) == {"by": two.address}


def test_a_call_that_dies_under_way_is_repeated_only_if_idempotent(start: Start) -> None:
    one, two, three = start(), start(), start()
    client = Client.open([one.address, two.address, three.address], TOKEN)
    with pytest.raises(UnreachableError, match="during submit") as caught:
        client.call("submit", {"die": 1})
    assert "get jobs" in caught.value.hint
    assert (one.calls, two.calls) == (["submit"], [])
    with pytest.raises(UnreachableError):
        client.call("get", {"die": 1})
    assert (two.calls, three.calls) == (["get"], ["get"])
    client.close()


def test_with_nobody_left_it_says_whom_it_tried(opened: Opened) -> None:
    client, one, two = opened
    one.die()
    two.die()
    with pytest.raises(UnreachableError) as caught:
        client.call("get", {})
    assert one.address in caught.value.message
    assert two.address in caught.value.message


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 * 9 + 17])
def test_objects_go_up_and_come_back(opened: Opened, tmp_path: Path, size: int) -> None:
    client, one, _ = opened
    content = os.urandom(size)
    digest = client.write_blob(content)
    assert digest == hashlib.sha256(content).digest()
    assert one.store[digest] == content
    path = tmp_path / "file"
    path.write_bytes(content)
    assert client.write_blob(path) == digest
    sink = BytesIO()
    client.read_blob(digest, size, sink)
    assert sink.getvalue() == content


def test_what_the_agent_does_not_have_is_said_after_a_while(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MISSING_LIMIT_S", 0.3)
    with pytest.raises(CapacityError, match="does not have"):
        opened[0].read_blob(b"m" * 32, 3_000_000, BytesIO())


def test_an_object_that_arrives_a_little_later_is_waited_for(opened: Opened) -> None:
    client, one, _ = opened
    content = os.urandom(700_000)
    digest = hashlib.sha256(content).digest()
    threading.Timer(0.3, one.store.__setitem__, (digest, content)).start()
    sink = BytesIO()
    client.read_blob(digest, len(content), sink)
    assert sink.getvalue() == content


def test_false_bytes_and_sizes_are_refused(opened: Opened) -> None:
    client, one, _ = opened
    one.store[b"f" * 32] = b"x" * 1000
    with pytest.raises(JupiterError, match="not what was asked for"):
        client.read_blob(b"f" * 32, 1000, BytesIO())
    with pytest.raises(JupiterError, match="another size"):
        client.read_blob(b"f" * 32, 2000, BytesIO())


def test_reachability_is_judged_before_the_token(start: Start) -> None:
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9, 127\.0\.0\.1:1"):
        Client.open(["127.0.0.1:9", "127.0.0.1:1"], "no token at all")
    with pytest.raises(UsageError, match="not a token"):
        Client.open(["127.0.0.1:9", start().address], "no token at all")


def test_another_clusters_token_is_refused(start: Start) -> None:
    foreign = encode_token(Token(b"f" * 16, b"s" * 32))
    began = time.monotonic()
    with pytest.raises(UnauthorisedError):
        Client.open([start().address, "127.0.0.1:9"], foreign)
    assert time.monotonic() - began < 2.0


def test_behind_an_address_whose_ports_lead_to_two_agents_the_one_that_answered_is_asked(start: Start) -> None:
    one, two = start(), start()
    with closing(Split(agent=one, door=two)) as service:
        began = time.monotonic()
        with closing(Client.open([service.address], TOKEN)) as client:
            assert client.call("get", {}) == {"by": two.address}
        assert time.monotonic() - began < 1.0, "the other one refuses at once"


def test_where_both_ports_lead_to_one_agent_it_is_asked_there_wherever_it_says_it_is(start: Start) -> None:
    one = start(said="192.0.2.1:7421")
    with closing(Split(agent=one, door=one)) as forwarded:
        began = time.monotonic()
        with closing(Client.open([forwarded.address], TOKEN)) as client:
            assert client.call("get", {}) == {"by": one.address}
            assert client.address == forwarded.address
        assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("said", ["", "127.0.0.1:9", "no address at all", ":", "127.0.0.1:0"])
def test_an_agent_that_is_not_where_it_says_is_told_of_as_refused(start: Start, said: str) -> None:
    one, two = start(), start(said=said)
    with closing(Split(agent=one, door=two)) as service:
        with pytest.raises(UnauthorisedError, match="refused our key") as caught:
            Client.open([service.address], TOKEN).close()
        assert ("several agents" in caught.value.hint) is said.startswith("127")
    assert one.calls == two.calls == []


def test_agents_that_do_not_know_of_addresses_and_those_that_do_understand_each_other() -> None:
    new = Iam(1, "i", "n", "k", (1, 1), "v", b"s", "admin", b"a", b"c", "10.0.0.5:7421")
    old = msgspec.msgpack.decode(encode(new))[:-1]
    assert decode(msgspec.msgpack.encode(old)) == msgspec.structs.replace(new, address="")


def test_who_serves_the_door_without_being_a_member_gets_no_session(start: Start) -> None:
    other = ClusterKeys.found()
    forged = replace(other, issuer=CLUSTER.issuer)
    for issuer in (other, forged):
        middle = start(issuer=issuer)
        with pytest.raises(UnauthorisedError, match="does not prove to be a member"):
            Client.open([middle.address], TOKEN)
        assert middle.calls == []
    with pytest.raises(UnreachableError, match="not a member of its cluster yet"):
        Client.open([start(issuer=replace(CLUSTER, issuer_secret=b"")).address], TOKEN)


def test_a_call_that_an_agent_may_not_answer_is_asked_where_it_says_and_no_further(start: Start) -> None:
    worker, able = start(), start()
    client = Client.open([worker.address], TOKEN)
    assert client.call("submit", {"ask": [able.address]})["by"] == able.address
    assert client.address == able.address
    client.close()
    client = Client.open([worker.address], TOKEN)
    with pytest.raises(UnauthorisedError, match="may not"):
        client.call("submit", {"ask": ["127.0.0.1:1"]})
    client.close()
    assert worker.calls == ["submit"] * 3


def test_an_agent_that_dies_during_the_handshake_is_lost_and_has_refused_nobody() -> None:
    context = zmq.Context()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours, theirs = NodeKeys.new().curve, NodeKeys.new().curve
        link = Link(context, format_address(*server.getsockname()), ours, theirs.public)
        connection, _ = server.accept()
    connection.close()
    try:
        with pytest.raises(LostError):
            link.receive(time.monotonic() + 2.0)
    finally:
        link.close()
        context.destroy(linger=0)


def test_a_foreign_protocol_is_refused_by_name(start: Start) -> None:
    agent = start(protocol=(7, 9))
    with pytest.raises(UsageError, match="protocol 7 to 9"):
        Client.open([agent.address], TOKEN)


def test_addresses_that_do_not_answer_are_passed_over(start: Start) -> None:
    agent = start()
    client = Client.open(["127.0.0.1:9", "localhost:9", agent.address.replace("127.0.0.1", "localhost")], TOKEN)
    assert client.call("get", {}) == {"by": agent.address}
    client.close()
