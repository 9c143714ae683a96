"""Detector: beacons. Rayleigh's test of each talkative pair of hosts for a rhythm in when it starts to speak.

A program that calls home by the clock speaks at whole multiples of one period. Folded at that period its onsets fall
on one phase, and the length of their mean phase vector, squared and times n, is far above the exponential
distribution that unrelated onsets give. No training data is needed. Only slow rhythms count (half a second and more):
faster ones are voice and video. Much software beats innocently, so fusion treats this as a weak witness.
"""

import numpy as np
from netwindow import clipped, finding, fixed, unpack

PAIRS = 24
MIN_ONSETS = 12
SILENCE_US = 150_000  # what a pair must be quiet before its next packet is an onset
MIN_CYCLES = 8  # fewer repetitions in a window prove nothing
FASTEST_HZ = 2.0
LINES = 1024  # frequencies tried per pair


def onsets(t: np.ndarray) -> np.ndarray:
    return t[np.append(True, np.diff(t) > SILENCE_US)]


def strongest_rhythm(t: np.ndarray, span: int) -> tuple[float, float]:
    """(period in seconds, Rayleigh's z) of the frequency at which the onsets agree best."""
    cycles = np.linspace(MIN_CYCLES, span / 1e6 * FASTEST_HZ, LINES)
    phase = np.exp(2j * np.pi * np.outer(cycles, t / span))
    z = np.round(np.abs(phase.sum(axis=1)) ** 2 / len(t), 6)
    best = int(np.argmax(z))
    return span / 1e6 / cycles[best], float(z[best])


def process(inputs: dict[str, bytes], ctx) -> bytes:
    meta, column = unpack(inputs["split"])
    span, hosts = meta["span_us"], meta["hosts"]
    pair = column["src"].astype(np.int64) * len(hosts) + column["dst"]
    names, sizes = np.unique(pair, return_counts=True)
    found, segments, tested = [], [], 0
    talkative = names[np.lexsort((names, -sizes))][:PAIRS] if span / 1e6 * FASTEST_HZ > 2 * MIN_CYCLES else []
    for name in talkative:
        t = onsets(column["t"][pair == name])
        if len(t) < MIN_ONSETS:
            continue
        tested += 1
        period, z = strongest_rhythm(t, span)
        score = fixed(clipped((z - np.log(LINES) - 5.0) / 15.0))  # 5: one in 150 pairs of unrelated onsets gets here
        if score:
            found.append((hosts[name // len(hosts)], score, f"every {period:.2f} s to {hosts[name % len(hosts)]}"))
            segments.append((t[0], t[-1], score))
    score = max((s for _, s, _ in found), default=0.0)
    return finding(meta, "beacon", (score, segments, found, {"pairs_tested": tested, "beacons": len(found)}))
