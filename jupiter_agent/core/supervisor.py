"""Active remapping as supervision (DESIGN.md 6): whoever hosts a task's controller sees to it that it runs in a good
place; home, for the entry tasks.

Hosts tell their supervisors, once a second while something goes on, how their tasks get on (`Pace`); home tells them
how many items there are. Once a second a supervisor compares, for each of its tasks, what is left to do here with the
same elsewhere, the move included. It writes a register for the better place (what follows is a planned move like any
other) only if

* 85 % of the time left here is still more than the time there (`lazy`: 40 %, a dramatic change);
* the same was found a round before, on an older report;
* the task has been where it is for a while, and has not left the better place lately;
* no more than a quarter of the tasks it supervises move in one round: the next one sees what these did.

What a task takes on a node where it never ran is its usual time, by speed index, by how much slower than usual that
node says it is, by how crowded it is, and a quarter more: speed indices are rough.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf

from msgspec import Struct

from jupiter_agent.core.considered import EXPLAINED, Considered
from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.estimate import PRIOR_BANDWIDTH_BPS
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import SINK, Register
from jupiter_agent.core.messages.supervision import Pace, TaskPace
from jupiter_agent.core.pace import Done, pace
from jupiter_agent.core.surroundings import Surroundings

ROUND_S = 1.0
SAY_S = 5.0
"""A pace that did not change is said again"""
STALE_S = 5.0
WORTH = {"active": 0.85, "lazy": 0.4}
"""Share of the time left here that must still be more than the time there"""
COOL_S = 10.0
AWAY_S = 60.0
"""A task does not come back to where it was moved from"""
START_S = 1.0
"""A move takes as long: the process starts, senders learn of it"""
UNSEEN = 1.25
NEAR = 1.1
"""Of places that cost about the same, the one with the fewest of the job's tasks is taken"""
AHEAD_S = 30.0
"""While more items may come, as many are expected in this time as came in the last"""
MOST_MOVES = 4
"""One in so many of the tasks moves in a round"""


class Better(Struct, frozen=True):
    """A place for a task, in seconds for all that is left: `here_s` where it is, `there_s` with the move."""

    task: str
    node: str
    here_s: float
    there_s: float
    why: str


class _Host(Struct):
    """The last word of one node about one of the tasks."""

    at: float
    sequence: int
    slow: float
    pace: TaskPace
    done: list[tuple[float, int]]
    """(when, runs done) as they were said, for `AHEAD_S`"""


class Supervisor:
    """One job, on one node: what it says of its own tasks, and what it decides about those it supervises."""

    def __init__(self, job: Job, around: Surroundings, execution: Execution, now: float) -> None:
        self.candidates: Callable[[str], list[str]] = lambda task: []
        """set by the composition: the nodes that may run a task"""
        self.announce: Callable[[list[Register], float], list[Effect]] = lambda written, now: []
        """set by the composition: tell everybody"""
        self.considered: dict[str, list[Considered]] = {}
        """set by the composition: task -> what was compared, for `explain`"""
        self.slow = 1.0
        """how many times what is usual the runs of this job take here now, at least"""
        self.moves = 0
        """that this node decided on"""
        self._job, self._around, self._execution = job, around, execution
        self._next = now + ROUND_S * (1 + around.rng.random())
        self._sequence = around.boot << 32
        self._said: dict[str, tuple[float, object]] = {}
        self._heard: dict[tuple[str, str], _Host] = {}
        """(task, node) -> the node's last word"""
        self._accepted, self._more = 0, True
        self._since: dict[str, tuple[tuple[int, int, str, int], float]] = {}
        """task -> version of its register, and when it was first seen here"""
        self._away: dict[tuple[str, str], float] = {}
        """(task, node it left) -> until when it does not come back"""
        self._found: dict[str, int] = {}
        """task -> the report on which a better place was found for the first time"""
        self._coming: dict[str, list[float]] = {}
        """node -> when tasks were sent there: its load does not show them yet"""

    # --- telling -----------------------------------------------------------------------------------------------

    def _tell(self, taken: tuple[int, bool] | None, now: float) -> list[Effect]:
        """This node's tasks to their supervisors. `taken`, at home: items taken in, and whether more may come."""
        job, me = self._job, self._around.me
        hosted = [task for task in job.tasks if job.host(task) == me and job.tasks[task].contract != SINK]
        supervisors = {job.controller_host(task) for task in hosted}
        if taken is not None:
            supervisors |= {job.controller_host(task) for task in job.registers if task in job.tasks}
        usual_s, slow = self._pace(hosted, now) if hosted else ({}, 1.0)
        self.slow = slow
        effects: list[Effect] = []
        for node in sorted(node for node in supervisors if node and not self._around.is_gone(node)):
            rows = [
                TaskPace(task, *self._execution.queued(task), self._done(task), usual_s.get(task, 0.0))
                for task in hosted
                if job.controller_host(task) == node
            ]
            word = (slow, tuple((r.task, r.queued, r.running, r.done) for r in rows), taken)
            at, last = self._said.get(node, (-inf, None))
            if word != last or now - at >= SAY_S:
                self._said[node] = (now, word)
                self._sequence += 1
                effects.append(Send(node, Pace(job.id, self._sequence, slow, rows, *(taken or ()))))
        return effects

    def _done(self, task: str) -> int:
        counts = self._execution.counters.tasks.get(task)
        return counts["done"] if counts else 0

    def _pace(self, hosted: list[str], now: float) -> tuple[dict[str, float], float]:
        """What a run of each takes here as a rule, and how many times that all of them take now, at least."""
        job, speed = self._job, self._around.profile(self._around.me).speed
        predicted = {task: job.spec.seconds.get(task, 1.0) / speed for task in job.tasks}
        ended: dict[str, float] = {}
        done = []
        for run in self._execution.counters.runs:
            begun = max(run.execute, ended.get(run.task, 0.0)) if self._overlaps(run.task) else run.execute
            ended[run.task] = run.finish
            done.append(Done(run.task, run.finish - begun, run.finish))
        begun_at = {
            task: max(at, ended.get(task, 0.0)) if self._overlaps(task) else at
            for task, at in self._execution.under_way().items()
        }
        found = pace(done, [Done(task, now - at, now) for task, at in begun_at.items()], predicted, now)
        return {task: found.usual_s.get(task, 0.0) for task in hosted}, float(f"{found.slow:.2g}")

    def _overlaps(self, task: str) -> bool:
        """Its process holds many items at once, and takes them one after another."""
        return task in self._job.tasks and self._job.tasks[task].contract == "v5"

    # --- hearing -----------------------------------------------------------------------------------------------

    def on_pace(self, src: str, message: Pace, now: float) -> None:
        """A host's word; home's, how many items there are."""
        if src == self._job.home.writer:
            self._accepted, self._more = max(self._accepted, message.accepted), message.more
        for row in message.tasks:
            mine = self._heard.get((row.task, src))
            if row.task not in self._job.tasks or (mine is not None and mine.sequence >= message.sequence):
                continue
            done = [*(each for each in (mine.done if mine else []) if each[0] >= now - AHEAD_S), (now, row.done)]
            self._heard[row.task, src] = _Host(now, message.sequence, message.slow, row, done)

    # --- deciding ----------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return inf if self._job.over else self._next

    def on_round(self, taken: tuple[int, bool] | None, now: float) -> list[Effect]:
        """Once a second: say how it goes here, and move what is better off elsewhere."""
        if now < self._next:
            return []
        self._next = now + ROUND_S
        if not self._job.mapped:
            return []
        if taken is not None:
            self._accepted, self._more = taken
        effects = self._tell(taken, now)
        return effects + self.announce([self._move(better, now) for better in self._confirmed(now)], now)

    def _confirmed(self, now: float) -> list[Better]:
        """The moves of this round, those that save most first."""
        job, me = self._job, self._around.me
        mine = [
            task
            for task in job.tasks
            if job.controller_host(task) == me and not self._around.is_gone(job.host(task) or "")
        ]
        found = [better for task in mine if (better := self.better(task, now)) is not None]
        before, self._found = self._found, {}
        sure: list[Better] = []
        for better in sorted(found, key=lambda b: b.there_s - b.here_s):
            sequence = self._heard[better.task, job.host(better.task) or ""].sequence
            self._found[better.task] = before.get(better.task, sequence)
            if self._found[better.task] < sequence and len(sure) < ceil(len(mine) / MOST_MOVES):
                sure.append(better)
        return sure

    def _move(self, better: Better, now: float) -> Register:
        job, task = self._job, better.task
        self._away[task, job.host(task) or ""] = now + AWAY_S
        self._coming.setdefault(better.node, []).append(now)
        self._found.pop(task, None)
        self.moves += 1
        return job.write(task, better.node, (self._around.me, self._around.boot), better.why)

    def better(self, task: str, now: float) -> Better | None:
        """The best other place, if it is worth the move; None also for what must not or need not move."""
        job, spec = self._job, self._job.tasks[task]
        host = job.host(task)
        heard = self._heard.get((task, host or ""))
        if (
            host is None
            or heard is None
            or now - heard.at > STALE_S
            or spec.contract == SINK
            or spec.extra.get("replay")
        ):
            return None
        version, since = self._since.get(task, ((0, 0, "", 0), now))
        if version != job.registers[task].version():
            self._since[task] = (job.registers[task].version(), now)
            since = now
        if now - since < COOL_S:
            return None
        left = self._left(task, heard)
        here_s = left * (heard.pace.usual_s * heard.slow + self.transfers_s(task, host))
        others = [n for n in self.candidates(task) if n != host and self._away.get((task, n), -inf) <= now]
        costs = {node: self._there_s(task, node, heard, left, now) for node in others}
        if not costs or not left:
            return None
        near = NEAR * min(costs.values())
        node = min((n for n in others if costs[n] <= near), key=lambda n: (len(job.hosted_by(n)), costs[n], n))
        if costs[node] >= WORTH[job.spec.remap] * here_s:
            return None
        why = f"{job.spec.remap} remapping: {left} items left take {here_s:.3g} s on {self._around.name(host)}"
        self._explain(task, {host: here_s, **costs}, heard)
        slow = f", {heard.slow:.2g} times as slow as usual" if heard.slow > 1 else ""
        return Better(task, node, here_s, costs[node], f"{why}{slow}; {costs[node]:.3g} s here, the move included")

    def _explain(self, task: str, costs: dict[str, float], heard: _Host) -> None:
        """Remember the places that were compared, in seconds for all that is left."""
        name, host = self._around.name, self._job.host(task)
        here = f"here now: {heard.pace.usual_s:.3g} s a run as a rule, {heard.slow:.2g} times as long now"
        self.considered[task] = [
            Considered(
                name(node), cost, [here if node == host else "for what is left, the move included"], None, cost,
                self.transfers_s(task, node),
            )
            for node, cost in sorted(costs.items(), key=lambda each: each[1])[:EXPLAINED]
        ]  # fmt: skip

    def _left(self, task: str, heard: _Host) -> int:
        """Items that this task has still to begin, as far as can be told; those under way do not move."""
        done = sum(host.pace.done for (of, _), host in self._heard.items() if of == task)
        left = max(heard.pace.queued, self._accepted - done - heard.pace.running)
        return left + max(0, heard.done[-1][1] - heard.done[0][1]) if self._more else left

    def _there_s(self, task: str, node: str, host: _Host, left: int, now: float) -> float:
        """Seconds for all that is left on another node, the move included."""
        here, there = self._around.profile(self._job.host(task) or ""), self._around.profile(node)
        slow = max((h.slow for (_, of), h in self._heard.items() if of == node and now - h.at <= STALE_S), default=1.0)
        slow = max(slow, there.slow)
        coming = self._coming[node] = [at for at in self._coming.get(node, ()) if at > now - AHEAD_S]
        crowd = max(1.0, (there.load + len(coming) + 1) / there.cpus)
        run_s = host.pace.usual_s * here.speed / there.speed * slow * crowd * UNSEEN
        move_s = START_S + host.pace.queued * self._inputs_s(task, node)
        return move_s + left * (run_s + self.transfers_s(task, node))

    # --- links -------------------------------------------------------------------------------------------------

    def transfers_s(self, task: str, node: str) -> float:
        """Seconds that an item's inputs and outputs travel when the task runs on this node: the slowest of each."""
        job = self._job
        outputs = [
            self._link_s(node, job.host(child) or node, job.bytes_on(task, child)) for child in job.dag.out_edges(task)
        ]
        return self._inputs_s(task, node) + max(outputs, default=0.0)

    def _inputs_s(self, task: str, node: str) -> float:
        job = self._job
        ends = [(job.host(parent) or node, job.bytes_on(parent, task)) for parent in job.dag.parents(task)]
        if task in job.dag.entries or not ends:
            ends.append(job.input_from(task))
        return max(self._link_s(host, node, size) for host, size in ends)

    def _link_s(self, a: str, b: str, size: int) -> float:
        """As measured here, or as either end published it; else the link from here to the far end will do."""
        if a == b:
            return 0.0
        me = self._around.me
        if me not in (a, b):
            found = self._around.links(a).get(b) or self._around.links(b).get(a)
            if found is not None:
                return found[0] + size / (found[1] if found[1] >= 1 else PRIOR_BANDWIDTH_BPS)
        return (self._around.link_from(a) if b == me else self._around.link(b)).seconds(size)
