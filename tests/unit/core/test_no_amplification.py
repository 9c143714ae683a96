"""Nobody is sent more than it sent, before it has shown a record that the cluster's issuer signed.

Addresses are proven by TCP before (tests/integration/test_zmq_hostile.py: no port says more than it was told to who has
not shown a key); here: what the machine answers to strangers, for messages of all kinds.
"""

from __future__ import annotations

import types
import typing
from random import Random
from typing import Any

import msgspec
import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core import events, wire
from jupiter_agent.core.effects import Send, TestPort
from jupiter_agent.core.messages.membership import Hello, Ping
from jupiter_agent.errors import PeerError

MANY = 60
KINDS = sorted(wire.MESSAGES.items(), key=lambda entry: entry[1].__name__)


def anything(hint: Any, rng: Random, words: list[str]) -> Any:
    """A value of this type, small as often as not."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return anything(args[0], rng, words)
    if origin in (typing.Union, types.UnionType):
        return anything(rng.choice(args), rng, words)
    if origin is list:
        return [anything(args[0], rng, words) for _ in range(rng.choice([0, 1, 2]))]
    if origin is dict:
        return {anything(args[0], rng, words): anything(args[1], rng, words) for _ in range(rng.choice([0, 1]))}
    if origin is tuple:
        return [anything(arg, rng, words) for arg in args if arg is not Ellipsis]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint, include_extras=True)
        fields = {name: anything(hints[name], rng, words) for name in hint.__struct_fields__}
        return list(fields.values()) if hint.__struct_config__.array_like else fields
    plain = {bool: [False, True], int: [0, 1, 2], float: [0.0, 0.5], bytes: [b"", b"x" * 32], str: words}
    return rng.choice(plain.get(hint, [None]))


def frame_of(tag: int, kind: type[msgspec.Struct], rng: Random, words: list[str]) -> bytes:
    hints = typing.get_type_hints(kind, include_extras=True)
    return msgspec.msgpack.encode([tag, *(anything(hints[name], rng, words) for name in kind.__struct_fields__)])


def answered(rig: Rig, src: str, frame: bytes) -> int:
    """Bytes sent to whoever sent this frame."""
    try:
        message = wire.decode(frame)
    except PeerError:
        return 0
    rig.clear()
    rig.event(events.Received(src, message))
    assert not rig.of(TestPort)
    return sum(len(wire.encode(send.message)) for send in rig.of(Send) if send.dst == src)


@pytest.mark.parametrize(("tag", "kind"), KINDS, ids=[kind.__name__ for _, kind in KINDS])
def test_a_stranger_is_answered_with_no_more_bytes_than_it_sent(tag: int, kind: type[msgspec.Struct]) -> None:
    rig, member, rng = Rig(), Peer("member"), Random(tag)
    rig.meet(member)
    for _ in range(MANY):
        frame = frame_of(tag, kind, rng, ["", member.id, rig.me.id, "stranger"])
        assert answered(rig, "stranger", frame) <= len(frame), wire.decode(frame)


def test_a_ping_is_answered_by_less_and_a_foreign_hello_without_a_true_record_by_nothing() -> None:
    rig, one, two = Rig(), Peer("one"), Peer("two")
    ping = wire.encode(Ping(0, False, False, 0, 0))
    assert 0 < answered(rig, "stranger", ping) < len(ping)
    forged = msgspec.structs.replace(two.record, name="x", protocol=(7, 9))
    assert answered(rig, two.id, wire.encode(Hello((7, 9), forged, True, 0, []))) == 0
    hello = wire.encode(Hello((7, 9), one.sign(protocol=(7, 9)), True, 0, []))
    assert 0 < answered(rig, one.id, hello) < len(hello)
