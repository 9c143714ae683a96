"""Messages of auctions: who decides on tasks, and who bids for them (core/auction.py). All times are plan times.

What one node has to tell another about one job at one moment is one message, whatever tasks it is about.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from jupiter_agent.core.messages import Count, Message, Seconds

AT_ONCE = 64
"""Tasks in one message, of each kind"""
INPUTS = 1024
"""of one task that are told of: those of more parents are too many to bid for"""

Name = Annotated[str, Meta(max_length=255)]


class Wanted(Struct, frozen=True, array_like=True):
    """One input of the task: where its parent runs, when it is done there, and how many bytes come."""

    host: Name
    done_s: Seconds
    data: Count
    sends_from: Seconds = 0.0


class Called(Struct, frozen=True, array_like=True):
    """A task to bid for. `seconds`: per item at speed 1, as home predicts."""

    task: Name
    epoch: Count
    seconds: Seconds
    inputs: Annotated[list[Wanted], Meta(max_length=INPUTS)]
    limit_s: Seconds | None = None
    """granted only: what it may cost; None: it must be taken"""


class Price(Struct, frozen=True, array_like=True):
    """What a node offers; `sends`: until when the cards of the inputs' hosts are then busy; `arrives_s`: when the
    last input is there."""

    cost_s: Seconds
    start_s: Seconds
    finish_s: Seconds
    receives_s: Seconds
    sends: Annotated[list[tuple[Name, Seconds]], Meta(max_length=INPUTS)] = []
    arrives_s: Seconds = 0.0


class Offered(Struct, frozen=True, array_like=True):
    """An offer or a reply; `price` None: not I. `taken` counts in replies only."""

    task: Name
    epoch: Count
    price: Price | None
    taken: bool = False


class BidsWanted(Message, frozen=True, tag=52):
    """Who bids for `calls`? `grants` are yours at that price; `over` run elsewhere. Answered by `Bids`."""

    job: Name
    bundle: Annotated[bytes, Meta(max_length=64)]
    calls: Annotated[list[Called], Meta(max_length=AT_ONCE)] = []
    grants: Annotated[list[Called], Meta(max_length=AT_ONCE)] = []
    over: Annotated[list[tuple[Name, Count]], Meta(max_length=AT_ONCE)] = []


class Bids(Message, frozen=True, tag=53):
    """What the sender offers, and which grants it took."""

    job: Name
    offers: Annotated[list[Offered], Meta(max_length=AT_ONCE)] = []
    replies: Annotated[list[Offered], Meta(max_length=AT_ONCE)] = []
