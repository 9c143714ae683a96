"""Sink: the verdict of one window as JSON that a person can read."""

import json

from netwindow import fixed, to_json

SHADES = " .:-=+*#%@"
COLUMNS = 64


def sketch(timeline: list[float]) -> str:
    """The fused score over time, one character per 1/64 of the window."""
    step = len(timeline) // COLUMNS
    peaks = [max(timeline[at : at + step]) for at in range(0, step * COLUMNS, step)]
    return "".join(SHADES[min(9, int(10 * peak))] for peak in peaks)


def sentences(item: str, fused: dict) -> list[str]:
    begin, end = (fixed(edge / 1e6) for edge in fused["hot_us"])
    told = [f"{item}: {fused['verdict']}, {fused['kind']} (score {fused['score']:.4f})"]
    if fused["verdict"] != "normal":
        told.append(f"worst from {begin} s to {end} s of {fixed(fused['span_us'] / 1e6)} s")
        for entry in fused["hosts"]:
            reasons = ", ".join(said["why"] for _, said in sorted(entry["because"].items()))
            told.append(f"{entry['host']} ({entry['score']:.4f}): {reasons}")
        told.append("decisive: " + (", ".join(fused["decisive"]) or "none, others would have said the same"))
    return told


def process(inputs: dict[str, bytes], ctx) -> bytes:
    fused = json.loads(inputs["fuse"])
    keep = ("verdict", "kind", "score", "decisive", "hot_us", "hosts", "packets", "span_us", "detectors")
    result = {name: fused[name] for name in keep}
    result |= {"window": ctx.item, "summary": sentences(ctx.item, fused), "timeline": sketch(fused["timeline"])}
    return to_json(result, indent=2) + b"\n"
