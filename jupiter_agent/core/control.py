"""The verbs that every agent answers, for any job: here, at the job's home, or at whoever holds the answer.

A call about a job is passed on to the job's home, whose answer comes back the same way. Which job is meant (`last`, a
prefix, a name) is settled by asking every node that is home of jobs. A call that another agent passed on carries
`_here`: it is answered here or not at all, so calls never travel in circles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from jupiter_agent.core.call_shapes import check_args
from jupiter_agent.core.effects import Effect, ReadLog
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.home import Home
from jupiter_agent.core.job_verbs import JOB_VERBS, Asked, check_room
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.ledger import Issued
from jupiter_agent.core.listing import app_of, chosen_rows, jobs_or_apps, link_of, resolve
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.control import HERE, Answer, Call, LogChunk
from jupiter_agent.core.messages.jobs import INLINE_MESSAGE_BYTES
from jupiter_agent.core.node_verbs import NODE_VERBS
from jupiter_agent.core.nodes import Nodes
from jupiter_agent.core.paging import paged
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler
from jupiter_agent.core.relay import FORWARD_S, Relay, Then, late
from jupiter_agent.core.submission import Submission, Submissions
from jupiter_agent.core.submit_args import submit_args
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.token_verbs import Decide
from jupiter_agent.core.trust import Trust
from jupiter_agent.core.uploads import Uploads, accepted, refusal
from jupiter_agent.core.views import Row, home_lost, is_row_of, job_row, stranded_row
from jupiter_agent.errors import EXIT_UNREACHABLE, JupiterError, UsageError

ASK_ALL = 32
"""Up to this many nodes are all asked for their jobs; of more only those that publish to have some."""
SEEK_S = 0.3
PATIENCE_S = 10.0
"""So long a call about a job waits for somebody to be its home"""
TAKEN_OVER_S = 5.0
"""So long after a death a job that nobody knows may be one whose next home is not known yet"""
LOG_BYTES = 256 * 1024


class _Parked:
    """A `put` whose bytes are still on their way here."""

    def __init__(self, src: str, call: Call, missing: set[bytes], due: float) -> None:
        self.src, self.call, self.missing, self.due = src, call, missing, due


class _Seeking:
    """A call about a job, on its way to whoever is home."""

    def __init__(self, src: str, call: Call, ref: str, until: float) -> None:
        self.src, self.call, self.ref, self.until = src, call, ref, until
        self.again_at = inf

    @property
    def repeatable(self) -> bool:
        """Asking twice does no more than asking once."""
        return self.call.verb != "retry" and not self.call.args.get("rename")


class Control:
    """Calls in, answers out. `token` gives the join token to those who may ask."""

    def __init__(
        self, around: Surroundings, jobs: Jobs, submissions: Submissions, nodes: Nodes, token: Callable[..., Issued]
    ) -> None:
        self.events: deque[Row] = deque(maxlen=2000)
        self.event_seq = 0
        self.around, self.jobs, self.nodes, self.token = around, jobs, nodes, token
        self.drain: Callable[[float], list[Effect]] = lambda now: []
        """set by the composition: hand this node's tasks over and take no others"""
        self.forget: Callable[[str], list[Effect]] = lambda peer: []
        """set by the composition: strike a member that is gone"""
        self.profiler: ExecProfiler
        """set by the composition"""
        self.trust: Trust
        self.decide: Decide
        """set by the composition, both: the ledger is read, and entered into"""
        self.relay = Relay(around, jobs.transfers)
        self.gather, self.forward = self.relay.gather, self.relay.forward
        self.now = 0.0
        self.submissions = submissions
        self._seeking: list[_Seeking] = []
        self._dead: set[str] = set()
        self._death_at = -inf
        self._parked: list[_Parked] = []
        self.uploads = Uploads(jobs.transfers)

    # --- calls -------------------------------------------------------------------------------------------------

    def on_call(self, src: str, call: Call, now: float) -> list[Effect]:
        """Answer, or see to it that an answer comes."""
        self.now = now
        try:
            verb = _VERBS.get(call.verb)
            if verb is None:
                raise UsageError(f"this agent does not know '{call.verb}'", "is it older than your command line?")
            check_args(call.verb, call.args)
            return verb(self, src, call, now)
        except JupiterError as error:
            return [refusal(src, call.seq, error)]

    def _answer(self, src: str, seq: int, body: Any) -> list[Effect]:
        return [accepted(src, seq, body)]

    def _get(self, src: str, call: Call, now: float) -> list[Effect]:
        kind = str(call.args.get("kind", ""))
        if kind in ("nodes", "links"):
            rows = self.nodes.rows(now) if kind == "nodes" else self.nodes.link_rows(now)
            chosen = chosen_rows(rows, str(call.args.get("id") or ""), kind)
            return self._answer(src, call.seq, {"items": chosen})
        if kind == "apps" or (kind == "jobs" and not call.args.get("id")):
            if HERE in call.args:
                return self._answer(src, call.seq, paged("get", call.args, {"items": self._job_rows()}))
            wanted = str(call.args.get("id") or "")
            return self._all_jobs(
                lambda rows, at: self._answer(
                    src, call.seq, paged("get", call.args, self._listed(jobs_or_apps(rows, kind, wanted)))
                ),
                now,
            )
        if kind in ("jobs", "tasks", "items"):
            return self._at_home(src, call, str(call.args.get("id") or "last"), now)
        raise UsageError(f"unknown kind '{kind}'", "one of: nodes, links, jobs, tasks, items, apps")

    def _describe(self, src: str, call: Call, now: float) -> list[Effect]:
        kind, ref = str(call.args.get("kind", "")).removesuffix("s"), str(call.args.get("id") or "")
        if kind == "node":
            return self._answer(src, call.seq, chosen_rows(self.nodes.rows(now), ref, "nodes")[0])
        if kind == "link":
            return self._answer(src, call.seq, link_of(self.nodes.link_rows(now), ref))
        if kind == "app":
            return self._all_jobs(lambda rows, at: self._described_app(src, call.seq, ref, rows), now)
        if kind in ("job", "task", "item"):
            return self._at_home(src, call, ref or "last", now)
        raise UsageError(f"cannot describe a '{kind}'", "one of: node, link, job, task, item, app")

    def _described_app(self, src: str, seq: int, ref: str, jobs: list[Row]) -> list[Effect]:
        try:
            return self._answer(src, seq, app_of(jobs, ref))
        except UsageError as error:
            return [refusal(src, seq, error)]

    def _of_job(self, src: str, call: Call, now: float) -> list[Effect]:
        ref = str(call.args.get("job") or "")
        if not ref:
            raise UsageError("which job?", "give an id, a unique prefix, or 'last'")
        return self._at_home(src, call, ref, now)

    def _submit(self, src: str, call: Call, now: float) -> list[Effect]:
        if call.verb != "plan":
            check_room(self.around)
        given = {**self.uploads.with_bytes(call.args), "plan": call.verb == "plan", "retry": []}
        return self.submit(src, call.seq, given, now)

    def submit(self, src: str, seq: int, given: Row, now: float) -> list[Effect]:
        """Begin a submission; its end is answered under `seq`."""
        return self.submissions.begin(src, seq, submit_args(given), now) + self.after_submissions(now)

    def after_submissions(self, now: float) -> list[Effect]:
        """Answer the submissions that came to an end, one way or the other: a job, once its deputies know it."""
        finished, self.submissions.finished = self.submissions.finished, []
        effects: list[Effect] = []
        for submission, outcome in finished:
            if isinstance(outcome, JupiterError):
                effects.append(refusal(submission.client, submission.seq, outcome))
            elif isinstance(outcome, dict):
                effects += self._answer(submission.client, submission.seq, outcome)
            elif outcome.home is not None:
                effects += self._submitted(submission, outcome.home, now)
        return effects

    def _submitted(self, submission: Submission, home: Home, now: float) -> list[Effect]:
        def answer(at: float) -> list[Effect]:
            row = {**job_row(home, self.around.name), "warnings": submission.warnings}
            body = {"retried": submission.args.retry, "job": home.job.id} if submission.args.retry else row
            return self._answer(submission.client, submission.seq, body)

        return home.answer_when_safe((submission.client, submission.seq), answer, answer, now)

    def note(self, row: Row) -> None:
        """Keep a notice for `ctl events`."""
        self.events.append({"seq": self.event_seq, **row})
        self.event_seq += 1

    def _listed(self, rows: list[Row]) -> Row:
        """A list, and whose part of it is missing."""
        return {"items": rows, **({"missing": self.relay.missing} if self.relay.missing else {})}

    # --- finding the job and its home ----------------------------------------------------------------------------

    def _job_rows(self) -> list[Row]:
        """Jobs whose home is here, and those of lost homes that this node takes part in, or took."""
        rows = [job_row(home, self.around.name) for home in self.jobs.homes()]
        known = [*self.jobs.past.values(), *self.jobs.local.values()]
        strays = [local.job for local in known if not local.home]
        return rows + [stranded_row(job, self.around.name) for job in strays if self.around.is_gone(job.home.writer)]

    def _all_jobs(self, then: Then, now: float) -> list[Effect]:
        """Rows of every job whose home can be reached, oldest first."""

        def together(bodies: list[Any], at: float) -> list[Effect]:
            rows = self._job_rows() + [row for body in bodies for row in body.get("items", ())]
            rows.sort(key=_authority)
            unique = {row["id"]: row for row in rows}  # of two homes the later one
            return then(sorted(unique.values(), key=lambda row: (row["submitted_at"], row["id"])), at)

        others = [node for node in self.around.alive() if node != self.around.me]
        holders = {node for node in others if len(others) <= ASK_ALL or self.nodes.homed_jobs(node)}
        return self.gather(holders, Call(0, "get", {"kind": "jobs", HERE: True}), together, now)

    def _at_home(self, src: str, call: Call, ref: str, now: float) -> list[Effect]:
        """Answer here when this node is the job's home, else pass the call on to it; wait a while for one."""
        return self._seek(_Seeking(src, call, ref, now + PATIENCE_S), now)

    def _seek(self, seeking: _Seeking, now: float) -> list[Effect]:
        job, _, rest = seeking.ref.partition("/")
        local = self.jobs.local.get(job)
        if local and local.home:
            return self._serve(seeking.src, seeking.call, local, rest, now)
        if HERE in seeking.call.args:
            raise JupiterError(f"job {job} has no home here any more", "ask again", EXIT_UNREACHABLE)
        known = self.jobs.succession.known(job)
        if known is not None:
            if not self.around.is_gone(known[0].writer):
                return self._pass_on(seeking, (known[0].writer, job, rest), now)
            lost = f"job {job} has lost its home, node {self.around.name(known[0].writer)}"
            hint = "start that agent again with its state folder: the job goes on"
            return self._later(seeking, JupiterError(lost, hint, EXIT_UNREACHABLE), now)

        def found(rows: list[Any], at: float) -> list[Effect]:
            try:
                row = resolve(job, rows)
                mine = self.jobs.local.get(row["id"])
                if mine and mine.home:
                    return self._serve(seeking.src, seeking.call, mine, rest, at)
                home = self.around.find(row["home"])
                if home is None and is_row_of(seeking.call, row):
                    return self._answer(seeking.src, seeking.call.seq, {"items": [row]})
                if home is None:
                    return self._later(seeking, home_lost(row), at)
                return self._pass_on(seeking, (home, row["id"], rest), at)
            except JupiterError as error:
                # its home may be among those that did not answer, or have died before most of its hosts know
                if (self.relay.missing or at < self._death_at + TAKEN_OVER_S) and at < seeking.until:
                    return self._later(seeking, error, at)
                return [refusal(seeking.src, seeking.call.seq, error)]

        return self._all_jobs(found, now)

    def _later(self, seeking: _Seeking, error: JupiterError, now: float) -> list[Effect]:
        """Nobody is home just now: look again in a moment, but not for ever."""
        if now >= seeking.until:
            return [refusal(seeking.src, seeking.call.seq, error)]
        seeking.again_at = now + SEEK_S
        self._seeking.append(seeking)
        return []

    def _pass_on(self, seeking: _Seeking, to: tuple[str, str, str], now: float) -> list[Effect]:
        """Have another node answer. `to`: (node, job id, what follows the id in the reference)."""
        node, job, rest = to
        call = seeking.call
        key = "id" if call.verb in ("get", "describe") else "job"
        args = self.uploads.with_bytes(call.args, INLINE_MESSAGE_BYTES)
        args = {**args, key: f"{job}/{rest}" if rest else job, HERE: True}
        seeking.ref = f"{job}/{rest}" if rest else job

        def failed(error: JupiterError, unserved: bool, at: float) -> list[Effect]:
            if unserved or seeking.repeatable:
                return self._later(seeking, error, at)
            return [refusal(seeking.src, call.seq, error)]

        return self.forward(seeking.src, Call(call.seq, call.verb, args), node, now, failed)

    def hand_on(self, src: str, call: Call, now: float) -> list[Effect]:
        """This node is home of the job no longer, and has not answered: the next home shall."""
        ref = str(call.args.get("job") or "")
        seeking = _Seeking(src, call, ref, now + PATIENCE_S)
        if not seeking.repeatable:
            changed = JupiterError(f"the home of job {ref} changed meanwhile", "see whether it is done, then ask again")
            return [refusal(src, call.seq, changed)]
        if HERE in call.args:
            gone = JupiterError(f"job {ref} has no home here any more", "ask again", EXIT_UNREACHABLE)
            return [refusal(src, call.seq, gone)]
        return self._seek(seeking, now)

    def park(self, src: str, call: Call, missing: dict[bytes, int], now: float) -> list[Effect]:
        """Hold a call until these objects (digest -> size) were fetched from the agent that passed it on."""
        self._parked.append(_Parked(src, call, set(missing), now + FORWARD_S))
        return [e for digest, size in missing.items() for e in self.jobs.transfers.want(digest, size, [src], now)]

    @staticmethod
    def came_through_a_peer(call: Call) -> bool:
        return HERE in call.args

    def _serve(self, src: str, call: Call, local: Local, rest: str, now: float) -> list[Effect]:
        """This node is the job's home: do it."""
        try:
            return JOB_VERBS[call.verb](self, Asked(src, call, local, rest), now)
        except JupiterError as error:
            return [refusal(src, call.seq, error)]

    # --- logs and uploads ----------------------------------------------------------------------------------------

    def _read_log(self, src: str, call: Call, now: float) -> list[Effect]:
        """Read a log that is kept here."""
        seq = self.relay.expect(src, call, self.around.me, now)
        offset, length = int(call.args.get("offset", 0)), int(call.args.get("length", LOG_BYTES))
        names = str(call.args.get("job", "")), str(call.args.get("task") or "")
        return [ReadLog(self.around.me, seq, *names, max(0, offset), max(0, min(length, LOG_BYTES)))]

    def on_log(self, src: str, message: LogChunk, now: float) -> list[Effect]:
        """What this node's own log store read."""
        asked = self.relay.answered(src, message.seq) if src == self.around.me else None
        return self._answer(*asked, {"data": message.data, "end": message.end}) if asked else []

    def on_stored(self, event: ObjectStored, now: float) -> list[Effect]:
        """An upload is complete, or a parked call has its bytes."""
        effects = self.uploads.on_stored(event)
        for parked in self._parked:
            parked.missing.discard(event.sha256)
        ready = [parked for parked in self._parked if not parked.missing]
        self._parked = [parked for parked in self._parked if parked.missing]
        return effects + [e for parked in ready for e in self.on_call(parked.src, parked.call, now)]

    # --- answers of other agents, time ---------------------------------------------------------------------------

    def on_answer(self, src: str, answer: Answer, now: float) -> list[Effect]:
        """PeerError for a body that is not what the verb gives: then it counts as not answered."""
        return self.relay.on_answer(src, answer, now)

    def on_members(self, now: float) -> list[Effect]:
        """Somebody came, went, or is reached in another way."""
        dead = set(self.around.dead())
        if dead - self._dead:
            self._death_at = now
        self._dead = dead
        return self.relay.on_members(now)

    def next_deadline(self) -> float:
        again = (each.again_at for each in self._seeking)
        return min([self.relay.next_deadline(), *again, *(each.due for each in self._parked)])

    def on_deadline(self, now: float) -> list[Effect]:
        """Go on without those that did not answer; look again for homes."""
        effects = self.relay.on_deadline(now)
        due = [each for each in self._seeking if each.again_at <= now]
        self._seeking = [each for each in self._seeking if each.again_at > now]
        for seeking in due:
            effects += self._seek(seeking, now)
        for parked in [parked for parked in self._parked if parked.due <= now]:
            self._parked.remove(parked)
            effects.append(refusal(parked.src, parked.call.seq, late()))
        return effects


def _authority(row: Row) -> tuple[bool, int]:
    """Of two rows of one job the larger counts: a home's word above a host's, a later home's above another's."""
    epoch = row.get("epoch")
    return not row.get("home_lost"), epoch if isinstance(epoch, int) else 0


_VERBS: dict[str, Callable[[Control, str, Call, float], list[Effect]]] = {
    "get": Control._get,
    "describe": Control._describe,
    "submit": Control._submit,
    "plan": Control._submit,
    "read-log": Control._read_log,
    **dict.fromkeys(set(JOB_VERBS) - {"get", "describe"}, Control._of_job),
    **NODE_VERBS,
}
