"""The auctions that one node holds for the tasks of one job: whom to ask, and who got them.

What the deciding node knows is what every participant knows from the registers (where the parents run, when they are
done in the plan, until when cards are busy), what nodes publish of themselves, and its own links. Whom to ask, what a
bid is worth and who gets the task is decided by `schedulers.bidding`, as in the simulated mapper. A bid that cannot be
true (no numbers, or before its inputs are there) is dropped, one that promises to be much faster than its node says of
itself is believed in part; both are counted. Who is silent is out; when two shortlists in a row gave nobody, the caller
decides without bids, so that the mapping always ends.

The drawn nodes of a shortlist are drawn among those that this node has a link with anyway: they are as random, and the
auctions of a large cluster open few new sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from jupiter_agent.core.auction import OFFERS_S, Auction, Call, Given, Grant, Key, Letter, Offer, Release, Reply
from jupiter_agent.core.bidding import to_bid, to_link
from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.auction import AT_ONCE, INPUTS, Bids, BidsWanted, Called, Offered, Wanted
from jupiter_agent.core.surroundings import LinkEstimate, Surroundings
from schedulers import bidding
from schedulers.bidding import Bid, Input, Outlook

NEAR = 8
"""So many nodes with a measured link are enough to draw among"""
TRIPS = 8.0
"""One-way delays to the farthest node asked that an answer may take: it may have to open a session first"""
WAIT_MOST_S = 4.0
SHORTLISTS = 2
"""So often others are asked when nobody bids"""
BELIEVED = 10.0
"""A node may be so many times faster at a task than is thought here"""
HOSTS_ASKED = 32
"""Hosts of parents that are asked at most"""
INPUTS_AT_ONCE = 4096
"""in one message"""


class Sold(NamedTuple):
    """The outcome for one task; `bid` None: nobody bids, decide otherwise. `bids`: the best first."""

    task: str
    bid: Bid[str] | None
    bids: Sequence[Bid[str]] = ()
    fed_s: float = 0.0
    """when the last of its inputs is made"""
    without: Mapping[str, str] = MappingProxyType({})
    """nodes that were asked and have made no bid -> why"""


class Auctions:
    """`sold` collects outcomes for the caller to take. `silent` and `dropped` count what went wrong."""

    def __init__(self, job: Job, around: Surroundings) -> None:
        self._job, self._around = job, around
        self.sold: list[Sold] = []
        self.dropped = 0
        self._open: dict[str, Auction] = {}
        self._given = Given()
        self._tried: dict[str, int] = {}
        self._deaf: set[str] = set()
        """nodes that did not answer in time: the next shortlist does without them"""
        self._hoped: dict[str, tuple[str, float]] = {}
        """open task -> which node looked best, and until when it would then be busy"""

        self._links: dict[str, LinkEstimate] = {}
        """from here, as they are while one round of calls is made"""

    def __contains__(self, task: str) -> bool:
        return task in self._open

    def __len__(self) -> int:
        return len(self._open)

    def call(self, tasks: Iterable[str], candidates: Callable[[str], list[str]], now: float) -> list[Effect]:
        """Ask for bids, in this order. A task without candidates stays as it is."""
        free = self._free()
        self._links = {}
        letters: list[tuple[str, Letter]] = []
        for task in tasks:
            nodes = candidates(task)
            inputs = self._inputs(task)
            if not nodes:
                continue
            if len(inputs) > INPUTS or self._tried.get(task, 0) >= SHORTLISTS:
                self._tried.pop(task, None)
                self.sold.append(Sold(task, None))
                continue
            asked = self._shortlist(task, inputs, nodes, free)
            auction = Auction(self._key(task), inputs, asked, self._wait_s(asked), self._given)
            self._open[task] = auction
            letters += [(task, letter) for letter in auction.start(now)]
        return self._sent(letters)

    def on_bids(self, src: str, message: Bids, now: float) -> list[Effect]:
        """Offers and replies, best ranks first: what is given away in one auction counts in the next."""
        letters: list[tuple[str, Letter]] = []
        order = self._job.ranks
        for each in sorted(message.offers, key=lambda o: -order.get(o.task, 0.0)):
            auction, offer = self._open.get(each.task), Offer(self._key_of(each), self._believed(src, each))
            if auction is not None:
                letters += [(each.task, letter) for letter in auction.on_offer(src, offer, now)]
        for each in message.replies:
            reply = Reply(self._key_of(each), each.taken, self._believed(src, each))
            auction = self._open.get(each.task)
            if auction is not None:
                letters += [(each.task, letter) for letter in auction.on_reply(src, reply, now)]
            elif each.taken and not self._stands(src, each):
                letters.append((each.task, (src, Release(reply.key))))
        self._deaf.discard(src)
        return self._sent(letters) + self._close(now)

    def next_deadline(self) -> float:
        return min((auction.due for auction in self._open.values()), default=inf)

    def on_deadline(self, now: float) -> list[Effect]:
        letters: list[tuple[str, Letter]] = []
        for task, auction in self._in_order():
            if auction.due <= now:
                self._deaf |= auction.unheard
                letters += [(task, letter) for letter in auction.on_time(now)]
        return self._sent(letters) + self._close(now)

    def drop(self, outdated: Callable[[str], bool], now: float) -> list[Effect]:
        """Give up what is no longer this node's to decide; go on without nodes that are gone."""
        letters: list[tuple[str, Letter]] = []
        for task in [task for task in self._open if outdated(task)]:
            letters += [(task, letter) for letter in self._open.pop(task).withdraw()]
            self._hoped.pop(task, None)
        for task, auction in self._in_order():
            for node in [node for node in auction.asked if self._around.is_gone(node)]:
                letters += [(task, letter) for letter in auction.lost(node, now)]
        return self._sent(letters) + self._close(now)

    # --- what this node knows --------------------------------------------------------------------------------------

    def _free(self) -> dict[str, float]:
        """Until when nodes are busy in the plan, as the registers say, and as open auctions will probably make it."""
        free: dict[str, float] = {}
        for register in self._job.registers.values():
            free[register.node] = max(free.get(register.node, 0.0), register.done_s)
        for node, until in self._hoped.values():
            free[node] = max(free.get(node, 0.0), until)
        return free

    def _inputs(self, task: str) -> list[Input[str]]:
        """From parents whose places are known, and from where inputs are put."""
        job = self._job
        cards: dict[str, float] = {}
        for register in job.registers.values():
            for host, until in register.sends:
                cards[host] = max(cards.get(host, 0.0), until)
        placed = [(p, job.registers[p]) for p in job.dag.parents(task) if p in job.registers]
        found = [Input(r.node, r.done_s, job.bytes_on(p, task), cards.get(r.node, 0.0)) for p, r in placed]
        if task in job.dag.entries or not found:
            host, size = job.input_from(task)
            host = job.home.writer if self._around.is_gone(host) else host
            found.append(Input(host, 0.0, size, cards.get(host, 0.0)))
        return found

    def _shortlist(
        self, task: str, inputs: Sequence[Input[str]], nodes: list[str], free: dict[str, float]
    ) -> list[str]:
        able = [node for node in nodes if node not in self._deaf] or nodes
        exec_s = {node: self._around.task_time(self._job, task, node).seconds for node in able}
        before = dict(free)
        for node in able:
            if node not in self._links:
                self._links[node] = self._around.link(node)
        links = self._links
        near = [node for node in able if links[node].source != "estimated"]
        sizes = [i.data for i in inputs if i.data]
        view = Outlook(exec_s, lambda node: to_link(links[node], sizes), free, near if len(near) >= NEAR else [])
        asked = bidding.shortlist(view, inputs, self._around.rng)
        self._hoped[task] = next(((n, s) for n, s in free.items() if before.get(n) != s), (asked[0], 0.0))
        hosts = dict.fromkeys(i.host for i in inputs)
        crowd = [node for node in asked if node in hosts][HOSTS_ASKED:]
        return [node for node in asked if node not in crowd]

    def _wait_s(self, asked: list[str]) -> float:
        far = max((self._links[node].latency_s for node in asked if node != self._around.me), default=0.0)
        return min(max(OFFERS_S, TRIPS * far), WAIT_MOST_S)

    # --- letters -------------------------------------------------------------------------------------------------

    def _in_order(self) -> list[tuple[str, Auction]]:
        """Open auctions, the highest rank first."""
        return sorted(self._open.items(), key=lambda pair: -self._job.ranks[pair[0]])

    def _key(self, task: str) -> Key:
        register = self._job.registers.get(task)
        return (self._job.id, task, register.epoch + 1 if register else 1)

    def _key_of(self, each: Offered) -> Key:
        return (self._job.id, each.task, each.epoch)

    def _believed(self, node: str, each: Offered) -> Bid[str] | None:
        """The bid; if it promises too much, as much of it as may be true."""
        bid = to_bid(node, each.price)
        if bid is None:
            return None
        if each.task not in self._job.tasks:
            return None
        seconds = self._around.task_time(self._job, each.task, node, loaded=False).seconds
        short = seconds / BELIEVED - (bid.finish_s - bid.start_s)
        if short <= 0 or bid.finish_s < bid.start_s:
            return bid
        self.dropped += 1
        return bid._replace(finish_s=bid.finish_s + short, cost_s=bid.cost_s + short)

    def _stands(self, node: str, each: Offered) -> bool:
        """Whether a task is that node's all the same: its reply came twice."""
        register = self._job.registers.get(each.task)
        return register is not None and (register.node, register.epoch) == (node, each.epoch)

    def _close(self, now: float) -> list[Effect]:
        """Take the outcomes of auctions that are over; those that failed are tried again by the caller."""
        effects: list[Effect] = []
        for task, auction in self._in_order():
            if not auction.over:
                continue
            del self._open[task]
            self._hoped.pop(task, None)
            if auction.dropped:
                self.dropped += auction.dropped
                fields = {"job": self._job.id, "task": task, "bids": auction.dropped}
                effects.append(Notice("warning", "bids that cannot be true", fields))
            if auction.won is None:
                self._tried[task] = self._tried.get(task, 0) + 1
            else:
                self._tried.pop(task, None)
                fed_s = max((i.done_s for i in auction.inputs), default=0.0)
                self.sold.append(Sold(task, auction.won, sorted(auction.bids.values()), fed_s, auction.without_bid()))
        return effects

    def _sent(self, letters: Iterable[tuple[str, Letter]]) -> list[Effect]:
        """All that goes to one node at this moment in one message, or as many as its limits ask for."""
        batches: dict[str, list[_Batch]] = {}
        for task, (node, letter) in letters:
            mine = batches.setdefault(node, [_Batch()])
            if not mine[-1].add(letter, self._job.spec.seconds.get(task, 1.0)):
                mine.append(_Batch())
                mine[-1].add(letter, self._job.spec.seconds.get(task, 1.0))
        job, bundle = self._job.id, self._job.spec.bundle
        return [
            Send(node, BidsWanted(job, bundle, batch.calls, batch.grants, batch.over))
            for node, several in batches.items()
            for batch in several
        ]


class _Batch:
    """One message in the making."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self.grants: list[Called] = []
        self.over: list[tuple[str, int]] = []
        self._inputs = 0

    def add(self, letter: Call | Grant | Release, seconds: float) -> bool:
        """False when it is full."""
        _, task, epoch = letter.key
        if isinstance(letter, Release):
            if len(self.over) < AT_ONCE:
                self.over.append((task, epoch))
                return True
            return False
        into = self.calls if isinstance(letter, Call) else self.grants
        if len(into) >= AT_ONCE or (self._inputs and self._inputs + len(letter.inputs) > INPUTS_AT_ONCE):
            return False
        self._inputs += len(letter.inputs)
        inputs = [Wanted(i.host, i.done_s, int(i.data), i.sends_from) for i in letter.inputs]
        limit = letter.limit_s if isinstance(letter, Grant) else None
        into.append(Called(task, epoch, seconds, inputs, limit))
        return True
