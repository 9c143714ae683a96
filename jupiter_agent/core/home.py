"""Home of one job: takes items in, is the last join, keeps the results, says when it is over (DESIGN.md 7, 1, 4, 9).

An item's identity is (job, name); its number counts within the home version. At most `max_open` items are in the DAG
at a time, the others wait here. An item is finished when every in-edge of home has data or a token in one agreeing
set, committed as one record; or failed, when a task used up its retries. What is over is told to all hosts as
interval sets, and they free what they kept for it.

Every change is a journal record, then a copy on the deputies (`Replication`): an item enters the DAG, and a client
hears of it, when they have it; FINISHED is said when as many have the result as the job wants copies.
"""

from __future__ import annotations

from math import inf
from typing import Any

from jupiter_agent.core import records
from jupiter_agent.core.backlog import Backlog
from jupiter_agent.core.counters import BOOT_SHIFT
from jupiter_agent.core.effects import Deliver, Effect, Notice, Send, StopTask, StoreInline
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.ids import HOME, is_item_name
from jupiter_agent.core.intake import Item, Parts
from jupiter_agent.core.intervals import Number
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Copied, HomeKnown, ItemFailed, JobOver, Obj, Parcel, TaskReport, clipped
from jupiter_agent.core.remembered import Remembered
from jupiter_agent.core.strikes import UNPLACEABLE, poison_letter
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.telling import Telling
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.errors import EXIT_UNPLACEABLE, JupiterError


class Home(Remembered):
    """The acting home of a job on this node."""

    def __init__(self, job: Job, execution: Execution, around: Surroundings, transfers: Transfers) -> None:
        super().__init__(job, execution, around, transfers)
        self.over_at: float | None = None
        self.refused: tuple[int, str] | None = None
        """(exit code, why) no mapper could place the job"""
        self.reports: dict[tuple[str, int], TaskReport] = {}
        """the last report of each node in each of its boots"""
        self.telling = Telling(job, execution, around)
        self.backlog = Backlog(job, self.intake)
        self._arrived: set[str] = set()
        self._recorded_changes = 0
        self._script_up = False

    # --- intake ------------------------------------------------------------------------------------------------

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
            before = {id(obj) for obj in item.objects()}
            effects += records.lighten(item)
            by_reference = [obj for obj in item.objects() if id(obj) not in before]
            effects += self._keep({**parts, "": by_reference}, now) + self._record_item(item, now)
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
        return [*self._transfers.keep([obj], src, now), *self._record_item(item, now), *self._admit(now)]

    def _keep(self, parts: Parts, now: float) -> list[Effect]:
        return self._transfers.keep([obj for part in parts.values() for obj in part], self._around.me, now)

    def close(self, now: float) -> list[Effect]:
        """No more items. An item that lacks a part for some entry goes on without (that entry gets a token)."""
        if not self.intake.open:
            return []
        self.intake.close()
        return [*self._record("close", None, now), *self._admit(now), *self._end_if_over(now)]

    def _admit(self, now: float) -> list[Effect]:
        """Let waiting items and parts into the DAG: those whose records and bytes are where they must be."""
        return self._execution.emit(self.intake.leaving(self._is_ready), now) + self.backlog.step(now)

    # --- the last join -----------------------------------------------------------------------------------------

    def on_arrived(self, items: list[str], now: float) -> list[Effect]:
        """Parcels reached home for these items: commit what is complete and here."""
        return [effect for name in sorted(set(items)) for effect in self._try(name, now)]

    def on_object(self, now: float) -> list[Effect]:
        """Bytes are here that an input or a result may have lacked."""
        self.intake.look_again()
        return [*self._admit(now), *self.on_arrived(list(self._arrived), now)]

    def _try(self, name: str, now: float) -> list[Effect]:
        """Commit an item if it is complete; else try again when what it lacks besides parcels is here."""
        self._arrived.discard(name)
        item = self.items.get(name)
        if item is None:  # its record may still be on its way from another holder
            self._arrived.add(name)
        if item is None or not item.pending:
            return []
        join, has = self._execution.home_join, self._transfers.has
        for _, parcels in join.sets(name):
            if all(has(obj) for parcel in parcels for obj in parcel.objects):
                return self._commit(item, parcels, now)
        objects = join.objects(name)
        if why := self._transfers.refuted(objects):
            return self.on_failed(ItemFailed(self.job.id, name, HOME, self._around.me, 1, "transfer", why), now)
        if not all(map(has, objects)):
            self._arrived.add(name)
        return []

    def _commit(self, item: Item, parcels: list[Parcel], now: float) -> list[Effect]:
        effects: list[Effect] = []
        fresh: dict[bytes, bytes] = {}
        for parcel in parcels:
            for obj in parcel.objects:
                if obj.data is not None:
                    fresh[obj.sha256] = obj.data
                    effects.append(StoreInline(obj.sha256, obj.data))
                result = Obj(obj.name, obj.sha256, obj.size)
                effects += self._transfers.keep([result], self._around.me, now)
                item.results.append((parcel.src, result))
        item.state = "done"
        if self._script_up:
            effects += self._deliver(item)
        return effects + self._over(item, now, fresh)

    def on_script(self, up: bool) -> list[Effect]:
        """The process of the home script is ready, or gone: every process of it is told all results there are."""
        self._script_up = up
        done = [item for item in self.items.values() if item.state == "done" and up]
        return [effect for item in done for effect in self._deliver(item)]

    def _deliver(self, item: Item) -> list[Effect]:
        sinks = {sink: [obj for of, obj in item.results if of == sink] for sink, _ in item.results}
        return [Deliver(self.job.id, HOME, sink, item.name, objects) for sink, objects in sinks.items()]

    def on_failed(self, message: ItemFailed, now: float) -> list[Effect]:
        """A task gave an item up."""
        item = self.items.get(message.item)
        if item is None or not item.pending:
            return self.telling.spread(now)
        item.state, item.attempts = "failed", message.attempts
        node = self._around.name(message.node)
        where = {"task": message.task, "item": item.name, "node": node, "kind": message.kind}
        item.error = {**where, "error": clipped(message.error)}
        return self._over(item, now)

    def _over(self, item: Item, now: float, fresh: dict[bytes, bytes] | None = None) -> list[Effect]:
        """The item is done, failed or cancelled: record it, free it once it is copied, let the next one in."""
        item.finished_at, item.decided = self._around.wall(now), self.version
        if item.state != "failed":
            self._let_go(item, now)
        self.intake.over(item)
        effects = self._record_item(item, now, fresh)
        effects += self.copies.when(True, lambda at: self._finish(item.name, at), now)
        return effects + self._admit(now) + self._end_if_over(now)

    def _finish(self, name: str, now: float) -> list[Effect]:
        """FINISHED: nobody needs anything of the item any more, under whatever number."""
        item = self.items[name]
        return [] if item.pending else self._void(name, [item.number, *item.others], now)

    def _void(self, name: str, numbers: list[Number], now: float) -> list[Effect]:
        self._execution.on_over(name, numbers, now)
        return self.telling.spread(now)

    # --- the end -----------------------------------------------------------------------------------------------

    def cancel(self, now: float) -> list[Effect]:
        """End the job: what is not finished is cancelled, everywhere. Of a job that is over nothing changes."""
        if self.job.over == "cancelled":
            return []
        for item in list(self.items.open()):
            if item.pending:
                item.state, item.finished_at = "cancelled", self._around.wall(now)
                self._let_go(item, now)
        return self._end("cancelled", now)

    def refuse(self, error: JupiterError, now: float) -> list[Effect]:
        """No mapper can place the job: its items have failed, and their inputs are kept for `retry`."""
        why = f"{error.message}; {error.hint}"
        self.refused = (error.exit_code, why)
        kind = UNPLACEABLE if error.exit_code == EXIT_UNPLACEABLE else "mapper"
        me, waiting = self._around.me, list(self.items.open())
        letters = [ItemFailed(self.job.id, item.name, "", me, 0, kind, why) for item in reversed(waiting)]
        effects = [effect for letter in letters for effect in self.on_failed(letter, now)]
        return effects + (self.close(now) if waiting else self._end("failed", now))

    def _end_if_over(self, now: float) -> list[Effect]:
        if self.intake.open or not self.intake.idle or self.job.over:
            return []
        failed = any(state == "failed" for _, state in self.items.states())
        return self._end("failed" if failed else "completed", now)

    def _end(self, state: str, now: float) -> list[Effect]:
        self.job.end(state)
        self.intake.stop()
        self.over_at = self._around.wall(now)
        level = "info" if state == "completed" else "warning"
        notice = Notice(level, f"job {state}", {"job": self.job.id, "name": self.job.spec.name})
        effects = [*self._record("over", state, now), notice, *self._execution.stop(now)]
        return effects + self._announce_end(now)

    def _announce_end(self, now: float) -> list[Effect]:
        """Show the end once it is safe, and tell hosts to drop all once it is copied; a cancel at once when safe."""

        def known(at: float) -> list[Effect]:
            self._over_known = True
            return []

        when, copied = self.copies.when, self.job.over != "cancelled"
        return when(False, known, now) + when(copied, self.telling.end, now)

    # --- reports, time, journal ----------------------------------------------------------------------------------

    def on_report(self, report: TaskReport) -> list[Effect]:
        """Counters from a host; one of a job that is over is told so again."""
        key = (report.node, report.sequence >> BOOT_SHIFT)
        mine = self.reports.get(key)
        if mine is None or report.sequence > mine.sequence:
            self.reports[key] = report
        return [Send(report.node, JobOver(self.job.id, self.job.home, self.job.over))] if self.telling.over else []

    def on_mapped(self, now: float) -> list[Effect]:
        """Registers may have changed: keep them, and say when they are complete for the first time."""
        effects: list[Effect] = []
        if self._recorded_changes != self.job.changes:
            self._recorded_changes = self.job.changes
            effects += self._record("registers", list(self.job.registers.values()), now)
        if self.mapped_at is not None or not self.job.mapped:
            return effects
        self.mapped_at = self._around.wall(now)
        self.mapping_s = max(0.0, self.mapped_at - self.job.spec.submitted_at)
        fields = {"job": self.job.id, "seconds": round(self.mapping_s, 3)}
        return [*effects, Notice("info", "job mapped", fields), *self._record("mapped", self.mapped_at, now)]

    @property
    def moved_bytes(self) -> int:
        """Bytes of objects handed from one node to another for this job, as last reported."""
        own = self._execution.outbox.moved_bytes
        return own + sum(report.moved_bytes for (node, _), report in self.reports.items() if node != self._around.me)

    def next_deadline(self) -> float:
        return min(self.telling.next_deadline(), self.intake.next_seal(), self.copies.next_deadline())

    def on_deadline(self, now: float) -> list[Effect]:
        """Tell the hosts what is over: items, or the whole job (a few times; later on request)."""
        sealed: list[Effect] = []
        if self.copies.next_deadline() <= now:
            sealed = self.on_members(now)
        if self.intake.next_seal() <= now:
            self.intake.seal_due(now)
            sealed += self._admit(now)
        return [*sealed, *(self.telling.on_deadline(now) if self.telling.next_deadline() <= now else [])]

    # --- deputies, journal -----------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Effect]:
        """A new job: its first records, and its deputies."""
        return [self._append("job", (self.job.signed, self.version)), *self.on_members(now)]

    def on_members(self, now: float) -> list[Effect]:
        """Somebody came or went: name other deputies if need be; what waited for the gone need not any longer."""
        effects: list[Effect] = []
        if self.copies.replace():
            self.job.involve(self.copies.deputies.nodes)
            effects += [self._append("register", self.copies.register), self.copies.notice()]
        lost, out = self._lost_inside(now)
        return effects + lost + self._give_up(out, now) + self.copies.on_deadline(now) + self._after_copies(now)

    def on_copied(self, src: str, message: Copied, now: float) -> list[Effect]:
        """A deputy confirms records."""
        return self.copies.on_copied(src, message, now) + self._after_copies(now)

    def on_known(self, src: str, message: HomeKnown, now: float) -> list[Effect]:
        """A participant confirms the register."""
        return self.copies.on_known(src, message, now) + self._after_copies(now)

    def _after_copies(self, now: float) -> list[Effect]:
        """Items that are safe now may enter the DAG."""
        safe = self.copies.safe_among(self._unsafe)
        for name in safe:
            del self._unsafe[name]
        self.intake.look_again(safe)
        return self._admit(now) if safe else []

    def resume(self, now: float, patient_until: float = 0.0, source: str = "", ended: bool = True) -> list[Effect]:
        """After the journal is replayed: keep the results, and put the unfinished items into the DAG again.

        `patient_until`: deputies not heard of by then are gone; -inf: another was home. What is not in the store is
        fetched from the deputies, or from `source`, the home before this one, whose lost results are made again.
        `ended`: that home, or this agent, did, perhaps for what it ran.
        """
        self.copies.start(self._deputies, patient_until)
        effects: list[Effect] = []
        again = patient_until > -inf
        pending = [item for item in self.items.open() if item.pending]
        lost, out = self._lost_inside(now)
        for item in pending[: self.job.spec.max_open]:  # home ended with them inside: a first strike, then others
            item.strikes = 1 + len(item.ended) if ended or item.ended else 0
        for item in self.items.values():
            if item.pending and self.job.over:
                item.state = "cancelled"
            elif not again and item.state == "done" and not all(self.has(obj) for _, obj in item.results):
                item.state, item.results, item.decided, item.finished_at = "queued", [], None, None
            self.items[item.name] = item
            effects += self._hold(records.kept(item), source, now)
            if item.pending:
                self._unsafe[item.name] = self.copies.last
                if item not in out:
                    self.intake.wait_again(item)
        over = [name for name, state in self.items.states() if state not in ("queued", "running")]
        effects += self.copies.when(True, lambda at: [e for name in over for e in self._finish(name, at)], now)
        effects += self.on_members(now)
        if self.job.over:
            self._over_known = True
            return effects + self._announce_end(now)
        return effects + lost + self._give_up(out, now) + self._admit(now) + self._end_if_over(now)

    def _give_up(self, out: list[Item], now: float) -> list[Effect]:
        """Dead letters, of items that ended too many agents."""
        ids, name = (self.job.id, self._around.me), self._around.name
        letters = [poison_letter(ids, item.name, item.ended, name) for item in out]
        return [effect for letter in letters for effect in self.on_failed(letter, now)]

    # --- what other holders had ----------------------------------------------------------------------------------

    def take_over(self, kind: str, value: Any, now: float) -> list[Effect]:
        """Merge a record that a former home or deputy hands over (rule 4). PeerError: it is none."""
        if kind == "item":
            theirs, stores = records.stored(records.to_item(value))
            self._transfers.stored.update(store.sha256 for store in stores)
            return [*stores, *self._merge(theirs, now)]
        if kind == "registers":
            self.job.merge(records.to_registers(value))
        elif kind == "close" or (kind == "over" and value in ("completed", "failed")):
            return self.close(now)  # whether it is completed is this home's to say
        elif kind == "over" and value == "cancelled":
            return self.cancel(now)
        elif kind == "mapped" and self.mapped_at is None and isinstance(value, float):
            self.restore(kind, value)
        elif kind == "led" and self.copies.name_former(records.to_nodes(value)):
            return [self._append("register", self.copies.register), *self.copies.tell(now)]
        return []

    def _merge(self, theirs: Item, now: float) -> list[Effect]:
        mine = self.items.get(theirs.name)
        item = records.merged(mine, theirs) if mine else theirs
        if item == mine or (mine is not None and theirs.pending and theirs.number in mine.void):
            return []
        anew = item.pending and (mine is None or not mine.pending or not records.same_input(mine, theirs))
        if mine is not None and not records.same_input(mine, theirs):
            item.others, item.number = [*item.others, item.number], self.intake.next_number()
            item.void = item.others
            self._void(item.name, item.void, now)  # nothing of either may mix with what runs from now on
        effects = self._hold(records.kept(item), "", now)
        if mine is not None:
            self._transfers.release(records.kept(mine), now)
            item.state = mine.state if mine.pending and item.pending and not anew else item.state
        if anew or not item.pending:
            self.intake.over(item)
        self.intake.restore(item)
        self._inside |= {item.name} if item.inside else set()
        if anew:
            self.intake.wait_again(item)
        if item.pending:
            self._arrived.add(item.name)
        effects += self._record_item(item, now)
        effects += self.copies.when(True, lambda at: self._finish(item.name, at), now)
        return effects + self._admit(now) + self.on_object(now) + self._end_if_over(now)

    def retire(self, now: float) -> list[Effect]:
        """Another node is home: the home script ends, nothing waits here any more."""
        self.intake.stop()
        script = [StopTask(self.job.id, HOME)] if self.job.spec.home_task else []
        return [*self.hand_back(now), *self.backlog.end(now), *script]

    def abandon(self, now: float) -> None:
        """The job is refused after all: nothing of it was told to anybody, nothing of it stays."""
        self._execution.stop(now)
        for item in self.items.values():
            self._let_go(item, now)

    def check(self) -> None:
        self.intake.check()
