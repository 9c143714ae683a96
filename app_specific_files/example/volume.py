"""Detector: bursts. Robust z-scores of bytes and packets against rolling medians at several time scales.

A burst is a bin that stands out of its neighbourhood on every scale; MAD, not the standard deviation, so that the
burst itself does not widen the yardstick. Ordinary traffic is bursty: this is a weak witness and fusion treats it so.
"""

import numpy as np
from netwindow import clipped, finding, fixed, unpack

BINS = 1024
SCALES = (17, 65, 129)  # bins


def rolling_z(series: np.ndarray, width: int) -> np.ndarray:
    """Robust z of each bin against the `width` bins around it (edges reflected)."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(series, width // 2, mode="reflect"), width)
    middle = np.median(around, axis=1)
    spread = np.median(np.abs(around - middle[:, None]), axis=1) * 1.4826
    return (series - middle) / np.maximum(spread, 0.5)  # half a unit of log2: a neighbourhood of zeros is no certainty


def process(inputs: dict[str, bytes], ctx) -> bytes:
    meta, column = unpack(inputs["split"])
    span = meta["span_us"]
    bins = column["t"] * BINS // span
    size = np.log2(1.0 + np.bincount(bins, column["length"], BINS))
    count = np.log2(1.0 + np.bincount(bins, minlength=BINS))
    z = np.minimum.reduce([np.minimum(rolling_z(size, w), 2 * rolling_z(count, w)) for w in SCALES])
    score = clipped((np.round(z, 6) - 8.0) / 16.0)
    hot = np.flatnonzero(score)
    edges = np.arange(BINS + 1) * span // BINS
    segments = [(edges[b], edges[b + 1], score[b]) for b in hot]
    facts = {"bursts": len(hot), "worst_z": fixed(z.max())}
    return finding(meta, "volume", (score.max(), segments, [], facts))
