"""Taking items in: their names, parts and numbers, which wait, and what leaves for the DAG (DESIGN.md 7, rules 1, 10).

An item's identity is (job, name): the file's name, for v4 apps its join key. It may have parts: one object per entry
task, or as many files of one key as a v4 entry counts. A put item enters the DAG whole, when every entry has its part
or the intake has closed. What a home script or a non-DAG task produces leaves as it comes, and is sealed when nothing
more came for a while: then the tasks that got no part get their tokens. At most `max_open` items are in the DAG at a
time, and no more enter while the inputs of those have `max_open_bytes`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from hashlib import sha256
from math import inf

from jupiter_agent.core.ids import HOME, is_item_name
from jupiter_agent.core.intake_item import Item, Parts
from jupiter_agent.core.intervals import Number
from jupiter_agent.core.items import Items
from jupiter_agent.core.job import Job
from jupiter_agent.core.manifest import STAMP_BYTES, source_stamp
from jupiter_agent.core.messages.jobs import Obj, Parcel
from jupiter_agent.errors import UsageError

SEAL_S = 1.0

__all__ = ["Intake", "Item", "Parts", "join_key"]


def join_key(name: str) -> str:
    """Of a v4 file: its name up to the first `_`, else up to the first `.`."""
    return name.partition("_")[0] if "_" in name else name.partition(".")[0]


class Intake:
    """The items of one job at its home."""

    def __init__(self, job: Job) -> None:
        self.items = Items()
        self.open = True
        self.admitted: set[str] = set()
        """items in the DAG now"""
        self.open_bytes = 0
        """of their inputs"""
        self._bytes: dict[str, int] = {}
        self._job = job
        self._waiting: deque[str] = deque()
        self._blocked: dict[str, None] = {}
        """of those that wait: they lack a part, bytes, or a copy of their record"""
        self._last_number = 0
        self._sent: dict[str, set[str]] = {}
        self._unsent: dict[str, None] = {}
        """items in the DAG of which some source has not been sent yet, in order"""
        self._seal_at: dict[str, float] = {}

    @property
    def waiting(self) -> int:
        """Items that are not in the DAG yet."""
        return len(self._waiting) + len(self._blocked)

    @property
    def idle(self) -> bool:
        return not self.admitted and not self._waiting and not self._blocked

    # --- naming ------------------------------------------------------------------------------------------------

    def plan(self, inputs: list[tuple[str, Obj]], task: str, rename: bool) -> tuple[dict[str, Parts], list[str]]:
        """(new parts per item, names whose same bytes are here already); nothing is changed yet.

        UsageError: intake closed, an unknown entry, a bad name, a name with other bytes (without `rename`).
        """
        job, dag = self._job, self._job.dag
        if not self.open or job.over:
            raise UsageError(f"the intake of job {job.id} is closed", "submit again, with --keep-open to put more")
        if task and task not in dag.sources and task not in job.spec.sources:
            known = [*job.spec.sources, *dag.sources]
            raise UsageError(f"'{task}' is no entry task of job {job.id}", f"entry tasks: {', '.join(known)}")
        entries = self._entries(task)
        planned: dict[str, Parts] = {}
        ignored = []
        for name, obj in inputs:
            item, missing = self._place(name, obj, entries, (rename, planned))
            for entry in missing:
                planned.setdefault(item, {}).setdefault(entry, []).append(obj)
            if not missing:
                ignored.append(name)
        return planned, ignored

    def _place(
        self, name: str, obj: Obj, entries: list[str], plan: tuple[bool, dict[str, Parts]]
    ) -> tuple[str, list[str]]:
        """The item this file belongs to, and the entries that lack it there."""
        if not is_item_name(name):
            raise UsageError(f"'{name}' cannot be an item's name", "use a plain file name of at most 200 characters")
        rename, planned = plan
        for candidate in self._candidates(name):
            verdict, missing = self._fits(candidate, obj, entries, planned.get(candidate, {}))
            if verdict == "other bytes" and not rename:
                raise UsageError(f"item '{candidate}' is there with other bytes", "rename the file, or use --rename")
            if verdict == "gone":
                raise UsageError(f"item '{candidate}' has gone on without this part", "put it under another name")
            if not verdict:
                return candidate, missing
        raise AssertionError("unreachable")

    def _candidates(self, name: str) -> Iterator[str]:
        key = join_key(name)
        base, n = key if self._counted and is_item_name(key) else name, 1
        yield base
        while True:
            n += 1
            yield f"{base}-{n}"

    @property
    def _counted(self) -> bool:
        """A v4 app: files are counted by key."""
        return self._job.spec.contract == "v4"

    def _fits(self, candidate: str, obj: Obj, entries: list[str], planned: Parts) -> tuple[str, list[str]]:
        """('', entries that lack the file), or why it is not of this item: other bytes, full, gone."""
        item = self.items.get(candidate)
        missing = []
        for entry in entries:
            there = [*(item.parts.get(entry, []) if item else []), *planned.get(entry, [])]
            same = [part for part in there if part.name == obj.name] if self._counted else there
            if same:
                if same[0].sha256 != obj.sha256:
                    return "other bytes", []
            elif len(there) >= self._files(entry):
                return "full", []
            else:
                missing.append(entry)
        if missing and item and item.state != "queued":
            return ("full" if self._counted else "gone"), []
        return "", missing

    def _files(self, entry: str) -> int:
        """How many files of one item an entry takes."""
        return self._job.spec.item_files.get(entry, 1)

    # --- taking in ---------------------------------------------------------------------------------------------

    def take(self, name: str, parts: Parts, wall: float) -> Item:
        """Add planned parts to the item, which is made if it is new."""
        item = self.items.get(name)
        if item is None:
            item = self._make(name, wall)
        for entry, objects in parts.items():
            item.parts.setdefault(entry, []).extend(objects)
        self.look_again([name])
        return item

    def came_from(self, node: str, task: str, objects: list[Obj]) -> None:
        """These were put at this node for an entry, or for all: mappers count on more of the kind from there."""
        mean = sum(obj.size for obj in objects) // len(objects)
        self._job.inputs |= dict.fromkeys(self._entries(task), (node, mean))

    def _entries(self, task: str) -> list[str]:
        """Those of a source, or the entry itself; all without a name."""
        return self._job.spec.sources.get(task, [task]) if task else self._job.dag.entries

    def produce(self, child: str, obj: Obj, now: float, wall: float) -> Item | None:
        """A file that a home script or non-DAG task made for `child`; None when this very file was here before."""
        candidates = self._candidates(obj.name)
        item = self._produced(next(candidates), wall)
        while True:
            if any(part.name == obj.name and part.sha256 == obj.sha256 for part in item.parts.get(child, ())):
                return None
            if self._takes(item, child):
                break
            item = self._produced(next(candidates), wall)
        item.parts.setdefault(child, []).append(obj)
        item.sealed = self._has_all(item)
        self.look_again([item.name])
        self._seal_at[item.name] = inf if item.sealed else now + SEAL_S
        return item

    def _produced(self, name: str, wall: float) -> Item:
        item = self.items.get(name)
        if item is None:
            item = self._make(name, wall)
            item.produced = True
        return item

    def _takes(self, item: Item, child: str) -> bool:
        """Whether another file for `child` may still be of this produced item."""
        return item.produced and not item.sealed and len(item.parts.get(child, ())) < self._files(child)

    def next_number(self) -> Number:
        """A number that this home version never gave."""
        self._last_number += 1
        return (self._job.home, self._last_number)

    def _make(self, name: str, wall: float) -> Item:
        item = self.items[name] = Item(name, self.next_number(), {}, wall)
        self._waiting.append(name)
        return item

    def _has_all(self, item: Item) -> bool:
        return all(len(item.parts.get(entry, ())) >= self._files(entry) for entry in self._job.dag.entries)

    def restore(self, item: Item) -> None:
        """An item from the journal."""
        self.items[item.name] = item
        self._last_number = max(self._last_number, item.number[1])

    def wait_again(self, item: Item) -> None:
        """An unfinished item of an earlier run of this agent, or of another home."""
        item.state = "queued"
        item.sealed |= item.produced
        self._waiting.append(item.name)

    # --- into the DAG ------------------------------------------------------------------------------------------

    @property
    def _has_place(self) -> bool:
        """Another item may enter: by number, and by bytes, though one always may."""
        spec, count = self._job.spec, len(self.admitted)
        return count < spec.max_open and (not count or self.open_bytes < spec.max_open_bytes)

    def leaving(self, ready: Callable[[Item], bool] = lambda item: True) -> list[Parcel]:
        """Parcels of the items that may enter now, and of those that got a part since; of those that are `ready`."""
        while self._waiting and self._has_place:
            item = self.items[self._waiting.popleft()]
            if not item.pending or item.name in self.admitted:
                continue
            if not ready(item) or (self.open and not (item.produced or item.sealed or self._has_all(item))):
                self._blocked[item.name] = None
                continue
            item.state = "running"
            self.admitted.add(item.name)
            self._bytes[item.name] = size = sum(obj.size for obj in item.objects())
            self.open_bytes += size
            self._sent[item.name] = set()
            self._unsent[item.name] = None
        if not self._unsent:
            return []
        items = [item for item in map(self.items.__getitem__, self._unsent) if ready(item)]
        return [parcel for item in items for parcel in self._parcels(item)]

    def look_again(self, names: list[str] | None = None) -> None:
        """These, or all, may have now what they lacked: they come first among those that wait."""
        found = list(self._blocked) if names is None else [name for name in names if name in self._blocked]
        for name in found:
            del self._blocked[name]
        self._waiting.extendleft(reversed(found))

    def _parcels(self, item: Item) -> list[Parcel]:
        """What can leave of an item: parts, and tokens for the others once no more parts will come."""
        whole = item.sealed or not item.produced or not self.open
        sent, dag = self._sent[item.name], self._job.dag
        stamp = self._stamp(item)
        parcels = []
        for source in dag.sources:
            if source not in sent and (whole or len(item.parts.get(source, ())) >= self._files(source)):
                sent.add(source)
                carried = {HOME: stamp} if HOME in dag.carry[HOME, source] else {}
                objects = list(item.parts.get(source, ()))
                parcels.append(
                    Parcel(
                        self._job.id,
                        item.name,
                        HOME,
                        source,
                        stamp,
                        carried,
                        objects,
                        item.number,
                        item.strikes,
                        item.void,
                    )
                )
        if len(sent) == len(dag.sources):
            del self._unsent[item.name]
        return parcels

    def _stamp(self, item: Item) -> bytes:
        """The stamp of the source: of its bytes; of its name where they come one after another."""
        if item.produced:
            return sha256(b"produced\0" + item.name.encode()).digest()[:STAMP_BYTES]
        return source_stamp([obj for entry in sorted(item.parts) for obj in item.parts[entry]])

    def seal_due(self, now: float) -> None:
        """Produced items that got nothing more for a while are whole."""
        for name, at in list(self._seal_at.items()):
            if at <= now:
                self.items[name].sealed = True
                self.look_again([name])
                del self._seal_at[name]

    def next_seal(self) -> float:
        return min(self._seal_at.values(), default=inf)

    def over(self, item: Item) -> None:
        """The item is done, failed or cancelled: it makes room."""
        self.items[item.name] = item
        self.admitted.discard(item.name)
        self.open_bytes -= self._bytes.pop(item.name, 0)
        self._sent.pop(item.name, None)
        self._unsent.pop(item.name, None)
        self._seal_at.pop(item.name, None)
        self._blocked.pop(item.name, None)

    def close(self) -> None:
        """No more items, and no more parts of those that are here."""
        self.open = False
        self.look_again()

    def stop(self) -> None:
        """The job is over: nothing waits or leaves any more."""
        self.open = False
        for item in list(self.items.open()):
            self.over(item)
        self._waiting.clear()
        self._blocked.clear()

    def check(self) -> None:
        """Raise when more items are open than allowed, or an open one is over."""
        assert len(self.admitted) <= self._job.spec.max_open, "more open items than admitted"
        assert all(self.items[name].state == "running" for name in self.admitted), "an open item is over"
        assert set(self._bytes) == self.admitted, "bytes of items that are not open are counted"
        assert self.open_bytes == sum(self._bytes.values()), "open bytes differ"
