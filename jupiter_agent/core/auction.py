"""The auction of one task between live nodes, as two machines; the decisions are those of `schedulers.bidding`.

`Bidder` is what every node has: its reservations, each with a lease. It answers a `Call` with an `Offer` that promises
nothing, and a `Grant` with a `Reply`: the task taken, or refused with a fresh offer. A reservation ends with its lease,
unless the task itself renews it by being hosted here; so a decider that dies keeps nobody's time. A grant that comes
twice is answered twice in the same way.

`Auction` is what the deciding node has for one task: it calls, waits for all offers or `wait_s`, grants, waits as long
for the reply and goes on to the next. Who stays silent is out; if it took the task after all, it is told to release it.
It ends `won`, or `failed` when nobody is left: then the caller makes another shortlist.

All times in letters are plan times: seconds since the zero of the job's plan, as if mapping took none. So they need no
common clock, and a slow network makes no other plan than a fast one. A bidder keeps plans of several jobs on one
timeline by setting the zero of each at the first letter it got of it. Both machines return what to send as (node,
value) pairs and know no wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import isfinite
from typing import NamedTuple, TypeAlias

from schedulers import bidding
from schedulers.bidding import Award, Bid, Desk, Grants, Input, Link, Sale
from schedulers.timeline import Timeline

OFFERS_S = 0.5
"""The least time to wait for offers, and for a reply"""
STRAGGLERS, LAST_WAIT = 0.3, 0.2
"""Once no more than this share of those asked is silent, they get this share of the wait: a few slow nodes, or sessions
that have to be opened first, hold up no auction"""
LEASE_S = 5.0
"""Of a reservation that no register confirms"""
MOST_HELD = 10_000
"""Reservations of one node: as many as a job has tasks at most"""
ROUNDING_S = 1e-9
"""Plan times of one job in those of another are off by less"""

Key: TypeAlias = tuple[str, str, int]
"""Job, task and epoch of the decision: a later one is another auction"""


class Call(NamedTuple):
    """Who bids? `inputs`: where the parents run, when they are done, and what they send."""

    key: Key
    inputs: tuple[Input[str], ...]


class Offer(NamedTuple):
    """None: not I."""

    key: Key
    bid: Bid[str] | None


class Grant(NamedTuple):
    """The task is yours if it then costs at most `limit_s`; None: in any case."""

    key: Key
    inputs: tuple[Input[str], ...]
    limit_s: float | None


class Reply(NamedTuple):
    """`taken`: it runs here as `bid` says; otherwise `bid` is what it would cost now."""

    key: Key
    taken: bool
    bid: Bid[str] | None


class Release(NamedTuple):
    """The task runs elsewhere."""

    key: Key


Letter: TypeAlias = tuple[str, Call | Grant | Release]


def shifted(b: Bid[str], by_s: float) -> Bid[str]:
    """The same bid in the plan of another job."""
    sends = tuple((host, until + by_s) for host, until in b.sends)
    start_s, finish_s, arrives_s = b.start_s + by_s, b.finish_s + by_s, b.arrives_s + by_s
    return Bid(b.cost_s + by_s, b.node, start_s, finish_s, b.receives_s + by_s, sends, arrives_s)


class _Held(NamedTuple):
    bid: Bid[str]
    """in the plan of its job"""
    until: float


class Bidder:
    """The reservations of one node. `links` leads here, by sender; `charged`: transfers wait for network cards."""

    def __init__(self, node: str, links: Callable[[str], Link | None], charged: bool = True) -> None:
        self.node, self.links, self.charged = node, links, charged
        self.committed_s = 0.0
        self.held: dict[Key, _Held] = {}
        self._zero: dict[str, float] = {}

    def on_call(self, call: Call, exec_s: float | None, now: float) -> Offer:
        """`exec_s`: what the task takes here by our own estimate; None: we have none, or must not run it."""
        return Offer(call.key, self._bid(call.key[0], call.inputs, exec_s, now))

    def on_grant(self, grant: Grant, exec_s: float | None, now: float) -> Reply:
        """Take it and reserve, or refuse with what it would cost now."""
        job = grant.key[0]
        held = self.held.get(grant.key)
        if held is not None and held.until > now:
            return Reply(grant.key, True, held.bid)
        fresh = None if len(self.held) >= MOST_HELD else self._bid(job, grant.inputs, exec_s, now)
        if fresh is None or not bidding.accepts(fresh, grant.limit_s):
            return Reply(grant.key, False, fresh)
        self.held[grant.key] = _Held(fresh, now + LEASE_S)
        return Reply(grant.key, True, fresh)

    def renew(self, key: Key, now: float) -> bool:
        """The task is still meant to run here; False if its reservation is gone."""
        held = self.held.get(key)
        if held is None or held.until <= now:
            return False
        self.held[key] = held._replace(until=now + LEASE_S)
        return True

    def release(self, key: Key) -> None:
        """The task is over, or runs elsewhere."""
        self.held.pop(key, None)

    def ends_at(self, key: Key, bid: Bid[str]) -> float:
        """When the plan says that the task is over, on this node's clock."""
        return self._zero.get(key[0], 0.0) + bid.finish_s

    def forget(self, now: float) -> None:
        """What nobody renewed; and the zeros of plans in which nothing is held."""
        self.held = {key: held for key, held in self.held.items() if held.until > now}
        planned = {job for job, _, _ in self.held}
        self._zero = {job: zero for job, zero in self._zero.items() if job in planned or zero + LEASE_S > now}

    def _bid(self, job: str, inputs: Sequence[Input[str]], exec_s: float | None, now: float) -> Bid[str] | None:
        """In the plan of the job; expired reservations are forgotten first."""
        self.forget(now)
        zero = self._zero.setdefault(job, now)
        desk = Desk(self.node, self.links, 0.0, self.charged, Timeline(), 0.0, self.committed_s)
        for held in self._on_the_clock_of(job, zero):
            with suppress(ValueError):  # plans of two jobs may touch by a rounding error
                bidding.reserve(desk, held)
        return bidding.bid(desk, inputs, exec_s)

    def _on_the_clock_of(self, job: str, zero: float) -> list[Bid[str]]:
        """All reservations in the plan time of one job; those of others a little shorter than they are."""
        own = [held.bid for (of, _, _), held in self.held.items() if of == job]
        foreign = [shifted(held.bid, self._zero[of] - zero) for (of, _, _), held in self.held.items() if of != job]
        for bid in foreign:
            by_s = min(ROUNDING_S, (bid.finish_s - bid.start_s) / 2)
            own.append(bid._replace(start_s=bid.start_s + by_s, finish_s=bid.finish_s - by_s))
        return sorted(own, key=lambda bid: bid.start_s + bid.finish_s)


class Given:
    """What one node gave away in the plan of a job, what it has just promised included: the bids that its other
    auctions hold know nothing of it."""

    def __init__(self) -> None:
        self.bids: dict[Key, Bid[str]] = {}

    def but(self, key: Key) -> Grants[str]:
        """All of it but for one task. O(tasks given)."""
        grants: Grants[str] = Grants()
        for other, bid in self.bids.items():
            if other != key:
                with suppress(ValueError):  # a node that changed its mind in between
                    grants.add(bid)
        return grants


class Auction:
    """One task, from the call to its winner. `asked` is a shortlist, `dropped` counts bids that were none."""

    def __init__(
        self,
        key: Key,
        inputs: Sequence[Input[str]],
        asked: Sequence[str],
        wait_s: float = OFFERS_S,
        given: Given | None = None,
    ) -> None:
        self.key, self.inputs, self.asked, self.wait_s = key, tuple(inputs), list(asked), wait_s
        self.bids: dict[str, Bid[str]] = {}
        """the last of each node, for `explain`"""
        self._given = given or Given()
        self.dropped = 0
        self.won: Bid[str] | None = None
        self.failed = False
        self.due = 0.0
        self._silent = set(asked)
        self._sale: Sale[str] | None = None
        self._bids: list[Bid[str]] = []
        self._granted: Award[str] | None = None

    @property
    def over(self) -> bool:
        """Nothing more will be sent, but releases of what came too late."""
        return self.failed or self.won is not None

    @property
    def unheard(self) -> set[str]:
        """Who did not answer the present call or grant yet."""
        return self._silent if self._sale is None else {self._granted.node} if self._granted else set()

    def without_bid(self) -> dict[str, str]:
        """Who was asked and has made no bid -> why, as far as known here."""
        others = [node for node in self.asked if node not in self.bids]
        return {node: "no answer in time" if node in self._silent else "no valid bid" for node in others}

    def start(self, now: float) -> list[Letter]:
        """Call for bids."""
        self.due = now + self.wait_s
        if not self.asked:
            self.failed = True
        return [(node, Call(self.key, self.inputs)) for node in self.asked]

    def on_offer(self, node: str, offer: Offer, now: float) -> list[Letter]:
        """An offer of one of those asked; of others, or after the first grant, it is dropped."""
        if offer.key != self.key or node not in self._silent or self._sale is not None or self.failed:
            return []
        self._silent.discard(node)
        self._bids += self._judged(node, offer.bid)
        if len(self._silent) <= len(self.asked) * STRAGGLERS:
            self.due = min(self.due, now + self.wait_s * LAST_WAIT)
        return self._sell(now) if not self._silent else []

    def on_reply(self, node: str, reply: Reply, now: float) -> list[Letter]:
        """Taken: the auction is over. Refused: the next one. Who takes it too late is told to release it."""
        if reply.key != self.key:
            return []
        if self._granted is None or node != self._granted.node:
            late = reply.taken and not (self.won is not None and self.won.node == node)
            return [(node, Release(self.key))] if late else []
        assert self._sale is not None
        judged = self._judged(node, reply.bid)
        if reply.taken and judged:
            self._granted, self.won = None, judged[0]
            self._given.bids[self.key] = judged[0]
            return []
        self._sale.refused(node, judged[0] if judged and not reply.taken else None)
        return [*([(node, Release(self.key))] if reply.taken else []), *self._award(now)]

    def on_time(self, now: float) -> list[Letter]:
        """Go on without those who are late."""
        if self.over or now < self.due:
            return []
        if self._sale is None:
            return self._sell(now)
        if self._granted is None:
            return []
        silent = self._granted.node
        self._sale.refused(silent, None)
        return [(silent, Release(self.key)), *self._award(now)]

    def lost(self, node: str, now: float) -> list[Letter]:
        """`node` is gone: it does not bid, and what was granted to it goes to the next."""
        self._bids = [b for b in self._bids if b.node != node]
        if self._sale is None:
            waited = node in self._silent
            self._silent.discard(node)
            return self._sell(now) if waited and not self._silent and not self.failed else []
        if self._granted is not None and self._granted.node == node:
            self._sale.refused(node, None)
            return self._award(now)
        self._sale.bids = [b for b in self._sale.bids if b.node != node]
        return []

    def _judged(self, node: str, given: Bid[str] | None) -> list[Bid[str]]:
        """The bid, if it is any: of numbers, and not before its inputs are. Who bids is who sent it."""
        if given is None:
            return []
        hosts = {i.host for i in self.inputs}
        sends = tuple((host, until) for host, until in given.sends if host in hosts and isfinite(until))
        found = bidding.judged([given._replace(node=node, sends=sends)])
        begun = max((i.done_s for i in self.inputs), default=0.0) - ROUNDING_S
        fed = [bid for bid in found if bid.start_s >= begun]
        self.dropped += not fed
        self.bids.update((node, bid) for bid in fed)
        return fed

    def _sell(self, now: float) -> list[Letter]:
        self._sale = Sale(self._bids)
        return self._award(now)

    def withdraw(self) -> list[Letter]:
        """Somebody else decided: nothing is given here, and who was promised the task is told so."""
        promised = self.won.node if self.won else self._granted.node if self._granted else None
        self.failed, self.won, self._granted = True, None, None
        self._given.bids.pop(self.key, None)
        return [] if promised is None else [(promised, Release(self.key))]

    def _award(self, now: float) -> list[Letter]:
        assert self._sale is not None
        grants = self._given.but(self.key)
        self._granted = self._sale.award(grants)
        if self._granted is None:
            self.failed = True
            self._given.bids.pop(self.key, None)
            return []
        promised = next(bid for bid in self._sale.bids if bid.node == self._granted.node)
        self._given.bids[self.key] = grants.behind(promised)
        self.due = now + self.wait_s
        return [(self._granted.node, Grant(self.key, self.inputs, self._granted.limit_s))]
