"""The execution profiler (EP) of one node: learns from every run here, tells homes of it, and has sample runs made.

`auto`: home alone makes a sample run, and the first mapping waits for it a second at most; it goes on beside the job.
`full`: home asks every node that takes tasks, and lacks a profile, for a sample run of the whole DAG, all at once. It
waits for all of them, but once half have answered only as long again as they took; who answers later counts later.

What a node learned it tells the homes of the jobs it works for, every few seconds, and whoever asks. Messages that get
lost are sent again: a question until it is answered, an answer when the question comes again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from math import inf, isfinite
from typing import Any

from msgspec import Struct

from jupiter_agent.core.counters import Run
from jupiter_agent.core.effects import Effect, ForgetProfiles, KeepProfiles, Notice, ProfileApp, Send
from jupiter_agent.core.events import Profiled
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.job import Job
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.messages.jobs import SINK, Obj, clipped
from jupiter_agent.core.messages.profiling import (
    ERROR_CHARACTERS,
    MAX_TASKS,
    Profiles,
    ProfilesWanted,
    SampleDone,
    SampleWanted,
    TaskProfile,
)
from jupiter_agent.core.profiling.exec_book import ExecBook, Node
from jupiter_agent.core.profiling.run_log import RunLog
from jupiter_agent.core.records import Record
from jupiter_agent.core.surroundings import Estimate, Surroundings
from jupiter_agent.errors import PeerError

ALL_OF_FIRST, LEARN_AGAIN_S = 40, 0.25
"""Every run is learned from until there were so many of its task; from then on one in so long"""
MAX_LEARNED = 10_000
TELL_S = 2.0
NEWS, TELL_ANYWAY_S = 1.5, 30.0
"""Homes hear again of a task that ran so many times as often, or after so long"""
SAVE_S = 10.0
AGAIN_S = 5.0
"""A question is repeated"""
BUDGET_S, TASK_S = 600.0, 60.0
"""of a sample run of mode full, and of each of its tasks"""
LEAST_WAIT_S = 5.0
"""for the slower half, at least"""
AT_ONCE = 4
"""sample runs on one node"""
REMEMBERED = 64
A_MESSAGE = 2000
"""profiles in one message"""


class Outcome(Struct):
    """What the EP of one submission came to, for `explain`."""

    mode: str
    bundle: bytes
    asked: list[str] = []
    makespans: dict[str, float] = {}
    """node -> seconds of the whole DAG there, one task after the other"""
    errors: dict[str, dict[str, str]] = {}
    """task -> node -> why there is no profile of it from there; '': of the run as a whole"""


class _Full(Struct):
    """A full EP under way, at home."""

    wanted: SampleWanted
    waiting: set[str]
    began: float
    due: float
    again: float


class _Sampling(Struct):
    """A sample run on this node, for somebody; it waits for the app and the sample first."""

    src: str
    wanted: SampleWanted
    started: bool = False


class ExecProfiler:
    """See the module. `ready` collects jobs whose full EP is over."""

    def __init__(self, around: Surroundings, jobs: Jobs) -> None:
        self.book = ExecBook(around.me)
        self.log = RunLog(around.wall)
        self.ready: list[str] = []
        self.outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._around, self._jobs = around, jobs
        self._full: dict[str, _Full] = {}
        self._sampling: dict[str, _Sampling] = {}
        self._answers: OrderedDict[str, SampleDone] = OrderedDict()
        self._owed: dict[bytes, set[str]] = {}
        """bundle -> homes that are to hear what is new of it"""
        self._learned: OrderedDict[tuple[bytes, str], tuple[int, float]] = OrderedDict()
        """(bundle, task) -> runs learned from here, and when the last one was"""
        self._told: OrderedDict[tuple[bytes, str], tuple[int, float]] = OrderedDict()
        """(bundle, task) -> runs that homes were last told of, and when"""
        self._tell_at = self._save_at = inf
        self._now = 0.0

    # --- learning and asking -------------------------------------------------------------------------------------

    def ran(self, job: Job, runs: list[Run], now: float) -> None:
        """Runs of a job ended here."""
        self._now = now
        runs = [run for run in runs if job.tasks[run.task].contract != SINK]
        for run in runs:
            if self._says_more(job.spec.bundle, run.task, now):
                self.book.learn(job.spec.bundle, run, now)
        if runs:
            self.log.note(job.id, runs, now)
            self._save_at = min(self._save_at, now + SAVE_S)
        if runs and job.home.writer != self._around.me:
            self._owed.setdefault(job.spec.bundle, set()).add(job.home.writer)
            self._tell_at = min(self._tell_at, now + TELL_S)

    def _says_more(self, bundle: bytes, task: str, now: float) -> bool:
        """The first runs of a task say much, and later ones now and then: a few of a thousand a second say no less, and
        learning from a run costs more than handing it over."""
        count, at = self._learned.pop((bundle, task), (0, -inf))
        says_more = count < ALL_OF_FIRST or now - at >= LEARN_AGAIN_S
        self._learned[bundle, task] = (count + 1, now) if says_more else (count, at)
        if len(self._learned) > MAX_LEARNED:
            self._learned.popitem(last=False)
        return says_more

    def time_of(self, job: Job, task: str, node: str, loaded: bool = True) -> Estimate:
        """As `Surroundings.task_time`."""
        size = sum(job.spec.edge_bytes.get(f"{parent}>{task}", 0) for parent in job.dag.parents(task))
        if task in job.dag.entries:
            size += job.input_from(task)[1]
        where, spec = self._node(node, loaded), job.spec
        if job.tasks[task].contract == SINK:
            return Estimate(0.0, 0.0, 0.0, 0, "prior")
        found = self.book.estimate(spec.bundle, task, where, float(size) or None, self._now)
        return found or self.book.prior(spec.seconds.get(task, 1.0), where)

    def bundles_of(self, ref: str) -> list[bytes]:
        """Bundles of the app of this name, or whose digest begins so."""
        jobs = [*self._jobs.local.values(), *self._jobs.past.values()]
        named = {local.job.spec.bundle for local in jobs if ref in (local.job.spec.app, local.job.spec.name)}
        if len(ref) == 64:
            return [bytes.fromhex(ref)] if all(c in "0123456789abcdef" for c in ref) else []
        alike = {each for each in self.book.bundles() if len(ref) >= 6 and each.hex().startswith(ref)}
        return sorted(named | alike)

    def forget(self, bundle: bytes | None) -> list[Effect]:
        """What was learned of an app; None: of all apps."""
        self.book.forget(bundle)
        return [ForgetProfiles(bundle)]

    def _node(self, node: str, loaded: bool) -> Node:
        profile = self._around.profile(node)
        load = max(profile.queue_length, profile.load) if loaded else 0.0
        return Node(node, profile.speed, profile.cpus, load)

    def learn_sample(self, bundle: bytes, event: Profiled, load: float, now: float) -> None:
        """A sample run ended on this node, or has come so far."""
        for task, seconds in {**event.seconds, HOME: 0.0}.items():
            cpu_s, size = event.used.get(task, (0.0, 0))
            sent = {edge.partition(">")[2]: n for edge, n in event.edge_bytes.items() if edge.startswith(f"{task}>")}
            times = (now, now, now)
            run = Run("", task, *times, size, sum(sent.values()), seconds, cpu_s, 0, load, {}, sent)
            self.book.learn(bundle, run, now, sampled=True)
        self._save_at = min(self._save_at, now + SAVE_S)

    def ask(self, bundle: bytes) -> list[Effect]:
        """Ask everybody what they know of an app: they may have run it for another home."""
        return [Send(node, ProfilesWanted(0, bundle)) for node in self._around.alive() if node != self._around.me]

    def records(self) -> Iterator[Record]:
        """What the journal must hold of runs."""
        yield from self.log.earlier_records()
        for job, local in [*self._jobs.past.items(), *self._jobs.local.items()]:
            yield from self.log.records(job, local.execution.counters.runs)

    # --- full EP, at home ----------------------------------------------------------------------------------------

    def begin_full(self, wanted: SampleWanted, tasks: list[str], now: float) -> list[Effect]:
        """Have the whole DAG run on all nodes that lack a profile of any of its tasks."""
        known = self.book.nodes_with(wanted.bundle, tasks, now)
        nodes = [n for n in self._around.alive() if self._around.profile(n).takes_tasks and n not in known]
        self._outcome(wanted.job, "full", wanted.bundle).asked = nodes
        if not nodes:
            self.ready.append(wanted.job)
            return []
        self._full[wanted.job] = _Full(wanted, set(nodes), now, now + wanted.budget_s + LEAST_WAIT_S, now + AGAIN_S)
        return [Send(node, wanted) for node in nodes]

    def _on_done(self, src: str, message: SampleDone, now: float) -> list[Effect]:
        full = self._full.get(message.job)
        outcome = self.outcomes.get(message.job)
        if outcome is None or src not in outcome.asked:
            return []
        self.book.take(src, outcome.bundle, message.profiles)
        self._save_at = min(self._save_at, now + SAVE_S)
        outcome.makespans[src] = message.makespan_s
        outcome.errors.get("", {}).pop(src, None)
        for task, error in message.errors.items():
            outcome.errors.setdefault(task, {})[src] = error[:ERROR_CHARACTERS]
        if full is None:  # it comes late
            return []
        full.waiting.discard(src)
        if len(full.waiting) <= len(outcome.asked) / 2:
            full.due = min(full.due, now + max(LEAST_WAIT_S, now - full.began))
        return self._end_full(message.job, now) if not full.waiting else []

    def _end_full(self, job: str, now: float) -> list[Effect]:
        full = self._full.pop(job)
        outcome = self.outcomes[job]
        for node in full.waiting:
            outcome.errors.setdefault("", {})[node] = "it did not answer in time"
        self.ready.append(job)
        fields = {"job": job, "nodes": len(outcome.makespans), "silent": len(full.waiting)}
        return [Notice("info", "app profiled on all nodes", {**fields, "seconds": round(now - full.began, 3)})]

    def _outcome(self, job: str, mode: str, bundle: bytes) -> Outcome:
        outcome = self.outcomes[job] = Outcome(mode, bundle)
        if len(self.outcomes) > REMEMBERED:
            self.outcomes.popitem(last=False)
        return outcome

    def shown(self, job: str) -> dict[str, Any] | None:
        """What the EP of a job that was submitted here came to; None where there was none, or it is forgotten."""
        outcome, name = self.outcomes.get(job), self._around.name
        if outcome is None:
            return None
        errors = {task: {name(node): why for node, why in of.items()} for task, of in outcome.errors.items() if of}
        makespans = {name(node): seconds for node, seconds in sorted(outcome.makespans.items())}
        return {"mode": outcome.mode, "nodes": len(outcome.asked), "makespan_s": makespans, "errors": errors}

    def note(self, bundle: bytes, event: Profiled) -> None:
        """What the sample run of mode auto came to."""
        outcome = self._outcome(event.job, "auto", bundle)
        me = self._around.me
        outcome.asked, outcome.makespans = [me], {me: event.makespan_s} if event.makespan_s else {}
        outcome.errors = {task: {me: error[:ERROR_CHARACTERS]} for task, error in event.errors.items()}

    # --- sample runs for others ----------------------------------------------------------------------------------

    def _on_wanted(self, src: str, message: SampleWanted, now: float) -> list[Effect]:
        if not self._around.may_be_home(src):
            raise PeerError(f"sample run of {message.job}: {src} may not be home of a job")
        if message.job in self._answers:
            return [Send(src, self._answers[message.job])]
        if message.job in self._sampling:
            return []
        if len(self._sampling) >= AT_ONCE:
            return [Send(src, SampleDone(message.job, 0.0, {"": f"{AT_ONCE} apps are profiled here already"}))]
        self._sampling[message.job] = _Sampling(src, message)
        needed = [message.sample] if message.sample and message.sample.data is None else []
        effects = self._jobs.transfers.keep(needed, src, now) if needed else []
        return [*effects, *self._jobs.bundles.need(message.bundle, message.bundle_size, [src], now), *self._start()]

    def on_here(self, error: str = "", bundle: bytes = b"") -> list[Effect]:
        """A bundle was opened, or an object came: sample runs may begin. With `error` this bundle cannot be opened."""
        effects: list[Effect] = []
        for job, sampling in list(self._sampling.items()):
            if error and sampling.wanted.bundle == bundle:
                effects += self._answer(job, SampleDone(job, 0.0, {"": clipped(error)[:ERROR_CHARACTERS]}))
        return effects + self._start()

    def _start(self) -> list[Effect]:
        effects: list[Effect] = []
        for sampling in self._sampling.values():
            wanted = sampling.wanted
            here = wanted.sample is None or self._jobs.transfers.has(wanted.sample)
            if not sampling.started and here and self._jobs.bundles.is_open(wanted.bundle):
                sampling.started = True
                run = ProfileApp(wanted.job, wanted.bundle, wanted.sample, wanted.budget_s, 0.0, wanted.task_s)
                effects.append(run)
        return effects

    def on_profiled(self, event: Profiled, load: float, now: float) -> list[Effect] | None:
        """None: it was not made for a full EP."""
        sampling = self._sampling.get(event.job)
        if sampling is None or not sampling.started:
            return None
        if event.goes_on:
            return []
        bundle = sampling.wanted.bundle
        self.learn_sample(bundle, event, load, now)
        errors = {task: error[:ERROR_CHARACTERS] for task, error in event.errors.items()}
        if event.error and not errors:
            errors[""] = event.error[:ERROR_CHARACTERS]
        makespan = event.makespan_s if isfinite(event.makespan_s) else 0.0
        mine = [p for p in self.book.own(bundle, now) if p.task == HOME or p.task in event.seconds][:A_MESSAGE]
        return self._answer(event.job, SampleDone(event.job, max(0.0, makespan), errors, mine))

    def _answer(self, job: str, answer: SampleDone) -> list[Effect]:
        sampling = self._sampling.pop(job)
        self._answers[job] = answer
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        sample = sampling.wanted.sample
        if sample and sample.data is None:
            self._jobs.transfers.release([sample], self._now)
        return [Send(sampling.src, answer)]

    # --- messages and time ---------------------------------------------------------------------------------------

    def on_message(self, src: str, message: Any, now: float) -> list[Effect]:
        self._now = now
        if isinstance(message, ProfilesWanted):
            own = self.book.own(message.bundle, now)[:MAX_TASKS]
            pages = [own[at : at + A_MESSAGE] for at in range(0, len(own), A_MESSAGE)]
            return [Send(src, Profiles(message.seq, message.bundle, page)) for page in pages]
        if isinstance(message, Profiles):
            self.book.take(src, message.bundle, message.profiles)
            self._save_at = min(self._save_at, now + SAVE_S)
            return []
        if isinstance(message, SampleWanted):
            return self._on_wanted(src, message, now)
        return self._on_done(src, message, now)

    def next_deadline(self) -> float:
        full = (min(each.due, each.again) for each in self._full.values())
        return min([self._tell_at, self._save_at, self.log.due, *full])

    def on_deadline(self, now: float) -> list[Effect]:
        self._now = now
        effects: list[Effect] = []
        if self.log.due <= now:
            effects += self.log.write()
        if self._tell_at <= now:
            effects += self._tell(now)
        if self._save_at <= now:
            self._save_at = inf
            rows = self.book.unsaved(now)
            effects += [KeepProfiles(rows)] if rows else []
        for job, full in list(self._full.items()):
            full.waiting = {node for node in full.waiting if not self._around.is_gone(node)}
            if full.due <= now or not full.waiting:
                effects += self._end_full(job, now)
            elif full.again <= now:
                full.again = now + AGAIN_S
                effects += [Send(node, full.wanted) for node in sorted(full.waiting)]
        return effects

    def _tell(self, now: float) -> list[Effect]:
        """The homes hear what is new."""
        self._tell_at, owed, self._owed = inf, self._owed, {}
        effects: list[Effect] = []
        for bundle, homes in owed.items():
            news = [p for p in self.book.own(bundle, now) if self._is_news(bundle, p, now)][:A_MESSAGE]
            effects += [Send(home, Profiles(0, bundle, news)) for home in sorted(homes) if news]
        return effects

    def _is_news(self, bundle: bytes, profile: TaskProfile, now: float) -> bool:
        """A few more runs of many say nothing new, for a while."""
        count, at = self._told.pop((bundle, profile.task), (0, -inf))
        is_news = profile.samples > NEWS * count or now - at >= TELL_ANYWAY_S or profile.samples < count
        self._told[bundle, profile.task] = (profile.samples, now) if is_news else (count, at)
        if len(self._told) > MAX_LEARNED:
            self._told.popitem(last=False)
        return is_news


def sample_wanted(job: str, bundle: bytes, size: int, sample: Obj | None) -> SampleWanted:
    """The question of a full EP."""
    return SampleWanted(job, bundle, size, sample, BUDGET_S, TASK_S)
