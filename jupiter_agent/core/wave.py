"""WAVE, live: the nodes themselves map a job (DESIGN.md 6).

Every task has a controller task; the node hosting the controller decides where the child runs, from what it knows, and
tells it (`spreading`). Home decides the entry tasks only, and puts no task that controls others on itself while there
is somebody else, so the wave runs on when home is gone: home never sends a register that it did not write. A controller
decides when every parent's place is known to it, or 2 s after its own.

How it decides is the mapper: `wave-random` and `wave-greedy` at once, from what is known here; `wave-auction` by asking
the nodes for bids (`wave_auction`), by the greedy rule where nobody bids; a third party's rule is asked off the loop
(`wave_rules`). Repairs are made at once, by the rule of the mapper, where it takes time by the greedy one.

The same node supervises afterwards: as long as a register names a node that is gone, everybody derives one repairer,
the host of the nearest living ancestor in the controller tree, else home, else the first living participant.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from random import Random

import msgspec

from jupiter_agent.core.considered import EXPLAINED, Considered, of_auction, told
from jupiter_agent.core.effects import Effect, Notice
from jupiter_agent.core.events import NodeChosen
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.job import Job, Plan
from jupiter_agent.core.messages.auction import Bids
from jupiter_agent.core.messages.jobs import Register, TaskSpec
from jupiter_agent.core.needs import NEEDS, candidates, waits_for
from jupiter_agent.core.spreading import Spreading
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.wave_auction import Auctions
from jupiter_agent.core.wave_rules import Decision, Rules
from schedulers.bidding import frontier
from schedulers.local import Candidate, Resources, Weights, greedy_scores, random_choice
from schedulers.rules import Input, Seen, View

AUCTION = "wave-auction"
PARENTS_WAIT_S = 2.0
TURN_WAIT_S = 0.3
"""A task waits at most so long for more urgent ones of other deciders to be auctioned"""
WINDOW = 0.2
"""Share of the largest rank by which a task may go ahead of its turn: a wider one saves rounds and costs 1 % (m)"""
STRANGER_S = 15.0
"""A register may name a node that was never heard of here; after so long it counts as lost."""
GRACE_S = 2.0
"""Somebody names a host that is thought to be gone, as when a partition heals: time to hear that it lives"""
LARGE_BYTES = 1e6


class Wave(Spreading):
    """The mapping of one job as far as this node takes part in it."""

    def __init__(self, job: Job, around: Surroundings, now: float) -> None:
        super().__init__(job, around, now)
        self.auctions = Auctions(job, around)
        self.rules = Rules(job.id, job.spec.mapper)
        self.considered: dict[str, list[Considered]] = {}
        self._controls = Counter(controller for controller in job.controllers.values() if controller)
        self._decide_at: dict[str, float] = {}
        self._ready_at: dict[str, float] = {}
        """task of ours -> since when it could be auctioned"""
        self._homeless: set[str] = set()
        """tasks that no node may run, when this one looked last"""
        self._said: set[str] = set()
        self._last_look = now
        self._held_until = 0.0
        self._strangers: dict[str, float] = {}
        """hosts that no member record is known of -> when they count as lost"""
        self._now = now
        self._grace: dict[str, float] = {}
        """task -> until when a host that is thought to be gone counts as living: somebody has just named it"""

    # --- deciding ----------------------------------------------------------------------------------------------

    def hold(self, until: float) -> None:
        """Decide nothing before then: this agent has just started and does not know yet who is here."""
        self._held_until = until

    def step(self, now: float) -> list[Effect]:
        """Decide what is this node's to decide: unmapped children of tasks hosted here, orphans it must repair."""
        if self._job.over or now < self._held_until:
            return []
        return self._decide_all(now) + self._remark()

    def _decide_all(self, now: float) -> list[Effect]:
        self._look_for_strangers(now)
        gone = {node for node in self._job.hosts() if self._is_lost(node)}
        registers = self._job.registers.items()
        lost = [task for task, r in registers if r.node in gone and self._grace.get(task, 0.0) <= now] if gone else []
        mine = {task for task in lost if self._repairer(task) == self._around.me}
        written, mapping, holds_auctions = [], [], self._job.spec.mapper == AUCTION
        known, me = self._job.registers, self._around.me
        for task in self._job.dag.order if mine or not self._job.mapped else ():
            if task not in known:
                if self._job.controller_host(task) == me and self._may_decide(task, now):
                    mapping.append(task)
                    written += [] if holds_auctions or self.rules.name else self._decide(task)
            elif task in mine:
                written += self._decide(task, again=f"{self._around.name(known[task].node)} is gone; ")
        if self._job.home.writer == self._around.me:
            written += self._place_beside()
        effects = self.announce(written, now)
        if self.rules.name:
            return effects + self._ask_rule(mapping, now)
        return effects + self._auction(mapping, now) if holds_auctions else effects

    # --- rules of third parties ----------------------------------------------------------------------------------

    def _ask_rule(self, mine: list[str], now: float) -> list[Effect]:
        self.rules.forget(set(mine).__contains__)
        effects: list[Effect] = []
        for task in mine:
            if task not in self.rules and (nodes := self._sought(task)):
                effects += self.rules.ask(self._view(task, nodes), {self._around.name(n): n for n in nodes}, now)
        return effects

    def on_chosen(self, event: NodeChosen, now: float) -> list[Effect]:
        """The rule has decided, or failed: then the greedy one does."""
        return self._settle_chosen(self.rules.on_chosen(event), now)

    def _settle_chosen(self, decisions: list[Decision], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for task, node, why in decisions:
            if task in self._job.registers:
                continue
            if node is not None and node in self.candidates(task):
                me = (self._around.me, self._around.boot)
                effects += self.announce([self._job.write(task, node, me, why)], now)
                continue
            failed = why if node is None else f"rule {self.rules.name} failed: its node left; "
            effects.append(Notice("warning", "rule failed", {"job": self._job.id, "task": task, "why": failed}))
            effects += self.announce(self._decide(task, again=failed), now)
        return effects + (self.step(now) if decisions else [])

    def _view(self, task: str, nodes: list[str]) -> View:
        """What this node knows of a decision, by names."""
        job, name = self._job, self._around.name
        candidates, inputs = self._weighed(task, nodes)
        self.considered[task] = [Considered(name(c.node), c.exec_s, []) for c in candidates[:EXPLAINED]]
        hosts = dict.fromkeys(host for _, host, _ in inputs)
        known = {(a, b): self._link(a, b) for a in hosts for b in nodes if a != b}
        links = {(name(a), name(b)): link for (a, b), link in known.items() if link is not None}
        seen = tuple(
            Seen(name(c.node), c.exec_s, self._around.profile(c.node).speed, *c.resources, c.committed)
            for c in candidates
        )
        given = tuple(Input(parent, name(host), size) for parent, host, size in inputs)
        return View(task, name(self._around.me), seen, given, links, job.spec.seed)

    # --- auctions ------------------------------------------------------------------------------------------------

    def on_bids(self, src: str, message: Bids, now: float) -> list[Effect]:
        """Somebody answers our calls."""
        going_on = len(self.auctions)
        effects = self.auctions.on_bids(src, message, now)
        return effects + self._settle_sold(now) + (self.step(now) if len(self.auctions) != going_on else [])

    def _auction(self, mine: list[str], now: float) -> list[Effect]:
        """Call out the tasks whose turn it is; write down what was sold."""
        allowed = set(mine)
        effects = self.auctions.drop(lambda task: task not in allowed, now)
        waiting = [task for task in mine if task not in self.auctions]
        self._ready_at = {task: self._ready_at.get(task, now) for task in waiting}
        if waiting:
            effects += self.auctions.call(self._in_turn(waiting, now), self._sought, now)
        if self.auctions.sold:
            effects += self._settle_sold(now) + self.step(now)
        return effects

    def _in_turn(self, mine: list[str], now: float) -> list[str]:
        """Those of our tasks that are urgent enough, or have waited for others; most urgent first."""
        job, ranks = self._job, self._job.ranks
        unmapped = [task for task in job.dag.order if task not in job.registers]
        turn = set(frontier(unmapped, ranks, lambda t: all(map(job.host, job.dag.parents(t))), 1, WINDOW))
        late = {task for task, since in self._ready_at.items() if since + TURN_WAIT_S <= now}
        return sorted((task for task in mine if task in turn | late), key=lambda task: (-ranks[task], task))

    def _settle_sold(self, now: float) -> list[Effect]:
        sold, self.auctions.sold = self.auctions.sold, []
        written, me = [], (self._around.me, self._around.boot)
        for each in sold:
            task, bid = each.task, each.bid
            if task in self._job.registers:
                continue
            if bid is None:
                written += self._decide(task, again="nobody bids; ")
                continue
            self.considered[task] = of_auction(each, self._around.name)
            why = f"best of {len(each.bids)} bids: {'; '.join(told(bid))}"
            written.append(self._job.write(task, bid.node, me, why, plan=Plan(bid.finish_s, bid.sends)))
        return self.announce(written, now)

    # --- deciding alone ------------------------------------------------------------------------------------------

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
        if not self._job.spec.mapper.startswith("wave-"):
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
        spec = self._job.tasks[task]
        nodes = [node for node in self._around.alive() if self._around.profile(node).takes_tasks]
        if spec.node and (spec.node in nodes or any(spec.node == self._around.name(node) for node in nodes)):
            return candidates(spec, self._around, nodes)
        nodes = candidates(spec, self._around, nodes)
        others = [node for node in nodes if node != self._job.home.writer]
        entry = self._job.controllers[task] is None
        if others and self._job.spec.mapper.startswith("wave-") and (entry or self._controls[task]):
            return others
        return nodes

    def waits(self) -> dict[str, str]:
        """task -> what it waits for, of those that no node may run which is here."""
        tasks, whys = self._job.tasks, dict[bytes, str]()
        wishes = {task: _wish(tasks[task]) for task in tasks if self._is_homeless(task)}
        for task, wish in wishes.items():
            if wish not in whys:
                whys[wish] = "" if self.candidates(task) else waits_for(tasks[task], self._around)
        return {task: whys[wish] for task, wish in wishes.items() if whys[wish]}

    def _is_homeless(self, task: str) -> bool:
        host = self._job.host(task)
        return host is None or self._is_lost(host)

    def _sought(self, task: str) -> list[str]:
        """The nodes that may run a task that this one is to place."""
        nodes = self.candidates(task)
        (self._homeless.discard if nodes else self._homeless.add)(task)
        return nodes

    def _remark(self) -> list[Effect]:
        """Say once of a task that this node looked for nodes in vain."""
        self._homeless = set(filter(self._is_homeless, self._homeless))
        fresh, self._said = sorted(self._homeless - self._said), set(self._homeless)
        whys = {task: waits_for(self._job.tasks[task], self._around) for task in fresh}
        return [Notice("warning", "task waits", {"job": self._job.id, "task": t, "why": w}) for t, w in whys.items()]

    def _decide(self, task: str, again: str = "") -> list[Register]:
        nodes = self._sought(task)
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
        candidates, inputs = self._weighed(task, nodes)
        known = [(host, size) for _, host, size in inputs]
        scores = greedy_scores(candidates, known, self._transfer_s, Weights(**self._job.spec.weights))
        hosts = [host for host, _ in known]
        self.considered[task] = [
            Considered(
                self._around.name(score.node), score.cost_s, self._named(score.reasons, hosts),
                score.transfer_s, score.transfer_s + score.compute_s + score.memory_s, score.transfer_s,
            )
            for score in scores[:EXPLAINED]
        ]  # fmt: skip
        best = scores[0]
        reasons = "; ".join(self._named(best.reasons, hosts))
        return best.node, f"lowest cost {best.cost_s:.3g} s of {len(scores)}: {reasons}"

    def _weighed(self, task: str, nodes: list[str]) -> tuple[list[Candidate[str]], list[tuple[str, str, float]]]:
        """The candidates with their numbers, and the inputs whose places are known: (parent, host, bytes)."""
        job = self._job
        others = [register for register in job.registers.values() if register.task != task]
        committed = Counter(register.node for register in others if job.spec.seconds.get(register.task, 1.0))
        candidates = [self._candidate(task, node, committed[node]) for node in nodes]
        parents = job.dag.parents(task)
        inputs = [(parent, job.host(parent), job.bytes_on(parent, task)) for parent in parents]
        if task in job.dag.entries or not parents:
            node, size = job.input_from(task)
            inputs.append((HOME, job.home.writer if self._around.is_gone(node) else node, size))
        return candidates, [(parent, host, float(size)) for parent, host, size in inputs if host]

    def _named(self, reasons: list[str], nodes: list[str]) -> list[str]:
        """The same reasons with names of nodes instead of their ids."""
        for node in nodes:
            reasons = [reason.replace(node, self._around.name(node)) for reason in reasons]
        return reasons

    def _candidate(self, task: str, node: str, committed: int) -> Candidate[str]:
        profile = self._around.profile(node)
        resources = Resources(profile.load, profile.cpus, profile.memory_used)
        seconds = self._around.task_time(self._job, task, node, loaded=False).seconds
        return Candidate(node, seconds, resources, committed)

    def _transfer_s(self, host: str, node: str, size: float) -> float | None:
        """Seconds between two nodes as known here: the own links, else what the sender published of its best ones."""
        me = self._around.me
        if me in (host, node):
            return (self._around.link(node) if host == me else self._around.link_from(host)).seconds(size)
        published = self._around.links(host).get(node)
        return published[0] + size / published[1] if published and published[1] >= 1 else None

    def _link(self, host: str, node: str) -> tuple[float, float] | None:
        """(latency s, bytes/s of a large transfer)"""
        latency, large = self._transfer_s(host, node, 0.0), self._transfer_s(host, node, LARGE_BYTES)
        if latency is None or large is None:
            return None
        return latency, LARGE_BYTES / max(large - latency, 1e-9)

    # --- news, time --------------------------------------------------------------------------------------------

    def on_registers(self, src: str, told: list[Register], won: list[Register], now: float) -> list[Effect]:
        """News from `src`, of which `won` is new here: everybody decides what it makes decidable."""
        self._grace = {task: until for task, until in self._grace.items() if until > now}
        self._grace |= {r.task: now + GRACE_S for r in won if self._around.is_gone(r.node)}
        effects = self._pass_on(src, won, now)
        self._told_by(src, told)
        if won:
            self._hear(now)
        return effects + (self.step(now) if won else [])

    def next_deadline(self) -> float:
        if self._job.over:
            return inf
        held = [self._held_until] if self._held_until > self._last_look else []
        grace = (until for until in self._grace.values() if until > self._last_look)
        turns = (at + TURN_WAIT_S for at in self._ready_at.values() if at + TURN_WAIT_S > self._last_look)
        due = (self._next_telling(), self.auctions.next_deadline(), self.rules.next_deadline())
        return min([*due, *held, *grace, *turns, *self._waiting()])

    def on_deadline(self, now: float) -> list[Effect]:
        effects = self._tell_due(now) + self.auctions.on_deadline(now) + self._settle_sold(now)
        effects += self._settle_chosen(self.rules.late(now), now)
        self._last_look = now
        return effects + self.step(now)

    def _waiting(self) -> list[float]:
        """When controllers stop waiting for the places of parents; what passed is looked at with every step."""
        mapped = self._job.registers
        return [at for task, at in self._decide_at.items() if task not in mapped and at > self._last_look]


def _wish(task: TaskSpec) -> bytes:
    """What decides which nodes may run it: equal for tasks for which the same may."""
    return msgspec.msgpack.encode((task.node, task.extra.get("soft"), task.extra.get(NEEDS)))
