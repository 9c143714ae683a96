"""WAVE, live: the nodes themselves map a job (DESIGN.md 6).

Every task has a controller task; the node hosting the controller chooses where the child runs, from what it knows,
and tells the chosen node (`Award`) and the others (`Registers`). Home decides the entry tasks only, and puts no task
that controls others on itself while there is somebody else, so the wave runs on when home is gone: home never sends a
register that it did not write. A controller decides when every parent's place is known to it, or 2 s after its own.

Registers spread three ways: the writer tells every participant it knows; the hosts of entry tasks, known to everybody
from the first award, pass news on; and each participant compares one digest with a random other from time to time.

The same node supervises afterwards: as long as a register names a node that is gone, everybody derives one repairer,
the host of the nearest living ancestor in the controller tree, else home, else the first living participant.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from random import Random

from msgspec import Struct

from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.intervals import FinishedSet
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Award, Awarded, Finished, Register, RegisterDigest, Registers
from jupiter_agent.core.surroundings import Surroundings
from schedulers.local import Candidate, Resources, Weights, greedy_scores, random_choice

PARENTS_WAIT_S = 2.0
AWARD_AGAIN_S = 1.0
DIGEST_S = 1.0
DIGEST_CALM_S = 5.0
STRANGER_S = 15.0
"""A register may name a node that was never heard of here; after so long it counts as lost."""
GRACE_S = 2.0
"""Somebody names a host that is thought to be gone, as when a partition heals: time to hear that it lives"""
EXPLAINED = 12
"""Candidates kept per decision for `explain`."""


class Considered(Struct, frozen=True):
    """One candidate of one decision, with its numbers, as `explain` shows it."""

    node: str
    cost_s: float | None
    reasons: list[str]


class Wave:
    """The mapping of one job as far as this node takes part in it."""

    def __init__(self, job: Job, around: Surroundings, now: float) -> None:
        self._job, self._around = job, around
        self.considered: dict[str, list[Considered]] = {}
        self._controls = Counter(controller for controller in job.controllers.values() if controller)
        self._award_due: dict[str, float] = {}
        self._decide_at: dict[str, float] = {}
        self._last_look = now
        self._held_until = 0.0
        self._strangers: dict[str, float] = {}
        """hosts that no member record is known of -> when they count as lost"""
        self._now = now
        self._grace: dict[str, float] = {}
        """task -> until when a host that is thought to be gone counts as living: somebody has just named it"""
        self.finished = FinishedSet()
        """of the job on this node: what is over spreads with the registers"""
        self._digest_at = now + DIGEST_S * (0.5 + around.rng.random())

    # --- deciding ----------------------------------------------------------------------------------------------

    def hold(self, until: float) -> None:
        """Decide nothing before then: this agent has just started and does not know yet who is here."""
        self._held_until = until

    def step(self, now: float) -> list[Effect]:
        """Decide what is this node's to decide: unmapped children of tasks hosted here, orphans it must repair."""
        if self._job.over or now < self._held_until:
            return []
        self._look_for_strangers(now)
        lost = [
            task
            for task, register in self._job.registers.items()
            if self._is_lost(register.node) and self._grace.get(task, 0.0) <= now
        ]
        mine = {task for task in lost if self._repairer(task) == self._around.me}
        written = []
        for task in self._job.dag.order:
            register = self._job.registers.get(task)
            if register is None:
                if self._may_decide(task, now):
                    written += self._decide(task)
            elif task in mine:
                written += self._decide(task, again=f"{self._around.name(register.node)} is gone; ")
        if self._job.home.writer == self._around.me:
            written += self._place_beside()
        return self.announce(written, now)

    def evacuate(self, now: float) -> list[Effect]:
        """Decide anew for every task hosted here; this node, draining, is no candidate."""
        mine = [task for task in self._job.dag.order if self._job.host(task) == self._around.me]
        return self.announce([r for task in mine for r in self._decide(task, again="this node drains; ")], now)

    def move(self, task: str, node: str, now: float) -> list[Effect]:
        """Have a task run elsewhere from now on, as the user says."""
        me = (self._around.me, self._around.boot)
        return self.announce([self._job.write(task, node, me, "as the user said", wish=True)], now)

    def _place_beside(self) -> list[Register]:
        """Home places the non-DAG tasks: on the host the app wishes where it is here, else on itself."""
        job, me = self._job, (self._around.me, self._around.boot)
        written = []
        for name, task in job.side.items():
            register = job.registers.get(name)
            if register is None or self._around.is_gone(register.node):
                wished = self._around.find(str(task.extra.get("host") or "")) or me[0]
                written.append(job.write(name, wished, me, "beside the DAG"))
        return written

    def assign(self, mapping: dict[str, str], why: str, now: float) -> list[Effect]:
        """Write a whole mapping (centralised or static) at once."""
        me = (self._around.me, self._around.boot)
        return self.announce([self._job.write(task, node, me, why) for task, node in mapping.items()], now)

    def _may_decide(self, task: str, now: float) -> bool:
        if not self._job.spec.mapper.startswith("wave-") or self._job.controller_host(task) != self._around.me:
            return False
        if all(self._job.host(parent) for parent in self._job.dag.parents(task)):
            return True
        return self._decide_at.setdefault(task, now + PARENTS_WAIT_S) <= now

    def _repairer(self, task: str) -> str | None:
        """The one node that reassigns a task whose node is gone."""
        chain = [self._job.host(above) for above in self._job.ancestry(task)]
        for node in [*chain, self._job.home.writer]:
            if node and not self._is_lost(node):
                return node
        return min((node for node in self._job.hosts() if not self._is_lost(node)), default=None)

    def _look_for_strangers(self, now: float) -> None:
        unknown = [node for node in self._job.hosts() if not self._around.knows(node)]
        self._strangers = {node: self._strangers.get(node, now + STRANGER_S) for node in unknown}
        self._now = now

    def _is_lost(self, node: str) -> bool:
        """Gone; or nobody here has heard of it for long, as after a restart of all nodes but this one."""
        return self._around.is_gone(node) or self._strangers.get(node, inf) <= self._now

    def candidates(self, task: str) -> list[str]:
        """The nodes that may run a task."""
        pin = self._job.tasks[task].node
        nodes = [node for node in self._around.alive() if self._around.profile(node).takes_tasks]
        if pin:
            pinned = [node for node in nodes if pin in (node, self._around.name(node))]
            if pinned or not self._job.tasks[task].extra.get("soft"):
                return pinned
        others = [node for node in nodes if node != self._job.home.writer]
        entry = self._job.controllers[task] is None
        if others and self._job.spec.mapper.startswith("wave-") and (entry or self._controls[task]):
            return others
        return nodes

    def _decide(self, task: str, again: str = "") -> list[Register]:
        nodes = self.candidates(task)
        if not nodes:
            return []
        if self._job.spec.mapper == "wave-random":
            epoch = self._job.registers[task].epoch if task in self._job.registers else 0
            node = random_choice(nodes, Random(f"{self._job.spec.seed}:{task}:{epoch}"))
            why = f"at random, of {len(nodes)} nodes"
            self.considered[task] = [Considered(self._around.name(n), None, []) for n in nodes[:EXPLAINED]]
        else:
            node, why = self._greedy(task, nodes)
        return [self._job.write(task, node, (self._around.me, self._around.boot), again + why)]

    def _greedy(self, task: str, nodes: list[str]) -> tuple[str, str]:
        """The cheapest node by the WAVE greedy rule (schedulers/local.py), and why."""
        job = self._job
        seconds = job.spec.seconds.get(task, 1.0)
        others = [register for register in job.registers.values() if register.task != task]
        committed = Counter(register.node for register in others if job.spec.seconds.get(register.task, 1.0))
        candidates = [self._candidate(node, seconds, committed[node]) for node in nodes]
        edges = job.spec.edge_bytes
        places = [(job.host(parent), edges.get(f"{parent}>{task}", 0)) for parent in job.dag.parents(task)]
        if task in job.dag.entries or not places:
            node, size = job.input_from(task)
            places.append((job.home.writer if self._around.is_gone(node) else node, size))
        known = [(host, float(size)) for host, size in places if host]
        scores = greedy_scores(candidates, known, self._transfer_s, Weights(**job.spec.weights))
        hosts = [host for host, _ in known]
        self.considered[task] = [
            Considered(self._around.name(score.node), score.cost_s, self._named(score.reasons, hosts))
            for score in scores[:EXPLAINED]
        ]
        best = scores[0]
        reasons = "; ".join(self._named(best.reasons, hosts))
        return best.node, f"lowest cost {best.cost_s:.6g} s of {len(scores)}: {reasons}"

    def _named(self, reasons: list[str], nodes: list[str]) -> list[str]:
        """The same reasons with names of nodes instead of their ids."""
        for node in nodes:
            reasons = [reason.replace(node, self._around.name(node)) for reason in reasons]
        return reasons

    def _candidate(self, node: str, seconds: float, committed: int) -> Candidate[str]:
        profile = self._around.profile(node)
        resources = Resources(profile.load, profile.cpus, profile.memory_used)
        return Candidate(node, seconds / profile.speed, resources, committed)

    def _transfer_s(self, host: str, node: str, size: float) -> float | None:
        """Seconds between two nodes as known here: the own links, else what the sender published of its best ones."""
        me = self._around.me
        if me in (host, node):
            link = self._around.link(node if host == me else host)
            return link.latency_s + size / link.bytes_per_s
        published = self._around.links(host).get(node)
        return published[0] + size / published[1] if published and published[1] >= 1 else None

    # --- telling -----------------------------------------------------------------------------------------------

    def announce(self, written: list[Register], now: float) -> list[Effect]:
        """Award what was written here to its nodes and tell every other participant."""
        if not written:
            return []
        me = self._around.me
        effects: list[Effect] = [
            Notice(
                "info", "task mapped",
                {"job": self._job.id, "task": r.task, "to": self._around.name(r.node), "why": r.why},
            )
            for r in written
        ]  # fmt: skip
        for node in dict.fromkeys(register.node for register in written if register.node != me):
            effects += self.award(node, now)
        told = {register.node for register in written} | {me}
        news = Registers(self._job.id, self._job.home, written)
        effects += [Send(node, news) for node in self._job.participants() if node not in told]
        return effects

    def award(self, node: str, now: float) -> list[Effect]:
        """Tell a node that it takes part, again until it says so."""
        self._award_due[node] = now + AWARD_AGAIN_S
        return [Send(node, Award(self._job.signed, self._job.home, self._job.tellable(self._around)))]

    def on_awarded(self, src: str, message: Awarded) -> None:
        self._award_due.pop(src, None)

    def on_registers(self, src: str, won: list[Register], now: float) -> list[Effect]:
        """News from `src`: hosts of entry tasks pass it on, everybody decides what it makes decidable."""
        job, me = self._job, self._around.me
        self._grace = {task: until for task, until in self._grace.items() if until > now}
        self._grace |= {r.task: now + GRACE_S for r in won if self._around.is_gone(r.node)}
        effects: list[Effect] = []
        if won and job.home.writer != me and any(job.host(entry) == me for entry in job.dag.entries):
            news = Registers(job.id, job.home, won)
            effects += [Send(node, news) for node in job.participants() if node not in (me, src)]
        return effects + self.step(now)

    def digest(self, answer: bool = False, asker: str = "") -> RegisterDigest:
        """What is known here, as numbers."""
        return RegisterDigest(self._job.id, self._job.digest(), self.finished.digest(), answer, asker)

    def on_digest(self, src: str, message: RegisterDigest) -> list[Effect]:
        """Tell who knows something else what is known here, and ask for the rest; both in one exchange.

        What home may not tell others, because it did not decide it, their deciders tell at its request.
        """
        job, other = self._job, message.asker or src
        effects: list[Effect] = []
        if message.finished != self.finished.digest() and not message.asker:
            effects.append(Send(src, Finished(job.id, job.home, self.finished.to_intervals())))
        if message.digest != job.digest():
            told = job.tellable(self._around)
            if told or job.home.epoch > 1:
                effects.append(Send(other, Registers(job.id, job.home, told)))
            if not message.asker:
                writers = {r.writer for r in job.registers.values()} - {r.writer for r in told} - {src}
                asked = RegisterDigest(job.id, message.digest, message.finished, True, src)
                effects += [Send(writer, asked) for writer in sorted(writers)]
        return [*effects, Send(src, self.digest(answer=True))] if effects and not message.answer else effects

    # --- time --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        if self._job.over:
            return inf
        held = [self._held_until] if self._held_until > self._last_look else []
        grace = (until for until in self._grace.values() if until > self._last_look)
        return min([self._digest_at, *held, *grace, *self._award_due.values(), *self._waiting()])

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for node, due in list(self._award_due.items()):
            if due <= now:
                del self._award_due[node]
                if not self._around.is_gone(node) and self._job.hosted_by(node):
                    effects += self.award(node, now)
        if self._digest_at <= now:
            self._digest_at = now + (DIGEST_CALM_S if self._job.mapped else DIGEST_S)
            others = [n for n in self._job.participants() if n != self._around.me and not self._around.is_gone(n)]
            if others:
                other = self._around.rng.choice(others)
                effects.append(Send(other, self.digest()))
        self._last_look = now
        return effects + self.step(now)

    def _waiting(self) -> list[float]:
        """When controllers stop waiting for the places of parents; what passed is looked at with every step."""
        mapped = self._job.registers
        return [at for task, at in self._decide_at.items() if task not in mapped and at > self._last_look]
