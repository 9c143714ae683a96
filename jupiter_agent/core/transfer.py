"""Moving objects by digest: fetch in chunks from whoever has them, serve them, count who needs them.

Small objects ride inside messages; the rest is fetched: a window of chunk requests to one source, the next source
when it stalls or has nothing. The store verifies the digest before anything is called there. Every finished fetch is
a free sample of the link (DESIGN.md, section 5). What nobody needs any longer stays for a while before it is dropped:
the same bytes may be on their way into the store under the same name.
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
LINGER_S = 5.0
UNCLAIMED_S = 600.0
"""An object that nobody here has asked for yet (an upload, a result passed through) is kept so long"""


class _Fetch:
    """One object on its way here."""

    def __init__(self, size: int, sources: list[str], now: float) -> None:
        self.size = size
        self.sources = sources
        self.asked: set[int] = set()
        self._next = 0
        """the offset from where on nothing was ever asked for"""
        self._owed: list[int] = []
        """offsets below it that were asked for in vain, the lowest last"""
        self.misses = 0
        """answers `Missing` since the last chunk"""
        self.due = now
        self.began = now

    @property
    def source(self) -> str:
        return self.sources[0]

    @property
    def all_asked(self) -> bool:
        return not self._owed and self._next >= self.size

    def ask(self) -> int:
        """The next offset to ask for, of those that are missing."""
        offset = self._owed.pop() if self._owed else self._next
        self._next = max(self._next, offset + CHUNK_BYTES)
        self.asked.add(offset)
        return offset

    def turn(self) -> None:
        """Go to the next source, and ask it for what the last one owes."""
        self.sources.append(self.sources.pop(0))
        self._owed = sorted([*self._owed, *self.asked], reverse=True)
        self.asked.clear()


class Transfers:
    """The objects of one node: which are here, which are coming, who asked for those that are not."""

    def __init__(self, me: str) -> None:
        self._me = me
        self.stored: set[bytes] = set()
        self.sizes: dict[bytes, int] = {}
        """of stored objects, where the store has said so"""
        self.samples: list[tuple[str, int, float]] = []
        """(peer, bytes, seconds) of finished fetches, for the link estimates to take"""
        self.moved_bytes = 0
        self._fetches: dict[bytes, _Fetch] = {}
        self._users: Counter[bytes] = Counter()
        self._unused: dict[bytes, float] = {}
        """when an object without users is dropped"""
        self._pinned: set[bytes] = set()
        self._hints: dict[bytes, tuple[int, str]] = {}
        self._askers: dict[bytes, list[tuple[str, ChunkRequest]]] = {}

    def has(self, obj: Obj) -> bool:
        return obj.data is not None or obj.sha256 in self.stored

    def size_differs(self, sha256: bytes, size: int) -> bool:
        """The object is stored, with another size than somebody says."""
        return sha256 in self.stored and self.sizes.get(sha256, size) != size

    def keep(self, objects: list[Obj], src: str, now: float) -> list[Effect]:
        """Somebody here needs these objects until `release`; those not here are fetched from `src`."""
        effects: list[Effect] = []
        for obj in objects:
            if obj.data is None:
                self._users[obj.sha256] += 1
                self._unused.pop(obj.sha256, None)
                if src == self._me:
                    self.stored.add(obj.sha256)
                effects += self.want(obj.sha256, obj.size, [src], now)
        return effects

    def release(self, objects: list[Obj], now: float) -> None:
        """The other half of `keep`; some time after the last one the object is dropped."""
        for obj in objects:
            if obj.data is None:
                self._users[obj.sha256] -= 1
        self.discard(objects, now)

    def discard(self, objects: list[Obj], now: float) -> None:
        """Those of these objects that nobody needs are dropped after a while."""
        for obj in objects:
            if obj.data is None and self._users[obj.sha256] <= 0:
                del self._users[obj.sha256]
                self._fetches.pop(obj.sha256, None)
                self._unused[obj.sha256] = now + LINGER_S

    def pin(self, sha256: bytes) -> None:
        """Keep this object for good (a bundle); twice is once."""
        self._pinned.add(sha256)
        self._unused.pop(sha256, None)

    def abandon(self, sha256: bytes) -> None:
        """Do not fetch it any further."""
        self._pinned.discard(sha256)
        if self._users[sha256] <= 0:
            self._fetches.pop(sha256, None)

    def unclaimed(self, now: float) -> None:
        """Objects that are here without a user (from an earlier run of this agent) are dropped after a while."""
        for sha256 in self.stored:
            if self._users[sha256] <= 0 and sha256 not in self._pinned:
                self._unused.setdefault(sha256, now + UNCLAIMED_S)

    def also_at(self, objects: list[Obj], src: str, now: float) -> list[Effect]:
        """`src` has these as well: the source known before may be gone."""
        missing = [obj for obj in objects if not self.has(obj)]
        return [effect for obj in missing for effect in self.want(obj.sha256, obj.size, [src], now)]

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
        fetch.misses = 0
        self.moved_bytes += len(message.data)
        effects: list[Effect] = [WriteChunk(message.sha256, message.size, message.offset, message.data)]
        if fetch.all_asked and not fetch.asked:
            self.samples.append((src, fetch.size, max(1e-6, now - fetch.began)))
            fetch.due = inf
            return effects
        return effects + self._ask(message.sha256, fetch, now)

    def on_missing(self, src: str, message: Missing, now: float) -> list[Effect]:
        """This source does not have it (yet): try the next, after a pause when none of them has it."""
        fetch = self._fetches.get(message.sha256)
        if fetch is None or fetch.source != src:
            return []
        fetch.turn()
        fetch.misses += 1
        if fetch.misses % len(fetch.sources) == 0:
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
        self.sizes[event.sha256] = event.size
        if self._users[event.sha256] <= 0 and event.sha256 not in self._pinned:
            self._unused.setdefault(event.sha256, now + UNCLAIMED_S)
        askers = self._askers.pop(event.sha256, [])
        return [SendChunk(src, ask.sha256, ask.offset, min(ask.length, CHUNK_BYTES)) for src, ask in askers]

    # --- time --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return min([*(fetch.due for fetch in self._fetches.values()), *self._unused.values()], default=inf)

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for sha256, fetch in list(self._fetches.items()):
            if sha256 in self.stored:  # made here meanwhile
                del self._fetches[sha256]
            elif fetch.due <= now:
                if fetch.asked:
                    fetch.turn()
                effects += self._ask(sha256, fetch, now)
        for sha256 in [sha256 for sha256, due in self._unused.items() if due <= now]:
            del self._unused[sha256]
            self.stored.discard(sha256)
            self.sizes.pop(sha256, None)
            effects.append(DropObject(sha256))
        return effects

    def _ask(self, sha256: bytes, fetch: _Fetch, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while not fetch.all_asked and len(fetch.asked) < WINDOW:
            offset = fetch.ask()
            length = min(CHUNK_BYTES, fetch.size - offset)
            effects.append(Send(fetch.source, ChunkRequest(sha256, offset, length)))
        fetch.due = now + STALL_S
        return effects

    def check(self) -> None:
        """Raise when an object is counted below zero, or about to be dropped while somebody needs it."""
        assert all(count > 0 for count in self._users.values()), "an object is used less than never"
        assert not set(self._unused) & set(self._users), "an object that is needed is about to be dropped"
