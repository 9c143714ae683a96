"""One job's items on this node: joins fire, attempts run, manifests leave (DESIGN.md 7, rules 2, 3 and 5).

Owns: the join buffers of the tasks hosted here (and of home, when this node is it), the attempts made here, the
outbox. A parcel is acknowledged when it is held; an agreeing set starts an attempt once per distinct value of the
stamps its outputs must carry; the outputs of an attempt form one manifest whose digest is its stamp; every out-edge
gets a parcel, empty where there is nothing to say. A set of tokens only is not run but passed on. A failed attempt is
repeated with back-off until its retries are used up; then home is told, once, and the item is failed.

Must not know: who decides where tasks run, what an item means to its submitter, how bytes travel.
"""

from __future__ import annotations

from math import inf

from jupiter_agent.core.begun import Begun
from jupiter_agent.core.counters import Counters, Run, run_of
from jupiter_agent.core.effects import Effect, Notice, Send, StopTask
from jupiter_agent.core.events import Produced, RunDone, RunFailed
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.intervals import FinishedSet, Number
from jupiter_agent.core.job import Job
from jupiter_agent.core.join import JoinBuffer
from jupiter_agent.core.letters import Letters
from jupiter_agent.core.manifest import beyond_a_message, manifest_stamp, passed_on
from jupiter_agent.core.messages.jobs import (
    SINK,
    Injected,
    ItemFailed,
    Obj,
    Parcel,
    ParcelReceived,
    Registers,
    RunStarted,
)
from jupiter_agent.core.messages.supervision import Moved
from jupiter_agent.core.outbox import Outbox, lightened
from jupiter_agent.core.runqueue import Attempt, RunQueue, start_runs
from jupiter_agent.core.starting import STREAMED, start_task
from jupiter_agent.core.strikes import ALONE, announcement, dead_letter, strikes_of, watchers
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.transfer import Transfers

PROCESS_LOST = "exit"
RETRY_S = 0.2
RETRY_FACTOR = 4
OVERLAP = 64
"""Items that a v5 task may have in its queue"""


class Execution:
    """The executor of one job on one node. `arrived_home` collects the items whose parcels reached home here."""

    def __init__(self, job: Job, around: Surroundings, queue: RunQueue, transfers: Transfers) -> None:
        self._job, self._around, self._queue, self._transfers = job, around, queue, transfers
        self.outbox = Outbox(job, around)
        self.home_join = JoinBuffer(job.dag.in_edges(HOME))
        self.arrived_home: list[str] = []
        self.letters = Letters(job)
        self._joins: dict[str, JoinBuffer] = {}
        self._begun = Begun(job, around, queue)
        self._fetching: list[Attempt] = []
        self._retries: list[tuple[float, Attempt]] = []
        self.finished = FinishedSet()
        """numbers of the items that are over, as home said"""
        self._numbers: dict[str, Number] = {}
        self._started: set[str] = set()
        self.counters = Counters(around.boot)
        self._bundle_open = False

    # --- tasks hosted here -----------------------------------------------------------------------------------

    def on_bundle(self, now: float) -> list[Effect]:
        """The app is unpacked here: processes may start."""
        self._bundle_open = True
        return self.on_registers(now)

    def on_registers(self, now: float) -> list[Effect]:
        """Registers or members changed: start what came here, stop what left, send what is due elsewhere."""
        effects: list[Effect] = []
        if self._job.over:
            return effects
        hosted = set(self._job.hosted_by(self._around.me))
        for task in [t for t in self._job.tasks if t in hosted and t not in self.counters.tasks]:
            self.counters.host(task, now)
            self._joins.setdefault(task, JoinBuffer(self._job.dag.in_edges(task)))
            overlap = self._job.tasks[task].contract == "v5"
            places = OVERLAP if overlap else self._job.tasks[task].parallel
            self._queue.lane((self._job.id, task), self._job.ranks[task], places, overlap)
        if self._bundle_open:
            due = hosted if self._job.mapped else {task for task, join in self._joins.items() if join.items()} & hosted
            for task in [t for t in self._job.tasks if t in due - self._started]:
                self._started.add(task)
                self._queue.open(self._job.id, task)
                if self._job.tasks[task].contract == SINK:
                    self.counters.up(task, now)
                else:
                    effects.append(start_task(self._job, self._around, self._job.tasks[task]))
            effects += self._beside(hosted)
        effects += self._leave([task for task in self._joins if task not in hosted])
        for missed in self._begun.missed(hosted, {task: join.items() for task, join in self._joins.items()}):
            self._fire(*missed)
        return effects + self._stop_moved() + self._flush(now) + self._settle(now)

    def _leave(self, tasks: list[str]) -> list[Effect]:
        """These are not here. Of those that just went, what waits is given up here, and what has begun is said."""
        left = self._begun.leaving(tasks)
        for attempt in [attempt for _, attempt in self._retries if attempt.task in left]:
            self._begun.forget(attempt)
        self._retries = [(due, attempt) for due, attempt in self._retries if attempt.task not in left]
        self._fetching = [attempt for attempt in self._fetching if attempt.task not in left]
        return self._begun.tell(left)

    def _stop_moved(self) -> list[Effect]:
        """End the processes of tasks that went elsewhere, once nothing runs in them."""
        hosted = self._job.hosted_by(self._around.me)
        idle = [task for task in self._started - {HOME, *hosted} if not self._has_attempts(task)]
        self._started.difference_update(idle)
        return [StopTask(self._job.id, task) for task in idle]

    def _beside(self, hosted: set[str]) -> list[Effect]:
        """Start the home script, if this is home, and the non-DAG tasks that are assigned to this node."""
        spec = self._job.spec
        wanted = [task for task in spec.nondag if task.name in hosted]
        if spec.home_task and self._job.home.writer == self._around.me:
            wanted.append(spec.home_task)
        fresh = [task for task in wanted if task.name not in self._started]
        self._started.update(task.name for task in fresh)
        return [start_task(self._job, self._around, task) for task in fresh]

    def on_task_up(self, task: str, now: float) -> None:
        self.counters.up(task, now)

    def on_task_down(self, task: str, now: float) -> None:
        self.counters.down(task, now)

    # --- parcels -----------------------------------------------------------------------------------------------

    def on_parcel(self, src: str, parcel: Parcel, now: float) -> list[Effect]:
        """Hold a parcel that is for a task here, and say so; tell a sender with old registers about the newer ones."""
        job = self._job
        if parcel.dst != HOME and parcel.dst not in job.tasks:
            return []
        if job.host(parcel.dst) != self._around.me:
            known = [register for register in job.tellable(self._around) if register.task == parcel.dst]
            return [Send(src, Registers(job.id, job.home, known))]
        if parcel.dst != HOME and parcel.dst not in self._joins:
            return []
        ack = ParcelReceived(
            job.id, parcel.item, parcel.src, parcel.dst, parcel.stamp, parcel.carried, self._around.boot
        )
        then = self._settle if parcel.dst in {HOME, *self._started} else self.on_registers
        return [Send(src, ack), *self._accept(src, parcel, now), *then(now)]

    def emit(self, parcels: list[Parcel], now: float) -> list[Effect]:
        """Owe these parcels: of a manifest, or home's injected items."""
        effects: list[Effect] = []
        for whole in parcels:
            parcel, stores = lightened(whole)
            effects += stores
            if parcel.number is not None:
                self._numbers[parcel.item] = parcel.number
            effects += self._transfers.keep(parcel.objects, self._around.me, now)
            effects += self.outbox.put(parcel, now)
        return effects

    def on_signal(self, src: str, message: ParcelReceived | RunStarted) -> None:
        """A receiver holds a parcel, or begins to run it."""
        if isinstance(message, RunStarted):
            self.outbox.on_run(src, message)
        else:
            self.outbox.on_received(src, message)

    def _flush(self, now: float) -> list[Effect]:
        """Send what is due again; give up what ended too many of its hosts."""
        effects = self.outbox.flush(now)
        poisoned, self.outbox.poisoned = self.outbox.poisoned, []
        for owed in poisoned:
            letter = dead_letter(owed.parcel, self._around.me, owed.lost, self._around.name)
            effects += self.letters.give_up(letter, now)
        return effects

    def on_finished(self, now: float) -> None:
        """`finished` grew: free everything that was kept for the items in it."""
        for item in [item for item, number in self._numbers.items() if number in self.finished]:
            self._free(item, now)

    def on_over(self, item: str, numbers: list[Number], now: float) -> None:
        """The same for one item that is over under these numbers."""
        self.finished.include(numbers)
        if item in self._numbers and self._numbers[item] in self.finished:
            self._free(item, now)

    def _free(self, item: str, now: float) -> None:
        self._numbers.pop(item, None)
        freed = self.outbox.free(item)
        for join in [*self._joins.values(), self.home_join]:
            freed += join.parcels(item)
            join.drop(item)
        for parcel in freed:
            self._transfers.release(parcel.objects, now)
        self.letters.free(item)
        self.counters.free(item)
        self._queue.drop_item(self._job.id, item)
        if self._fetching:
            self._fetching = [attempt for attempt in self._fetching if attempt.item != item]
        if self._retries:
            self._retries = [(due, attempt) for due, attempt in self._retries if attempt.item != item]
        self._begun.free(item, self._joins)

    def stop(self, now: float) -> list[Effect]:
        """The job is over: report for the last time, end its processes, forget its items."""
        effects: list[Effect] = [StopTask(self._job.id)]
        if self.counters.tasks:
            self.counters.touch(now)
            effects += self._report(inf)
        for item in list(self._numbers):
            self._free(item, now)
        self._queue.drop(self._job.id)
        return effects

    def _accept(self, src: str, parcel: Parcel, now: float) -> list[Effect]:
        if parcel.number is None or parcel.number in self.finished:
            return []
        if self.finished.include(parcel.instead_of):
            self.on_finished(now)
        self._numbers[parcel.item] = parcel.number
        join = self.home_join if parcel.dst == HOME else self._joins[parcel.dst]
        if not join.add(parcel):
            return self._transfers.also_at(parcel.objects, src, now)
        self.counters.came(parcel, now)
        effects = self._transfers.keep(parcel.objects, src, now, durable=parcel.dst == HOME)
        if parcel.dst == HOME:
            self.arrived_home.append(parcel.item)
        else:
            self._fire(parcel.dst, parcel.item)
        return effects

    # --- firing and running ------------------------------------------------------------------------------------

    def _fire(self, task: str, item: str) -> None:
        """Every complete agreeing set whose projection is new may become an attempt: the first whose bytes are here."""
        known = [attempt.parcels for attempt in self._fetching if (attempt.task, attempt.item) == (task, item)]
        for stamps, parcels in self._joins[task].sets(item):
            attempt = Attempt((self._job.id, task, item), stamps, parcels)
            attempt.projection = frozenset((a, s) for a, s in stamps.items() if a in self._job.dag.need[task])
            if self._begun.has(attempt) or parcels in known:
                continue
            attempt.strikes = strikes_of(parcels)
            if self._job.tasks[task].contract in STREAMED:
                attempt.inputs = [parcel for parcel in self._joins[task].parcels(item) if parcel in parcels]
            self._fetching.append(attempt)

    def _settle(self, now: float) -> list[Effect]:
        """Pass on sets of tokens, queue what has its inputs, start what has a place."""
        effects: list[Effect] = []
        waiting, self._fetching = self._fetching, []
        for attempt in waiting:
            if self._begun.has(attempt):
                continue
            objects = [obj for parcel in attempt.parcels for obj in parcel.objects]
            if why := self._transfers.refuted(objects):
                attempt.tries = self._job.tasks[attempt.task].retries
                effects += self.on_run_failed(attempt, RunFailed(0, "transfer", why), now)
                continue
            if not self.counters.arrived(attempt, self._transfers.has, now):
                self._fetching.append(attempt)
                continue
            self._begun.add(attempt)
            if objects and self._job.tasks[attempt.task].contract == SINK:
                effects += self._pass_on(attempt, now)
            elif objects:
                attempt.watchers = watchers(self._job, attempt.parcels, self._around.me)
                self._enter(attempt, now)
                self.counters.touch(now)
            else:
                effects += self._complete(attempt, [], now)
        return effects + start_runs(self._queue, now)

    def _pass_on(self, attempt: Attempt, now: float) -> list[Effect]:
        """What reached a sink goes on to home, without a run."""
        outputs = passed_on(attempt.parcels)
        size = sum(obj.size for _, obj in outputs)
        self.counters.done(Run(attempt.item, attempt.task, now, now, now, size, size), 0.0, now)
        return self._complete(attempt, outputs, now)

    def on_moved(self, src: str, message: Moved, now: float) -> list[Effect]:
        """What the earlier host of a task has begun is not begun here."""
        self._begun.on_moved(src, message)
        return self._settle(now)

    def on_object(self, now: float) -> list[Effect]:
        """An object arrived that some attempt may wait for."""
        return self._settle(now) if self._fetching else []

    def on_run_done(self, attempt: Attempt, event: RunDone, now: float) -> list[Effect]:
        if attempt.parcels[0].number in self.finished or self._job.over:
            self._transfers.discard([obj for _, obj in event.outputs], now)
            return []
        if error := beyond_a_message(event.outputs):
            self._transfers.discard([obj for _, obj in event.outputs], now)
            return self.on_run_failed(attempt, RunFailed(event.run, "contract", error), now)
        run = run_of(attempt, event, self._job.dag.out_edges(attempt.task), now, self._queue.load)
        self.counters.done(run, event.seconds, now)
        told = announcement((self._job.id, attempt.task, attempt.item), attempt.watchers, over=True)
        effects = self._complete(attempt, event.outputs, now) + self._stop_moved()
        return [*effects, *told] if attempt.strikes else effects

    def on_run_failed(self, attempt: Attempt, event: RunFailed, now: float) -> list[Effect]:
        if attempt.parcels[0].number in self.finished or self._job.over:
            return []
        attempt.tries += 1
        if event.kind == PROCESS_LOST:
            attempt.strikes = min(attempt.strikes + 1, ALONE)
        self.counters.touch(now)
        fields = {"job": self._job.id, "task": attempt.task, "item": attempt.item, "attempt": attempt.tries}
        if attempt.tries <= self._job.tasks[attempt.task].retries:
            due = now + RETRY_S * RETRY_FACTOR ** (attempt.tries - 1)
            self._retries.append((due, attempt))
            return [Notice("warning", "run failed", {**fields, "error": event.error, "again_in_s": due - now})]
        self.counters.failed(attempt.task, now)
        ids = (self._job.id, attempt.item, attempt.task, self._around.me)
        failure = ItemFailed(*ids, attempt.tries, event.kind, event.error)
        return self.letters.give_up(failure, now) + self._stop_moved()

    def _enter(self, attempt: Attempt, now: float) -> None:
        attempt.entered = now
        self._queue.push(attempt)

    def _complete(self, attempt: Attempt, produced: list[tuple[list[str], Obj]], now: float) -> list[Effect]:
        """One manifest over all out-edges, its stamp, and a parcel for each (rule 2)."""
        task, dag = attempt.task, self._job.dag
        outputs = [
            (child, [obj for children, obj in produced if not children or child in children])
            for child in dag.out_edges(task)
        ]
        stamp = manifest_stamp(outputs)
        parcels = []
        for child, objects in outputs:
            carried = {a: s for a, s in {**attempt.stamps, task: stamp}.items() if a in dag.carry[task, child]}
            ends = (attempt.parcels[0].number, attempt.strikes, attempt.parcels[0].instead_of)
            parcels.append(Parcel(self._job.id, attempt.item, task, child, stamp, carried, objects, *ends))
        return self.emit(parcels, now)

    # --- files of home scripts and non-DAG tasks ---------------------------------------------------------------

    def on_produced(self, event: Produced, now: float) -> list[Effect]:
        """A non-DAG task here made a file: home is told until it says that it has it."""
        return self.letters.produced(event, now) + self._transfers.keep([event.obj], self._around.me, now)

    def on_injected(self, message: Injected, now: float) -> list[Effect]:
        self._transfers.release(self.letters.injected(message.seq), now)
        return self.letters.let_go_on()

    # --- time and reports --------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        fixed = (self.counters.due, self.letters.next_deadline(), self.outbox.next_deadline())
        return min([*fixed, *(due for due, _ in self._retries)])

    def on_deadline(self, now: float) -> list[Effect]:
        due = [attempt for at, attempt in self._retries if at <= now]
        self._retries = [(at, attempt) for at, attempt in self._retries if at > now]
        for attempt in due:
            self._enter(attempt, now)
        effects = self._flush(now) if self.outbox.next_deadline() <= now else []
        return effects + self.letters.on_deadline(now) + self._report(now) + self._settle(now)

    def _report(self, now: float) -> list[Effect]:
        """The counters for home, when they are due."""
        if self.counters.due > now:
            return []
        ids = (self._job.id, self._around.me)
        return [Send(self._job.home.writer, self.counters.report(ids, self.queued, self.outbox.moved_bytes))]

    def under_way(self) -> dict[str, float]:
        """task -> when the oldest of its runs that are under way here began."""
        return self._queue.under_way(self._job.id)

    def queued(self, task: str) -> tuple[int, int]:
        """(attempts that wait, attempts under way)"""
        queued, running = self._queue.counts(self._job.id, task)
        return queued + sum(1 for attempt in self._fetching if attempt.task == task), running

    def _has_attempts(self, task: str) -> bool:
        held = [*self._fetching, *(attempt for _, attempt in self._retries)]
        return any(self._queue.counts(self._job.id, task)) or any(attempt.task == task for attempt in held)

    def busy(self) -> bool:
        """Something here would be lost if the node left now: attempts, or parcels nobody confirmed."""
        running = any(sum(self._queue.counts(self._job.id, task)) for task in self.counters.tasks)
        return running or self.outbox.unreceived() > 0

    def check(self) -> None:
        """Raise when something is kept for an item that is over, or the outbox is out of step."""
        self.outbox.check()
        joins = [*self._joins.values(), self.home_join]
        kept = {item for join in joins for item in join.items()} | self.outbox.items()
        assert kept <= set(self._numbers), f"kept for items that are over: {kept - set(self._numbers)}"
