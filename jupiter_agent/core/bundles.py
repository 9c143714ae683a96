"""Bundles on this node: fetched by digest from whoever has them, checked and unpacked once, then kept."""

from __future__ import annotations

from jupiter_agent.core.effects import Effect, OpenBundle
from jupiter_agent.core.events import BundleOpened
from jupiter_agent.core.transfer import Transfers


class Bundles:
    """Digest -> coming, opening or open."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._states: dict[bytes, str] = {}

    def is_open(self, digest: bytes) -> bool:
        return self._states.get(digest) == "open"

    def need(self, digest: bytes, size: int, sources: list[str], now: float) -> list[Effect]:
        """Have it opened here, fetching it first if need be; nothing when that is under way or done."""
        if self._states.get(digest, "coming") != "coming":
            return []
        self._transfers.pin(digest)
        if digest in self._transfers.stored:
            self._states[digest] = "opening"
            return [OpenBundle(digest)]
        self._states[digest] = "coming"
        return self._transfers.want(digest, size, sources, now)

    def give_up(self, digest: bytes) -> None:
        """No job here needs it any more: stop asking for it if it has not come yet."""
        if self._states.get(digest) == "coming":
            del self._states[digest]
            self._transfers.abandon(digest)

    def forget(self, digest: bytes) -> None:
        """It goes: the next job that needs it has it opened anew."""
        self._states.pop(digest, None)

    def on_stored(self, digest: bytes) -> list[Effect]:
        """An object is here: perhaps one of ours."""
        if self._states.get(digest) != "coming":
            return []
        self._states[digest] = "opening"
        return [OpenBundle(digest)]

    def on_opened(self, event: BundleOpened) -> bool:
        """True when the app is usable from now on."""
        if event.error:
            self._states.pop(event.sha256, None)
            return False
        self._states[event.sha256] = "open"
        self._transfers.pin(event.sha256)
        return True
