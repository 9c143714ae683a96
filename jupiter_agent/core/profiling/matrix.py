"""The links between the candidates of a mapping, from what each of them measured: what a `schedulers.Problem` takes.

Of a directed link the receiver's model counts, else what one of the two ends says in short of the way there or back,
else it is estimated: the latency from the places of both, the rate as min(up, down) of what they publish, the median of
what is known where they publish nothing. Never zero, and nobody says anything of links that are not its own. A model is
stretched by a quarter of its error: of two links that look alike the one that is known better is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import msgspec

from jupiter_agent.core.estimate import PRIOR_BANDWIDTH_BPS, PRIOR_LATENCY_S, SURE, Net
from jupiter_agent.core.messages.links import Links, Shape

Row = Mapping[str, tuple[float, float, int]]
Matrix = list[list[float]]

DOUBT = 0.25
MOST_S, MOST_BYTES = 1e5, 1_000_000
"""A link on which so many bytes take longer than that is no link"""
SIZES = 3
"""Of the job's edges so many sizes, evenly chosen, stand for all"""


def sane(message: Links) -> tuple[Links, int]:
    """The message without what nobody can have measured, and how much that was. Types and bounds were checked before:
    this is about what such numbers say together."""
    inbound = {peer: shape for peer, shape in message.inbound.items() if 0 <= shape.seconds(MOST_BYTES) <= MOST_S}
    links = {peer: row for peer, row in message.links.items() if row[0] <= MOST_S and (not row[1] or row[1] >= 1e-3)}
    dropped = len(message.inbound) - len(inbound) + len(message.links) - len(links)
    return (msgspec.structs.replace(message, inbound=inbound, links=links) if dropped else message), dropped


class LinkMatrix:
    """`rows` node -> what it says of its links in short; `inbound` node -> peer -> model of the link from that peer."""

    def __init__(
        self, rows: Mapping[str, Row], inbound: Mapping[str, Mapping[str, Shape]], nets: Callable[[str], Net],
        sizes: Sequence[int],
    ) -> None:  # fmt: skip
        self._rows, self._inbound = rows, inbound
        self._nets: dict[str, Net] = {}
        self._look_up = nets
        wanted = sorted({size for size in sizes if size > 0}) or [1]
        step = max(1, (len(wanted) - 1) // (SIZES - 1)) if len(wanted) > 1 else 1
        self._sizes = sorted({*wanted[::step][: SIZES - 1], wanted[-1]})
        known = [link for row in rows.values() for link in row.values()]
        self._usual_latency = median([link[0] for link in known]) if known else PRIOR_LATENCY_S
        self._usual_rate = median([link[1] for link in known if link[1] > 0] or [PRIOR_BANDWIDTH_BPS])

    def between(self, nodes: Sequence[str]) -> tuple[Matrix, Matrix, Matrix | None]:
        """(latency s, seconds per byte, seconds per byte^2 where any is there), each N x N with a diagonal of 0."""
        links = [[(0.0, 0.0, 0.0) if a == b else self.link(a, b) for b in nodes] for a in nodes]
        latency, inv_rate, quadratic = ([[link[i] for link in row] for row in links] for i in range(3))
        return latency, inv_rate, quadratic if any(map(any, quadratic)) else None

    def link(self, a: str, b: str) -> tuple[float, float, float]:
        """From a to b, as a mapper sees it."""
        shape = self._inbound.get(b, {}).get(a)
        if shape is not None and shape.samples:
            stretch = 1.0 + DOUBT * min(1.0, shape.error)
            seconds, per_byte, r = shape.straight(self._sizes)
            return seconds * stretch, per_byte * stretch, r * stretch
        said = self._rows.get(a, {}).get(b) or self._rows.get(b, {}).get(a)
        latency = said[0] if said else self._latency_s(a, b)
        rate = said[1] if said and said[1] > 0 else self._rate(a, b)
        return latency, 1.0 / max(1.0, rate), 0.0

    def _latency_s(self, a: str, b: str) -> float:
        here, there = self._net(a).place, self._net(b).place
        if here is None or there is None or max(here.error, there.error) > SURE:
            return self._usual_latency
        return here.rtt_s(there) / 2

    def _rate(self, a: str, b: str) -> float:
        known = [rate for rate in (self._net(a).up_bps, self._net(b).down_bps) if rate > 0]
        return min(known) if known else self._usual_rate

    def _net(self, node: str) -> Net:
        net = self._nets.get(node)
        if net is None:
            net = self._nets[node] = self._look_up(node)
        return net
