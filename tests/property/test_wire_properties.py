"""Whatever arrives becomes a message or a PeerError; nothing else is ever raised."""

import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from jupiter_agent.core import wire
from jupiter_agent.core.board import Board, from_data
from jupiter_agent.core.messages.membership import Ack, Claim, Data, Held, News, Ping, Value, Want
from jupiter_agent.errors import PeerError

REASONS = {wire.OVERSIZE, wire.MALFORMED, wire.UNKNOWN, wire.SENSELESS}

count = st.integers(0, 2**53 - 1)
name = st.text(max_size=16)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
held = st.builds(Held, name, count, count, st.integers(0, 3), st.dictionaries(name, count, max_size=3), count)
want = st.builds(Want, name, st.booleans(), st.lists(name, max_size=3))
claim = st.builds(Claim, st.integers(0, 5), name, count, count, name, st.binary(max_size=64))
value = st.builds(Value, name, name, count, count, st.binary(max_size=64), st.binary(max_size=64))
message = (
    st.builds(Ping, count, st.booleans(), st.booleans(), count, count, st.lists(held, max_size=3))
    | st.builds(Ack, count, count, count, st.lists(held, max_size=3), st.lists(want, max_size=3))
    | st.builds(News, st.just([]), st.lists(claim, max_size=3))
    | st.builds(Data, st.just([]), st.lists(value, max_size=3), st.lists(want, max_size=3), st.lists(held, max_size=3))
)


def decoded(frame: bytes) -> object:
    try:
        return wire.decode(frame)
    except PeerError as error:
        reason = error.message
    assert reason in REASONS
    return None


def floats_in(thing: object) -> list[float]:
    if isinstance(thing, float):
        return [thing]
    if isinstance(thing, dict):
        return [f for pair in thing.items() for part in pair for f in floats_in(part)]
    return [f for part in thing for f in floats_in(part)] if isinstance(thing, list | tuple) else []


@given(message)
@settings(max_examples=100)
def test_messages_survive_the_wire(one):
    assert wire.decode(wire.encode(one)) == one


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_a_message_or_a_peer_error(frame):
    decoded(frame)


@given(st.integers(0, 90), st.lists(plain, max_size=8))
@settings(max_examples=300)
def test_any_array_with_a_tag_is_a_message_with_finite_numbers_or_a_peer_error(tag, parts):
    found = decoded(msgspec.msgpack.encode([tag, *parts]))
    assert found is None or all(map(math.isfinite, floats_in(msgspec.to_builtins(found))))


@given(message, st.data())
@settings(max_examples=200)
def test_a_damaged_frame_is_a_message_or_a_peer_error(one, data):
    frame = bytearray(wire.encode(one))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    decoded(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


@given(st.binary(max_size=200) | plain.map(msgspec.msgpack.encode))
@settings(max_examples=200)
def test_any_published_bytes_are_a_small_dict_or_a_peer_error(data):
    try:
        assert isinstance(from_data(data), dict)
    except PeerError:
        pass


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(1, 3)), max_size=8), st.randoms())
@settings(max_examples=100)
def test_merging_values_commutes_and_may_be_repeated(versions, rng):
    values = [Value("node", key, boot, version, b"\x80") for key, boot, version in versions]
    shuffled = values * 2
    rng.shuffle(shuffled)
    boards = []
    for order in (values, shuffled):
        board = Board()
        for one in order:
            if board.lacks(one.owner, one.key, one.boot, one.version):
                board.put(one)
        boards.append(board.versions("node"))
    assert boards[0] == boards[1]
