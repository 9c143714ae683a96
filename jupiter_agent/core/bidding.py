"""What one node bids for tasks of any job, and what it keeps for them: the wire's side of `auction.Bidder`.

A bid is for the node's own timeline, links and network card, with its own time for the task. What it took is reserved;
the register that names it renews the reservation, the register that names another one, or the end of the job, ends it.
Once a job is mapped and the plan's time for a task has passed, the reservation gives way to committed load: pipelines
load a node as long as they run, so every task hosted here adds its seconds per item to each bid.

Anybody in the cluster may ask, but not without end: a token bucket per sender; what is over it is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from jupiter_agent.core.auction import Bidder, Call, Grant, Key
from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.auction import Bids, BidsWanted, Called, Offered, Price
from jupiter_agent.core.surroundings import LinkEstimate, Surroundings
from schedulers.bidding import Bid, Input, Link

LOOK_S = 0.1
"""Reservations are held against unchanged registers so often"""
TYPICAL = (65536.0,)
"""Bytes of an input, where nothing is known"""
PER_S, BURST = 2000.0, 8000.0
"""Tasks that one node may ask about"""


class Hosting(Protocol):
    """What is read of `local.Local` here."""

    job: Job


class Bidding:
    """All auctions in which this node bids. `dropped` counts calls over the limit."""

    def __init__(self, around: Surroundings, hosted: Mapping[str, Hosting]) -> None:
        self._around, self._hosted = around, hosted
        self.bidder = Bidder(around.me, self._link)
        self._sizes: list[float] = []
        """of the inputs that are bid for just now: what a link takes is modelled for such sizes"""
        self.dropped = 0
        self._seen: list[tuple[str, int, str]] = []
        self._look_at = 0.0
        self._flooding: set[str] = set()
        self._buckets: dict[str, tuple[float, float]] = {}
        """sender -> (tokens left, when)"""

    def on_wanted(self, src: str, message: BidsWanted, now: float) -> list[Effect]:
        """Offers for what is called, replies to what is granted, in one answer."""
        for task, epoch in message.over:
            self.bidder.release((message.job, task, epoch))
        asked = len(message.calls) + len(message.grants)
        if not asked:
            return []
        if not self._may_ask(src, asked, now):
            return self._dropped(src, asked)
        self._settle(now)
        offers, replies = [], []
        for called in message.calls:
            self._sizes = [float(i.data) for i in called.inputs if i.data]
            call = Call(_key(message.job, called), _inputs(called))
            offer = self.bidder.on_call(call, self._exec_s(message.job, called), now)
            offers.append(Offered(called.task, called.epoch, _price(offer.bid)))
        for called in message.grants:
            self._sizes = [float(i.data) for i in called.inputs if i.data]
            grant = Grant(_key(message.job, called), _inputs(called), called.limit_s)
            reply = self.bidder.on_grant(grant, self._exec_s(message.job, called), now)
            replies.append(Offered(called.task, called.epoch, _price(reply.bid), reply.taken))
        return [Send(src, Bids(message.job, offers, replies))]

    def _may_ask(self, src: str, count: int, now: float) -> bool:
        left, since = self._buckets.get(src, (BURST, now))
        left = min(BURST, left + (now - since) * PER_S)
        if left < count:
            return False
        self._flooding.discard(src)
        self._buckets[src] = (left - count, now)
        if len(self._buckets) > len(self._around.alive()) + 1:
            self._buckets = {node: self._buckets[node] for node in self._around.alive() if node in self._buckets}
        return True

    def _dropped(self, src: str, count: int) -> list[Effect]:
        """Counted; said once until the sender has kept quiet for a while."""
        self.dropped += count
        if src in self._flooding:
            return []
        self._flooding.add(src)
        return [Notice("warning", "calls for bids dropped: too many", {"from": self._around.name(src)})]

    def _exec_s(self, job: str, called: Called) -> float | None:
        """Our own estimate where we know the job, else the caller's by our speed."""
        profile, hosting = self._around.profile(self._around.me), self._hosted.get(job)
        if not profile.takes_tasks:
            return None
        if hosting is not None and called.task in hosting.job.tasks:
            return self._around.task_time(hosting.job, called.task, self._around.me).seconds
        return called.seconds / profile.speed

    def _link(self, host: str) -> Link | None:
        return to_link(self._around.link_from(host), self._sizes)

    def _settle(self, now: float) -> None:
        """Registers renew, replace or end what is reserved; the rest of what is hosted is committed load."""
        state = [(name, hosting.job.changes, hosting.job.over) for name, hosting in self._hosted.items()]
        if state == self._seen and now < self._look_at:
            return
        self._seen, self._look_at = state, now + LOOK_S
        shown = set()
        for key, held in list(self.bidder.held.items()):
            name, task, epoch = key
            hosting = self._hosted.get(name)
            register = hosting.job.registers.get(task) if hosting else None
            if hosting is None or register is None:
                continue  # the lease decides
            here = register.node == self._around.me and register.epoch <= epoch
            passed = hosting.job.mapped and self.bidder.ends_at(key, held.bid) <= now
            if here and not passed and not hosting.job.over and self.bidder.renew(key, now):
                shown.add((name, task))
            elif register.epoch >= epoch or hosting.job.over:
                self.bidder.release(key)
        speed = self._around.profile(self._around.me).speed
        self.bidder.committed_s = sum(
            hosting.job.spec.seconds.get(task, 0.0) / speed
            for name, hosting in self._hosted.items()
            if not hosting.job.over
            for task in hosting.job.hosted_by(self._around.me)
            if (name, task) not in shown
        )


def _key(job: str, called: Called) -> Key:
    return (job, called.task, called.epoch)


def _inputs(called: Called) -> tuple[Input[str], ...]:
    return tuple(Input(i.host, i.done_s, i.data, i.sends_from) for i in called.inputs)


def _price(bid: Bid[str] | None) -> Price | None:
    if bid is None:
        return None
    return Price(bid.cost_s, bid.start_s, bid.finish_s, bid.receives_s, list(bid.sends), bid.arrives_s)


def to_link(link: LinkEstimate, sizes: Sequence[float]) -> Link | None:
    """What this node believes of a link, as bids of such sizes count with it; None: nothing."""
    if link.shape is not None:
        return Link(*link.shape.straight(sizes or TYPICAL))
    return Link(link.latency_s, 1.0 / link.bytes_per_s) if link.bytes_per_s > 0 else None


def to_bid(node: str, price: Price | None) -> Bid[str] | None:
    """A price on the wire as the bid of who sent it."""
    if price is None:
        return None
    return Bid(price.cost_s, node, price.start_s, price.finish_s, price.receives_s, tuple(price.sends), price.arrives_s)
