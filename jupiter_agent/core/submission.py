"""From `submit` to a running job, at the agent that was asked and so becomes home.

States of one submission: opening (the bundle is checked and unpacked), profiling (one sample run, within its budget,
when nothing is known of this bundle), then the job exists: its spec is signed, its home is here, its items are taken
in, and it is mapped: by WAVE from the entry tasks on, by a centralised mapper, or as the user said. Everything that
can be refused is refused before anything is accepted.
"""

from __future__ import annotations

from hashlib import sha256
from math import inf
from typing import Any

import msgspec

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.averages import averages
from jupiter_agent.core.effects import Effect, Notice, OpenBundle, ProfileApp, Send
from jupiter_agent.core.events import BundleOpened, Profiled, Solved
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.job import SETTLE_S, SIGNED, Job, decode_spec
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.jobs import (
    SINK,
    HomeVersion,
    JobSpec,
    Obj,
    SignedSpec,
    TaskSpec,
)
from jupiter_agent.core.messages.links import Links, LinksWanted
from jupiter_agent.core.planning import Planning
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler, sample_wanted
from jupiter_agent.core.submit_args import SubmitArgs, input_bytes, is_live_wave, mapper_name, to_input
from jupiter_agent.core.submit_places import check_places, input_at
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.views import job_row
from jupiter_agent.errors import CapacityError, JupiterError, PeerError, UsageError

AUTO_S = 1.0
"""So long a first mapping waits for a sample run at most"""
AUTO_FIRST_S, AUTO_BUDGET_S = 0.9, 60.0
"""when it tells what it has come to, and when it is ended"""
PRIOR_S = 1.0


class Submission:
    """One `submit` on its way. `client` and `seq` say whom to answer."""

    def __init__(self, client: str, seq: int, args: SubmitArgs, job: str) -> None:
        self.client, self.seq, self.args, self.job = client, seq, args, job
        self.bundle = bytes.fromhex(args.bundle)
        self.app: AppSpec | None = None
        self.state = "opening"
        self.due = inf
        """when it is profiled no longer"""
        self.warnings: list[str] = []


Outcome = tuple[Submission, Local | JupiterError | dict[str, Any]]


class Submissions:
    """All submissions at one agent, and the centralised mappings they lead to.

    `finished` collects (submission, job or error) for the control machine to answer.
    """

    def __init__(self, around: Surroundings, jobs: Jobs, links: Any, profiler: ExecProfiler) -> None:
        self.finished: list[Outcome] = []
        self._around, self._jobs, self._links = around, jobs, links
        self._open: dict[str, Submission] = {}
        self._apps: dict[bytes, AppSpec] = {}
        self._profiler = profiler
        self._sampled: dict[str, tuple[bytes, set[str]]] = {}
        """job -> its bundle, and the tasks that its sample run here has told of"""
        self._placements: dict[str, Planning] = {}
        self._remaps: dict[str, Submission] = {}
        self._count = 0
        self._resume_at = inf

    def begin(self, client: str, seq: int, args: SubmitArgs, now: float) -> list[Effect]:
        """UsageError for what can be refused at once: an unknown mapper, a bundle that is not here."""
        mapper_name(args.mapper)
        if args.ep not in ("auto", "full", "off"):
            raise UsageError(f"unknown execution profiling mode '{args.ep}'", "one of: auto, full, off")
        try:
            bundle = bytes.fromhex(args.bundle)
        except ValueError:
            raise UsageError("the bundle's digest is not hexadecimal") from None
        if bundle not in self._jobs.transfers.stored:
            raise UsageError("the app's bundle did not arrive here", "submit again")
        if self._jobs.transfers.size_differs(bundle, args.size):
            raise UsageError(f"the app's bundle here has another size than {args.size}", "submit again")
        self._count += 1
        seed = f"{self._around.me}:{self._around.boot}:{self._count}:{args.bundle}"
        submission = Submission(client, seq, args, sha256(seed.encode()).hexdigest()[:10])
        self._open[submission.job] = submission
        if bundle in self._apps:
            return self._ask_about_links() + self._checked(submission, self._apps[bundle], now)
        return [*self._ask_about_links(), OpenBundle(bundle)]

    def _ask_about_links(self) -> list[Effect]:
        """Have the nodes measure the links between them while the app is looked at; the mapping asks what they know."""
        if not self._links.probed:
            return []
        nodes = [node for node in self._around.alive() if self._around.profile(node).takes_tasks]
        return [Send(node, LinksWanted(0, nodes)) for node in nodes]

    def on_bundle_opened(self, event: BundleOpened, now: float) -> list[Effect]:
        if event.app is not None:
            self._apps[event.sha256] = event.app
        effects: list[Effect] = []
        for submission in list(self._open.values()):
            if submission.state == "opening" and submission.bundle == event.sha256:
                if event.app is None:
                    self._end(submission, UsageError(event.error, event.hint))
                else:
                    effects += self._checked(submission, event.app, now)
        return effects

    def _end(self, submission: Submission, outcome: Local | JupiterError | dict[str, Any]) -> None:
        del self._open[submission.job]
        self.finished.append((submission, outcome))

    def _checked(self, submission: Submission, app: AppSpec, now: float) -> list[Effect]:
        """The app is good: check the rest, then profile it if nothing is known of it."""
        submission.app = app
        try:
            mapper_name(submission.args.mapper or app.mapper)
            inputs = self._inputs(submission)
            submission.warnings += check_places(self._around, submission.args, app)
            input_at(self._around, submission.args.input_at, app)
        except JupiterError as error:
            self._end(submission, error)
            return []
        asked = self._profiler.ask(submission.bundle) if submission.args.ep != "off" else []
        known = self._profiler.book.knows(submission.bundle)
        if submission.args.ep == "off" or not (app.samples or inputs) or (known and submission.args.ep != "full"):
            return asked + self._create(submission, now)
        submission.state = "profiling"
        sample = None if app.samples else inputs[0][1]
        if submission.args.ep == "full":
            wanted = sample_wanted(submission.job, submission.bundle, submission.args.size, sample)
            tasks = [task.name for task in app.tasks if task.contract != SINK]
            return asked + self._profiler.begin_full(wanted, tasks, now) + self.go_on(now)
        submission.due = now + AUTO_S
        self._sampled[submission.job] = (submission.bundle, set())
        run = ProfileApp(submission.job, submission.bundle, sample, AUTO_BUDGET_S, AUTO_FIRST_S)
        return [*asked, run]

    def go_on(self, now: float) -> list[Effect]:
        """Map what has been profiled long enough."""
        ready, self._profiler.ready = self._profiler.ready, []
        late = [job for job, submission in self._open.items() if submission.due <= now]
        over = [self._open[job] for job in [*ready, *late] if job in self._open]
        return [e for submission in over if submission.state == "profiling" for e in self._create(submission, now)]

    def _inputs(self, submission: Submission) -> list[tuple[str, Obj, str]]:
        """(item name, object, entry task or '')"""
        return [to_input(entry, self._jobs.transfers) for entry in submission.args.inputs]

    def on_profiled(self, event: Profiled, now: float) -> list[Effect]:
        """The job is mapped with what a sample run showed by now; the rest counts for what is mapped later."""
        if event.job not in self._sampled:
            return []
        bundle, told = self._sampled[event.job]
        seconds = {task: s for task, s in event.seconds.items() if task not in told}
        told.update(seconds)
        fresh = msgspec.structs.replace(event, seconds=seconds)
        self._profiler.learn_sample(bundle, fresh, self._jobs.queue.load, now)
        self._profiler.note(bundle, event)
        if not event.goes_on:
            del self._sampled[event.job]
        shown = {task: round(each, 4) for task, each in event.seconds.items()}
        fields = {"job": event.job, "complete": event.complete, "error": event.error, "seconds": shown}
        effects: list[Effect] = [] if event.goes_on else [Notice("info", "app profiled", fields)]
        submission = self._open.get(event.job)
        if submission is not None and submission.state == "profiling":
            effects += self._create(submission, now)
        return effects

    def _create(self, submission: Submission, now: float) -> list[Effect]:
        """The job exists from here on."""
        args, app = submission.args, submission.app
        assert app is not None
        submission.state, submission.due = "mapping", inf
        seconds, edge_bytes = self._profiler.book.usual(submission.bundle, now)
        known = [seconds[task.name] for task in app.tasks if task.name in seconds]
        usual = sum(known) / len(known) if known else PRIOR_S
        inputs = self._inputs(submission)
        inputs_at = input_at(self._around, args.input_at, app)
        edge_bytes = {**input_bytes(args, app, inputs, inputs_at), **edge_bytes, **input_bytes(args, app, inputs)}
        mapper = "static" if args.mapping is not None else mapper_name(args.mapper or app.mapper)
        spec = JobSpec(
            id=submission.job, name=args.name or app.name, app=app.name, bundle=submission.bundle,
            bundle_size=args.size, tasks=self._wished(app), mapper=mapper,
            seed=args.seed if args.seed is not None else self._around.rng.randrange(2**31),
            params={**app.params, **args.params}, weights=app.weights,
            seconds={t.name: 0.0 if t.contract == SINK else seconds.get(t.name, usual) for t in app.tasks},
            edge_bytes=edge_bytes, submitted_at=self._around.wall(now), max_open=app.max_open,
            max_open_bytes=app.max_open_bytes, entries=app.entries or None, fed=app.fed,
            home_task=app.home_task, nondag=app.nondag, contract=app.contract, item_files=app.item_files,
            ports=app.ports,
            mapper_options={} if args.mapper else app.mapper_options, remap=args.remap, input_at=inputs_at,
            sources=app.sources, replicas=args.replicas, averages=averages(self._around),
        )  # fmt: skip
        signed = self._sign(spec)
        try:
            decode_spec(signed)  # what other nodes would refuse is not accepted here
        except PeerError as error:
            self._end(submission, UsageError(f"this app cannot be submitted: {error}"))
            return []
        if args.plan:
            return self._plan(submission, signed, spec, now)
        version = HomeVersion(1, self._around.me, self._around.boot)
        local = self._jobs.create_home(signed, spec, version, now)
        assert local.home is not None
        effects = local.home.begin(now)
        effects += [Notice("info", "job accepted", {"job": spec.id, "name": spec.name, "mapper": mapper})]
        try:
            for name, obj, task in inputs:
                effects += local.home.put([(name, obj)], task, False, now)[0]
        except UsageError as error:
            local.home.abandon(now)
            self._jobs.remove(spec.id)
            self._end(submission, error)
            return []
        if inputs and not args.keep_open:
            effects += local.home.close(now)
        self._end(submission, local)
        return effects + self._jobs.need_bundle(local, self._around.me, now) + self._map(local, args, now)

    def _wished(self, app: AppSpec) -> list[TaskSpec]:
        """The tasks, placed where the app wishes as far as that host is here (softly: another one will do later)."""

        def placed(task: TaskSpec) -> TaskSpec:
            host = app.placements.get(task.name, "")
            found = self._around.find(host) if host and not task.node else None
            if found is None:
                return task
            return msgspec.structs.replace(task, node=self._around.name(found), extra={**task.extra, "soft": True})

        return [placed(task) for task in app.tasks]

    def _plan(self, submission: Submission, signed: SignedSpec, spec: JobSpec, now: float) -> list[Effect]:
        """Solve it as a centralised mapper would, or simulate WAVE, and answer: nothing runs."""
        submission.state = "planning"
        self._count += 1
        job = Job(signed, spec, HomeVersion(1, self._around.me, self._around.boot))
        placement = Planning(job, self._around, self._links.measured(), self._count, self._links)
        placement.what_if = submission.args.what_if
        self._placements[spec.id] = placement
        return placement.begin(now)

    def _sign(self, spec: JobSpec) -> SignedSpec:
        encoded = msgspec.msgpack.encode(spec)
        return SignedSpec(encoded, self._around.me, self._around.sign(SIGNED + encoded))

    def _map(self, local: Local, args: SubmitArgs, now: float) -> list[Effect]:
        """Start the mapping of a new job, by whoever does it."""
        if args.mapping is not None:
            places = {name: self._around.me for name, task in local.job.tasks.items() if task.contract == SINK}
            places |= {task: self._around.find(node) or "" for task, node in args.mapping.items() if task != HOME}
            return self._written(local, places, "as the user's mapping says", now)
        if is_live_wave(local.job.spec.mapper):
            return self._settled(local, local.wave.step(now), now)
        return self._place(local, now)

    def resume(self, now: float) -> None:
        """After a restart: map centrally what was not mapped yet, once it is known who is here."""
        self._resume_at = now + SETTLE_S

    def _place_unmapped(self, now: float) -> list[Effect]:
        self._resume_at = inf
        unmapped = [local for local in self._jobs.local.values() if local.home and not local.job.registers]
        central = [each for each in unmapped if not each.job.over and not is_live_wave(each.job.spec.mapper)]
        return [effect for local in central for effect in self._place(local, now)]

    def _place(self, local: Local, now: float) -> list[Effect]:
        self._count += 1
        placement = Planning(local.job, self._around, self._links.measured(), self._count, self._links)
        self._placements[local.job.id] = placement
        return placement.begin(now)

    def remap(self, client: str, seq: int, local: Local, now: float) -> list[Effect]:
        """Map all tasks of a running job again, by its mapper and what is known now; those that differ move.

        Answered through `finished`. UsageError for a mapping that the user gave, CapacityError while one is made.
        """
        job = local.job
        if job.spec.mapper == "static":
            hint = "move single tasks: remap JOB --task TASK --to NODE"
            raise UsageError(f"the tasks of job {job.id} are where the user's mapping says", hint)
        if job.id in self._placements or not job.mapped:
            raise CapacityError(f"job {job.id} is being mapped just now: ask again")
        self._count += 1
        again = Submission(client, seq, SubmitArgs(job.spec.bundle.hex(), job.spec.bundle_size, job.spec.app), job.id)
        placement = self._placements[job.id] = Planning(
            job, self._around, self._links.measured(), self._count, self._links
        )
        self._remaps[job.id] = again
        return placement.begin(now)

    def _remapped(self, again: Submission, placement: Planning, event: Solved, now: float) -> list[Effect]:
        """Move what the mapper now puts elsewhere; a job that cannot be placed anew stays where it is."""
        local = self._jobs.local.get(event.job)
        if local is None or local.home is None or local.job.over:
            self.finished.append((again, UsageError(f"job {event.job} is over")))
            return []
        if event.error:
            self.finished.append((again, placement.refusal(event)))
            return []
        places = placement.on_solved(event)
        moved = {task: node for task, node in places.items() if node != local.job.host(task)}
        local.wave.considered |= placement.weighed(event)
        effects = self._written(local, moved, f"mapped again: {_why(placement, event)}", now)
        named = {task: self._around.name(node) for task, node in moved.items()}
        self.finished.append((again, {**job_row(local.home, self._around.name), "moved": named}))
        return effects

    def _written(self, local: Local, places: dict[str, str], why: str, now: float) -> list[Effect]:
        return self._settled(local, local.wave.assign(places, why, now), now)

    def _settled(self, local: Local, effects: list[Effect], now: float) -> list[Effect]:
        effects += local.execution.on_registers(now)
        if local.home:
            effects += local.home.on_mapped(now)
        return effects

    # --- centralised mapping -------------------------------------------------------------------------------------

    def on_links(self, src: str, message: Links, now: float) -> list[Effect]:
        return [e for placement in list(self._placements.values()) for e in placement.on_links(src, message, now)]

    def on_solved(self, event: Solved, now: float) -> list[Effect]:
        """Write the solver's mapping; a job that cannot be placed has failed, and says why."""
        placement = self._placements.pop(event.job, None)
        submission = self._open.get(event.job)
        if placement and submission and submission.args.plan:
            self._end(submission, placement.planned(event))
            return []
        if placement and (again := self._remaps.pop(event.job, None)):
            return self._remapped(again, placement, event, now)
        local = self._jobs.local.get(event.job)
        if placement is None or local is None or local.home is None or local.job.over:
            return []
        if event.error:
            error = placement.refusal(event)
            fields = {"job": event.job, "error": error.message, "hint": error.hint}
            return [Notice("error", "not mapped", fields), *local.home.refuse(error, now)]
        local.wave.considered |= placement.weighed(event)
        return self._written(local, placement.on_solved(event), _why(placement, event), now)

    def next_deadline(self) -> float:
        profiled = (submission.due for submission in self._open.values())
        return min(
            [self._resume_at, *profiled, *(placement.next_deadline() for placement in self._placements.values())]
        )

    def on_deadline(self, now: float) -> list[Effect]:
        effects = self._place_unmapped(now) if self._resume_at <= now else []
        effects += self.go_on(now)
        return effects + [e for placement in list(self._placements.values()) for e in placement.on_deadline(now)]


def _why(placement: Planning, event: Solved) -> str:
    mapper = placement.job.spec.mapper
    return f"{mapper} over {len(placement.nodes)} nodes in {event.seconds * 1000:.1f} ms"
