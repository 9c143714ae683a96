"""What a failed knock at a join socket says."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace

import zmq

from jupiter_agent.adapters.joining import JoinRequest, why_no_answer

AT = "tcp://127.0.0.1:7422"


def test_a_handshake_that_the_other_end_broke_off_means_a_wrong_secret():
    events = [(int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL), errno.EPIPE, AT), (int(zmq.EVENT_DISCONNECTED), 28, AT)]
    assert why_no_answer(events, 0.1) == "unauthorised"
    assert why_no_answer([(int(zmq.EVENT_HANDSHAKE_FAILED_AUTH), 400, AT)], 2.0) == "unauthorised"


def test_a_handshake_that_only_took_too_long_means_nothing_however_early_that_seems_to_be():
    events = [(int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL), errno.EAGAIN, AT), (int(zmq.EVENT_DISCONNECTED), 11, AT)]
    assert why_no_answer(events, 0.1) == "timeout"


def test_a_session_that_was_lost_after_its_handshake_says_nothing_of_secrets():
    assert why_no_answer([(int(zmq.EVENT_DISCONNECTED), 28, AT)], 0.1) == "timeout"


def test_a_handshake_that_the_other_end_broke_off_late_may_have_taken_it_too_long():
    assert why_no_answer([(int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL), errno.EPIPE, AT)], 3.0) == "timeout"


def test_a_connection_that_is_lost_before_the_first_word_is_no_answer(monkeypatch):
    context = zmq.Context()
    sock, monitor = context.socket(zmq.DEALER), context.socket(zmq.PAIR)  # nobody is at the other end of either

    async def outcome(address: str, limit_s: float) -> str:
        return "open"

    async def ask() -> tuple[bytes | None, str]:
        hub = SimpleNamespace(loop=asyncio.get_running_loop(), patience=1.0)
        request = JoinRequest(hub, None, "127.0.0.1:7421")
        monkeypatch.setattr("jupiter_agent.adapters.joining.tcp_outcome", outcome)
        monkeypatch.setattr(request, "_open", lambda address: (sock, monitor))
        return await request.ask(b"hello")

    assert asyncio.run(ask()) == (None, "timeout")
    context.destroy(linger=0)
