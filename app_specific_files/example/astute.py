"""Detector: flows that move together. ASTUTE (Silveira, Diot, Taft, Govindan: ASTUTE: Detecting a Different Class of
Traffic Anomalies, SIGCOMM 2010).

Flows that know nothing of each other change independently: from one bin to the next the mean change over all flows is
near zero. K = mean * sqrt(flows) / std is then a standard normal. Many flows rising at once (a scan, a flood, an
outage) push K out, however small each of them is. Several bin sizes, since independence holds on none in particular.
"""

from typing import Any

import numpy as np
from netwindow import Result, clipped, finding, fixed, robust, unpack

SCALES = (16, 32, 64, 128)  # bins per window
MIN_FLOWS = 24


def deviations(flow: np.ndarray, bins: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """K of each step between neighbouring bins, and how many flows took part in it (fewer than MIN_FLOWS: K is 0)."""
    flows = int(flow.max()) + 1
    table = np.bincount(flow.astype(np.int64) * count + bins, minlength=flows * count).reshape(flows, count)
    change = np.diff(table, axis=1)
    active = (table[:, 1:] + table[:, :-1]) > 0
    n = active.sum(axis=0)
    mean = change.sum(axis=0) / np.maximum(n, 1)
    square = (change**2).sum(axis=0) / np.maximum(n, 1)
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    k = mean * np.sqrt(n) / np.maximum(std, 0.25)
    return np.where(n >= MIN_FLOWS, k, 0.0), n


def detect(meta: dict[str, Any], column: dict[str, np.ndarray]) -> Result:
    span, worst, flows, segments = meta["span_us"], 0.0, 0, []
    for count in SCALES:
        k, n = deviations(column["flow"], column["t"] * count // span, count)
        score = clipped((np.abs(np.round(k, 6)) - 6.0) / 18.0)
        worst, flows = max(worst, float(np.abs(k).max())), max(flows, int(n.max()))
        segments += [((b + 1) * span // count, (b + 2) * span // count, score[b]) for b in np.flatnonzero(score)]
    score = max((s for *_, s in segments), default=0.0)
    inside = np.zeros(len(column["t"]), bool)
    for begin, end, _ in segments:
        inside |= (column["t"] >= begin) & (column["t"] < end)
    packets = np.bincount(column["src"][inside], minlength=len(meta["hosts"]))
    share = packets / max(1, packets.sum())
    hosts = [(meta["hosts"][h], score * share[h], "its flows rise and fall together") for h in np.flatnonzero(packets)]
    return score, segments, hosts, {"worst_k": fixed(worst), "most_flows": flows}


def process(inputs: dict[str, bytes], ctx) -> bytes:
    meta, column = unpack(inputs["split"])
    return finding(meta, "astute", robust(detect, meta, column))
