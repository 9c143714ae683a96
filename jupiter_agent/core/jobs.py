"""All jobs on this node: routes messages and answers to the machines of each job, and keeps bundles coming.

A node takes part in a job from its first `Award` on (or as its home, from submit on). Messages for a job it does not
know are answered by `JobUnknown`, and whoever has the spec then awards it: to a node that lost its memory, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from jupiter_agent.core.bidding import Bidding
from jupiter_agent.core.bundles import Bundles
from jupiter_agent.core.counters import Run
from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.ends import Ends, check_failure, check_injection
from jupiter_agent.core.events import BundleOpened, ObjectStored
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.genuine import check_genuine
from jupiter_agent.core.handing import Handing
from jupiter_agent.core.home import Home
from jupiter_agent.core.job import SIGNED, Job, decode_spec
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages import jobs as jm
from jupiter_agent.core.messages.auction import Bids, BidsWanted
from jupiter_agent.core.messages.supervision import Moved, Pace
from jupiter_agent.core.retention import Retention
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.succession import Succession
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.wave import Wave
from jupiter_agent.errors import PeerError, UsageError

Handler = Callable[["Jobs", str, Any, float], list[Effect]]

EARLY = 32  # words of earlier hosts that are kept until the award comes


class Jobs:
    """The jobs this node is home of or takes part in."""

    def __init__(self, around: Surroundings, queue: RunQueue, transfers: Transfers) -> None:
        self.local: dict[str, Local] = {}
        self.queue, self.transfers = queue, transfers
        self.homed = 0  # jobs that have their home here
        self.around = around
        self.ends: Ends = Ends(self, around)
        self.past = self.ends.past
        """ended jobs that this node took part in, for `explain`"""
        self.on_runs: Callable[[Job, list[Run], float], None] = lambda job, runs, now: None
        """is told of every run that ended here"""
        self._awake: dict[str, Local] = {}
        """jobs for which something may yet be due here; of those that ended long ago nothing is"""
        self.bundles = Bundles(transfers)
        self.bidding = Bidding(around, self.local)
        self.succession: Succession = Succession(self, around)
        self.handing = Handing(self, around)
        self.retention = Retention(self, around)
        self.forget_bundle = self.bundles.forget
        self._early: deque[tuple[str, Moved]] = deque(maxlen=EARLY)
        """what earlier hosts have begun, come before the award that makes this node the next one"""

    # --- entering and leaving ------------------------------------------------------------------------------------

    def create(self, signed: jm.SignedSpec, spec: jm.JobSpec, home: jm.HomeVersion, now: float) -> Local:
        """Take part in a job from now on. A home that lost its journal takes part in its own jobs like this."""
        job = Job(signed, spec, home)
        execution = Execution(job, self.around, self.queue, self.transfers)
        local = self.local[spec.id] = self._awake[spec.id] = Local(job, execution, Wave(job, self.around, now))
        local.supervise(self.around, now)
        self.retention.begin(now)
        return local

    def create_home(self, signed: jm.SignedSpec, spec: jm.JobSpec, home: jm.HomeVersion, now: float) -> Local:
        """The same, with the home machine."""
        local = self.create(self._vouched(signed), spec, home, now)
        local.home = Home(local.job, local.execution, self.around, self.transfers)
        self.homed += 1
        return local

    def remove(self, job: str) -> None:
        """This node takes no part in the job any more."""
        self.homed -= self.local.pop(job).home is not None
        self._awake.pop(job, None)

    def become_home(self, signed: jm.SignedSpec, spec: jm.JobSpec, home: jm.HomeVersion, now: float) -> Local:
        """This node acts as home of the job from now on, whatever it was in it."""
        self.ends.forget(spec.id)
        local = self.local.get(spec.id)
        if local is None or local.job.over:
            return self.create_home(signed, spec, home, now)
        local.job.merge_home(home)
        local.job.signed = self._vouched(signed)
        local.home = Home(local.job, local.execution, self.around, self.transfers)
        self.homed += 1
        return local

    def _vouched(self, signed: jm.SignedSpec) -> jm.SignedSpec:
        """Signed by this home itself: whoever signed it before may be lost, and unknown after all others restarted."""
        me = self.around.me
        return signed if signed.signer == me else jm.SignedSpec(signed.spec, me, self.around.sign(SIGNED + signed.spec))

    def no_longer_home(self, local: Local) -> None:
        """Another node is home; of a job that is over nothing else is left here."""
        if local.job.over:
            self.remove(local.job.id)
        elif local.home is not None:
            local.home = None
            self.homed -= 1

    def known(self, job: str) -> Local | None:
        """A job that this node takes part in, or took."""
        return self.local.get(job) or self.past.get(job)

    def evacuate(self, now: float) -> list[Effect]:
        """This node drains: its tasks go elsewhere, its homes too."""
        moved = [effect for local in self._active() for effect in self.settle(local, local.wave.evacuate(now), now)]
        return moved + self.handing.begin(now)

    def homes(self) -> list[Home]:
        return [local.home for local in self.local.values() if local.home]

    def need_bundle(self, local: Local, src: str, now: float) -> list[Effect]:
        """Make the app of a job available here: fetch, check, unpack; `on_bundle_opened` goes on."""
        spec = local.job.spec
        if self.bundles.is_open(spec.bundle):
            return local.execution.on_bundle(now)
        sources = dict.fromkeys([src, local.job.home.writer, *local.job.participants()])
        return self.bundles.need(spec.bundle, spec.bundle_size, list(sources), now)

    def settle(self, local: Local, effects: list[Effect], now: float) -> list[Effect]:
        """What follows from any change of a job: tasks that came here start, home takes what arrived."""
        if local.settled != local.job.changes:
            local.settled = local.job.changes
            local.moves.look(local.job, self.around.wall(now))
            if local.job.hosted_by(self.around.me):
                effects += self.need_bundle(local, local.job.home.writer, now)
            effects += local.execution.on_registers(now)
        if local.home:
            if local.job.home != local.home.version:
                return effects + self.succession.step_down(local, now)
            arrived, local.execution.arrived_home = local.execution.arrived_home, []
            if arrived:
                effects += local.home.on_arrived(arrived, now)
            effects += local.home.on_mapped(now)
            if local.job.id not in self._awake and local.next_deadline() < inf:
                self._awake[local.job.id] = local
        return effects

    def on_members(self, now: float) -> list[Effect]:
        """Somebody came, went or started again: homes and deputies, orphans, and parcels for a new boot."""
        effects = self.succession.step(now)
        for local in list(self.local.values()):
            if local.home is not None:
                effects = self.settle(local, effects + local.home.on_members(now), now)
        for local in self._active():
            effects += local.wave.step(now) + local.execution.on_registers(now)
            effects = self.settle(local, effects, now)
        return effects

    def _active(self) -> list[Local]:
        return [local for local in self._awake.values() if not local.job.over]

    # --- messages ------------------------------------------------------------------------------------------------

    def on_message(self, src: str, message: Message, now: float) -> list[Effect] | None:
        """None when the message is not one of jobs."""
        handler = _HANDLERS.get(type(message))
        return handler(self, src, message, now) if handler else None

    def _find(self, src: str, job: str) -> Local | list[Effect]:
        """A job that goes on here; else what to answer: it is over, or not known here."""
        local = self.local.get(job)
        if local is None:
            return [Send(src, self.ends.heard.get(job) or jm.JobUnknown(job))]
        if local.job.over:
            told = src != self.around.me and (local.home is None or local.home.telling.over)
            return [Send(src, jm.JobOver(job, local.job.home, local.job.over))] if told else []
        return local

    def _on_award(self, src: str, message: jm.Award, now: float) -> list[Effect]:
        local = self._from_award(src, message, now)
        if isinstance(local, list):
            return local
        effects = self._learn(local, message.home, now)
        won = local.job.merge(message.registers)
        effects.append(Send(src, jm.Awarded(local.job.id, local.job.digest())))
        if local.job.hosted_by(self.around.me):
            effects += self.need_bundle(local, src, now)
        effects += local.wave.on_registers(src, message.registers, won, now)
        for early in [each for each in self._early if each[1].job == local.job.id]:
            self._early.remove(early)
            effects += self._on_word(*early, now)
        return self.settle(local, effects, now)

    def _from_award(self, src: str, message: jm.Award, now: float) -> Local | list[Effect]:
        """The job an award is about; created when it is new and its spec is signed by a member."""
        spec = decode_spec(message.spec)
        ended = self.ends.heard.get(spec.id)
        if ended is not None and ended.state != "cancelled" and message.home > ended.home:
            del self.ends.heard[spec.id]  # a later home has found an item that was not finished
        if spec.id in self.ends.heard or spec.id in self.local:
            return self._find(src, spec.id)
        if not self.around.verify(message.spec.signer, SIGNED + message.spec.spec, message.spec.signature):
            home = message.home.writer
            if home not in (src, self.around.me) and self.around.knows(home):  # signed by a home before, lost since
                return [Send(home, jm.JobUnknown(spec.id))]
            raise PeerError(f"award of job {spec.id}: the spec is not signed by a member known here")
        self.succession.check_home(spec.id, message.home)
        try:
            return self.create(message.spec, spec, message.home, now)
        except UsageError as error:
            raise PeerError(f"award of job {spec.id}: {error}") from None

    def _learn(self, local: Local, home: jm.HomeVersion, now: float) -> list[Effect]:
        """Somebody says who is home."""
        return self.succession.learn(local.job.id, (home, jm.Deputies(), False), now) if home > local.job.home else []

    def _on_awarded(self, src: str, message: jm.Awarded, now: float) -> list[Effect]:
        if message.job in self.local:
            self.local[message.job].wave.on_awarded(src, message)
        return []

    def _on_registers(self, src: str, message: jm.Registers, now: float) -> list[Effect]:
        local = self._find(src, message.job)
        if isinstance(local, list):
            return local
        effects = self._learn(local, message.home, now)
        won = local.job.merge(message.registers)
        if message.confirm:
            effects.append(Send(src, jm.Awarded(local.job.id, local.job.digest())))
        newer = [r for r in message.registers if local.job.registers.get(r.task, r).version() > r.version()]
        outdated = message.home < local.job.home and src != self.around.me
        if outdated or (newer and self.around.me not in (src, local.job.home.writer)):
            told = [local.job.registers[register.task] for register in newer]
            told = told if self.around.me != local.job.home.writer else []
            effects.append(Send(src, jm.Registers(message.job, local.job.home, told)))
        if any(register.node == self.around.me for register in won):
            effects += self.need_bundle(local, src, now)
        effects += local.wave.on_registers(src, message.registers, won, now)
        return self.settle(local, effects, now)

    def _on_digest(self, src: str, message: jm.RegisterDigest, now: float) -> list[Effect]:
        local = self._find(src, message.job)
        return local if isinstance(local, list) else local.wave.on_digest(src, message)

    def _on_bids(self, src: str, message: Bids, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        return self.settle(local, local.wave.on_bids(src, message, now), now) if local and not local.job.over else []

    def _on_unknown(self, src: str, message: jm.JobUnknown, now: float) -> list[Effect]:
        effects = self.succession.on_disowned(src, message.job, now)
        if message.job not in self.local:
            return effects
        local = self._find(src, message.job)
        if isinstance(local, list):
            return effects + local
        return effects + (self.ends.on_disowned(src, local, now) or local.wave.on_unknown(src, now))

    def _on_parcel(self, src: str, message: jm.Parcel, now: float) -> list[Effect]:
        local = self._find(src, message.job)
        if isinstance(local, list):
            return local
        if src != self.around.me:
            check_genuine(message.objects, f"item {message.item} of job {message.job}")
        return self.settle(local, local.execution.on_parcel(src, message, now), now)

    def _on_signal(self, src: str, message: jm.ParcelReceived | jm.RunStarted, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local:
            local.execution.on_signal(src, message)
            if local.home and isinstance(message, jm.RunStarted):
                return self.settle(local, local.home.on_run(src, message, now), now)
        return []

    def _on_word(self, src: str, message: Moved | Pace, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local is None and isinstance(message, Moved):
            self._early.append((src, message))
        return local.on_word(src, message, now) if local is not None and not local.job.over else []

    def _on_finished(self, src: str, message: jm.Finished, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local is None or src not in local.job.participants():
            return []
        if local.execution.finished.merge(message.intervals):
            local.execution.on_finished(now)
        return []

    def _on_item_failed(self, src: str, message: jm.ItemFailed, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local is None or local.home is None:
            return []
        check_failure(local.job, src, message)
        return local.home.on_failed(message, now)

    def _on_report(self, src: str, message: jm.TaskReport, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local is None or local.home is None or message.node != src or src not in local.job.participants():
            return []
        return local.home.on_report(message)

    def drop(self, local: Local) -> None:
        """A job that ended here: its machines go, and its bundle if no other needs it."""
        self.remove(local.job.id)
        if not any(other.job.spec.bundle == local.job.spec.bundle for other in self._active()):
            self.bundles.give_up(local.job.spec.bundle)

    def _on_inject(self, src: str, message: jm.Inject, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local is None or local.home is None:
            return []
        check_injection(local.job, src, message)
        check_genuine([message.obj], f"a file for job {message.job}")
        effects = local.home.on_produced(src, message.child, message.obj, now)
        home, answer = local.home, [Send(src, jm.Injected(message.job, message.seq))]
        effects += home.backlog.answer((src, message.seq), lambda at: home.when_safe(lambda later: [*answer], at), now)
        return self.settle(local, effects, now)

    def _on_injected(self, src: str, message: jm.Injected, now: float) -> list[Effect]:
        local = self.local.get(message.job)
        if local is not None and src == local.job.home.writer:
            return local.execution.on_injected(message, now)
        return []

    # --- objects -------------------------------------------------------------------------------------------------

    def on_stored(self, event: ObjectStored, now: float) -> list[Effect]:
        effects = self.transfers.on_stored(event, now)
        if not event.error:
            effects += self.bundles.on_stored(event.sha256)
            effects += self.succession.receiving.on_stored(event.sha256, now)
        for local in self._active():
            effects += local.execution.on_object(now)
            if local.home:
                effects += local.home.on_object(now)
        return effects

    def on_bundle_opened(self, event: BundleOpened, now: float) -> list[Effect]:
        if not self.bundles.on_opened(event):
            return [Notice("error", "bundle refused", {"bundle": event.sha256.hex(), "error": event.error})]
        effects: list[Effect] = []
        for local in self._active():
            if local.job.spec.bundle == event.sha256:
                effects += local.execution.on_bundle(now)
        return effects

    # --- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        awake = min((local.next_deadline() for local in self._awake.values()), default=inf)
        others = (self.succession, self.handing, self.retention)
        return min(awake, *(machine.next_deadline() for machine in others))

    def on_deadline(self, now: float) -> list[Effect]:
        effects = self.succession.on_deadline(now) if self.succession.next_deadline() <= now else []
        effects += self.handing.on_deadline(now) + self.retention.on_deadline(now)
        for job, local in list(self._awake.items()):
            effects = self.settle(local, effects + local.on_deadline(now), now)
            if local.job.over and local.next_deadline() == inf:
                del self._awake[job]
        return effects

    def busy(self) -> bool:
        """Leaving now would throw running work or unconfirmed parcels away."""
        return any(local.execution.busy() for local in self._active()) or self.handing.busy()

    def check(self) -> None:
        for local in self.local.values():
            local.check()


_HANDLERS: dict[type[Message], Handler] = {
    jm.Award: Jobs._on_award,
    jm.Awarded: Jobs._on_awarded,
    jm.Registers: Jobs._on_registers,
    jm.RegisterDigest: Jobs._on_digest,
    BidsWanted: lambda jobs, src, message, now: jobs.bidding.on_wanted(src, message, now),
    Bids: Jobs._on_bids,
    jm.JobUnknown: Jobs._on_unknown,
    jm.Parcel: Jobs._on_parcel,
    jm.ParcelReceived: Jobs._on_signal,
    jm.RunStarted: Jobs._on_signal,
    jm.Finished: Jobs._on_finished,
    jm.Inject: Jobs._on_inject,
    jm.Injected: Jobs._on_injected,
    jm.ItemFailed: Jobs._on_item_failed,
    jm.TaskReport: Jobs._on_report,
    jm.JobOver: lambda jobs, src, message, now: jobs.ends.on_over(src, message, now),
    Moved: Jobs._on_word,
    Pace: Jobs._on_word,
    jm.HomeNews: lambda jobs, src, message, now: jobs.succession.on_news(src, message, now),
    jm.HomeKnown: lambda jobs, src, message, now: jobs.succession.on_known(src, message, now),
    jm.Copy: lambda jobs, src, message, now: jobs.succession.receiving.on_copy(src, message, now),
    jm.Copied: lambda jobs, src, message, now: jobs.succession.on_copied(src, message, now),
}
