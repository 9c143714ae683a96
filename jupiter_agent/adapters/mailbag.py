"""Frames that leave together: what one turn of the loop has for a peer is one frame on its session (DESIGN.md 121).

A frame costs its sender and its receiver more than what is in it: a system call, an encryption, a turn of both loops.
Whatever a turn says to one peer leaves at the end of the turn, in order. A word that nobody waits for (a receipt, a
report) may wait `PATIENCE_S` for company. What is not for the bag (pings, answers, chunks) leaves at once, behind what
is in it for the same peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import (
    MANY_FRAMES,
    Copied,
    Copy,
    Finished,
    Many,
    Parcel,
    ParcelReceived,
    Registers,
    RunStarted,
    TaskReport,
)
from jupiter_agent.core.wire import encode

PATIENCE_S = 0.02
SMALL_BYTES = 64 * 1024
"""Larger frames leave by themselves"""
FULL_BYTES = 256 * 1024

TOGETHER: frozenset[type[Message]] = frozenset(
    {Parcel, ParcelReceived, RunStarted, Registers, Finished, TaskReport, Copy, Copied}
)
PATIENT: frozenset[type[Message]] = frozenset({ParcelReceived, Finished, TaskReport})
"""Of these the ones that nobody waits for"""


class _Bag:
    __slots__ = ("frames", "size", "timer")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None


class Mailbag:
    """`send` hands one frame for a peer to the transport."""

    def __init__(self, send: Callable[[str, bytes], None]) -> None:
        self._send = send
        self._bags: dict[str, _Bag] = {}
        self._leaving: dict[str, None] = {}
        """peers whose bags leave at the end of this turn"""

    def put(self, dst: str, message: Message, frame: bytes) -> None:
        """Have it sent: with others, or by itself."""
        if type(message) not in TOGETHER or len(frame) > SMALL_BYTES:
            self.flush(dst)
            self._send(dst, frame)
            return
        bag = self._bags.get(dst) or self._bags.setdefault(dst, _Bag())
        bag.frames.append(frame)
        bag.size += len(frame)
        if bag.size >= FULL_BYTES or len(bag.frames) >= MANY_FRAMES:
            self.flush(dst)
        elif type(message) not in PATIENT:
            if not self._leaving:
                asyncio.get_running_loop().call_soon(self._flush_leaving)
            self._leaving[dst] = None
        elif bag.timer is None:
            bag.timer = asyncio.get_running_loop().call_later(PATIENCE_S, self.flush, dst)

    def flush(self, dst: str) -> None:
        """Send what is there for this peer."""
        bag = self._bags.pop(dst, None)
        if bag is None:
            return
        if bag.timer is not None:
            bag.timer.cancel()
        self._send(dst, bag.frames[0] if len(bag.frames) == 1 else encode(Many(bag.frames)))

    def close(self) -> None:
        """Send all there is."""
        for dst in list(self._bags):
            self.flush(dst)

    def _flush_leaving(self) -> None:
        leaving, self._leaving = self._leaving, {}
        for dst in leaving:
            self.flush(dst)
