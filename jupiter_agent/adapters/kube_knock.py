"""Which addresses that a cluster names are somebody's: knocked at before they become hints.

An address may be nobody's: of a pod that is just starting, or of one on a simulated node. The machine asks one seed at
a time and waits for each, so fifty such addresses would keep an agent alone for minutes. Here some are tried at once,
those not tried for longest first, at random; the first open ones are told. Who has enough company hears of the rest by
gossip.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

from jupiter_agent.adapters.ports import join_address, parse_address
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.errors import UsageError

SOURCE = "kube"
KNOCK_S, KNOCKS, ENOUGH = 1.0, 32, 8
"""How long one may take to open, how many are tried at once, how many are told"""
GREETING = b"\xff" + bytes(8) + b"\x7f"
"""The signature with which either side of a ZMTP connection begins; the bytes between say nothing"""
REPEAT_S = 30.0
"""Between rounds where there is company; the machine forgets what is not said again"""
AGAIN_S = (0.5, 15.0)
"""Between rounds where there is none; it doubles"""
EAGER_S, EAGER_AGAIN_S = 60.0, 2.0
"""At first the pause stays so short: agents of one deployment start in the same second, and were not there at the first
rounds"""

Knock = Callable[[str], Awaitable[bool]]
"""Whether somebody lets newcomers knock at this address"""


async def is_open(address: str) -> bool:
    """One plain TCP connect to the join socket, which greets at once. That the port opens says little: a proxy on the
    way, as service meshes have one in every pod, may take connections to anywhere."""
    greeting = b""
    with suppress(OSError, EOFError, UsageError):
        async with asyncio.timeout(KNOCK_S):
            reader, writer = await asyncio.open_connection(*parse_address(join_address(address)))
            try:
                writer.write(GREETING)  # what stands between may wait for who called to speak first
                greeting = await reader.readexactly(len(GREETING))
            finally:
                writer.transport.abort()
    return greeting[:1] == GREETING[:1] and greeting[-1:] == GREETING[-1:]


async def leads_to_agents(answer: Awaitable[list[str]], mine: str, knock: Knock) -> bool:
    """Whether what a resolver says of a Service's name is of agents: we are among them ourselves, or one opens. Where a
    search domain has a wildcard record, every name has an answer that is not."""
    try:
        async with asyncio.timeout(KNOCK_S):
            found = await answer
    except (OSError, UsageError):  # TimeoutError is an OSError
        return False
    return mine in found or any(await asyncio.gather(*map(knock, found[:ENOUGH])))


class Knocker:
    """`known`: the addresses as of now. Set `news` when there are others."""

    def __init__(
        self, known: Callable[[], list[str]], post: Callable[[SeedsFound], None], knock: Knock = is_open
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.news = asyncio.Event()
        self.rng = Random()
        self._known, self._post, self._knock = known, post, knock
        self._tried: dict[str, float] = {}
        self._open: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = None
        self._tried.clear()
        self._open.clear()

    async def _run(self) -> None:
        pause, eager_until = AGAIN_S[0], asyncio.get_running_loop().time() + EAGER_S
        while True:
            self.news.clear()
            found = await self._round()
            if found:
                self.counters["kube_found"] += len(found)
                self._post(SeedsFound(tuple(Hint(address, SOURCE) for address in found)))
            company = self._has_company()
            longest = EAGER_AGAIN_S if asyncio.get_running_loop().time() < eager_until else AGAIN_S[1]
            pause = AGAIN_S[0] if found else min(2.0 * pause, longest)
            with suppress(TimeoutError):
                async with asyncio.timeout((REPEAT_S if company else pause) * self.rng.uniform(0.7, 1.0)):
                    await self.news.wait()
                    pause = AGAIN_S[0]

    def _has_company(self) -> bool:
        return len(self._open) >= min(ENOUGH, len(self._known()))

    async def _round(self) -> list[str]:
        """The open ones among some of those known."""
        order = self._known()
        self.rng.shuffle(order)
        order.sort(key=lambda address: self._tried.get(address, -1.0))
        tried = order[: ENOUGH if self._has_company() else KNOCKS]
        outcomes = await asyncio.gather(*map(self._knock, tried))
        known, now = set(self._known()), asyncio.get_running_loop().time()
        opened = {address for address, is_there in zip(tried, outcomes, strict=True) if is_there} & known
        self._open = (self._open - set(tried) | opened) & known
        self._tried = {address: when for address, when in self._tried.items() if address in known}
        self._tried |= dict.fromkeys(tried, now)
        return [address for address in tried if address in opened][:ENOUGH]
