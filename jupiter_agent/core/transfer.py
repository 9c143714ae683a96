"""Moving objects by digest: fetch them from whoever has them, serve them, count who needs them.

Small objects ride inside messages; the rest is fetched, at most `ACTIVE` at once and each once, whoever asks for it
here: by the bulk channel (DESIGN.md 86) where the source has one, else chunk by chunk; the next source when one stalls
or has nothing. What is here of an object stays over a change of source. The store verifies the digest before anything
is called there. A source that has the object with another size than was said ends the fetch: `refuted`. Every finished
fetch is a free sample of the link (DESIGN.md, section 5). What nobody needs any longer stays for a while before it is
dropped: the same bytes may be on their way into the store under the same name.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf

from jupiter_agent.core.effects import (
    DropBulk,
    DropObject,
    Effect,
    FetchBulk,
    Notice,
    Send,
    SendChunk,
    TellBulk,
    WriteChunk,
)
from jupiter_agent.core.events import BulkEnded, ObjectStored
from jupiter_agent.core.fetch import ASKING, BULK, CHUNKS, QUEUED, RELAYED_BYTES, Fetch
from jupiter_agent.core.messages.bulk import BulkAt, BulkWanted
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, Chunk, ChunkRequest, Missing, Obj

ACTIVE = 32
"""Half of what a store takes at once: uploads need some"""
WINDOW = 4
STALL_S = 3.0
STALL_MAX_S = 24.0
PAUSE_S = 1.0
LINGER_S = 5.0
UNCLAIMED_S = 600.0
"""An object that nobody here has asked for yet (an upload, a result passed through) is kept so long"""
HINTS = 10_000
ASKERS = 256
"""Requests that wait for one object; who is not among them asks again"""
NO_BULK_S = 60.0
"""A source whose bulk channel could not be reached is asked by messages for so long"""


class Transfers:
    """The objects of one node: which are here, which are coming, who asked for those that are not."""

    def __init__(self, me: str) -> None:
        self._me = me
        self.refuting = False
        """some object was given up since this was set back"""
        self.bulk = False
        """this agent has a bulk channel"""
        self.relayed: Callable[[str], float] = lambda node: 0.0
        """bytes/s that others carry for us to this node; 0 where it is reached directly"""
        self.stored: set[bytes] = set()
        self.sizes: dict[bytes, int] = {}
        """of stored objects, where the store has said so"""
        self.samples: list[tuple[str, int, float]] = []
        """(peer, bytes, seconds) of finished fetches, for the link estimates to take"""
        self.moved_bytes = 0
        self._fetches: dict[bytes, Fetch] = {}
        self._refuted: dict[bytes, str] = {}
        self._ports: dict[str, int] = {}
        """where the bulk channels of others are"""
        self._asked_at: dict[str, float] = {}
        """when a source was asked for its bulk channel, and has not answered; the question or the answer may be lost"""
        self._no_bulk: dict[str, float] = {}
        """until when a source is not asked for its bulk channel"""
        self._dropped: list[bytes] = []
        """objects on the bulk channel that nobody needs any longer"""
        self._users: Counter[bytes] = Counter()
        self._unused: dict[bytes, float] = {}
        """when an object without users is dropped"""
        self._pinned: set[bytes] = set()
        self._hints: OrderedDict[bytes, tuple[int, str]] = OrderedDict()
        """objects that clients may ask for here: size, and where they are; those named longest ago are forgotten"""
        self._askers: dict[bytes, dict[tuple[str, int], ChunkRequest]] = {}
        """object under way -> (client, offset) -> what it asked for"""

    def has(self, obj: Obj) -> bool:
        return obj.data is not None or obj.sha256 in self.stored

    def needs(self, sha256: bytes) -> bool:
        """Somebody here needs this object, or it is kept for good."""
        return self._users.get(sha256, 0) > 0 or sha256 in self._pinned

    def size_differs(self, sha256: bytes, size: int) -> bool:
        """The object is stored, with another size than somebody says."""
        return sha256 in self.stored and self.sizes.get(sha256, size) != size

    def coming(self, peer: str) -> int:
        """How many objects are on their way from this peer."""
        fetches = self._fetches.values()
        return sum(fetch.source == peer and (fetch.way == BULK or bool(fetch.asked)) for fetch in fetches)

    def refuted(self, objects: list[Obj]) -> str:
        """Why these can never be here as they were described, or ''."""
        if not self._refuted:
            return ""
        lies = [obj for obj in objects if obj.data is None and obj.sha256 in self._refuted]
        return f"{lies[0].name}: {self._refuted[lies[0].sha256]}" if lies else ""

    def keep(self, objects: list[Obj], src: str, now: float, durable: bool = False) -> list[Effect]:
        """Somebody here needs these objects until `release`; those not here are fetched from `src`.

        `durable`: they must be on disk before they count as here (results).
        """
        effects: list[Effect] = []
        for obj in objects:
            if obj.data is None:
                self._users[obj.sha256] += 1
                self._unused.pop(obj.sha256, None)
                if src == self._me:
                    self.stored.add(obj.sha256)
                effects += self.want(obj.sha256, obj.size, [src], now, durable)
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
                self._end(obj.sha256)
                self._refuted.pop(obj.sha256, None)
                self._unused[obj.sha256] = now + LINGER_S

    def pin(self, sha256: bytes) -> None:
        """Keep this object for good (a bundle); twice is once."""
        self._pinned.add(sha256)
        self._unused.pop(sha256, None)

    @property
    def pinned(self) -> frozenset[bytes]:
        """What is kept for good, as long as that holds."""
        return frozenset(self._pinned)

    def unpin(self, sha256: bytes, now: float) -> None:
        """Kept for good no longer: dropped after a while, unless somebody needs it."""
        self._pinned.discard(sha256)
        if self._users[sha256] <= 0:
            self._end(sha256)
            self._unused[sha256] = now + LINGER_S

    def abandon(self, sha256: bytes) -> None:
        """Do not fetch it any further."""
        self._pinned.discard(sha256)
        if self._users[sha256] <= 0:
            self._end(sha256)

    def unclaimed(self, now: float) -> None:
        """Objects that are here without a user (from an earlier run of this agent) are dropped after a while."""
        for sha256 in self.stored:
            if self._users[sha256] <= 0 and sha256 not in self._pinned:
                self._unused.setdefault(sha256, now + UNCLAIMED_S)

    def also_at(self, objects: list[Obj], src: str, now: float) -> list[Effect]:
        """`src` has these as well: the source known before may be gone."""
        missing = [obj for obj in objects if not self.has(obj)]
        return [effect for obj in missing for effect in self.want(obj.sha256, obj.size, [src], now)]

    def want(self, sha256: bytes, size: int, sources: list[str], now: float, durable: bool = False) -> list[Effect]:
        """Fetch an object unless it is here; more sources may be named while it is under way."""
        if sha256 in self.stored:
            return []
        others = [source for source in dict.fromkeys(sources) if source != self._me]
        fetch = self._fetches.get(sha256)
        if fetch is not None and fetch.size == size:
            fetch.name(others)
            fetch.durable |= durable
        if fetch is not None or not others:
            return []
        self._refuted.pop(sha256, None)
        fetch = self._fetches[sha256] = Fetch(size, others, now)
        fetch.durable = durable
        return self._begin(now)

    def hint(self, sha256: bytes, size: int, node: str) -> None:
        """A client may ask here for an object that `node` has."""
        self._hints[sha256] = (size, node)
        self._hints.move_to_end(sha256)
        if len(self._hints) > HINTS:
            self._hints.popitem(last=False)

    # --- messages ----------------------------------------------------------------------------------------------

    def on_request(self, src: str, message: ChunkRequest, now: float) -> list[Effect]:
        """Serve a chunk; an object this node only knows of is fetched first."""
        if message.sha256 in self.stored or message.sha256 not in self._hints:
            return [self._served(src, message)]
        size, node = self._hints[message.sha256]
        asked = self._askers.setdefault(message.sha256, {})
        if len(asked) < ASKERS or (src, message.offset) in asked:
            asked[src, message.offset] = message
        return self.want(message.sha256, size, [node], now)

    def on_chunk(self, src: str, message: Chunk, now: float) -> list[Effect]:
        """Write what was asked for and ask for more; anything else is dropped."""
        fetch = self._fetches.get(message.sha256)
        if fetch is None or fetch.asked.get(message.offset) is None:
            return []
        if message.size != fetch.size:
            return self._contradicted(message.sha256, fetch, message.size, now) if src == fetch.source else []
        if len(message.data) != fetch.asked[message.offset]:
            return []
        del fetch.asked[message.offset]
        fetch.misses = fetch.stalls = 0
        self.moved_bytes += len(message.data)
        effects: list[Effect] = [WriteChunk(message.sha256, message.size, message.offset, message.data)]
        if fetch.is_whole:
            self.samples.append((src, fetch.size, max(1e-6, now - fetch.began)))
            fetch.due = inf
            return effects
        return effects + self._ask(message.sha256, fetch, now)

    def on_missing(self, src: str, message: Missing, now: float) -> list[Effect]:
        """This source does not have it (yet): try the next, after a pause when none of them has it."""
        fetch = self._fetches.get(message.sha256)
        if fetch is None or fetch.source != src or fetch.way != CHUNKS:
            return []
        return self._missed(message.sha256, fetch, now)

    def on_stored(self, event: ObjectStored, now: float) -> list[Effect]:
        """The store has it; or threw it away for its wrong digest: then from the next source, from the start."""
        fetch = self._fetches.get(event.sha256)
        if event.error:
            if fetch is None:
                return []
            again = self._fetches[event.sha256] = Fetch(fetch.size, [*fetch.sources[1:], fetch.source], now)
            again.durable, again.due = fetch.durable, now + PAUSE_S
            return [Notice("warning", "object refused", {"sha256": event.sha256.hex(), "error": event.error})]
        self.stored.add(event.sha256)
        self._end(event.sha256)
        self.sizes[event.sha256] = event.size
        if self._users[event.sha256] <= 0 and event.sha256 not in self._pinned:
            self._unused.setdefault(event.sha256, now + UNCLAIMED_S)
        askers = self._askers.pop(event.sha256, {})
        return [*(self._served(src, ask) for (src, _), ask in askers.items()), *self._begin(now)]

    # --- the bulk channel ------------------------------------------------------------------------------------------

    def on_bulk_wanted(self, src: str, message: BulkWanted, now: float) -> list[Effect]:
        return [TellBulk(src)] if self.bulk else [Send(src, BulkAt(0))]

    def on_bulk_at(self, src: str, message: BulkAt, now: float) -> list[Effect]:
        """Go on with what waited for this."""
        self._asked_at.pop(src, None)
        if message.port:
            self._ports[src] = message.port
        else:
            self._no_bulk[src] = now + NO_BULK_S
        waiting = [(s, f) for s, f in self._fetches.items() if f.way == ASKING and f.source == src]
        return [effect for sha256, fetch in waiting for effect in self._go(sha256, fetch, now)]

    def on_bulk_ended(self, event: BulkEnded, now: float) -> list[Effect]:
        """The bulk channel is done with an object, whole or not."""
        self.moved_bytes += event.moved_bytes
        if not event.error and event.moved_bytes:
            self.samples.append((event.peer, event.moved_bytes, event.seconds))
        fetch = self._fetches.get(event.sha256)
        if fetch is None or fetch.way != BULK or fetch.source != event.peer or not event.error:
            return []
        if event.moved_bytes:
            fetch.misses = fetch.stalls = 0
        if event.error == "missing":
            return self._missed(event.sha256, fetch, now)
        if event.error.startswith("size "):
            return self._contradicted(event.sha256, fetch, int(event.error[5:]), now)
        self._ports.pop(event.peer, None)  # it may have started again
        if event.error == "unreachable":
            self._no_bulk[event.peer] = now + NO_BULK_S
            return self._go(event.sha256, fetch, now)
        fetch.turn()
        fetch.stalls += 1
        if fetch.stalls % len(fetch.sources):
            return self._go(event.sha256, fetch, now)
        fetch.way, fetch.due = QUEUED, now + PAUSE_S
        return []

    # --- time --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        if self._dropped:
            return 0.0
        return min([*(fetch.due for fetch in self._fetches.values()), *self._unused.values()], default=inf)

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = [DropBulk(sha256) for sha256 in self._dropped]
        self._dropped.clear()
        for sha256, fetch in list(self._fetches.items()):
            if sha256 in self.stored:  # made here meanwhile
                self._end(sha256)
            elif fetch.due <= now:
                effects += self._on_due(sha256, fetch, now)
        for sha256 in [sha256 for sha256, due in self._unused.items() if due <= now]:
            del self._unused[sha256]
            self.stored.discard(sha256)
            self.sizes.pop(sha256, None)
            effects.append(DropObject(sha256))
        return effects + self._begin(now)

    def _on_due(self, sha256: bytes, fetch: Fetch, now: float) -> list[Effect]:
        """A pause is over, or nothing came for too long: then from the next source."""
        if fetch.way == ASKING or (fetch.way == CHUNKS and fetch.asked):
            fetch.turn()
            fetch.stalls += 1
            return self._go(sha256, fetch, now)
        return self._ask(sha256, fetch, now) if fetch.way == CHUNKS else self._go(sha256, fetch, now)

    # --- how an object comes ---------------------------------------------------------------------------------------

    def _begin(self, now: float) -> list[Effect]:
        """Start those that wait for their turn, oldest first."""
        free = ACTIVE - sum(fetch.way != QUEUED for fetch in self._fetches.values())
        waiting = [(s, f) for s, f in self._fetches.items() if f.way == QUEUED and f.due == inf][: max(0, free)]
        return [effect for sha256, fetch in waiting for effect in self._go(sha256, fetch, now)]

    def _go(self, sha256: bytes, fetch: Fetch, now: float) -> list[Effect]:
        """Take it from its present source, in the way that source allows."""
        source = fetch.source
        if not self.bulk or self.relayed(source) or self._no_bulk.get(source, 0.0) > now:
            fetch.way = CHUNKS
            return self._ask(sha256, fetch, now)
        if port := self._ports.get(source):
            fetch.way, fetch.due = BULK, inf
            if sha256 in self._dropped:  # nobody needed it for a moment: what was to be dropped goes on instead
                self._dropped.remove(sha256)
            return [FetchBulk(sha256, fetch.size, source, port, fetch.durable)]
        fetch.way, fetch.due = ASKING, now + self._patience_s(fetch)
        if now - self._asked_at.get(source, -inf) < STALL_S:
            return []
        self._asked_at[source] = now
        return [Send(source, BulkWanted())]

    def _ask(self, sha256: bytes, fetch: Fetch, now: float) -> list[Effect]:
        """Chunks, as many as may be on their way; through others one at a time, as fast as they carry it."""
        bps = self.relayed(fetch.source)
        if bps and fetch.next_at > now and not fetch.asked:
            fetch.due = fetch.next_at
            return []
        effects: list[Effect] = []
        while not fetch.all_asked and len(fetch.asked) < (1 if bps else WINDOW):
            offset, length = fetch.ask(RELAYED_BYTES if bps else CHUNK_BYTES)
            fetch.next_at = now + 2.0 * length / bps if bps else now
            effects.append(Send(fetch.source, ChunkRequest(sha256, offset, length)))
        fetch.due = now + self._patience_s(fetch)
        return effects

    def _patience_s(self, fetch: Fetch) -> float:
        """Without a sign for so long another source is tried; longer each time, or a slow link is asked in vain."""
        return float(min(STALL_MAX_S, STALL_S * 2 ** min(16, fetch.stalls // len(fetch.sources))))

    def _missed(self, sha256: bytes, fetch: Fetch, now: float) -> list[Effect]:
        fetch.turn()
        fetch.misses += 1
        if fetch.misses % len(fetch.sources) == 0:
            fetch.due = now + PAUSE_S
            fetch.way = QUEUED if fetch.way == BULK else fetch.way
            return []
        return self._go(sha256, fetch, now)

    def _contradicted(self, sha256: bytes, fetch: Fetch, size: int, now: float) -> list[Effect]:
        """A source has this content with another size than was said. When all of them do, nobody can ever give it."""
        if len(fetch.sources) > 1:
            fetch.give_back()
            del fetch.sources[0]
            return self._go(sha256, fetch, now)
        self._end(sha256)
        why = f"it was announced with {fetch.size} bytes, {fetch.source} has it with {size}"
        if self._users[sha256] > 0:
            self._refuted[sha256], self.refuting = why, True
        notice = Notice("error", "object given up", {"sha256": sha256.hex(), "error": why})
        disappointed = [Send(src, Missing(sha256)) for src, _ in self._askers.pop(sha256, {})]
        return [notice, *disappointed, DropObject(sha256), *self._begin(now)]

    def _end(self, sha256: bytes) -> None:
        """It is fetched no further."""
        fetch = self._fetches.pop(sha256, None)
        if fetch is not None and fetch.way == BULK and sha256 not in self.stored:
            self._dropped.append(sha256)

    def _served(self, src: str, ask: ChunkRequest) -> SendChunk:
        length = min(ask.length, CHUNK_BYTES)
        return SendChunk(src, ask.sha256, ask.offset, length, bool(self.relayed(src)))

    def check(self) -> None:
        """Raise when an object is counted below zero, or about to be dropped while somebody needs it."""
        assert all(count > 0 for count in self._users.values()), "an object is used less than never"
        assert not set(self._unused) & set(self._users), "an object that is needed is about to be dropped"
