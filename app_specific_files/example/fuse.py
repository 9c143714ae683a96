"""Fusion: one verdict from all detectors, by weighted noisy-or.

A weight says how far a detector is to be believed when it is certain: a port scan or a tunnel is hardly ever a false
alarm, a burst nearly always is. What is left to doubt is multiplied, so one strong witness suffices, weak ones add up
slowly, and a detector that said nothing changes nothing.

Routes: `report` gets every item; `evidence` is named only for alerts.
"""

import json

import numpy as np
from netwindow import fixed, to_json

WEIGHTS = {"scan": 0.9, "dns": 0.9, "fragments": 0.9, "entropy": 0.6, "astute": 0.4, "beacon": 0.25, "volume": 0.1}
KINDS = {"scan": "port scan", "entropy": "port scan", "dns": "dns tunnel", "fragments": "fragment flood"}


def fused(scores: dict[str, float]) -> float:
    doubt = 1.0
    for name in sorted(scores):
        doubt *= 1.0 - WEIGHTS[name] * scores[name]
    return fixed(1.0 - doubt)


def level(score: float, alert: float, watch: float) -> str:
    return "alert" if score >= alert else "watch" if score >= watch else "normal"


def hottest(timeline: dict[str, list[int]], span: int) -> tuple[list[float], list[int]]:
    """The fused score over time, and the stretch around its peak that keeps half of it, in microseconds."""
    rows = np.array([np.array(timeline[name]) * (WEIGHTS[name] / 1000.0) for name in sorted(timeline)])
    score = np.round(1.0 - np.prod(1.0 - rows, axis=0), 3)
    peak = int(np.argmax(score))
    cold = np.flatnonzero(score < score[peak] / 2)
    begin = int(cold[cold < peak].max(initial=-1)) + 1
    end = int(cold[cold > peak].min(initial=len(score)))
    return score.tolist(), [begin * span // len(score), end * span // len(score)]


def process(inputs: dict[str, bytes], ctx) -> dict[str, bytes]:
    alert, watch = float(ctx.params.get("alert", 0.7)), float(ctx.params.get("watch", 0.45))
    joined = json.loads(inputs["align"])
    scores = {name: detector["score"] for name, detector in joined["detectors"].items()}
    score = fused(scores)
    verdict = level(score, alert, watch)
    hosts = [
        {"host": host, "score": fused({name: entry["score"] for name, entry in said.items()}), "because": said}
        for host, said in joined["hosts"].items()
    ]
    hosts = sorted(hosts, key=lambda entry: (-entry["score"], entry["host"]))[:5]
    without = {name: fused({n: s for n, s in scores.items() if n != name}) for name in sorted(scores)}
    timeline, hot = hottest(joined["timeline"], joined["span_us"])
    strongest = max(sorted(scores), key=lambda name: WEIGHTS[name] * scores[name])
    result = {
        "verdict": verdict,
        "score": score,
        "kind": KINDS.get(strongest, "unusual traffic") if verdict != "normal" else "ordinary traffic",
        "decisive": [name for name, rest in without.items() if level(rest, alert, watch) != verdict],
        "hot_us": hot,
        "hosts": hosts,
        "timeline": timeline,
        "detectors": joined["detectors"],
        "packets": joined["packets"],
        "span_us": joined["span_us"],
    }
    out = {"report": to_json(result)}
    if verdict == "alert":
        accused = [entry["host"] for entry in hosts if entry["score"] >= watch]
        out["evidence"] = to_json({"hosts": accused, "hot_us": hot})
    return out
