"""Home of one job: takes items in, is the last join, keeps the results, says when it is over (DESIGN.md 7, 1 and 4).

An item's identity is (job, name); its number counts within the home version. At most `max_open` items are in the DAG
at a time, the others wait here. An item is finished when every in-edge of home has data or a token in one agreeing
set, committed as one record; or failed, when a task used up its retries. What is over is told to all hosts as
interval sets, and they free what they kept for it.

Every change is a journal record first (`Append`), so a home that starts again replays them and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import msgspec

from jupiter_agent.core.counters import BOOT_SHIFT
from jupiter_agent.core.effects import Append, Deliver, Effect, Notice, Send, StoreInline
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.ids import HOME, is_item_name
from jupiter_agent.core.intake import Intake, Item, Parts
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import (
    Finished,
    ItemFailed,
    JobOver,
    Obj,
    Parcel,
    Register,
    RunStarted,
    TaskReport,
    clipped,
)
from jupiter_agent.core.strikes import OUT, home_letter
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.transfer import Transfers

SPREAD_S = 0.1
OVER_AGAIN_S = 2.0
OVER_TIMES = 5


Record = tuple[str, str, str, Any]
"""(kind of machine, job id, what, value as plain data)"""


def home_record(job: str, kind: str, value: Any) -> Record:
    """One journal record of a job's home."""
    return ("home", job, kind, msgspec.to_builtins(value, builtin_types=(bytes,)))


class Home:
    """The acting home of a job on this node."""

    def __init__(self, job: Job, execution: Execution, around: Surroundings, transfers: Transfers) -> None:
        self.job = job
        self.intake = Intake(job)
        self.mapping_s: float | None = None
        self.mapped_at: float | None = None
        self.over_at: float | None = None
        self.unplaceable = ""
        """why no mapper could place the job"""
        self.reports: dict[tuple[str, int], TaskReport] = {}
        """the last report of each node in each of its boots"""
        self._execution, self._around, self._transfers = execution, around, transfers
        self._arrived: set[str] = set()
        self._spread_at = inf
        self._over_left = 0
        self._recorded_changes = 0
        self._script_up = False

    # --- intake ------------------------------------------------------------------------------------------------

    @property
    def items(self) -> dict[str, Item]:
        return self.intake.items

    def put(
        self, inputs: list[tuple[str, Obj]], task: str, rename: bool, now: float
    ) -> tuple[list[Effect], list[str], list[str]]:
        """Take items in: (effects, accepted names, names whose same bytes are here already). All or nothing.

        UsageError: intake closed, an unknown entry, a bad name, a name with other bytes (without `rename`).
        """
        planned, ignored = self.intake.plan(inputs, task, rename)
        self._transfers.discard([obj for name, obj in inputs if name in ignored], now)
        effects: list[Effect] = []
        for name, parts in planned.items():
            item = self.intake.take(name, parts, self._around.wall(now))
            effects += [*self._keep(parts, now), self._record("item", item)]
        return effects + self._admit(now), list(planned), ignored

    def on_produced(self, src: str, child: str, obj: Obj, now: float) -> list[Effect]:
        """A home script or non-DAG task on node `src` made an item, or a part of one."""
        known = child in self.job.dag.sources and is_item_name(obj.name)
        if not self.intake.open or self.job.over or not known:
            fields = {"job": self.job.id, "file": obj.name, "for": child}
            return [Notice("warning", "file not taken in", fields)]
        item = self.intake.produce(child, obj, now, self._around.wall(now))
        if item is None:
            return []
        return [*self._transfers.keep([obj], src, now), self._record("item", item), *self._admit(now)]

    def _keep(self, parts: Parts, now: float) -> list[Effect]:
        return self._transfers.keep([obj for part in parts.values() for obj in part], self._around.me, now)

    def close(self, now: float) -> list[Effect]:
        """No more items. An item that lacks a part for some entry goes on without (that entry gets a token)."""
        if not self.intake.open:
            return []
        self.intake.open = False
        return [self._record("close", None), *self._admit(now), *self._end_if_over(now)]

    def _admit(self, now: float) -> list[Effect]:
        """Let waiting items and parts into the DAG."""
        return self._execution.emit(self.intake.leaving(), now)

    # --- the last join -----------------------------------------------------------------------------------------

    def on_arrived(self, items: list[str], now: float) -> list[Effect]:
        """Parcels reached home for these items: commit what is complete and here."""
        self._arrived.update(items)
        return self.on_object(now)

    def on_object(self, now: float) -> list[Effect]:
        """Try the items that have something at home; large results may have arrived meanwhile."""
        effects: list[Effect] = []
        for name in sorted(self._arrived):
            item = self.items.get(name)
            if item is None or not item.pending:
                self._arrived.discard(name)
                continue
            agreeing = (parcels for _, parcels in self._execution.home_join.sets(name))
            here = (parcels for parcels in agreeing if all(self._transfers.has(o) for p in parcels for o in p.objects))
            if (parcels := next(here, None)) is not None:
                self._arrived.discard(name)
                effects += self._commit(item, parcels, now)
        return effects

    def _commit(self, item: Item, parcels: list[Parcel], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for parcel in parcels:
            for obj in parcel.objects:
                if obj.data is not None:
                    effects.append(StoreInline(obj.sha256, obj.data))
                result = Obj(obj.name, obj.sha256, obj.size)
                effects += self._transfers.keep([result], self._around.me, now)
                item.results.append((parcel.src, result))
        item.state = "done"
        if self._script_up:
            effects += self._deliver(item)
        return effects + self._over(item, now)

    def on_script(self, up: bool) -> list[Effect]:
        """The process of the home script is ready, or gone: every process of it is told all results there are."""
        self._script_up = up
        done = [item for item in self.items.values() if item.state == "done" and up]
        return [effect for item in done for effect in self._deliver(item)]

    def _deliver(self, item: Item) -> list[Effect]:
        sinks = dict.fromkeys(sink for sink, _ in item.results)
        return [
            Deliver(self.job.id, HOME, sink, item.name, [obj for of, obj in item.results if of == sink])
            for sink in sinks
        ]

    def on_failed(self, message: ItemFailed, now: float) -> list[Effect]:
        """A task gave an item up."""
        item = self.items.get(message.item)
        if item is None or not item.pending:
            return self._spread(now)
        item.state, item.attempts = "failed", message.attempts
        node = self._around.name(message.node)
        where = {"task": message.task, "item": item.name, "node": node, "kind": message.kind}
        item.error = {**where, "error": clipped(message.error)}
        return self._over(item, now)

    def _over(self, item: Item, now: float) -> list[Effect]:
        """The item is done, failed or cancelled: record it, free it everywhere, let the next one in."""
        item.finished_at = self._around.wall(now)
        if item.state != "failed":
            self._let_go(item, now)
        self.intake.over(item)
        effects: list[Effect] = [self._record("item", item)]
        self._execution.finished.add(item.number)
        self._execution.on_finished(now)
        return effects + self._spread(now) + self._admit(now) + self._end_if_over(now)

    def failed_inputs(self, name: str) -> list[tuple[str, str, Obj]]:
        """(item, entry, object) of the failed items, or of this one: a failed item's input is kept for `retry`."""
        failed = [item for item in self.items.values() if item.state == "failed" and name in ("", item.name)]
        return [(item.name, entry, obj) for item in failed for entry, objs in item.parts.items() for obj in objs]

    def _let_go(self, item: Item, now: float) -> None:
        """Its input is not needed any more; digest and size stay."""
        self._transfers.release(item.objects(), now)
        item.parts = {
            entry: [Obj(obj.name, obj.sha256, obj.size) for obj in parts] for entry, parts in item.parts.items()
        }

    def _spread(self, now: float) -> list[Effect]:
        self._spread_at = min(self._spread_at, now + SPREAD_S)
        return []

    # --- the end -----------------------------------------------------------------------------------------------

    def cancel(self, now: float) -> list[Effect]:
        """End the job: what is not finished is cancelled, everywhere. Of a job that is over nothing changes."""
        if self.job.over:
            return []
        for item in self.items.values():
            if item.pending:
                item.state, item.finished_at = "cancelled", self._around.wall(now)
                self._let_go(item, now)
        return self._end("cancelled", now)

    def _end_if_over(self, now: float) -> list[Effect]:
        if self.intake.open or not self.intake.idle or self.job.over:
            return []
        failed = any(item.state == "failed" for item in self.items.values())
        return self._end("failed" if failed else "completed", now)

    def _end(self, state: str, now: float) -> list[Effect]:
        self.job.end(state)
        self.intake.stop()
        self.over_at = self._around.wall(now)
        self._spread_at, self._over_left = now, OVER_TIMES
        level = "info" if state == "completed" else "warning"
        notice = Notice(level, f"job {state}", {"job": self.job.id, "name": self.job.spec.name})
        return [self._record("over", state), notice, *self._execution.stop(now)]

    # --- reports, time, journal ----------------------------------------------------------------------------------

    def on_report(self, report: TaskReport) -> list[Effect]:
        """Counters from a host; one of a job that is over is told so again."""
        key = (report.node, report.sequence >> BOOT_SHIFT)
        mine = self.reports.get(key)
        if mine is None or report.sequence > mine.sequence:
            self.reports[key] = report
        return [Send(report.node, JobOver(self.job.id, self.job.home, self.job.over))] if self.job.over else []

    def on_mapped(self, now: float) -> list[Effect]:
        """Registers may have changed: keep them, and say when they are complete for the first time."""
        effects: list[Effect] = []
        if self._recorded_changes != self.job.changes:
            self._recorded_changes = self.job.changes
            effects.append(self._record("registers", list(self.job.registers.values())))
        if self.mapped_at is not None or not self.job.mapped:
            return effects
        self.mapped_at = self._around.wall(now)
        self.mapping_s = max(0.0, self.mapped_at - self.job.spec.submitted_at)
        fields = {"job": self.job.id, "seconds": round(self.mapping_s, 3)}
        return [*effects, Notice("info", "job mapped", fields), self._record("mapped", self.mapped_at)]

    @property
    def moved_bytes(self) -> int:
        """Bytes of objects handed from one node to another for this job, as last reported."""
        own = self._execution.outbox.moved_bytes
        return own + sum(report.moved_bytes for (node, _), report in self.reports.items() if node != self._around.me)

    @property
    def makespan_s(self) -> float | None:
        """From submit to the last item that is over; None before the first."""
        ends = [item.finished_at for item in self.items.values() if item.finished_at is not None]
        return max(ends) - self.job.spec.submitted_at if ends else None

    @property
    def state(self) -> str:
        if self.job.over:
            return self.job.over
        if not self.job.mapped:
            return "mapping"
        return "waiting" if self.intake.idle else "running"

    def next_deadline(self) -> float:
        return min(self._spread_at, self.intake.next_seal())

    def on_deadline(self, now: float) -> list[Effect]:
        """Tell the hosts what is over: items, or the whole job (a few times; later on request)."""
        sealed: list[Effect] = []
        if self.intake.next_seal() <= now:
            self.intake.seal_due(now)
            sealed = self._admit(now)
        if self._spread_at > now:
            return sealed
        self._spread_at = inf
        job = self.job
        message: Finished | JobOver = Finished(job.id, job.home, self._execution.finished.to_intervals())
        if job.over:
            self._over_left -= 1
            self._spread_at = now + OVER_AGAIN_S if self._over_left > 0 else inf
            message = JobOver(job.id, job.home, job.over)
        others = [node for node in job.participants() if node != self._around.me and not self._around.is_gone(node)]
        return [*sealed, *(Send(node, message) for node in others)]

    def _record(self, kind: str, value: Any) -> Append:
        return Append(home_record(self.job.id, kind, value), sync=True)

    def records(self) -> Iterator[Record]:
        """What a journal must hold to bring this home back: the shortest one."""
        yield home_record(self.job.id, "job", (self.job.signed, self.job.home))
        yield home_record(self.job.id, "registers", list(self.job.registers.values()))
        for item in self.items.values():
            yield home_record(self.job.id, "item", item)
        if self.mapped_at is not None:
            yield home_record(self.job.id, "mapped", self.mapped_at)
        if not self.intake.open:
            yield home_record(self.job.id, "close", None)
        if self.job.over:
            yield home_record(self.job.id, "over", self.job.over)

    def restore(self, kind: str, value: Any) -> None:
        """Apply one journal record (of this job) when the agent starts again."""
        if kind == "item":
            item = msgspec.convert(value, Item)
            self.intake.restore(item)
            if item.state in ("done", "failed", "cancelled"):
                self._execution.finished.add(item.number)
        elif kind == "registers":
            self.job.merge(msgspec.convert(value, list[Register]))
        elif kind == "inside":
            name, inside = value
            self.items[name].inside = [(boot, task) for boot, task in inside]
        elif kind == "close":
            self.intake.open = False
        elif kind == "mapped":
            self.mapped_at = float(value)
            self.mapping_s = max(0.0, self.mapped_at - self.job.spec.submitted_at)
        elif kind == "over":
            self.intake.open = False
            self.job.end(str(value))

    def resume(self, now: float) -> list[Effect]:
        """After the journal is replayed: keep the results, and put the unfinished items into the DAG again."""
        effects: list[Effect] = []
        open_before = [item for item in self.items.values() if item.pending][: self.job.spec.max_open]
        for item in open_before:  # this agent ended with them inside: a first strike, and what was announced (rule 11)
            item.strikes = 1 + len({boot for boot, _ in item.inside})
        for item in self.items.values():
            self._transfers.keep([obj for _, obj in item.results], self._around.me, now)
            if item.pending and self.job.over:
                item.state = "cancelled"
            elif item.pending:
                self._transfers.keep(item.objects(), self._around.me, now)
                if item.strikes < OUT:
                    self.intake.wait_again(item)
        if self.job.over:
            return []
        for item in open_before:
            if item.strikes >= OUT:
                effects += self.on_failed(home_letter(self.job.id, item.name, self._around.me), now)
        return effects + self._admit(now) + self._end_if_over(now)

    def on_own_run(self, message: RunStarted) -> list[Effect]:
        """A run with strikes begins or ends on home's own node: if this agent ends now, its next life must know."""
        item, run = self.items.get(message.item), (self._around.boot, message.task)
        if item is None or message.over is (run not in item.inside):
            return []
        (item.inside.remove if message.over else item.inside.append)(run)
        return [self._record("inside", (message.item, item.inside))]

    def abandon(self, now: float) -> None:
        """The job is refused after all: nothing of it was told to anybody, nothing of it stays."""
        self._execution.stop(now)
        for item in self.items.values():
            self._let_go(item, now)

    def check(self) -> None:
        self.intake.check()
