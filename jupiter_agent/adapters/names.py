"""Discovery by name: one HOST:PORT that stands for many addresses, as a headless Service or a round-robin name does.

The machine asks for each name again in every round (`LookUp`); the resolver is asked off the loop, one question per
name at a time. A name that is not known (yet) is nothing but a line in the log: the machine will ask again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from jupiter_agent.adapters.reaching import resolve
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.core.membership.seeds import MOST
from jupiter_agent.errors import UsageError

SOURCE = "dns"
LIMIT_S = 8.0

log = logging.getLogger("jupiter")

Resolver = Callable[[str], Awaitable[list[str]]]
"""HOST:PORT -> IP:PORT of all addresses; OSError, UnicodeError or UsageError when there is none."""


class Names:
    """Looks names up, and posts what they stand for."""

    def __init__(
        self,
        post: Callable[[SeedsFound], None],
        resolver: Resolver = resolve,
        on_answer: Callable[[str, bool], None] = lambda name, known: None,
    ) -> None:
        """`on_answer`: told each time whether a name has addresses."""
        self.counters: Counter[str] = Counter()
        self._on_answer = on_answer
        self._post, self._resolver = post, resolver
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._unknown: set[str] = set()

    def look_up(self, name: str) -> None:
        if name not in self._asking:
            task = asyncio.get_running_loop().create_task(self._ask(name))
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))

    async def _ask(self, name: str) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                found = sorted(set(await self._resolver(name)))
        except (OSError, UnicodeError, UsageError) as error:  # TimeoutError is an OSError
            self.counters["dns_failed"] += 1
            self._on_answer(name, False)
            if name not in self._unknown:
                self._unknown.add(name)
                log.warning("the name %s has no address yet: %s", name, str(error) or "no answer")
            return
        if name in self._unknown:
            self._unknown.discard(name)
            log.info("the name %s has %d addresses now", name, len(found))
        self._on_answer(name, True)
        self.counters["dns_dropped"] += max(0, len(found) - MOST)
        self._post(SeedsFound(tuple(Hint(address, SOURCE) for address in found[:MOST])))

    def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
