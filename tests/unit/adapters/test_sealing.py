import logging

import pytest
from zmq.utils import z85

from jupiter_agent.adapters.keys import NodeKeys
from jupiter_agent.adapters.sealing import NodeSealer


def test_only_the_two_ends_can_open_what_one_sealed_for_the_other():
    one, two, three = (NodeKeys.new() for _ in range(3))
    sealed = NodeSealer(one.curve).seal(two.curve.public, b"data")
    assert NodeSealer(two.curve).unseal(one.curve.public, sealed) == b"data"
    assert NodeSealer(three.curve).unseal(one.curve.public, sealed) is None
    assert NodeSealer(two.curve).unseal(three.curve.public, sealed) is None


def test_anything_changed_or_too_short_is_opened_to_none():
    one, two = NodeKeys.new(), NodeKeys.new()
    sealed = NodeSealer(one.curve).seal(two.curve.public, b"data")
    opener = NodeSealer(two.curve)
    for at in range(len(sealed)):
        assert opener.unseal(one.curve.public, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]) is None
        assert opener.unseal(one.curve.public, sealed[:at]) is None
    assert opener.unseal("not a key", sealed) is None


def test_the_same_text_is_never_sealed_alike():
    one, two = NodeKeys.new(), NodeKeys.new()
    sealer = NodeSealer(one.curve)
    assert sealer.seal(two.curve.public, b"data") != sealer.seal(two.curve.public, b"data")


@pytest.mark.parametrize("key", ["~" * 40, "#" * 40, "é" * 40, "", "short", z85.encode(bytes(32)).decode()])
def test_for_what_is_no_key_nothing_is_sealed_and_nothing_raised_and_it_is_said_once(key, caplog):
    sealer = NodeSealer(NodeKeys.new().curve)
    with caplog.at_level(logging.WARNING, "jupiter"):
        assert [sealer.seal(key, b"data") for _ in range(3)] == [b"", b"", b""]
        assert sealer.unseal(key, b"x" * 64) is None
    assert sealer.counters == {"unsealable": 3}
    assert len(caplog.records) == 1
