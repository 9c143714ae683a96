"""The auction of one task between live nodes, as two machines; the decisions are those of `schedulers.bidding`.

`Bidder` is what every node has: its reservations, each with a lease. It answers a `Call` with an `Offer` that promises
nothing, and a `Grant` with a `Reply`: the task taken, or refused with a fresh offer. A reservation ends with its lease,
unless whoever decided, or the task itself, renews it; so a decider that dies keeps nobody's time. A grant that comes
twice is answered twice in the same way.

`Auction` is what the deciding node has for one task: it calls, waits for all offers or `OFFERS_S`, grants, waits
`REPLY_S` for the reply and goes on to the next. Who stays silent is out; if it took the task after all, it is told to
release it. It ends `won`, or `failed` when nobody is left: then the caller makes another shortlist.

Clocks differ between nodes, so nothing here sends a time: all are seconds from the moment of sending, and count from
the moment of arrival. Both machines return what to send as (node, value) pairs and know no wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple, TypeAlias

from schedulers import bidding
from schedulers.bidding import Award, Bid, Desk, Grants, Input, Link, Sale
from schedulers.timeline import Timeline

OFFERS_S = 0.5
REPLY_S = 0.5
LEASE_S = 5.0
"""Of a reservation nobody confirms"""

Key: TypeAlias = tuple[str, str, int]
"""Job, task and epoch of the decision: a later one is another auction"""


class Call(NamedTuple):
    """Who bids? `inputs`: where the parents run, when they are done from now on, and what they send."""

    key: Key
    inputs: tuple[Input[str], ...]


class Offer(NamedTuple):
    """`bid` in seconds from now; None: not I."""

    key: Key
    bid: Bid[str] | None


class Grant(NamedTuple):
    """The task is yours if it then costs at most `limit_s` from now; None: in any case."""

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
    """The same bid on another clock."""
    sends = tuple((host, until + by_s) for host, until in b.sends)
    return Bid(b.cost_s + by_s, b.node, b.start_s + by_s, b.finish_s + by_s, b.receives_s + by_s, sends)


def moved(inputs: Sequence[Input[str]], by_s: float) -> tuple[Input[str], ...]:
    """The same inputs on another clock."""
    return tuple(i._replace(done_s=i.done_s + by_s, sends_from=i.sends_from + by_s) for i in inputs)


class _Held(NamedTuple):
    bid: Bid[str]
    until: float


class Bidder:
    """The reservations of one node. `links` leads here, by sender; `charged`: transfers wait for network cards."""

    def __init__(self, node: str, links: Callable[[str], Link | None], charged: bool = True) -> None:
        self.node, self.links, self.charged = node, links, charged
        self.committed_s = 0.0
        self.held: dict[Key, _Held] = {}

    def on_call(self, call: Call, exec_s: float | None, now: float) -> Offer:
        """`exec_s`: what the task takes here by our own estimate; None: we have none, or must not run it."""
        found = bidding.bid(self._desk(now), moved(call.inputs, now), exec_s)
        return Offer(call.key, None if found is None else shifted(found, -now))

    def on_grant(self, grant: Grant, exec_s: float | None, now: float) -> Reply:
        """Take it and reserve, or refuse with what it would cost now."""
        held = self.held.get(grant.key)
        if held is not None and held.until > now:
            return Reply(grant.key, True, shifted(held.bid, -now))
        fresh = bidding.bid(self._desk(now), moved(grant.inputs, now), exec_s)
        limit = None if grant.limit_s is None else grant.limit_s + now
        taken = fresh is not None and bidding.accepts(fresh, limit)
        if taken and fresh is not None:
            self.held[grant.key] = _Held(fresh, now + LEASE_S)
        return Reply(grant.key, taken, None if fresh is None else shifted(fresh, -now))

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

    def free_in_s(self, now: float) -> float:
        """Seconds until the last reservation ends: what this node tells the others."""
        return max([0.0, *(held.bid.finish_s - now for held in self.held.values() if held.until > now)])

    def _desk(self, now: float) -> Desk[str]:
        """Expired reservations are forgotten first."""
        self.held = {key: held for key, held in self.held.items() if held.until > now}
        desk = Desk(self.node, self.links, now, self.charged, Timeline(), now, self.committed_s)
        for held in sorted(self.held.values(), key=lambda h: h.bid.start_s + h.bid.finish_s):
            bidding.reserve(desk, held.bid)
        return desk


class Auction:
    """One task, from the call to its winner. `asked` is a shortlist; times inside are on this node's clock."""

    def __init__(self, key: Key, inputs: Sequence[Input[str]], asked: Sequence[str]) -> None:
        self.key, self.inputs, self.asked = key, tuple(inputs), list(asked)
        self.won: Bid[str] | None = None
        self.failed = False
        self.due = self._called = 0.0
        self._silent = set(asked)
        self._sale: Sale[str] | None = None
        self._bids: list[Bid[str]] = []
        self._grants: Grants[str] = Grants()
        self._granted: Award[str] | None = None

    @property
    def over(self) -> bool:
        """Nothing more will be sent, but releases of what came too late."""
        return self.failed or self.won is not None

    def start(self, now: float) -> list[Letter]:
        """Call for bids."""
        self._called, self.due = now, now + OFFERS_S
        if not self.asked:
            self.failed = True
        return [(node, Call(self.key, moved(self.inputs, -now))) for node in self.asked]

    def on_offer(self, node: str, offer: Offer, now: float) -> list[Letter]:
        """An offer of one of those asked; of others, or after the first grant, it is dropped."""
        if offer.key != self.key or node not in self._silent or self._sale is not None or self.failed:
            return []
        self._silent.discard(node)
        self._bids += self._judged(node, offer.bid, now)
        return self._sell(now) if not self._silent else []

    def on_reply(self, node: str, reply: Reply, now: float) -> list[Letter]:
        """Taken: the auction is over. Refused: the next one. Who takes it too late is told to release it."""
        if reply.key != self.key:
            return []
        if self._granted is None or node != self._granted.node:
            late = reply.taken and not (self.won is not None and self.won.node == node)
            return [(node, Release(self.key))] if late else []
        assert self._sale is not None
        judged = self._judged(node, reply.bid, now)
        if reply.taken and judged:
            self._granted, self.won = None, judged[0]
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

    def gave(self, other: Bid[str]) -> None:
        """Another auction of this node gave a task away: bids in hand know nothing of it."""
        try:
            self._grants.add(other)
        except ValueError:  # the node changed its mind in between: then its older promise does not count
            self._grants.lines.pop(other.node, None)

    def _judged(self, node: str, given: Bid[str] | None, now: float) -> list[Bid[str]]:
        """The bid on our clock, none if it is no number; who bids is who sent it, whatever it says.

        What began before the letter was sent, as in a second reply to the same grant, begins now.
        """
        if given is None or not all(map(isfinite, (given.cost_s, given.start_s, given.finish_s, given.receives_s))):
            return []
        hosts = {i.host for i in self.inputs}
        sends = tuple((host, until) for host, until in given.sends if host in hosts and isfinite(until))
        relative = given._replace(node=node, start_s=max(0.0, given.start_s), sends=sends)
        return [shifted(b, now) for b in bidding.judged([relative])]

    def _sell(self, now: float) -> list[Letter]:
        self._sale = Sale(self._bids)
        return self._award(now)

    def _award(self, now: float) -> list[Letter]:
        assert self._sale is not None
        self._granted = self._sale.award(self._grants)
        if self._granted is None:
            self.failed = True
            return []
        self.due = now + REPLY_S
        # From the call on, not from now: an idle node's offer moves with the clock, and so does the runner-up's.
        limit = None if self._granted.limit_s is None else self._granted.limit_s - self._called
        return [(self._granted.node, Grant(self.key, moved(self.inputs, -now), limit))]
