"""Detector: abused IP fragmentation. Puts every fragmented datagram back together, on paper.

Honest fragments fill the link and tile their datagram without a gap. Evasion and floods use tiny ones (RFC 1858),
overlapping ones (teardrop) or ones that never complete.

Windows without fragments, nearly all of them, do not name this task.
"""

from typing import Any

import numpy as np
from netwindow import Result, clipped, finding, fixed, robust, unpack

TINY = 400  # bytes; no link's MTU makes a fragment smaller, unless it is the last
MANY = 64  # bad fragments that make the score 1


def flaws(start: np.ndarray, size: np.ndarray, more: np.ndarray) -> tuple[int, int, bool]:
    """(tiny fragments, overlapping fragments, complete?) of one datagram; offsets and sizes in bytes."""
    order = np.lexsort((size, start))
    start, size, more = start[order], size[order], more[order]
    end = np.maximum.accumulate(start + size)
    overlaps = int((start[1:] < end[:-1]).sum())
    gaps = bool((start[1:] > end[:-1]).any()) or start[0] != 0
    return int(((size < TINY) & more).sum()), overlaps, not gaps and not more.all()


def detect(meta: dict[str, Any], column: dict[str, np.ndarray]) -> Result:
    key = np.stack([column[name].astype(np.int64) for name in ("src", "dst", "id")], axis=1)
    datagrams, index = np.unique(key, axis=0, return_inverse=True)
    tiny = overlapping = incomplete = 0
    blame: dict[int, int] = {}
    segments = []
    for number, (src, _, _) in enumerate(datagrams.tolist()):
        rows = index.reshape(-1) == number
        few, over, complete = flaws(column["start"][rows], column["size"][rows], column["more"][rows] > 0)
        tiny, overlapping, incomplete = tiny + few, overlapping + over, incomplete + (not complete)
        bad = few + over + (not complete)
        blame[src] = blame.get(src, 0) + bad
        t = column["t"][rows]
        segments.append((t[0], t[-1] + 1, fixed(clipped(bad / MANY))))
    hosts = [(meta["hosts"][src], clipped(bad / MANY), f"{bad} bad fragments") for src, bad in blame.items()]
    facts = {"datagrams": len(datagrams), "tiny": tiny, "overlapping": overlapping, "incomplete": incomplete}
    return fixed(clipped(max(blame.values()) / MANY)), segments, hosts, facts


def process(inputs: dict[str, bytes], ctx) -> bytes:
    meta, column = unpack(inputs["split"])
    return finding(meta, "fragments", robust(detect, meta, column))
