"""What strangers and broken peers can do to the ports of an agent: little, and it is counted."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import zmq
from raw_curve import GREETING, RawClient
from transport_rigs import Node, ZmqRig, introduce, new_pair

from jupiter_agent.adapters.curve import SESSION_HEARTBEAT_S, STALLED_S, CurvePair, bind_join
from jupiter_agent.adapters.joining import BURST, JOIN_FRAME_BYTES, SOURCE_BURST
from jupiter_agent.adapters.ports import join_address, parse_address
from jupiter_agent.adapters.sessions import GOODBYE
from jupiter_agent.errors import UsageError


@pytest.fixture
def rig() -> Iterator[ZmqRig]:
    world = ZmqRig()
    yield world
    world.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    found: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield found
    found.destroy(linger=0)


def still_serves(rig: ZmqRig, node: Node) -> None:
    """A member nobody has seen before gets through, and gets an answer, in reasonable time."""
    other = rig.node(f"late{time.monotonic_ns()}")
    introduce(node, other)
    before = len(node.frames())
    other.send(node, b"are you well?")
    rig.run(lambda: len(node.frames()) == before + 1, 3.0)
    node.send(other, b"yes")
    rig.run(lambda: other.frames() == [b"yes"], 3.0)


def dealer(
    context: zmq.Context[zmq.Socket[bytes]], address: str, pair: CurvePair, server_key: str
) -> zmq.Socket[bytes]:
    """A peer with the right keys and manners of its own."""
    sock = context.socket(zmq.DEALER)
    sock.linger = 0
    sock.reconnect_ivl = 50
    sock.curve_publickey, sock.curve_secretkey = pair.public.encode(), pair.secret.encode()
    sock.curve_serverkey = server_key.encode()
    sock.connect("tcp://" + address)
    return sock


def count(node: Node, name: str) -> int:
    return node.transport.counters().get(name, 0)


@pytest.mark.smoke
def test_garbage_and_plain_http_on_both_ports_are_counted_and_the_agent_serves_on(rig: ZmqRig) -> None:
    a = rig.node("a")
    for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096), b"\xff" + b"\0" * 8 + b"\x7f", b"\0" * 100):
        for address in (a.address, join_address(a.address)):
            with socket.create_connection(parse_address(address), 2) as stranger:
                stranger.sendall(text)
                rig.run_for(0.02)
    rig.run(lambda: count(a, "handshakes_failed") >= 4, 5.0)
    still_serves(rig, a)


def test_connections_that_say_nothing_are_ended_and_do_not_keep_others_out(rig: ZmqRig) -> None:
    a = rig.node("a")
    silent = [socket.create_connection(parse_address(a.address), 2) for _ in range(40)]
    still_serves(rig, a)
    rig.run(lambda: count(a, "handshakes_failed") >= 40, 6.0)
    for stranger in silent:
        stranger.settimeout(2)
        while stranger.recv(100):  # the greeting of libzmq, then the end
            pass
        stranger.close()


@pytest.mark.smoke
def test_a_client_without_curve_is_not_let_in(rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a = rig.node("a")
    sock = context.socket(zmq.DEALER)
    sock.linger = 0
    sock.connect("tcp://" + a.address)
    sock.send(b"hello", zmq.NOBLOCK)
    rig.run_for(0.5)
    assert a.told == []
    still_serves(rig, a)


def test_an_unknown_key_is_refused_and_counted(rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a = rig.node("a")
    sock = dealer(context, a.address, new_pair(), a.pair.public)
    sock.send(b"hello")
    rig.run(lambda: count(a, "dropped_unknown_key"), 3.0)
    assert a.told == []


def test_our_own_oversize_frame_is_dropped_and_counted_and_the_session_lives(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.send(b, b"x" * ((1 << 20) + 1))
    a.send(b, b"y" * (1 << 20))
    rig.run(lambda: b.frames() == [b"y" * (1 << 20)])
    assert count(a, "dropped_oversize") == 1


def test_a_member_that_keeps_sending_oversize_frames_is_banned(
    rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a, pair = rig.node("a"), new_pair()
    a.do("learn", "broken", "127.0.0.1:9", pair.public)
    sock = dealer(context, a.address, pair, a.pair.public)

    def loops() -> int:
        try:
            sock.send(b"x" * (2 << 20), zmq.NOBLOCK)  # libzmq ends the connection, the sender reconnects
        except zmq.Again:
            pass
        return count(a, "bans")

    rig.run(loops, 10.0)
    rig.run(lambda: count(a, "dropped_banned"), 10.0)
    assert a.frames() == []
    still_serves(rig, a)


class Pouring(threading.Thread):
    """Parts of a message that never ends, from a connection of its own, until it is cut."""

    def __init__(self, address: str, pair: CurvePair, server_key: str, whole_first: bool) -> None:
        super().__init__(daemon=True)
        self._to, self._pair, self._key, self._whole_first = parse_address(address), pair, server_key, whole_first
        self.poured = 0
        self.cut = False
        self.start()

    def run(self) -> None:
        try:
            client = RawClient(self._to, self._pair, self._key)
            if self._whole_first:
                client.send(b"a whole one", more=False)
            while self.poured < 1 << 30:
                client.send(b"x" * 60_000, more=True)
                self.poured += 60_000
        except (OSError, AssertionError):
            self.cut = True


def test_a_message_without_end_is_cut_and_its_sender_kept_out(rig: ZmqRig) -> None:
    a, pair, good = rig.node("a"), new_pair(), rig.node("good")
    a.do("learn", "endless", "127.0.0.1:9", pair.public)
    introduce(a, good)
    good.do("connect", "a")
    first = Pouring(a.address, pair, a.pair.public, whole_first=True)
    rig.run(lambda: count(a, "dropped_endless") and a.heard("down", "endless", "lost"), 10.0)
    rig.run(lambda: first.cut, 10.0)
    again = Pouring(a.address, pair, a.pair.public, whole_first=True)
    rig.run(lambda: again.cut, 10.0)
    assert again.poured == 0
    assert count(a, "dropped_banned") >= 1
    assert a.frames() == [b"a whole one"]
    good.send(a, b"still here")
    rig.run(lambda: b"still here" in a.frames())
    assert a.heard("down", "good") == 0


def test_a_message_without_end_is_cut_also_before_any_other_and_at_the_join_socket(rig: ZmqRig) -> None:
    a, pair = rig.node("a"), new_pair()
    a.do("learn", "endless", "127.0.0.1:9", pair.public)
    first = Pouring(a.address, pair, a.pair.public, whole_first=False)
    rig.run(lambda: first.cut, 10.0)
    door = Pouring(join_address(a.address), rig.access.join_client, rig.access.join_server.public, whole_first=False)
    rig.run(lambda: door.cut, 10.0)
    assert count(a, "dropped_endless") == 2
    still_serves(rig, a)


def test_many_large_frames_in_a_row_are_no_message_without_end(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    for turn in range(12):
        a.send(b, bytes([turn]) * (1 << 20))
        b.send(a, bytes([turn]) * (1 << 20))
    time.sleep(1.2)  # the loop stands still meanwhile
    rig.run(lambda: len(b.frames()) == 12 and len(a.frames()) == 12)
    rig.run_for(2.5)
    assert count(a, "dropped_endless") == count(b, "dropped_endless") == 0
    assert a.heard("down") == b.heard("down") == 0


def test_no_port_says_more_than_it_was_told_to_who_has_not_shown_a_key(rig: ZmqRig) -> None:
    """A TCP handshake has proven the address by then; still nothing is multiplied."""
    a = rig.node("a")
    hello = b"\x04\xc8\x05HELLO\x01\x00" + os.urandom(192)
    for address in (a.address, join_address(a.address)):
        for said in (GREETING, GREETING + hello, GREETING + os.urandom(200), os.urandom(300)):
            with socket.create_connection(parse_address(address), 2) as stranger:
                stranger.sendall(said)
                rig.run_for(0.3)
                stranger.setblocking(False)
                told = b""
                try:
                    while more := stranger.recv(65536):
                        told += more
                except (BlockingIOError, ConnectionError):
                    pass
            assert len(told) <= len(said), address


@pytest.mark.smoke
def test_frames_of_several_parts_are_dropped_and_counted(rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a, pair = rig.node("a"), new_pair()
    a.do("learn", "odd", "127.0.0.1:9", pair.public)
    sock = dealer(context, a.address, pair, a.pair.public)
    sock.send_multipart([b"one", b"two", b"three"])
    sock.send_multipart([b"", b"no such word"])
    sock.send(b"good")
    rig.run(lambda: a.frames() == [b"good"])
    assert count(a, "dropped_garbage") == 2


def test_the_self_chosen_identity_of_a_connection_gives_nothing(
    rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a, b, pair = rig.node("a"), rig.node("b"), new_pair()
    introduce(a, b)
    a.do("learn", "odd", "127.0.0.1:9", pair.public)
    sock = context.socket(zmq.DEALER)
    sock.linger = 0
    sock.routing_id = b"b"
    sock.curve_publickey, sock.curve_secretkey = pair.public.encode(), pair.secret.encode()
    sock.curve_serverkey = a.pair.public.encode()
    sock.connect("tcp://" + a.address)
    sock.send(b"I am b")
    rig.run(lambda: a.heard("frame"))
    assert a.told == [("up", "odd"), ("frame", "odd", b"I am b")]


def test_a_flood_from_one_member_starves_neither_timers_nor_other_members(
    rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a, b, pair = rig.node("a"), rig.node("b"), new_pair()
    introduce(a, b)
    a.do("learn", "loud", "127.0.0.1:9", pair.public)
    sock = dealer(context, a.address, pair, a.pair.public)
    worst, end = 0.0, time.monotonic() + 1.0
    b.send(a, b"ping")
    while time.monotonic() < end:
        try:
            for _ in range(200):
                sock.send(b"x" * 100, zmq.NOBLOCK)
        except zmq.Again:
            pass
        last = time.thread_time()  # of the processor: what other processes take is no matter
        rig.run_for(0.001)
        worst = max(worst, time.thread_time() - last)
    assert ("frame", "b", b"ping") in a.told
    assert worst < 0.25
    assert count(a, "frames_in") > 1000


def test_an_operator_is_a_client_that_is_answered_and_never_reported(
    rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a = rig.node("a")
    sock = dealer(context, a.address, rig.access.operator, a.pair.public)
    sock.send(b"call")
    rig.run(lambda: a.frames() == [b"call"])
    client = a.told[0][1]
    assert a.told == [("frame", client, b"call")]
    assert client.startswith("client:")
    a.do("send", client, b"answer")
    rig.run(lambda: sock.poll(0))
    assert sock.recv() == b"answer"
    sock.close()
    rig.run(lambda: count(a, "sessions") == 0)
    a.do("send", client, b"gone")
    assert count(a, "dropped_unknown") == 1
    assert a.heard("up") == a.heard("down") == 0


def test_a_goodbye_ends_a_session_as_closed(rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a, pair = rig.node("a"), new_pair()
    a.do("learn", "b", "127.0.0.1:9", pair.public)
    sock = dealer(context, a.address, pair, a.pair.public)
    sock.send(b"hi")
    sock.send_multipart([b"", GOODBYE])
    rig.run(lambda: a.heard("down"))
    assert a.told == [("up", "b"), ("frame", "b", b"hi"), ("down", "b", "closed")]


class Relay:
    """A network path in between that can go silent: what is sent on it arrives nowhere, and nothing says so."""

    def __init__(self, rig: ZmqRig, target: str) -> None:
        self._target = parse_address(target)
        self._paths: list[asyncio.Task[None]] = []
        server = rig.loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        loop = asyncio.get_running_loop()
        self._paths += [loop.create_task(self._pass(*way)) for way in ((reader, far_writer), (far_reader, writer))]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    def silence(self) -> None:
        """What is open now passes nothing any more; new connections work."""
        for path in self._paths:
            path.cancel()


def test_a_session_that_went_silent_is_reopened_not_waited_for(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    relay = Relay(rig, b.address)
    a.learn(b, address=relay.address)
    b.learn(a)
    a.do("connect", "b")
    rig.run(lambda: a.heard("up") and b.heard("up"))
    relay.silence()
    rig.run(lambda: a.heard("down", "b", "lost"), SESSION_HEARTBEAT_S + STALLED_S + 1.0)
    rig.run(lambda: a.heard("up") == 2, 2.0)
    a.send(b, b"back")
    rig.run(lambda: b.frames() == [b"back"])
    rig.run(lambda: count(b, "sessions") == 1, 2 * SESSION_HEARTBEAT_S + 1.0)  # the silent one ends at this side too


def test_few_sessions_are_kept_open_on_demand_and_the_stalest_goes_first(rig: ZmqRig) -> None:
    a = rig.node("a")
    others = [rig.node(f"n{number}") for number in range(6)]
    introduce(a, *others)
    for other in others:
        a.send(other, b"hi")
        rig.run(other.frames)
    rig.run(lambda: a.heard("down", "n0", "closed") and a.heard("down", "n1", "closed"), 0.3)
    assert count(a, "sessions") == 4


def test_each_session_costs_one_descriptor(rig: ZmqRig) -> None:
    a = rig.node("a")
    others = [rig.node(f"n{number}") for number in range(8)]
    introduce(a, *others)
    before = len(os.listdir("/proc/self/fd"))
    for other in others:
        a.do("connect", other.name)
    rig.run(lambda: a.heard("up") == 8)
    rig.run_for(0.1)
    assert len(os.listdir("/proc/self/fd")) - before == 2 * 8  # both ends live in this process


# --- the join socket -------------------------------------------------------------------------------------------


def test_holders_of_the_join_secret_are_answered(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    answers: list[tuple[bytes | None, str]] = []
    b.do("join_request", a.address, b"let me in", lambda frame, error: answers.append((frame, error)))
    rig.run(lambda: answers)
    assert answers == [(b"answer to let me in", "")]


def test_another_join_secret_is_told_from_nobody_there(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    stranger = ZmqRig()
    c = stranger.node("c")
    answers: list[tuple[bytes | None, str]] = []
    c.do("join_request", a.address, b"let me in", lambda frame, error: answers.append((frame, error)))
    rig.stop(b)
    c.do("join_request", b.address, b"let me in", lambda frame, error: answers.append((frame, error)))
    c.do("join_request", "no.such.host.invalid:1", b"", lambda frame, error: answers.append((frame, error)))
    for _ in range(100):
        stranger.run_for(0.02)
        rig.run_for(0.02)
        if len(answers) == 3:
            break
    stranger.close()
    assert sorted(answers, key=str) == [(None, "refused"), (None, "timeout"), (None, "unauthorised")]
    assert a.told == []


def test_a_member_key_does_not_open_the_join_socket(rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a, b = rig.node("a"), rig.node("b")
    introduce(a, b)
    sock = dealer(context, join_address(a.address), b.pair, rig.access.join_server.public)
    sock.send(b"hello")
    rig.run(lambda: count(a, "dropped_unknown_key"))
    assert a.told == []


def test_join_requests_are_rate_limited_and_small(rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a = rig.node("a")
    sock = dealer(context, join_address(a.address), rig.access.join_client, rig.access.join_server.public)
    for _ in range(int(BURST) * 3):
        sock.send(b"again")
    rig.run(lambda: count(a, "dropped_join_rate") > BURST)
    assert a.heard("join") < BURST * 2
    rig.run_for(0.2)
    before = a.heard("join")
    sock.send(b"x" * (JOIN_FRAME_BYTES * 2))
    rig.run_for(0.3)
    assert a.heard("join") == before
    still_serves(rig, a)


def test_a_flood_of_join_requests_from_one_address_keeps_no_other_out(
    rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a = rig.node("a")
    loud, quiet = (
        dealer(context, f"{source}:0;{join_address(a.address)}", rig.access.join_client, rig.access.join_server.public)
        for source in ("127.0.0.2", "127.0.0.3")
    )
    for _ in range(300):
        loud.send(b"again")
    rig.run(lambda: count(a, "dropped_join_rate") > SOURCE_BURST)
    quiet.send(b"let me in")
    rig.run(lambda: any(told[0] == "join" and told[-1] == b"let me in" for told in a.told))


def test_unknown_keys_from_one_address_leave_room_for_those_from_others(
    rig: ZmqRig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a, late = rig.node("a"), new_pair()
    crowd = [dealer(context, "127.0.0.2:0;" + a.address, new_pair(), a.pair.public) for _ in range(60)]
    rig.run(lambda: count(a, "dropped_unknown_key") > 10)
    sock = dealer(context, "127.0.0.3:0;" + a.address, late, a.pair.public)
    sock.send(b"my record is on its way")
    rig.run_for(0.1)
    a.do("learn", "late", "127.0.0.1:9", late.public)
    rig.run(lambda: a.frames() == [b"my record is on its way"], 3.0)
    assert len(crowd) == 60


# --- records that nobody can use ---------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("127.0.0.1:9", "~" * 40), ("127.0.0.1:9", "é" * 40), ("127.0.0.1:9", "#" * 40), ("127.0.0.1:9", ""),
        ("nonsense", ""), ("127.0.0.1:0", ""), ("[fe80::1%x y]:9", ""), ("x" * 250 + ":9", ""), ("a..b:9", ""),
    ],
)  # fmt: skip
def test_a_member_whose_key_or_address_is_none_is_unreachable_and_nothing_else(
    rig: ZmqRig, address: str, key: str
) -> None:
    a = rig.node("a")
    a.do("learn", "bad", address, key or new_pair().public)
    a.do("connect", "bad")
    a.do("send", "bad", b"lost")
    rig.run(lambda: a.heard("down", "bad"), 15.0)
    still_serves(rig, a)


def test_a_key_that_is_none_is_counted_and_said_once(rig: ZmqRig, caplog: pytest.LogCaptureFixture) -> None:
    a = rig.node("a")
    with caplog.at_level("WARNING", "jupiter"):
        a.do("learn", "bad", "127.0.0.1:9", "~" * 40)
        a.do("connect", "bad")
        rig.run(lambda: count(a, "dials_without_key") >= 2)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["member bad cannot be dialled"]


def test_whoever_has_anothers_key_in_its_record_takes_nothing_from_it_not_even_when_banned(
    rig: ZmqRig, caplog: pytest.LogCaptureFixture
) -> None:
    victim, alice = rig.node("victim"), rig.node("alice")
    introduce(victim, alice)
    with caplog.at_level("WARNING", "jupiter"):
        victim.do("learn", "mallory", alice.address, alice.pair.public)
        victim.do("learn", "mallory", alice.address, alice.pair.public)
    assert (count(victim, "keys_of_others"), len(caplog.records)) == (1, 1)
    alice.send(victim, b"I am alice")
    rig.run(lambda: victim.heard("frame", "alice", b"I am alice"))
    victim.do("connect", "mallory")
    rig.run(lambda: victim.heard("down", "mallory"))
    victim.do("ban", "mallory", 60.0)
    rig.run_for(0.2)
    alice.send(victim, b"again")
    rig.run(lambda: victim.heard("frame", "alice", b"again"))
    assert not victim.heard("up", "mallory")


def test_a_key_goes_to_the_next_that_has_it_when_its_first_is_forgotten(rig: ZmqRig) -> None:
    victim, alice = rig.node("victim"), rig.node("alice")
    victim.do("learn", "mallory", "127.0.0.1:9", alice.pair.public)
    introduce(victim, alice)
    victim.do("forget", "mallory")
    alice.send(victim, b"I am alice")
    rig.run(lambda: victim.heard("frame", "alice", b"I am alice"))


def test_frames_for_a_peer_that_moves_while_it_is_dialled_on_demand_reach_it_at_its_new_address(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    b.learn(a)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        a.learn(b, address=f"127.0.0.1:{silent.getsockname()[1]}")
        a.send(b, b"hello")
        rig.run_for(0.2)
        a.learn(b)
        rig.run(lambda: b.frames() == [b"hello"], 3.0)


def test_a_peer_with_a_new_address_is_dialled_at_once_although_another_try_was_due_later(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    b.learn(a)
    a.learn(b, address="127.0.0.1:9")
    a.do("connect", b.name)
    rig.run(lambda: a.heard("down", b.name) >= 4, 15.0)  # the next pause is one of 5 s
    a.learn(b)
    rig.run(lambda: a.heard("up", b.name), 2.0)


# --- ports -------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_refused_with_a_way_out(rig: ZmqRig) -> None:
    a, b = rig.node("a"), rig.node("b")
    rig.stop(b)
    b.address = a.address
    port = parse_address(a.address)[1]
    with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is taken") as caught:
        rig.restart(b)
    assert "--bind" in caught.value.hint
    b.address = f"127.0.0.1:{port - 1}"
    with pytest.raises(UsageError, match="is taken"):  # its join socket would not fit
        rig.restart(b)


def test_a_join_port_that_another_process_takes_in_a_rotation_is_said_once_and_taken_back_when_it_is_free(
    rig: ZmqRig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupiter_agent.adapters.joining.LET_GO_S", 0.2)
    monkeypatch.setattr("jupiter_agent.adapters.joining.REBIND_SELDOM_S", 0.1)
    a, taken = rig.node("a"), [True]
    monkeypatch.setattr("jupiter_agent.adapters.joining.bind_join", lambda *to: not taken and bind_join(*to))
    with caplog.at_level("INFO", "jupiter"):
        a.do("rekey", rig.access)
        rig.run_for(0.8)
        said = [record.getMessage() for record in caplog.records]
        taken.clear()
    port = parse_address(a.address)[1] + 1
    assert said == [f"nobody can join here: another process has taken port {port}"]
    answers: list[bytes | None] = []
    with caplog.at_level("INFO", "jupiter"):
        rig.run(lambda: "can join at port" in caplog.text)
    b = rig.node("b")
    b.do("join_request", a.address, b"let me in", lambda frame, error: answers.append(frame))
    rig.run(lambda: answers == [b"answer to let me in"])


def test_free_ports_are_chosen_below_the_ephemeral_range(rig: ZmqRig) -> None:
    ports = [parse_address(rig.node(name).address)[1] for name in "abcd"]
    assert len(set(ports)) == 4
    assert all(1024 < port < 32767 for port in ports)


def test_an_address_of_another_machine_cannot_be_bound(rig: ZmqRig) -> None:
    a = rig.node("a")
    rig.stop(a)
    for address in ("192.0.2.1:7000", "nonsense", "127.0.0.1:99999"):
        a.address = address
        with pytest.raises(UsageError):
            rig.restart(a)
