"""What the tasks of this app share: column tables as bytes, and the form of a detector's finding.

Everything that leaves a task is a function of its inputs alone, bit for bit: no clock, no set order, no host name, and
floats are rounded before they are written or compared, so that the last bits of a sum or a logarithm, which differ
between processors, never show.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

DIGITS = 4
BLOCKS = 16

# score 0..1; segments (from, to, score) in microseconds since the window began; hosts (address, score, reason); facts
Result = tuple[float, list[tuple[int, int, float]], list[tuple[str, float, str]], dict[str, Any]]


def pack(meta: dict[str, Any], **columns: np.ndarray) -> bytes:
    """One line of JSON naming the columns, then their raw little-endian bytes."""
    arrays = [np.ascontiguousarray(column) for column in columns.values()]
    layout = [[name, array.dtype.str, array.size] for name, array in zip(columns, arrays, strict=True)]
    return to_json({"meta": meta, "columns": layout}) + b"\n" + b"".join(array.tobytes() for array in arrays)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    head, _, body = data.partition(b"\n")
    header, columns, at = json.loads(head), {}, 0
    for name, dtype, size in header["columns"]:
        columns[name] = np.frombuffer(body, dtype, size, at)
        at += columns[name].nbytes
    return header["meta"], columns


def to_json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=True, allow_nan=False).encode()


def fixed(value: float) -> float:
    """Rounded to what is certain on every machine; never a negative zero."""
    return round(float(value), DIGITS) + 0.0


def clipped(value: Any) -> Any:
    """Into 0..1, the range of every score."""
    return np.clip(value, 0.0, 1.0)


def entropy_bits(counts: np.ndarray) -> float:
    """Shannon entropy in bits of a histogram."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def finding(meta: dict[str, Any], detector: str, result: Result) -> bytes:
    """A detector's answer about one window. What scores nothing is left out; at most 8 hosts, worst first."""
    score, segments, hosts, facts = result
    timeline = [[int(a), int(b), fixed(s)] for a, b, s in segments if fixed(s) > 0]
    blamed = [{"host": h, "score": fixed(s), "why": why} for h, s, why in hosts if fixed(s) > 0]
    blamed.sort(key=lambda entry: (-entry["score"], entry["host"]))
    answer = {"detector": detector, "score": fixed(score), "segments": timeline, "hosts": blamed[:8], "facts": facts}
    return to_json(answer | {"span_us": meta["span_us"], "packets": meta["packets"]})


def robust(detect: Callable[..., Result], meta: dict[str, Any], column: dict[str, np.ndarray]) -> Result:
    """What `detect` finds, with its score lowered to the least it finds when any sixteenth of the rows is missing.

    Evidence that hangs on one moment is no evidence of a scan, a tunnel or a flood. (Delete-a-group jackknife; every
    column has one value per row.)
    """
    score, segments, hosts, facts = detect(meta, column)
    count = len(column["t"])
    block = np.arange(count) * BLOCKS // max(count, 1)
    scores = [fixed(score)]
    for missing in range(BLOCKS):
        kept = np.flatnonzero(block != missing)
        if 0 < len(kept) < count:
            scores.append(fixed(detect(meta, {name: values[kept] for name, values in column.items()})[0]))
    return min(scores), segments, hosts, facts | {"jackknife": [min(scores), max(scores)]}
