"""Discovery on the local network by mDNS and DNS-SD (zeroconf): agents announce `_jupiter._tcp.local.` and browse it.

A hint only: anybody on the link can say anything, and what is wrong costs one dial. An announcement carries the
agent's address, its id and the cluster's fingerprint; those of other clusters are passed over. The library is imported
and runs in threads of its own, from the first need on, so that its packets never hold up the loop; the machine says
when to browse (`Browse`), announcing goes on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from jupiter_agent.adapters.ports import format_address, numeric, parse_address
from jupiter_agent.adapters.rates import Rates
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.errors import UsageError

SOURCE = "mdns"
SERVICE = "_jupiter._tcp.local."
RATE_PER_S, BURST = 5.0, 64.0
"""announcements looked at"""
ASK_MS = 1500
REPEAT_S = 60.0
"""A browser tells what is new; what it knows is said again this often, or the machine would forget it"""
MOST_TEXT = 256
CLOSE_S = 3.0

log = logging.getLogger("jupiter")


@dataclass(frozen=True)
class Announced:
    """What this agent says of itself."""

    node: str
    address: str
    cluster: str
    """fingerprint of the issuer's key, hex"""


class Mdns:
    """Announces one agent, and browses while it is told to. `post` is called in the loop."""

    def __init__(self, mine: Announced, post: Callable[[SeedsFound], None]) -> None:
        self.counters: Counter[str] = Counter()
        self._mine, self._post = mine, post
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "mdns")
        """all calls of the library, in order; some of them wait"""
        self._zeroconf: Any = None
        self._browser: Any = None
        self._known: dict[str, Hint] = {}
        self._rate = Rates(RATE_PER_S, BURST)
        self._repeat: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Announce. Where there is no multicast the log says so, once, and nothing else happens."""
        self.counters["mdns_started"] += 1
        self._submit(self._announce)

    def browse(self, on: bool) -> None:
        self._submit(self._start_browsing if on else self._stop_browsing)
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None
        if on:
            self._repeat = self._loop.call_later(REPEAT_S, self._say_again)
        else:
            self._known.clear()

    async def close(self) -> None:
        """Say good-bye, if the library lets us in time."""
        self._closed = True
        if self._repeat is not None:
            self._repeat.cancel()
        if self.counters["mdns_started"]:
            try:
                await asyncio.wait_for(self._loop.run_in_executor(self._thread, self._shut), CLOSE_S)
            except TimeoutError:
                pass
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- in the thread ---

    def _submit(self, work: Callable[[], None]) -> None:
        if not self._closed:
            self._thread.submit(self._guarded, work)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _foreign_errors() as error:
            self.counters["mdns_failed"] += 1
            if self.counters["mdns_failed"] == 1:
                log.warning("no mDNS here: %s: %s", type(error).__name__, error)

    def _announce(self) -> None:
        from zeroconf import IPVersion, ServiceInfo, Zeroconf

        host, port = parse_address(self._mine.address)
        known = [host if numeric(self._mine.address) else socket.gethostbyname(host)]  # one without is passed over
        text = {"address": self._mine.address, "id": self._mine.node, "cluster": self._mine.cluster}
        name = f"{self._mine.node}.{SERVICE}"
        info = ServiceInfo(
            SERVICE,
            name,
            port=port,
            parsed_addresses=known,
            properties=text,
            server=f"jupiter-{self._mine.node}.local.",
        )
        self._zeroconf = Zeroconf(ip_version=IPVersion.All if ":" in host else IPVersion.V4Only)
        self._zeroconf.register_service(info)

    def _start_browsing(self) -> None:
        if self._zeroconf is not None and self._browser is None:
            from zeroconf import ServiceBrowser

            self._browser = ServiceBrowser(self._zeroconf, SERVICE, handlers=[self._on_change])

    def _stop_browsing(self) -> None:
        if self._browser is not None:
            self._browser.cancel()
            self._browser = None

    def _shut(self) -> None:
        def work() -> None:
            self._stop_browsing()
            if self._zeroconf is not None:
                self._zeroconf.close()

        self._guarded(work)

    def _on_change(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        """In the browser's thread: somebody came, changed or went. The last is left to time."""
        if state_change.name != "Removed":
            self._guarded(lambda: self._look_at(zeroconf, service_type, name))

    def _look_at(self, zeroconf: Any, service_type: str, name: str) -> None:
        if not self._rate.take("", self._loop.time()):
            self.counters["mdns_rate"] += 1
            return
        info = zeroconf.get_service_info(service_type, name, ASK_MS)
        if info is None:
            self.counters["mdns_garbage"] += 1
            return
        hint = to_hint(info.decoded_properties, info.parsed_addresses(), info.port or 0, self._mine)
        if isinstance(hint, str):
            self.counters[hint] += 1
        elif not self._closed:
            self._loop.call_soon_threadsafe(self._found, hint)

    # --- in the loop ---

    def _found(self, hint: Hint) -> None:
        if self._repeat is not None:  # still browsing
            self._known[hint.address] = hint
            self.counters["mdns_found"] += 1
            self._post(SeedsFound((hint,)))
            if len(self._known) > BURST:
                self._known.pop(next(iter(self._known)))

    def _say_again(self) -> None:
        """What the library still holds to be there; it drops what was not announced again in its time."""
        self._repeat = self._loop.call_later(REPEAT_S, self._say_again)
        self._submit(self._look_again)

    def _look_again(self) -> None:
        for hint in list(self._known.values()):
            if self._zeroconf.cache.entries_with_name(f"{hint.node}.{SERVICE}"):
                self._loop.call_soon_threadsafe(self._found, hint)


def _foreign_errors() -> tuple[type[Exception], ...]:
    """The library's own, those of sockets, and what it makes of a loop that ends under it."""
    try:
        from zeroconf import Error
    except ImportError:
        return (ImportError,)
    return (Error, OSError, ValueError, RuntimeError, AssertionError)


def to_hint(text: Mapping[str, str | None], addresses: list[str], port: int, mine: Announced) -> Hint | str:
    """What an announcement says, or which counter it adds to: other clusters', our own, garbage."""
    cluster, node = text.get("cluster") or "", text.get("id") or ""
    address = text.get("address") or (format_address(addresses[0], port) if addresses else "")
    if cluster != mine.cluster:
        return "mdns_foreign"
    if node == mine.node:
        return "mdns_own"
    try:
        _, found_port = parse_address(address)
    except UsageError:
        return "mdns_garbage"
    if not 0 < found_port < 65535 or len(address) > MOST_TEXT or len(node) > 64 or not address.isprintable():
        return "mdns_garbage"
    return Hint(address, SOURCE, node)
