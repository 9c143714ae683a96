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

from jupiter_agent.core.call_shapes import check_args, check_body
from jupiter_agent.core.effects import Effect, ReadLog, Send
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.job_verbs import JOB_VERBS, Asked
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.listing import app_of, chosen_rows, jobs_or_apps, link_of, resolve
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.control import HERE, Answer, Call, LogChunk
from jupiter_agent.core.messages.jobs import INLINE_MESSAGE_BYTES
from jupiter_agent.core.node_verbs import NODE_VERBS
from jupiter_agent.core.nodes import Nodes
from jupiter_agent.core.paging import paged
from jupiter_agent.core.submission import Submissions
from jupiter_agent.core.submit_args import submit_args
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.uploads import Uploads, accepted, refusal
from jupiter_agent.core.views import Row, home_lost, is_row_of, job_row, stranded_row
from jupiter_agent.errors import EXIT_OK, EXIT_UNREACHABLE, JupiterError, UsageError

GATHER_S = 1.5
ASK_ALL = 32
"""Up to this many nodes are all asked for their jobs; of more only those that publish to have some."""
FORWARD_S = 15.0
LOG_BYTES = 256 * 1024

MOST_PAGES = 1000
"""Of all nodes that one gathering asks."""

Then = Callable[[list[Any], float], list[Effect]]


class _Gathering:
    """Answers of several nodes on their way into one."""

    def __init__(self, call: Call, waiting: set[str], due: float, then: Then) -> None:
        self.call, self.waiting, self.due, self.then = call, waiting, due, then
        self.bodies: list[Any] = []
        self.pages = MOST_PAGES


class _Forwarded:
    """A call passed on to another node."""

    def __init__(self, client: str, call: Call, node: str, due: float) -> None:
        self.client, self.seq, self.verb, self.node, self.due = client, call.seq, call.verb, node, due


class _Parked:
    """A `put` whose bytes are still on their way here."""

    def __init__(self, src: str, call: Call, missing: set[bytes], due: float) -> None:
        self.src, self.call, self.missing, self.due = src, call, missing, due


class Control:
    """Calls in, answers out. `token` gives the join token to those who may ask."""

    def __init__(
        self, around: Surroundings, jobs: Jobs, submissions: Submissions, nodes: Nodes, token: Callable[[], str]
    ) -> None:
        self.events: deque[Row] = deque(maxlen=2000)
        self.event_seq = 0
        self.around, self.jobs, self.nodes, self.token = around, jobs, nodes, token
        self.drain: Callable[[float], list[Effect]] = lambda now: []
        """set by the composition: hand this node's tasks over and take no others"""
        self.forget: Callable[[str], list[Effect]] = lambda peer: []
        """set by the composition: strike a member that is gone"""
        self.missing: list[str] = []
        """names of those that did not answer the gathering that ended last"""
        self.now = 0.0
        self.submissions = submissions
        self._seq = 0
        self._gatherings: dict[int, _Gathering] = {}
        self._forwarded: dict[int, _Forwarded] = {}
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
        given = {**self.uploads.with_bytes(call.args), "plan": call.verb == "plan", "retry": []}
        return self.submit(src, call.seq, given, now)

    def submit(self, src: str, seq: int, given: Row, now: float) -> list[Effect]:
        """Begin a submission; its end is answered under `seq`."""
        return self.submissions.begin(src, seq, submit_args(given), now) + self.after_submissions()

    def after_submissions(self) -> list[Effect]:
        """Answer the submissions that came to an end, one way or the other."""
        finished, self.submissions.finished = self.submissions.finished, []
        effects: list[Effect] = []
        for submission, outcome in finished:
            if isinstance(outcome, JupiterError):
                effects.append(refusal(submission.client, submission.seq, outcome))
            elif isinstance(outcome, dict):
                effects += self._answer(submission.client, submission.seq, outcome)
            elif outcome.home is not None and submission.args.retry:
                body = {"retried": submission.args.retry, "job": outcome.job.id}
                effects += self._answer(submission.client, submission.seq, body)
            elif outcome.home is not None:
                body = {**job_row(outcome.home, self.around.name), "warnings": submission.warnings}
                effects += self._answer(submission.client, submission.seq, body)
        return effects

    def note(self, row: Row) -> None:
        """Keep a notice for `ctl events`."""
        self.events.append({"seq": self.event_seq, **row})
        self.event_seq += 1

    def _listed(self, rows: list[Row]) -> Row:
        """A list, and whose part of it is missing."""
        return {"items": rows, **({"missing": self.missing} if self.missing else {})}

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
            unique = {row["id"]: row for row in rows}
            return then(sorted(unique.values(), key=lambda row: (row["submitted_at"], row["id"])), at)

        others = [node for node in self.around.alive() if node != self.around.me]
        holders = {node for node in others if len(others) <= ASK_ALL or self.nodes.homed_jobs(node)}
        return self.gather(holders, Call(0, "get", {"kind": "jobs", HERE: True}), together, now)

    def gather(self, nodes: set[str], call: Call, then: Then, now: float) -> list[Effect]:
        self.missing = []
        if not nodes:
            return then([], now)
        self._seq += 1
        self._gatherings[self._seq] = _Gathering(call, set(nodes), now + GATHER_S, then)
        return [Send(node, Call(self._seq, call.verb, call.args)) for node in sorted(nodes)]

    def _at_home(self, src: str, call: Call, ref: str, now: float) -> list[Effect]:
        """Answer here when this node is the job's home, else pass the call on to it."""
        job, _, rest = ref.partition("/")
        local = self.jobs.local.get(job)
        if local and local.home:
            return self._serve(src, call, local, rest, now)
        if HERE in call.args:
            raise JupiterError(f"job {job} has no home here any more", "ask again", EXIT_UNREACHABLE)
        if local:
            return self._pass_on(src, call, (local.job.home.writer, job, rest), now)

        def found(rows: list[Any], at: float) -> list[Effect]:
            try:
                row = resolve(job, rows)
                mine = self.jobs.local.get(row["id"])
                if mine and mine.home:
                    return self._serve(src, call, mine, rest, at)
                home = self.around.find(row["home"])
                if home is None and is_row_of(call, row):
                    return self._answer(src, call.seq, {"items": [row]})
                if home is None:
                    raise home_lost(row)
                return self._pass_on(src, call, (home, row["id"], rest), at)
            except JupiterError as error:
                return [refusal(src, call.seq, error)]

        return self._all_jobs(found, now)

    def _pass_on(self, src: str, call: Call, to: tuple[str, str, str], now: float) -> list[Effect]:
        """Have another node answer. `to`: (node, job id, what follows the id in the reference)."""
        node, job, rest = to
        if self.around.is_gone(node):
            lost = f"job {job} has lost its home, node {self.around.name(node)}"
            raise JupiterError(lost, "start that agent again with its state folder: the job goes on", EXIT_UNREACHABLE)
        key = "id" if call.verb in ("get", "describe") else "job"
        args = self.uploads.with_bytes(call.args, INLINE_MESSAGE_BYTES)
        args = {**args, key: f"{job}/{rest}" if rest else job, HERE: True}
        return self.forward(src, Call(call.seq, call.verb, args), node, now)

    def forward(self, src: str, call: Call, node: str, now: float) -> list[Effect]:
        """Ask `node`, and pass its answer on to `src`."""
        self._seq += 1
        self._forwarded[self._seq] = _Forwarded(src, call, node, now + FORWARD_S)
        return [Send(node, Call(self._seq, call.verb, call.args))]

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
        self._seq += 1
        self._forwarded[self._seq] = _Forwarded(src, call, self.around.me, now + FORWARD_S)
        offset, length = int(call.args.get("offset", 0)), int(call.args.get("length", LOG_BYTES))
        names = str(call.args.get("job", "")), str(call.args.get("task") or "")
        return [ReadLog(self.around.me, self._seq, *names, max(0, offset), max(0, min(length, LOG_BYTES)))]

    def on_log(self, src: str, message: LogChunk, now: float) -> list[Effect]:
        """What this node's own log store read."""
        forwarded = self._forwarded.pop(message.seq, None) if src == self.around.me else None
        if forwarded is None:
            return []
        return self._answer(forwarded.client, forwarded.seq, {"data": message.data, "end": message.end})

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
        forwarded = self._forwarded.get(answer.seq)
        if forwarded is not None and forwarded.node == src:
            if forwarded.verb == "results" and answer.exit_code == EXIT_OK:
                check_body(forwarded.verb, answer.body)
                for item in answer.body["items"]:
                    for row in item["results"]:
                        self.jobs.transfers.hint(bytes.fromhex(row["sha256"]), row["size"], src)
            del self._forwarded[answer.seq]
            fields = (answer.exit_code, answer.body, answer.error, answer.hint)
            return [Send(forwarded.client, Answer(forwarded.seq, *fields))]
        gathering = self._gatherings.get(answer.seq)
        if gathering is None or src not in gathering.waiting:
            return []
        if answer.exit_code == EXIT_OK:
            check_body(gathering.call.verb, answer.body)
            gathering.bodies.append(answer.body)
            if more := self._next_page(gathering, src, answer, now):
                return more
        gathering.waiting.discard(src)
        if gathering.waiting:
            return []
        del self._gatherings[answer.seq]
        self.missing = []
        return gathering.then(gathering.bodies, now)

    def _next_page(self, gathering: _Gathering, src: str, answer: Answer, now: float) -> list[Effect]:
        """Ask the same node for what did not fit into its answer."""
        offset = answer.body.get("next")
        gathering.pages -= 1
        if offset is None or gathering.pages <= 0:
            return []
        gathering.due, call = now + GATHER_S, gathering.call
        return [Send(src, Call(answer.seq, call.verb, {**call.args, "offset": offset}))]

    def next_deadline(self) -> float:
        due = [each.due for each in self._gatherings.values()] + [each.due for each in self._forwarded.values()]
        return min([*due, *(each.due for each in self._parked)], default=inf)

    def on_deadline(self, now: float) -> list[Effect]:
        """Go on without those that did not answer."""
        effects: list[Effect] = []
        for seq, gathering in list(self._gatherings.items()):
            if gathering.due <= now:
                del self._gatherings[seq]
                self.missing = sorted(self.around.name(node) for node in gathering.waiting)
                effects += gathering.then(gathering.bodies, now)
        late = JupiterError("the node that has the answer does not answer", "try again", EXIT_UNREACHABLE)
        for seq, forwarded in list(self._forwarded.items()):
            if forwarded.due <= now:
                del self._forwarded[seq]
                effects.append(refusal(forwarded.client, forwarded.seq, late))
        for parked in [parked for parked in self._parked if parked.due <= now]:
            self._parked.remove(parked)
            effects.append(refusal(parked.src, parked.call.seq, late))
        return effects


_VERBS: dict[str, Callable[[Control, str, Call, float], list[Effect]]] = {
    "get": Control._get,
    "describe": Control._describe,
    "submit": Control._submit,
    "plan": Control._submit,
    "read-log": Control._read_log,
    **dict.fromkeys(set(JOB_VERBS) - {"get", "describe"}, Control._of_job),
    **NODE_VERBS,
}
