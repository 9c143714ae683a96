"""Asking a resolver and a port without holding up the loop (apart from `ports`, which programs without a loop use).

A resolver that is not there keeps its asker waiting for most of a minute, and nothing can end that. So it is asked in
daemon threads: the loop's executor would be waited for at the end, and an agent that has left could not exit.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from concurrent.futures import Future

from jupiter_agent.adapters.ports import format_address, numeric, parse_address
from jupiter_agent.errors import UsageError

MOST_ASKED = 8
"""names at once"""
THREAD = "resolver"


class _Asker:
    """Asks for each name once at a time, for all who wait for it; a thread goes when nothing is left to ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waited_for: dict[str, Future[list[str]]] = {}
        self._queue: deque[str] = deque()
        self._threads = 0

    def ask(self, host: str) -> Future[list[str]]:
        """Its addresses, once they are there."""
        with self._lock:
            found = self._waited_for.get(host)
            if found is None:
                found = self._waited_for[host] = Future()
                found.set_running_or_notify_cancel()  # one who waits no more takes it from nobody
                self._queue.append(host)
                if self._threads < MOST_ASKED:
                    self._start(host)
        return found

    def _start(self, host: str) -> None:
        try:
            threading.Thread(target=self._work, name=THREAD, daemon=True).start()
        except RuntimeError as error:
            if not self._threads:
                self._queue.clear()
                del self._waited_for[host]
                raise OSError(str(error)) from error
        else:
            self._threads += 1

    def _work(self) -> None:
        while host := self._next():
            found, error = _addresses(host)
            with self._lock:
                answer = self._waited_for.pop(host)
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

    def _next(self) -> str:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._threads -= 1
            return ""


def _addresses(host: str) -> tuple[list[str], OSError | None]:
    try:
        return [str(place[0]) for *_, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)], None
    except OSError as error:
        return [], error
    except ValueError as error:  # no name at all: a label that is too long, a zero in it
        return [], OSError(str(error))


_asker = _Asker()


async def resolve(address: str) -> list[str]:
    """The numeric forms of an address, asking the resolver off the loop. OSError (unknown name) or UsageError."""
    known = numeric(address)
    if known is not None:
        return [known]
    host, port = parse_address(address)
    return [format_address(place, port) for place in await asyncio.wrap_future(_asker.ask(host))]


async def tcp_outcome(address: str, limit_s: float) -> str:
    """One plain TCP connect: open, refused or timeout (anything else that kept it from opening counts as timeout)."""
    loop = asyncio.get_running_loop()
    outcome = "timeout"
    try:
        async with asyncio.timeout(limit_s):
            for place in await resolve(address):
                try:
                    transport, _ = await loop.create_connection(asyncio.Protocol, *parse_address(place))
                except OSError as error:
                    outcome = "refused" if isinstance(error, ConnectionRefusedError) else "timeout"
                else:
                    transport.abort()
                    return "open"
    except (OSError, UsageError):
        return "timeout"
    return outcome
