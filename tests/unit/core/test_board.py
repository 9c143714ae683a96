import itertools

import msgspec
import pytest

from jupiter_agent.core.board import KEYS_PER_OWNER, Board, from_data, to_data
from jupiter_agent.core.messages.membership import VALUE_BYTES, Value
from jupiter_agent.errors import CapacityError, PeerError


def value(key: str, boot: int, version: int, **content: object) -> Value:
    return Value("node", key, boot, version, to_data(content))


def take(board: Board, *values: Value) -> None:
    for one in values:
        if board.lacks(one.owner, one.key, one.boot, one.version):
            board.put(one)


def test_get_and_items_give_the_newest_values():
    board = Board()
    take(board, value("a", 1, 1, x=1), value("a", 1, 2, x=2), value("a", 1, 1, x=1))
    assert board.get("node", "a") == {"x": 2}
    assert board.items("a") == {"node": {"x": 2}}
    assert board.get("node", "b") is None
    assert board.items("b") == {}


def test_values_of_an_earlier_boot_disappear_with_the_first_of_a_later_one():
    board = Board()
    take(board, value("a", 1, 5), value("b", 1, 5), value("a", 2, 1, x=1), value("b", 1, 9))
    assert board.versions("node") == (2, {"a": 1})
    assert board.get("node", "b") is None


def test_the_order_of_arrival_does_not_matter():
    values = [value("a", 1, 1, x=1), value("a", 1, 2, x=2), value("b", 2, 1, x=3), value("b", 1, 7, x=4)]
    results = set()
    for order in itertools.permutations(values):
        board = Board()
        take(board, *order, *order)
        results.add((repr(board.versions("node")), repr(board.get("node", "b"))))
    assert len(results) == 1


def test_an_owner_has_so_many_keys_and_no_more():
    board = Board()
    take(board, *(value(f"k{i}", 1, 1) for i in range(KEYS_PER_OWNER)))
    with pytest.raises(PeerError):
        board.put(value("one more", 1, 1))
    board.put(value("k0", 1, 2))


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91\x01", b"\x81\x01\x02", b"\x91" * 2000, b"\x81\xa1\xff\x01"])
def test_only_a_map_with_text_keys_is_a_value(data):
    with pytest.raises(PeerError):
        from_data(data)


def test_a_value_over_the_limit_is_not_published():
    with pytest.raises(CapacityError):
        to_data({"x": b"y" * VALUE_BYTES})


def test_a_dropped_node_leaves_nothing():
    board = Board()
    take(board, value("a", 1, 1))
    board.drop("node")
    assert board.versions("node") == (0, {})
    assert board.signed("node", "a") is None
    assert board.version("node", "a") == (0, 0)


def test_values_survive_the_wire():
    one = value("a", 1, 1, x=[1, 2.5, "z", None, {"deep": True}])
    assert from_data(msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Value).data)["x"][4] == {"deep": True}
