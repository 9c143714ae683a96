"""The verbs about one job, served at its home (DESIGN.md, section 10)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.home import Home
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.node_verbs import own_runs
from jupiter_agent.core.paging import paged
from jupiter_agent.core.stats import statistics
from jupiter_agent.core.submit_args import to_input
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.uploads import accepted
from jupiter_agent.core.views import Row, explanation, item_row, job_detail, job_row, results, task_rows
from jupiter_agent.errors import EXIT_UNPLACEABLE, CapacityError, JupiterError, UsageError

if TYPE_CHECKING:
    from jupiter_agent.core.control import Control


class Asked:
    """One call about a job whose home is here. `rest`: what followed the job's id in the reference."""

    def __init__(self, src: str, call: Call, local: Local, rest: str) -> None:
        assert local.home is not None
        self.src, self.call, self.local, self.rest = src, call, local, rest
        self.home: Home = local.home
        self.kind = str(call.args.get("kind", "")).removesuffix("s")
        self.task = str(call.args.get("task") or rest)

    def answer(self, body: Any) -> list[Effect]:
        return [accepted(self.src, self.call.seq, paged(self.call.verb, self.call.args, body))]

    def when_safe(self, control: Control, body: Callable[[], Any], now: float) -> list[Effect]:
        """Answer when all that happened so far is on every living deputy, here or at the home that comes next."""
        asker = (self.src, self.call.seq)
        back = partial(control.hand_on, self.src, self.call)
        return self.home.answer_when_safe(asker, lambda at: self.answer(body()), back, now)

    def check_task(self) -> None:
        """UsageError when a task is named that the job does not have."""
        job = self.local.job
        if self.task and self.task not in job.processes:
            raise UsageError(f"job {job.id} has no task '{self.task}'", f"tasks: {', '.join(job.processes)}")


def check_room(around: Surroundings) -> None:
    """CapacityError while this node's disk is nearly full: what it accepts it must be able to keep."""
    if around.profile(around.me).full:
        raise CapacityError(f"the disk of {around.name(around.me)} is nearly full", "free space there, and try again")


def _rows(control: Control, asked: Asked) -> list[Row]:
    name = control.around.name
    if asked.kind == "job":
        return [job_row(asked.home, name)]
    if asked.kind == "task":
        return part(task_rows(asked.local, name), asked.rest, "task")
    return part([item_row(asked.home, item) for item in asked.home.items.values()], asked.rest, "item")


def _get(control: Control, asked: Asked, now: float) -> list[Effect]:
    return asked.answer({"items": _rows(control, asked)})


def _describe(control: Control, asked: Asked, now: float) -> list[Effect]:
    if asked.kind == "job":
        return asked.answer(job_detail(asked.local, control.around.name))
    if not asked.rest:
        job = asked.home.job.id
        raise UsageError(f"which {asked.kind} of job {job}?", f"describe {asked.kind} {job}/NAME")
    return asked.answer(_rows(control, asked)[0])


def _put(control: Control, asked: Asked, now: float) -> list[Effect]:
    """Take items in; bytes that only the asked agent has are fetched from it first."""
    check_room(control.around)
    entries = control.uploads.with_bytes(asked.call.args).get("inputs") or []
    transfers = control.jobs.transfers
    wanted = {bytes.fromhex(str(e.get("sha256", ""))): int(e.get("size", 0)) for e in entries if e.get("data") is None}
    missing = {digest: size for digest, size in wanted.items() if digest not in transfers.stored}
    if missing and control.came_through_a_peer(asked.call):
        return control.park(asked.src, asked.call, missing, now)
    inputs = [to_input(entry, transfers) for entry in entries]
    task = str(asked.call.args.get("task") or "") or (inputs[0][2] if inputs else "")
    rename = bool(asked.call.args.get("rename"))
    effects, taken, ignored = asked.home.put([(name, obj) for name, obj, _ in inputs], task, rename, now)
    if taken:
        origin = asked.src if control.came_through_a_peer(asked.call) else control.around.me
        asked.home.intake.came_from(origin, task, [obj for _, obj, _ in inputs])
    body = {"accepted": taken, "ignored": ignored}
    return effects + asked.when_safe(control, lambda: {**body, **_alone(asked.home)}, now)


def _alone(home: Home) -> Row:
    """A home without its deputies says so: what it confirms is on its own disk only."""
    return {"degraded": True} if home.copies.degraded and home.job.spec.replicas else {}


def _close(control: Control, asked: Asked, now: float) -> list[Effect]:
    return asked.home.close(now) + asked.when_safe(control, lambda: job_row(asked.home, control.around.name), now)


def _cancel(control: Control, asked: Asked, now: float) -> list[Effect]:
    return asked.home.cancel(now) + asked.when_safe(control, lambda: job_row(asked.home, control.around.name), now)


def _results(control: Control, asked: Asked, now: float) -> list[Effect]:
    return asked.answer(results(asked.home, control.around.name))


def _logs(control: Control, asked: Asked, now: float) -> list[Effect]:
    asked.check_task()
    job = asked.local.job
    hosts = {task: job.host(task) for task in job.processes if asked.task in ("", task)}
    rows = [{"task": task, "node": control.around.name(host), "size": None} for task, host in hosts.items() if host]
    return asked.answer({"job": job.id, "logs": rows})


def _log(control: Control, asked: Asked, now: float) -> list[Effect]:
    """Part of a task's log, from the node that has it."""
    asked.check_task()
    host = asked.local.job.host(asked.task) if asked.task else None
    if host is None:
        raise UsageError(f"task '{asked.task}' of job {asked.local.job.id} runs nowhere yet")
    call = Call(asked.call.seq, "read-log", {**asked.call.args, "job": asked.local.job.id, "task": asked.task})
    return control.forward(asked.src, call, host, now)


def _explain(control: Control, asked: Asked, now: float) -> list[Effect]:
    """Ask the deciders what they considered; of those that do not answer only the register's own word is left."""
    asked.check_task()
    local, job, around = asked.local, asked.local.job, control.around
    tasks = [asked.task] if asked.task else job.dag.order
    writers = {job.registers[task].writer for task in tasks if task in job.registers} - {around.me}

    def together(bodies: list[Any], when: float) -> list[Effect]:
        told = {row["task"]: row for body in bodies for row in body["tasks"] if row["candidates"]}
        rows = [told.get(row["task"], row) for row in explanation(local, around.name, tasks)]
        profiling = control.profiler.shown(job.id)
        return asked.answer({"job": job.id, "mapper": job.spec.mapper, "profiling": profiling, "tasks": rows})

    living = {writer for writer in writers if not around.is_gone(writer)}
    return control.gather(living, Call(0, "considered", {"job": job.id, "tasks": tasks}), together, now)


def _stats(control: Control, asked: Asked, now: float) -> list[Effect]:
    """Gather the records of all runs from the hosts, and sum them up."""
    home, around = asked.home, control.around
    reported = (node for node, _ in home.reports)
    hosts = {node for node in [*reported, *home.job.participants()] if not around.is_gone(node)} - {around.me}

    def together(bodies: list[Any], when: float) -> list[Effect]:
        runs = own_runs(control, home.job.id, asked.local) + [run for body in bodies for run in body["runs"]]
        return asked.answer(statistics(home, around.name, runs))

    return control.gather(hosts, Call(0, "runs", {"job": home.job.id}), together, now)


def _remap(control: Control, asked: Asked, now: float) -> list[Effect]:
    """Move one task to a node, as the user says; without both, let the job's mapper decide again for all tasks."""
    task, name = str(asked.call.args.get("task") or ""), str(asked.call.args.get("node") or "")
    if asked.local.job.over:
        raise UsageError(f"job {asked.home.job.id} is over: {asked.local.job.over}")
    if not task and not name:
        effects = control.submissions.remap(asked.src, asked.call.seq, asked.local, now)
        return effects + control.after_submissions(now)
    if not task or not name:
        raise UsageError("which task, to which node?", "remap JOB --task TASK --to NODE")
    asked.check_task()
    if task == HOME:
        raise UsageError("home cannot be moved", "the tasks can")
    node = control.around.find(name)
    if node is None:
        raise JupiterError(f"there is no living node '{name}'", "see: jupiter ctl get nodes", EXIT_UNPLACEABLE)
    effects = control.jobs.settle(asked.local, asked.local.wave.move(task, node, now), now)
    return effects + asked.when_safe(control, lambda: job_row(asked.home, control.around.name), now)


def _retry(control: Control, asked: Asked, now: float) -> list[Effect]:
    """The failed items again, as a new job of the same app with the same settings."""
    job, name = asked.home.job, str(asked.call.args.get("item") or asked.rest)
    inputs = asked.home.failed_inputs(name)
    if not inputs:
        what = f"item '{name}' of job {job.id} has not failed" if name else f"nothing of job {job.id} has failed"
        raise UsageError(what, f"see: jupiter ctl get items {job.id}")
    args = {
        "bundle": job.spec.bundle.hex(), "size": job.spec.bundle_size, "app": job.spec.app, "mapper": job.spec.mapper,
        "name": job.spec.name, "params": job.spec.params, "retry": sorted({item for item, _, _ in inputs}), "ep": "off",
        "remap": job.spec.remap,
        "inputs": [
            {"name": obj.name, "sha256": obj.sha256.hex(), "size": obj.size, "task": entry, "data": obj.data}
            for _, entry, obj in inputs
        ],
    }  # fmt: skip
    if job.spec.mapper == "static":
        mapping = {task: register.node for task, register in job.registers.items() if task in job.tasks}
        args |= {"mapper": "", "mapping": mapping}
    return control.submit(asked.src, asked.call.seq, args, now)


def part(rows: list[Row], name: str, kind: str) -> list[Row]:
    """The row of this name; all without one. UsageError when there is none."""
    found = [row for row in rows if name in ("", row["name"])]
    if name and not found:
        raise UsageError(f"there is no {kind} '{name}'", f"list them with: jupiter ctl get {kind}s JOB")
    return found


JOB_VERBS: dict[str, Callable[[Control, Asked, float], list[Effect]]] = {
    "get": _get,
    "describe": _describe,
    "put": _put,
    "close": _close,
    "cancel": _cancel,
    "results": _results,
    "logs": _logs,
    "log": _log,
    "explain": _explain,
    "stats": _stats,
    "remap": _remap,
    "retry": _retry,
}
