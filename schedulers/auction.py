"""`wave-auction`: WAVE with bids, simulated. The decisions are those of `bidding`; here is who knows what when.

Ranks come from averages that all nodes share. Rounds: all tasks whose turn has come are called out at once, bids are
for what is reserved when the round begins, awards arrive in the order of ranks. Between rounds nodes tell the others
until when they and their network cards are busy. The task is called out by the node hosting its controller
(`local.controllers`), an entry task by home, which has no links of its own and looks at times and load only.

Every decision reads a problem through `sight(problem, node, task)`, by default the problem itself: tests hand in one
with NaN wherever that node cannot know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from schedulers import bidding, local
from schedulers.bidding import Bid, Desk, Grants, Input, Link, Outlook, Sale
from schedulers.problem import Problem
from schedulers.ranks import upward_rank
from schedulers.solution import Schedule

HOME = -1
Sight = Callable[[Problem, int, int], Problem]


@dataclass(frozen=True)
class Outcome:
    """The plan, and what it took: messages per task (T,), rounds, refusals."""

    schedule: Schedule
    messages: list[int]
    rounds: int
    refusals: int


def wave_auction(p: Problem, *, seed: int = 0, contention: bool = False, bidders: int = bidding.BIDDERS) -> Schedule:
    """Every task to the best of the nodes that bid for it. O(T (N + bidders x parents)); `seed` draws the explorers.

    The times are those of the bids: the plan of all timelines together.
    """
    return simulate(p, seed=seed, contention=contention, bidders=bidders).schedule


def simulate(
    p: Problem,
    *,
    seed: int = 0,
    contention: bool = False,
    bidders: int = bidding.BIDDERS,
    gossip: Problem | None = None,
    sight: Sight | None = None,
) -> Outcome:
    """The auction of all tasks of `p`.

    `gossip` is what ranks and shortlists are computed from, `p` if none is given: an older state of the same nodes.
    ValueError if `bidders` is below 1 or `gossip` has another shape.
    """
    if bidders < 1:
        raise ValueError(f"bidders is {bidders}, expected at least 1")
    if gossip is not None and gossip.times.shape != p.times.shape:
        raise ValueError(f"gossip is of {gossip.times.shape} tasks and nodes, the problem of {p.times.shape}")
    p.require_placeable()
    run = _Run(p, p if gossip is None else gossip, contention, sight or (lambda whole, node, task: whole))
    while run.open:
        run.round(Random(f"{seed} {run.rounds}"), bidders)
    plan = Schedule(np.array(run.node), np.array(run.start), np.array(run.finish))
    return Outcome(plan, run.messages, run.rounds, run.refusals)


class _Run:
    """The nodes with their desks, the register of places that all share, and what was told last."""

    def __init__(self, p: Problem, gossip: Problem, contention: bool, sight: Sight) -> None:
        self.p, self.gossip, self.sight = p, gossip, sight
        self.rank = dict(enumerate(upward_rank(gossip)))
        self.control = local.controllers(range(p.n_tasks), {t: [u for u, _ in p.parents[t]] for t in p.order})
        self.open = dict.fromkeys(p.order)
        self.node = [HOME] * p.n_tasks
        self.start = [0.0] * p.n_tasks
        self.finish = [0.0] * p.n_tasks
        ready = p.ready_from.tolist()
        self.desks = [Desk(n, lambda host: None, ready[n], contention) for n in range(p.n_nodes)]
        self.sends = [0.0] * p.n_nodes  # when the card of each node is free to send: its own knowledge
        self.told_free = ready  # what every node said when the round began
        self.told_sends = [0.0] * p.n_nodes
        self.grants: dict[int, Grants[int]] = {}
        self.hopes: dict[int, dict[int, float]] = {}
        self.messages = [0] * p.n_tasks
        self.rounds = self.refusals = 0

    def round(self, rng: Random, bidders: int) -> None:
        """Call out all tasks whose turn it is, collect the bids, award by rank, tell what changed."""
        self.rounds += 1
        called = bidding.frontier(self.open, self.rank, self._fed, self.p.n_nodes)
        deciders = {self._decider(t) for t in called}
        self.grants = {here: Grants() for here in deciders}
        self.hopes = {here: dict(enumerate(self.told_free)) for here in deciders}
        sales = {t: self._call(t, rng, bidders) for t in called}
        for t, sale in sales.items():
            self._award(t, sale)
        for n, desk in enumerate(self.desks):
            self.told_free[n] = max([desk.ready_from, *desk.timeline.finishes[-1:]])
        self.told_sends = self.sends.copy()

    def _fed(self, t: int) -> bool:
        return all(self.node[u] != HOME for u, _ in self.p.parents[t])

    def _inputs(self, t: int) -> list[Input[int]]:
        hosts = [(u, self.node[u], data) for u, data in self.p.parents[t]]
        return [Input(host, self.finish[u], data, self.told_sends[host]) for u, host, data in hosts]

    def _decider(self, t: int) -> int:
        controller = self.control[t]
        return HOME if controller is None else self.node[controller]

    def _call(self, t: int, rng: Random, bidders: int) -> Sale[int]:
        """Ask for bids and count the messages: a call and a bid for everybody but the deciding node."""
        here, inputs = self._decider(t), self._inputs(t)
        seen = self.sight(self.gossip, here, t)
        exec_s = seen.times[t].tolist()
        usable = {n: exec_s[n] for n in self.p.nodes_for(t)}
        out = _rows(seen, here) if here != HOME else []
        asked = bidding.shortlist(Outlook(usable, out.__getitem__, self.hopes[here]), inputs, rng, bidders)
        self.messages[t] += 2 * sum(n != here for n in asked)
        return Sale(bidding.judged(self._bid(n, t, inputs) for n in asked))

    def _bid(self, n: int, t: int, inputs: list[Input[int]]) -> Bid[int] | None:
        seen, desk = self.sight(self.p, n, t), self.desks[n]
        desk.links = lambda host: _link(seen, host, n)
        return bidding.bid(desk, inputs, float(seen.times[t, n]))

    def _award(self, t: int, sale: Sale[int]) -> None:
        """Offer the task to one after the other; an award and its answer are two messages."""
        here, inputs = self._decider(t), self._inputs(t)
        while award := sale.award(self.grants[here]):
            self.messages[t] += 2 * (award.node != here)
            fresh = self._bid(award.node, t, inputs)
            if fresh is not None and bidding.accepts(fresh, award.limit_s):
                self._settle(t, fresh)
                self.grants[here].add(fresh)
                return
            sale.refused(award.node, fresh)
            self.refusals += 1
        raise AssertionError(f"nobody bids for task {t}, which has a node")

    def _settle(self, t: int, taken: Bid[int]) -> None:
        """The winner reserves; the hosts of the parents reserve their cards for sending."""
        n = taken.node
        bidding.reserve(self.desks[n], taken)
        self.node[t], self.start[t], self.finish[t] = n, taken.start_s, taken.finish_s
        del self.open[t]
        for host, until in taken.sends:
            self.sends[host] = max(self.sends[host], until)


def _link(p: Problem, a: int, b: int) -> Link:
    quadratic = 0.0 if p.quadratic is None else float(p.quadratic[a, b])
    return Link(float(p.latency[a, b]), float(p.inv_rate[a, b]), quadratic)


def _rows(p: Problem, here: int) -> list[Link]:
    """The links from `here`, by receiver."""
    latency, inv_rate = p.latency[here].tolist(), p.inv_rate[here].tolist()
    quadratic = [0.0] * p.n_nodes if p.quadratic is None else p.quadratic[here].tolist()
    return [Link(*link) for link in zip(latency, inv_rate, quadratic, strict=True)]
