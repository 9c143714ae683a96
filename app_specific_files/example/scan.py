"""Detector: scanners. Threshold random walk over first contacts (Jung, Paxson, Berger, Balakrishnan: Fast Portscan
Detection Using Sequential Hypothesis Testing, IEEE S&P 2004).

Each new (destination, port) a source tries is a coin: a benign host's contacts mostly succeed, a scanner's mostly fail.
The likelihood ratio walks with each outcome; crossing the upper threshold is a verdict, the lower one an acquittal.
Differs: one walk per host over all its targets, never stopped, and a verdict needs MANY distinct failures, because
peer-to-peer programs also knock at doors that closed long ago.

Gives nothing (None) for windows in which nobody opened a TCP connection.
"""

import math
from typing import Any

import numpy as np
from netwindow import Result, finding, fixed, robust, unpack

SYN, RST, ACK = 2, 4, 16
BENIGN, SCANNER = 0.8, 0.2  # chance that a first contact succeeds
UPPER, LOWER = math.log(99.0), -math.log(99.0)  # detect at 99 %, 1 % false alarms
MANY = 40
PATIENCE_US = 1_000_000  # a contact younger than this at the end of the window is still open


def contacts(column: dict[str, np.ndarray], span: int) -> list[tuple[int, int, int, int, bool]]:
    """(time, source, destination, port, success) of every flow that begins with a SYN, in order of time.

    A flow whose beginning lies before the window is left out, and so is one that may still be answered after it.
    """
    if not len(column["flow"]):
        return []
    order = np.argsort(column["flow"], kind="stable")
    t, src, dst, port, flow, flags = (column[name][order] for name in ("t", "src", "dst", "dport", "flow", "flags"))
    starts = np.flatnonzero(np.append(True, np.diff(flow) != 0))
    answer = src == np.repeat(dst[starts], np.diff(np.append(starts, len(flow))))
    accepted = np.logical_or.reduceat(answer & (flags & (SYN | ACK) == SYN | ACK), starts)
    refused = np.logical_or.reduceat(answer & (flags & RST > 0), starts)
    settled = accepted | refused | (span - t[starts] > PATIENCE_US)
    told = settled & (flags[starts] & (SYN | ACK) == SYN)
    first = starts[told]
    rows = zip(*(values[first].tolist() for values in (t, src, dst, port)), accepted[told].tolist(), strict=True)
    return sorted(rows)


def detect(meta: dict[str, Any], column: dict[str, np.ndarray]) -> Result:
    tried = contacts(column, meta["span_us"])
    good, bad = math.log(SCANNER / BENIGN), math.log((1 - SCANNER) / (1 - BENIGN))
    walk: dict[int, float] = {}
    failed: dict[int, set[tuple[int, int]]] = {}
    seen: set[tuple[int, int, int]] = set()
    scores: dict[int, float] = {}
    segments = []
    for t, src, dst, port, success in tried:
        if (src, dst, port) in seen:
            continue
        seen.add((src, dst, port))
        walk[src] = min(4 * UPPER, max(LOWER, walk.get(src, 0.0) + (good if success else bad)))
        if not success:
            failed.setdefault(src, set()).add((dst, port))
        certainty = min(1.0, max(0.0, walk[src] / UPPER))
        score = fixed(certainty * min(1.0, len(failed.get(src, ())) / MANY))
        scores[src] = max(scores.get(src, 0.0), score)
        if score:
            segments.append((t, t + 1, score))
    hosts = [
        (meta["hosts"][src], score, f"{len(failed.get(src, ()))} targets did not answer")
        for src, score in scores.items()
    ]
    facts = {"contacts": len(seen), "failed": sum(map(len, failed.values())), "sources": len(walk)}
    return max(scores.values(), default=0.0), segments, hosts, facts


def process(inputs: dict[str, bytes], ctx) -> bytes | None:
    meta, column = unpack(inputs["split"])
    if not contacts(column, meta["span_us"]):
        return None
    return finding(meta, "scan", robust(detect, meta, column))
