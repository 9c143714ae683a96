"""Frames that leave together, on a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from jupiter_agent.adapters.mailbag import PATIENCE_S, SMALL_BYTES, Mailbag
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import (
    MANY_FRAMES,
    Finished,
    HomeVersion,
    JobUnknown,
    Many,
    Obj,
    Parcel,
    ParcelReceived,
)
from jupiter_agent.core.wire import MAX_BYTES, decode, encode


class Loop(asyncio.SelectorEventLoop):
    """Its time stands still until the test moves it."""

    now = 100.0

    def time(self) -> float:
        return self.now

    def turn(self, at: float | None = None) -> None:
        self.now = at or self.now
        self.call_soon(self.stop)
        self.run_forever()


def receipt(n: int = 1) -> ParcelReceived:
    return ParcelReceived("j", f"i{n}", "a", "b", b"s", {}, 1)


def parcel(n: int = 1, size: int = 1) -> Parcel:
    return Parcel("j", f"i{n}", "a", "b", b"s", {}, [Obj("f", b"d" * 32, size, b"x" * size)])


class Rig:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.left: list[tuple[str, list[Message]]] = []
        self.mail = Mailbag(self._send)

    def _send(self, dst: str, frame: bytes) -> None:
        assert len(frame) <= MAX_BYTES
        message = decode(frame)
        self.left.append((dst, [decode(each) for each in message.frames] if isinstance(message, Many) else [message]))

    def put(self, *messages: Message, dst: str = "n2") -> None:
        def later() -> None:
            for message in messages:
                self.mail.put(dst, message, encode(message))

        self.loop.call_soon(later)

    def sent(self, at: float | None = None, turns: int = 2) -> list[tuple[str, list[Message]]]:
        for _ in range(turns):
            self.loop.turn(at)
        left, self.left = self.left, []
        return left


@pytest.fixture
def rig() -> Iterator[Rig]:
    loop = Loop()
    yield Rig(loop)
    loop.close()


def test_what_a_turn_says_to_one_peer_leaves_as_one_frame_in_order(rig: Rig) -> None:
    rig.put(parcel(1), receipt(2), parcel(3))
    rig.put(parcel(4), dst="n3")
    assert rig.sent() == [("n2", [parcel(1), receipt(2), parcel(3)]), ("n3", [parcel(4)])]


def test_a_message_alone_is_a_frame_as_it_always_was(rig: Rig) -> None:
    rig.put(parcel(1))
    assert rig.sent() == [("n2", [parcel(1)])]


def test_receipts_wait_for_company_and_not_for_long(rig: Rig) -> None:
    rig.put(receipt(1))
    assert rig.sent() == []
    rig.put(receipt(2))
    assert rig.sent(rig.loop.now + PATIENCE_S / 2) == []
    assert rig.sent(rig.loop.now + PATIENCE_S) == [("n2", [receipt(1), receipt(2)])]
    assert rig.sent(rig.loop.now + 10.0) == []


def test_receipts_go_with_the_next_thing_that_is_sent_there(rig: Rig) -> None:
    rig.put(receipt(1))
    rig.sent()
    rig.put(parcel(2))
    assert rig.sent() == [("n2", [receipt(1), parcel(2)])]


@pytest.mark.parametrize("message", [JobUnknown("j"), parcel(9, SMALL_BYTES)])
def test_what_is_not_for_the_bag_leaves_at_once_behind_what_is_in_it(rig: Rig, message: Message) -> None:
    rig.put(parcel(1), receipt(2), message, parcel(3))
    assert rig.sent() == [("n2", [parcel(1), receipt(2)]), ("n2", [message]), ("n2", [parcel(3)])]


def test_a_full_bag_leaves_at_once(rig: Rig) -> None:
    rig.put(*[receipt(n) for n in range(MANY_FRAMES + 1)])
    [(_, first)] = rig.sent()
    assert len(first) == MANY_FRAMES
    rig.put(*[parcel(n, 50_000) for n in range(20)])
    assert [len(messages) for _, messages in rig.sent()] == [7, 6, 6, 2], "the receipt that was left goes first"


def test_at_the_end_all_leaves(rig: Rig) -> None:
    finished = Finished("j", HomeVersion(1, "h", 1), [])
    rig.put(receipt(1))
    rig.put(finished, dst="n3")
    close: Callable[[], None] = rig.mail.close
    rig.loop.call_soon(close)
    assert rig.sent() == [("n2", [receipt(1)]), ("n3", [finished])]
