"""Links from positions: a log-distance radio, and nodes that walk about.

The margin of a link is its signal strength above that at the edge of the range, in dB:
10 * exponent * log10(range / distance). The rate rises linearly with the margin from `min_rate_mbps` to `rate_mbps`
over `fade_db`; the loss falls from `edge_loss`, to 1/e of it every fade_db / 4.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

RADIO: dict[str, Any] = {
    "range_m": 250.0, "exponent": 3.0, "rate_mbps": 20.0, "min_rate_mbps": 1.0, "fade_db": 12.0,
    "edge_loss": 0.3, "delay_ms": 1.0, "queue_ms": 200.0, "shared": True,
}  # fmt: skip
NEGLIGIBLE = 1e-4

Trace = Sequence[Sequence[float]]
"""[t, x, y] points of a piecewise-linear path"""


def radio_link(distance_m: float, radio: dict[str, Any]) -> dict[str, Any]:
    """The properties of the link over this distance."""
    if distance_m > radio["range_m"]:
        return {"up": False}
    margin = 10 * radio["exponent"] * math.log10(radio["range_m"] / max(distance_m, 1.0))
    share = min(1.0, margin / radio["fade_db"])
    loss = radio["edge_loss"] * math.exp(-4 * margin / radio["fade_db"])
    return {
        "up": True,
        "rate_mbps": radio["min_rate_mbps"] + (radio["rate_mbps"] - radio["min_rate_mbps"]) * share,
        "loss": loss if loss > NEGLIGIBLE else 0.0,
        "delay_ms": radio["delay_ms"],
        "queue_ms": radio["queue_ms"],
    }


def position_at(trace: Trace, t: float) -> tuple[float, float]:
    """Where a node is at time t; before the first point at the first, after the last at the last."""
    if t <= trace[0][0]:
        return trace[0][1], trace[0][2]
    for (t0, x0, y0), (t1, x1, y1) in itertools.pairwise(trace):
        if t <= t1:
            share = (t - t0) / (t1 - t0) if t1 > t0 else 1.0
            return x0 + share * (x1 - x0), y0 + share * (y1 - y0)
    return trace[-1][1], trace[-1][2]


def random_waypoint(
    nodes: int, seed: int, duration_s: float, side_m: float, speed: tuple[float, float]
) -> dict[str, list[list[float]]]:
    """Paths n1..nN in a square: walk to a random point at a random speed (m/s), pause up to 20 s, repeat."""
    rng = random.Random(seed)
    traces: dict[str, list[list[float]]] = {}
    for number in range(nodes):
        t, x, y = 0.0, rng.uniform(0, side_m), rng.uniform(0, side_m)
        path = [[t, x, y]]
        while t < duration_s:
            to_x, to_y = rng.uniform(0, side_m), rng.uniform(0, side_m)
            t += math.hypot(to_x - x, to_y - y) / rng.uniform(*speed)
            x, y = to_x, to_y
            path.append([t, x, y])
            t += rng.uniform(0, 20.0)
            path.append([t, x, y])
        traces[f"n{number + 1}"] = [[round(value, 2) for value in point] for point in path]
    return traces
