"""What no membership message may carry: it is refused while it is decoded, before any list of it is built."""

import msgspec
import pytest
from membership_rig import Peer

from jupiter_agent.core import wire
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages import membership as m
from jupiter_agent.errors import PeerError

RECORD = Peer("p").record


def changed(**changes: object) -> m.Record:
    return msgspec.structs.replace(RECORD, **changes)


def held(**changes: object) -> m.Held:
    return msgspec.structs.replace(m.Held("p", 1, 0, 0), **changes)


@pytest.mark.parametrize(
    "message",
    [
        m.Welcome(b"", b"", 1, [RECORD] * 1025),
        m.Welcome(b"x" * 1025, b"", 1, []),
        m.Welcome(b"", b"x" * 65, 1, []),
        m.News([RECORD] * 65, []),
        m.News([], [m.Claim(0, "a", 1, 0, "b")] * 65),
        m.News([], [m.Claim(0, "a", 1, 0, "b", b"x" * 65)]),
        m.News([changed(name="x" * 65)], []),
        m.News([changed(address="x" * 257)], []),
        m.News([changed(sign_key=b"x" * 65)], []),
        m.News([changed(curve_key="x" * 65)], []),
        m.News([changed(role="x" * 65)], []),
        m.News([changed(version="x" * 65)], []),
        m.News([changed(admission=b"x" * 1025)], []),
        m.News([changed(signature=b"x" * 65)], []),
        m.News([changed(boot=1 << 31)], []),
        m.Hello((1, 1), RECORD, True, 0, [held()] * 4097),
        m.Ping(0, True, True, 0, 0, [held()] * 1025),
        m.Ping(0, True, True, 0, 0, [held(keys={f"k{i}": 1 for i in range(65)})]),
        m.Ping(0, True, True, 0, 0, [held(id="x" * 65)]),
        m.Ack(0, 0, 0, [], [m.Want("p", True)] * 1025),
        m.Ack(0, 0, 0, [], [m.Want("p", True, ["k"] * 65)]),
        m.Range("", "", [held()] * 1025),
        m.Data([], [m.Value("p", "k", 1, 1, b"x" * 2049)]),
        m.Data([], [m.Value("p", "k", 1, 1, b"x", b"x" * 65)]),
        m.Data([RECORD] * 65, []),
        m.Refused("x" * 257),
        m.Refused("x", "x" * 1025),
        m.Iam(0, "x" * 65, "n", "k", (1, 1), "v"),
        m.Check("x" * 65),
        m.Relayed("a", "b", 5, b""),
        m.Relayed("a", "b", 4, b"x" * (m.RELAY_BYTES + 1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_over_its_limits_is_malformed(message: Message):
    with pytest.raises(PeerError, match=f"{wire.MALFORMED}|{wire.SENSELESS}"):
        wire.decode(msgspec.msgpack.encode(message))


@pytest.mark.parametrize(
    "message",
    [
        m.News([RECORD] * 64, [m.Claim(0, "a", 1, 0, "b", b"x" * 64)] * 64),
        m.Welcome(b"x" * 1024, b"x" * 32, 1, [RECORD] * 1024, b"x" * 32),
        m.Relayed("a", "b", 4, b"x" * m.RELAY_BYTES),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_at_its_limits_passes_and_fits_into_a_frame(message: Message):
    assert wire.decode(wire.encode(message)) == message
