"""The candidates of a decision with their numbers, as `explain` shows them."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from jupiter_agent.core.wave_auction import Sold
from schedulers.bidding import Bid

EXPLAINED = 12
"""Candidates kept per decision"""


class Considered(Struct, frozen=True):
    """One candidate of one decision."""

    node: str
    cost_s: float | None
    reasons: list[str]
    start_s: float | None = None
    """predicted, from the beginning of the item, or of the transfer where no plan is made; the others likewise"""
    finish_s: float | None = None
    transfer_s: float | None = None


def of_auction(sold: Sold, name: Callable[[str], str]) -> list[Considered]:
    """Who bid, the best first, then who was asked and did not."""
    bids = [
        Considered(name(b.node), b.cost_s, told(b), b.start_s, b.finish_s, max(0.0, b.arrives_s - sold.fed_s))
        for b in sold.bids
    ]
    return (bids + [Considered(name(node), None, [why]) for node, why in sold.without.items()])[:EXPLAINED]


def told(bid: Bid[str]) -> list[str]:
    """A bid in words."""
    load = bid.cost_s - bid.finish_s
    words = [f"starts {bid.start_s:.3g} s into the plan", f"done {bid.finish_s:.3g} s"]
    return [*words, f"{load:.3g} s of other work per item"] if load > 0 else words
