"""What of a home is remembered: its state as records, in the journal and on its deputies (DESIGN.md 78).

Every change is one record: appended to the journal, synced, and given to the deputies' streams. The same records,
applied to a fresh home, bring the state back, after a restart or on a deputy that takes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from jupiter_agent.core import records
from jupiter_agent.core.effects import Append, Effect, Send
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.intake import Intake, Item
from jupiter_agent.core.items import Items
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Deputies, HomeNews, HomeVersion, Obj, Register, RunStarted
from jupiter_agent.core.records import Entry, Record, apply_inside, home_record
from jupiter_agent.core.replication import Replication, Then
from jupiter_agent.core.strikes import OUT, suspects
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.transfer import Transfers


class Remembered:
    """The part of `Home` that outlives its process."""

    def __init__(self, job: Job, execution: Execution, around: Surroundings, transfers: Transfers) -> None:
        self.job = job
        self.intake = Intake(job)
        self.version = job.home
        """the home version under which this node is home"""
        self.copies = Replication(job, around, self.entries)
        self.mapping_s: float | None = None
        self.mapped_at: float | None = None
        self._execution, self._around, self._transfers = execution, around, transfers
        self._unsafe: dict[str, int] = {}
        """item -> number of its last change, while some living deputy lacks it"""
        self.asked: dict[tuple[str, int], Then] = {}
        """(client, its number) of calls whose answers wait -> what to do with one when another node is home"""
        self._inside: set[str] = set()
        """items that some run with strikes may be inside of"""
        self._over_known = False
        """the end is on every living deputy: it may be shown"""
        self._deputies = Deputies()
        """from the journal"""

    @property
    def items(self) -> Items:
        return self.intake.items

    def _record(self, kind: str, value: Any, now: float) -> list[Effect]:
        """A change: to the journal, and to the deputies."""
        change = records.entry(kind, value)
        self.copies.add(change, now)
        return [self._append(change.kind, change.value)]

    def _record_item(self, item: Item, now: float, fresh: dict[bytes, bytes] | None = None) -> list[Effect]:
        """The same for an item. `fresh`: bytes of results that travel with the copy."""
        self.copies.add(records.item_entry(item, fresh), now)
        self._unsafe.pop(item.name, None)  # in the order of the numbers
        if not self.copies.safe(self.copies.last):
            self._unsafe[item.name] = self.copies.last
        return [self._append("item", item)]

    def _append(self, kind: str, value: Any) -> Append:
        return Append(home_record(self.job.id, kind, value), sync=True)

    def _is_ready(self, item: Item) -> bool:
        return item.name not in self._unsafe and all(map(self._transfers.has, item.objects()))

    def when_safe(self, then: Then, now: float) -> list[Effect]:
        """Do this once all that happened so far is on every living deputy."""
        return self.copies.when(False, then, now)

    def answer_when_safe(self, asker: tuple[str, int], answer: Then, back: Then, now: float) -> list[Effect]:
        """Answer a call when all is safe; `back` hands it on where this home steps down before."""
        self.asked[asker] = back

        def then(at: float) -> list[Effect]:
            self.asked.pop(asker, None)
            return answer(at)

        return self.when_safe(then, now)

    def hand_back(self, now: float) -> list[Effect]:
        """This is home no longer: deputies of its own hear who is, whoever waits for an answer is led there."""
        asked, self.asked = self.asked, {}
        effects = [effect for back in asked.values() for effect in back(now)]
        if self.job.home == self.version:
            return effects
        news = HomeNews(self.job.id, self.job.home, Deputies())
        return effects + [Send(node, news) for node in self.copies.deputies.nodes if node != self.job.home.writer]

    def has(self, obj: Obj) -> bool:
        """Its bytes are in this node's store."""
        return self._transfers.has(obj)

    def shown(self, item: Item) -> str:
        """An item's state as clients see it: over when that is on every living deputy."""
        return "running" if item.name in self._unsafe and not item.pending else item.state

    def states(self) -> list[str]:
        """Of all items, as `shown`."""
        return [
            "running" if name in self._unsafe and state != "queued" else state for name, state in self.items.states()
        ]

    @property
    def state(self) -> str:
        """Of the job, as clients see it."""
        if self.job.over and self._over_known:
            return self.job.over
        if not self.job.mapped:
            return "mapping"
        return "waiting" if self.intake.idle and not self.job.over else "running"

    def entries(self) -> Iterator[Entry]:
        """The whole state for a new copy: the job, then what is open, then what is over."""
        job = self.job
        yield records.entry("job", (job.signed, self.version))
        yield records.entry("registers", list(job.registers.values()))
        yield from self._facts()
        for name, _ in sorted(self.items.states(), key=lambda each: each[1] not in ("queued", "running")):
            yield records.item_entry(self.items[name])

    def _facts(self) -> Iterator[Entry]:
        if self.mapped_at is not None:
            yield records.entry("mapped", self.mapped_at)
        if not self.intake.open:
            yield records.entry("close", None)
        if self.job.over:
            yield records.entry("over", self.job.over)

    def records(self) -> Iterator[Record]:
        """What a journal must hold to bring this home back: the shortest one."""
        yield home_record(self.job.id, "job", (self.job.signed, self.version))
        yield home_record(self.job.id, "register", self.copies.register)
        yield home_record(self.job.id, "registers", list(self.job.registers.values()))
        for item in self.items.frozen():
            yield home_record(self.job.id, "item", item)
        for fact in self._facts():
            yield home_record(self.job.id, fact.kind, fact.value)

    def restore(self, kind: str, value: Any) -> None:
        """Apply one journal record (of this job) when the agent starts again."""
        if kind == "item":
            item = msgspec.convert(value, Item)
            self.intake.restore(item)
            self._inside |= {item.name} if item.inside else set()
        elif kind == "registers":
            self.job.merge(msgspec.convert(value, list[Register]))
        elif kind == "register":
            _, self._deputies = msgspec.convert(value, tuple[HomeVersion, Deputies])
            self.job.involve(self._deputies.nodes)
        elif kind == "inside":
            apply_inside(self.items, value)
            self._inside.add(value[0])
        elif kind == "close":
            self.intake.open = False
        elif kind == "mapped":
            self.mapped_at = float(value)
            self.mapping_s = max(0.0, self.mapped_at - self.job.spec.submitted_at)
        elif kind == "over":
            self.intake.open = False
            self.job.end(str(value))

    def _hold(self, objects: list[Obj], source: str, now: float) -> list[Effect]:
        """Keep these; those that are not in the store are fetched."""
        here = [obj for obj in objects if self._transfers.has(obj)]
        away = [obj for obj in objects if not self._transfers.has(obj)]
        sources = [node for node in [source, *self.copies.deputies.nodes] if node]
        effects = self._transfers.keep(here, self._around.me, now)
        effects += self._transfers.keep(away, (sources or [self._around.me])[0], now)
        return effects + [e for obj in away for e in self._transfers.want(obj.sha256, obj.size, sources, now)]

    def _let_go(self, item: Item, now: float) -> None:
        """Its input is not needed any more; digest and size stay."""
        self._transfers.release(item.objects(), now)
        item.parts = {
            entry: [Obj(obj.name, obj.sha256, obj.size) for obj in parts] for entry, parts in item.parts.items()
        }

    def failed_inputs(self, name: str) -> list[tuple[str, str, Obj]]:
        """(item, entry, object) of the failed items, or of this one: a failed item's input is kept for `retry`."""
        names = [each for each, state in self.items.states() if state == "failed" and name in ("", each)]
        failed = [self.items[each] for each in names]
        return [(item.name, entry, obj) for item in failed for entry, objs in item.parts.items() for obj in objs]

    @property
    def makespan_s(self) -> float | None:
        """From submit to the last item that is over; None before the first."""
        end = self.items.last_end
        return end - self.job.spec.submitted_at if end is not None else None

    def too_late_for(self, items: list[Item]) -> bool:
        """The job has ended here, and one of these was accepted elsewhere and is open: it must come out."""
        return self.job.over in ("completed", "failed") and any(
            item.pending and (item.name not in self.items or self.items[item.name].pending) for item in items
        )

    def on_run(self, src: str, message: RunStarted, now: float) -> list[Effect]:
        """A run with strikes begins or ends: if its agent ends now, this home or the next one must know."""
        item, run = self.items.get(message.item), (src, self._around.boot_of(src), message.task)
        if item is None or not item.pending or message.over is (run not in item.inside):
            return []
        item.inside = [each for each in item.inside if each != run] + ([] if message.over else [run])
        self._inside.add(item.name)
        return self._record("inside", (item.name, item.inside, item.ended), now)

    def _lost_inside(self, now: float) -> tuple[list[Effect], list[Item]]:
        """Agents that ended inside of runs are struck off, and counted; with the items that they make dead letters."""
        effects, out = list[Effect](), []
        watched = [item for name in sorted(self._inside) if (item := self.items.get(name)) and item.pending]
        self._inside = {item.name for item in watched if item.inside}
        for item in watched:
            lost = [run for run in item.inside if self._has_ended(run[0], run[1])]
            if not lost:
                continue
            suspect, agents = suspects(lost)
            item.ended = list(dict.fromkeys([*item.ended, *agents]))
            item.inside = [run for run in item.inside if run[2] == suspect and run[:2] not in agents]
            effects += self._record("inside", (item.name, item.inside, item.ended), now)
            if 1 + len(item.ended) >= OUT:
                out.append(item)
        return effects, out

    def _has_ended(self, node: str, boot: int) -> bool:
        return self._around.is_gone(node) or self._around.boot_of(node) > boot
