import math

import msgspec
import pytest

from jupiter_agent.core import wire
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.control import Answer, Call
from jupiter_agent.core.messages.jobs import Chunk
from jupiter_agent.core.messages.links import Links
from jupiter_agent.core.messages.membership import Ack, Held, Ping
from jupiter_agent.errors import CapacityError, PeerError

PING = Ping(3, True, False, 7, 9, [Held("a" * 16, 1, 2, 0, {"resources": 4}, 1)])


def reason(frame: bytes) -> str:
    with pytest.raises(PeerError) as caught:
        wire.decode(frame)
    return caught.value.message


def pack(*parts: object) -> bytes:
    return msgspec.msgpack.encode(parts)


def test_a_message_survives_the_wire():
    assert wire.decode(wire.encode(PING)) == PING


def test_fields_added_by_a_newer_peer_are_ignored_and_missing_ones_get_their_default():
    assert wire.decode(pack(8, 1, 2, 3)) == Ack(1, 2, 3)
    assert wire.decode(pack(8, 1, 2, 3, [], [], "new field", 5)) == Ack(1, 2, 3)


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x90", b"\x93\x08\x01", pack(8, "x", 2, 3), pack("eight", 1), b"\x80"]
)
def test_garbage_is_malformed(frame):
    assert reason(frame) == wire.MALFORMED


def test_an_unknown_tag_has_its_own_reason():
    assert reason(pack(99, 1, 2)) == wire.UNKNOWN
    assert reason(pack(99, *range(20))) == wire.UNKNOWN


def test_an_oversize_frame_is_refused_before_it_is_looked_at_and_never_made():
    assert reason(bytes(wire.MAX_BYTES + 1)) == wire.OVERSIZE
    with pytest.raises(CapacityError):
        wire.encode(Chunk(b"", 0, 0, bytes(wire.MAX_BYTES)))


def test_deep_nesting_is_malformed_not_a_crash():
    assert reason(b"\x94\x3c\x01\xa1x\x81\xa1k" + b"\x91" * 5000 + b"\xc0") == wire.MALFORMED


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_float_is_ever_nan_or_infinite(number):
    assert reason(wire.encode(Call(1, "get", {"deep": [{"x": number}]}))) == wire.SENSELESS
    assert reason(wire.encode(Answer(1, 0, number))) == wire.SENSELESS
    assert reason(wire.encode(Links(1, {"n": (number, 1.0, 1)}))) == wire.MALFORMED


def test_sizes_offsets_and_seconds_are_never_negative():
    assert reason(wire.encode(Chunk(b"x", 5, -1, b""))) == wire.MALFORMED
    assert reason(wire.encode(Chunk(b"x", -5, 1, b""))) == wire.MALFORMED
    assert reason(wire.encode(Links(1, {"n": (-0.1, 1.0, 1)}))) == wire.MALFORMED
    assert reason(wire.encode(Ack(-1, 0, 0))) == wire.MALFORMED


def test_types_that_no_message_uses_are_refused_inside_untyped_places():
    timestamp, extension = b"\xd6\xff\x00\x00\x00\x01", b"\xd4\x05\x00"
    for value in (timestamp, extension):
        assert reason(b"\x94\x3c\x01\xa1x\x81\xa1k" + value) in {wire.MALFORMED, wire.SENSELESS}


def test_numbers_that_may_be_negative_pass_in_untyped_places():
    call = Call(1, "get", {"x": -3, "y": -0.5})
    assert wire.decode(wire.encode(call)) == call


def test_every_message_has_its_tag_in_its_own_range():
    ranges = {"membership": range(1, 30), "jobs": range(30, 60), "control": range(60, 90), "bulk": range(90, 100)}
    ranges |= dict.fromkeys(("supervision", "auction"), ranges["jobs"])
    ranges |= {"profiling": range(70, 80), "links": [44, 45, *range(70, 80)]}
    for tag, kind in wire.MESSAGES.items():
        assert tag in ranges[kind.__module__.rsplit(".", 1)[1]]
        assert issubclass(kind, Message)
