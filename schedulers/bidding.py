"""Tasks by auction: how nodes bid, and how the deciding node awards. Plain Python, for live agents and simulations.

A contract net over the ranks of HEFT (R. G. Smith, IEEE Transactions on Computers C-29(12), 1980; the ranks and the
finish times are those of IEEE TPDS 13(3), 2002). Three parties, none of which sees all:

1. Whoever decides on a task waits until the places of its parents are known and its turn has come (`frontier`), and
   calls for bids: the hosts of the parents, `BIDDERS` nodes that look best from here and `EXPLORERS` drawn ones
   (`shortlist`).
2. A node bids the earliest finish time on its own timeline, over its own links, behind what its own network card has
   reserved, with its own current time for the task (`bid`). It promises nothing yet.
3. The least bid is awarded (`Award`), with the runner-up's bid as limit. The node bids again, for it may have won
   other tasks meanwhile, and takes the task if it is still no worse than the limit (`accepts`). Otherwise its new bid
   takes part again. After `REFUSALS` refusals the least bid must take it.

Messages per task, the deciding node itself being free: a call and a bid for each of (parents + 10 - 1) others, and at
most three awards with their answers: 2 (parents + 10) + 4. An entry task has no host of a parent and asks one less.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf, isfinite
from random import Random
from typing import Generic, NamedTuple

from schedulers.errors import Unplaceable
from schedulers.local import K
from schedulers.timeline import Timeline

BIDDERS = 8  # nodes asked for their promise: twice as many change the result by less than a thousandth
EXPLORERS = 2  # nodes asked at random: they find what the view of the deciding node is too old for
REFUSALS = 2
WINDOW = 0.03  # share of the largest rank by which a task may be auctioned ahead of its turn
CROWDED_WINDOW = 0.01  # the same where many tasks wait for few nodes: then the order decides
CROWD = 0.1  # waiting tasks per node from which on it is crowded


class Link(NamedTuple):
    """One direction between two nodes: l(d) = latency_s + inv_rate * d + quadratic * d**2."""

    latency_s: float = 0.0
    inv_rate: float = 0.0
    quadratic: float = 0.0

    def busy_s(self, data: float) -> float:
        """Seconds that `data` bytes keep both network cards busy."""
        return self.inv_rate * data + self.quadratic * data * data

    def transfer_s(self, data: float) -> float:
        """Seconds until `data` bytes are there."""
        return self.busy_s(data) + self.latency_s


class Input(NamedTuple, Generic[K]):
    """What one parent hands over: from where, when it is done there, how many bytes."""

    host: K
    done_s: float
    data: float
    sends_from: float = 0.0  # when the card of the host is free to send, as far as it told


class Bid(NamedTuple, Generic[K]):
    """What a node offers. Bids are compared as tuples: the least cost, then the smaller node."""

    cost_s: float  # finish_s and the committed load
    node: K
    start_s: float
    finish_s: float
    receives_s: float = 0.0  # until when the inputs keep the network card of the node busy
    sends: tuple[tuple[K, float], ...] = ()  # and until when the cards of their hosts: for the winner to tell them
    arrives_s: float = 0.0  # when the last of the inputs is there, for who asks why


@dataclass
class Desk(Generic[K]):
    """What a bidder knows: itself. `links` leads here, by sender; `charged`: transfers wait for network cards."""

    node: K
    links: Callable[[K], Link | None]
    ready_from: float = 0.0
    charged: bool = False
    timeline: Timeline = field(default_factory=Timeline)
    receives_from: float = 0.0  # when its card is free to receive
    committed_s: float = 0.0  # work per item of the pipelines here that no reservation shows


def bid(desk: Desk[K], inputs: Sequence[Input[K]], exec_s: float | None) -> Bid[K] | None:
    """The offer of one node: insertion-based EFT, plus its committed load. Reserves nothing. O(parents log parents).

    None where the node cannot tell: it has no time for the task, or no link from a parent. Under `charged` the
    inputs come one after another in the order their senders finish, each when both cards are free.
    """
    if exec_s is None or not 0 <= exec_s < inf:
        return None
    arrived, receives = desk.ready_from, desk.receives_from
    sends: dict[K, float] = {}
    for given in sorted(inputs, key=lambda i: i.done_s):
        if given.host == desk.node:
            arrived = max(arrived, given.done_s)
            continue
        link = desk.links(given.host)
        if link is None or not isfinite(link.transfer_s(given.data)):
            return None
        begin = given.done_s
        if desk.charged and given.data:
            begin = max(begin, receives, sends.get(given.host, given.sends_from))
            receives = sends[given.host] = begin + link.busy_s(given.data)
        arrived = max(arrived, begin + link.transfer_s(given.data))
    start = desk.timeline.earliest(arrived, exec_s)
    finish, busy = start + exec_s, tuple(sends.items())
    return Bid(finish + desk.committed_s, desk.node, start, finish, receives, busy, arrived)


def accepts(fresh: Bid[K] | None, limit_s: float | None) -> bool:
    """Whether a node takes what it was awarded: it still can, and is no worse than the runner-up. None: no limit."""
    return fresh is not None and (limit_s is None or fresh.cost_s <= limit_s)


def reserve(desk: Desk[K], taken: Bid[K]) -> None:
    """Put an accepted task on the timeline and its inputs on the card of the node."""
    desk.timeline.insert(taken.start_s, taken.finish_s)
    desk.receives_from = max(desk.receives_from, taken.receives_s)


@dataclass
class Outlook(Generic[K]):
    """What a deciding node knows: its own links, what the nodes say about themselves, and when they are free again."""

    exec_s: Mapping[K, float]  # of this task, on the nodes that may run it
    links: Callable[[K], Link | None]  # from here
    free_s: dict[K, float]  # end of the last reservation, by hearsay
    near: Collection[K] = ()  # nodes that explorers are drawn among; empty: all


def shortlist(view: Outlook[K], inputs: Sequence[Input[K]], rng: Random, most: int = BIDDERS) -> list[K]:
    """Whom to ask, each once: hosts of parents, the `most` nodes that look best, `EXPLORERS` drawn ones. O(N).

    An entry task, without inputs, is shown to one drawn node less. A node looks good where max(last parent done + all
    inputs from here, free) + exec_s is least; a node that cannot be judged looks worst. The best is taken to get the
    task: `free_s` says so afterwards, and the next task of the same deciding node is shown to others. Only nodes that
    may run the task are asked. Unplaceable without any.
    """
    if not view.exec_s:
        raise Unplaceable(None, [])
    done = max((i.done_s for i in inputs), default=0.0)
    data = sum(i.data for i in inputs)

    def promise(n: K) -> tuple[float, K]:
        link = view.links(n) if inputs else Link()
        seconds = inf if link is None else max(done + link.transfer_s(data), view.free_s.get(n, 0.0)) + view.exec_s[n]
        return (seconds if seconds >= 0 else inf, n)

    looks: list[tuple[float, K]] = nsmallest(most, map(promise, view.exec_s))
    seconds, first = looks[0]
    if isfinite(seconds):
        view.free_s[first] = max(seconds, view.free_s.get(first, 0.0))
    every: list[K] = sorted(view.exec_s.keys() & view.near or view.exec_s)
    asked: dict[K, None] = dict.fromkeys(i.host for i in inputs if i.host in view.exec_s)
    asked.update((n, None) for _, n in looks)
    asked.update((every[rng.randrange(len(every))], None) for _ in range(EXPLORERS - (not inputs)))
    return list(asked)


@dataclass
class Grants(Generic[K]):
    """What a deciding node gave away since it called for the bids that it holds: those know nothing of it yet."""

    lines: dict[K, Timeline] = field(default_factory=dict)

    def add(self, taken: Bid[K]) -> None:
        """`taken` was accepted."""
        self.lines.setdefault(taken.node, Timeline()).insert(taken.start_s, taken.finish_s)

    def behind(self, old: Bid[K]) -> Bid[K]:
        """The bid as it must at least be by now: in the first gap between what was given to that node."""
        line = self.lines.get(old.node)
        late = 0.0 if line is None else line.earliest(old.start_s, old.finish_s - old.start_s) - old.start_s
        return old._replace(cost_s=old.cost_s + late, start_s=old.start_s + late, finish_s=old.finish_s + late)


class Award(NamedTuple, Generic[K]):
    """To whom, and the cost it must still keep; None: whatever it now is."""

    node: K
    limit_s: float | None


@dataclass
class Sale(Generic[K]):
    """The bids for one task, from the first award until somebody takes it. Events in, awards out."""

    bids: list[Bid[K]]
    refusals: int = 0

    def award(self, grants: Grants[K]) -> Award[K] | None:
        """To the least bid, with the next as limit; None without bids. After `REFUSALS` refusals without limit."""
        if not self.bids:
            return None
        bids = sorted(map(grants.behind, self.bids))
        last = len(bids) == 1 or self.refusals >= REFUSALS
        return Award(bids[0].node, None if last else bids[1].cost_s)

    def refused(self, node: K, fresh: Bid[K] | None) -> None:
        """`node` did not keep its bid; with `fresh` it bids again, without (silent, gone) it is out of the sale."""
        self.refusals += 1
        self.bids = [b for b in self.bids if b.node != node]
        if fresh is not None:
            self.bids.append(fresh)


def frontier(
    open_tasks: Collection[K],
    rank: Mapping[K, float],
    ready: Callable[[K], bool],
    nodes: int,
    share: float | None = None,
) -> list[K]:
    """The open tasks that may be auctioned now, most urgent first: their parents are placed, and their turn has come.

    A task may go ahead of its turn by `WINDOW` of the largest rank of the application, by `CROWDED_WINDOW` where more
    than `CROWD` x `nodes` tasks are ready: the smaller it is, the closer to the order of HEFT and the more rounds.
    `share` says otherwise. The ready task of highest rank is always among them.
    """
    waiting = [t for t in open_tasks if ready(t)]
    if not waiting:
        return []
    if share is None:
        share = CROWDED_WINDOW if len(waiting) > CROWD * nodes else WINDOW
    least = max(rank[t] for t in waiting) - share * max(rank.values())
    return sorted((t for t in waiting if rank[t] >= least), key=lambda t: (-rank[t], t))


def judged(bids: Iterable[Bid[K] | None]) -> list[Bid[K]]:
    """Those of the bids that are any: finite, and not before the beginning. A liar with NaN wins nothing."""
    return [b for b in bids if b is not None and 0 <= b.start_s <= b.finish_s <= b.cost_s < inf]
