"""Detector: dispersal. Conditional entropy of destination ports given the destination, in sliding windows.

A client asks few services of many hosts: once the destination is known its port is no surprise. A port scan or a
flood of garbage is the opposite. Only packets that go the way of their flow's first packet are looked at, so answers
to ephemeral ports do not count.
"""

import numpy as np
from netwindow import clipped, entropy_bits, finding, fixed, unpack

WIDTH = 192  # packets
STEP = 2


def joint(*columns: np.ndarray) -> np.ndarray:
    """One integer per row for the combination of the columns."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        key = key << 20 | column.astype(np.int64)
    return key


def dispersal(dst: np.ndarray, dport: np.ndarray) -> float:
    """H(port | destination) / log2(n): 0 one port per host, 1 every packet to another port of one host."""
    both = entropy_bits(np.unique(joint(dst, dport), return_counts=True)[1])
    alone = entropy_bits(np.unique(dst, return_counts=True)[1])
    return fixed((both - alone) / np.log2(len(dst)))


def process(inputs: dict[str, bytes], ctx) -> bytes:
    meta, column = unpack(inputs["split"])
    forward = np.flatnonzero(column["up"])
    width = min(WIDTH, len(forward))
    starts = range(0, max(1, len(forward) - width + 1), STEP) if width >= 32 else ()
    values, segments, blame = [], [], {}
    for start in starts:
        rows = forward[start : start + width]
        src, dst, dport = (column[name][rows] for name in ("src", "dst", "dport"))
        value = dispersal(dst, dport)
        score = fixed(clipped((value - 0.25) / 0.4))
        values.append(value)
        if score:
            segments.append((column["t"][rows[0]], column["t"][rows[-1]], score))
            culprit = int(np.bincount(src).argmax())
            blame[culprit] = max(blame.get(culprit, 0.0), score)
    hosts = [(meta["hosts"][host], score, "spreads its packets over many ports") for host, score in blame.items()]
    lengths = np.unique(column["length"], return_counts=True)[1]
    facts = {"worst_dispersal": max(values, default=0.0), "length_entropy_bits": fixed(entropy_bits(lengths))}
    return finding(meta, "entropy", (max((s for *_, s in segments), default=0.0), segments, hosts, facts))
