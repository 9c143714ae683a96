"""Moving objects by digest: fetch in chunks from whoever has them, serve them, count who needs them.

Small objects ride inside messages; the rest is fetched: a window of chunk requests to one source, the next source
when it stalls or has nothing. The store verifies the digest before anything is called there. Every finished fetch is
a free sample of the link (DESIGN.md, section 5).
"""

from __future__ import annotations

from collections import Counter
from math import inf

from jupiter_agent.core.effects import DropObject, Effect, Notice, Send, SendChunk, WriteChunk
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, Chunk, ChunkRequest, Missing, Obj

WINDOW = 4
STALL_S = 3.0
PAUSE_S = 1.0


class _Fetch:
    """One object on its way here."""

    def __init__(self, size: int, sources: list[str], now: float) -> None:
        self.size = size
        self.sources = sources
        self.missing = list(range(0, size, CHUNK_BYTES))[::-1]
        self.asked: set[int] = set()
        self.due = now
        self.began = now

    @property
    def source(self) -> str:
        return self.sources[0]


class Transfers:
    """The objects of one node: which are here, which are coming, who asked for those that are not."""

    def __init__(self, me: str) -> None:
        self._me = me
        self.stored: set[bytes] = set()
        self.samples: list[tuple[str, int, float]] = []
        """(peer, bytes, seconds) of finished fetches, for the link estimates to take"""
        self.moved_bytes = 0
        self._fetches: dict[bytes, _Fetch] = {}
        self._users: Counter[bytes] = Counter()
        self._hints: dict[bytes, tuple[int, str]] = {}
        self._askers: dict[bytes, list[tuple[str, ChunkRequest]]] = {}

    def has(self, obj: Obj) -> bool:
        return obj.data is not None or obj.sha256 in self.stored

    def keep(self, objects: list[Obj], src: str, now: float) -> list[Effect]:
        """Somebody here needs these objects until `release`; those not here are fetched from `src`."""
        effects: list[Effect] = []
        for obj in objects:
            if obj.data is None:
                self._users[obj.sha256] += 1
                if src == self._me:
                    self.stored.add(obj.sha256)
                effects += self.want(obj.sha256, obj.size, [src], now)
        return effects

    def release(self, objects: list[Obj]) -> list[Effect]:
        """The other half of `keep`; the last one drops the object."""
        effects: list[Effect] = []
        for obj in objects:
            if obj.data is None:
                self._users[obj.sha256] -= 1
                if self._users[obj.sha256] <= 0:
                    del self._users[obj.sha256]
                    self.stored.discard(obj.sha256)
                    self._fetches.pop(obj.sha256, None)
                    effects.append(DropObject(obj.sha256))
        return effects

    def want(self, sha256: bytes, size: int, sources: list[str], now: float) -> list[Effect]:
        """Fetch an object unless it is here; more sources may be named while it is under way."""
        if sha256 in self.stored:
            return []
        fetch = self._fetches.get(sha256)
        others = [source for source in sources if source != self._me]
        if fetch is not None:
            fetch.sources += [source for source in others if source not in fetch.sources]
            return []
        if not others:
            return []
        fetch = self._fetches[sha256] = _Fetch(size, others, now)
        return self._ask(sha256, fetch, now)

    def hint(self, sha256: bytes, size: int, node: str) -> None:
        """A client may ask here for an object that `node` has."""
        self._hints[sha256] = (size, node)

    # --- messages ----------------------------------------------------------------------------------------------

    def on_request(self, src: str, message: ChunkRequest, now: float) -> list[Effect]:
        """Serve a chunk; an object this node only knows of is fetched first."""
        if message.sha256 in self.stored or message.sha256 not in self._hints:
            return [SendChunk(src, message.sha256, message.offset, min(message.length, CHUNK_BYTES))]
        size, node = self._hints[message.sha256]
        self._askers.setdefault(message.sha256, []).append((src, message))
        return self.want(message.sha256, size, [node], now)

    def on_chunk(self, src: str, message: Chunk, now: float) -> list[Effect]:
        """Write what was asked for and ask for more; anything else is dropped."""
        fetch = self._fetches.get(message.sha256)
        if fetch is None or message.offset not in fetch.asked or message.size != fetch.size:
            return []
        expected = min(CHUNK_BYTES, fetch.size - message.offset)
        if len(message.data) != expected:
            return []
        fetch.asked.discard(message.offset)
        self.moved_bytes += len(message.data)
        effects: list[Effect] = [WriteChunk(message.sha256, message.size, message.offset, message.data)]
        if not fetch.missing and not fetch.asked:
            self.samples.append((src, fetch.size, max(1e-6, now - fetch.began)))
            fetch.due = inf
            return effects
        return effects + self._ask(message.sha256, fetch, now)

    def on_missing(self, src: str, message: Missing, now: float) -> list[Effect]:
        """This source does not have it (yet): try the next, after a pause when it was the only one."""
        fetch = self._fetches.get(message.sha256)
        if fetch is None or fetch.source != src:
            return []
        only = len(fetch.sources) == 1
        self._turn(fetch)
        if only:
            fetch.due = now + PAUSE_S
            return []
        return self._ask(message.sha256, fetch, now)

    def on_stored(self, event: ObjectStored, now: float) -> list[Effect]:
        """The store has it; or threw it away for its wrong digest: then from the next source, from the start."""
        fetch = self._fetches.get(event.sha256)
        if event.error:
            if fetch is None:
                return []
            again = self._fetches[event.sha256] = _Fetch(fetch.size, [*fetch.sources[1:], fetch.source], now)
            again.due = now + PAUSE_S
            return [Notice("warning", "object refused", {"sha256": event.sha256.hex(), "error": event.error})]
        self._fetches.pop(event.sha256, None)
        self.stored.add(event.sha256)
        askers = self._askers.pop(event.sha256, [])
        return [SendChunk(src, ask.sha256, ask.offset, min(ask.length, CHUNK_BYTES)) for src, ask in askers]

    # --- time --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return min((fetch.due for fetch in self._fetches.values()), default=inf)

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for sha256, fetch in list(self._fetches.items()):
            if fetch.due <= now:
                if fetch.asked:
                    self._turn(fetch)
                effects += self._ask(sha256, fetch, now)
        return effects

    def _turn(self, fetch: _Fetch) -> None:
        """Go to the next source and ask it for what the last one owes."""
        fetch.sources.append(fetch.sources.pop(0))
        fetch.missing = sorted([*fetch.missing, *fetch.asked], reverse=True)
        fetch.asked.clear()

    def _ask(self, sha256: bytes, fetch: _Fetch, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while fetch.missing and len(fetch.asked) < WINDOW:
            offset = fetch.missing.pop()
            fetch.asked.add(offset)
            length = min(CHUNK_BYTES, fetch.size - offset)
            effects.append(Send(fetch.source, ChunkRequest(sha256, offset, length)))
        fetch.due = now + STALL_S
        return effects

    def check(self) -> None:
        """Raise when an object is both here and on its way, or is counted below zero."""
        assert not self.stored & set(self._fetches), "an object that is here is being fetched"
        assert all(count > 0 for count in self._users.values()), "an object is used less than never"
