"""Join: put what the detectors saw on one time axis, and merge what they say about each host.

A detector with a long window sees the same event later than one that looks at single packets. Each detector's row is
shifted by the lag (a sixteenth of the window at most) at which it agrees best with the sum of the others, judged by
correlation at several smoothing widths. Detectors that said nothing about this item are simply absent from `inputs`.
"""

import json

import numpy as np
from netwindow import fixed, to_json

GRID = 512
MAX_LAG = GRID // 16
WIDTHS = (1, 2, 4, 8, 16)  # bins; standard deviation of the Gaussian
AGREEMENT = 0.3  # below this correlation a row stays where it is


def raster(segments: list[list[float]], span: int) -> np.ndarray:
    row = np.zeros(GRID)
    for begin, end, score in segments:
        cells = slice(begin * GRID // span, max(begin * GRID // span + 1, -(-end * GRID // span)))
        row[cells] = np.maximum(row[cells], score)
    return row


def smoothed(row: np.ndarray, width: int) -> np.ndarray:
    """Centred to mean 0 and scaled to length 1, so that a product of two is their correlation."""
    x = np.arange(-3 * width, 3 * width + 1) / width
    blurred = np.convolve(np.pad(row, 3 * width), np.exp(-0.5 * x**2), mode="valid")
    blurred -= blurred.mean()
    return blurred / max(float(np.sqrt((blurred**2).sum())), 1e-9)


def best_lag(row: np.ndarray, others: np.ndarray) -> tuple[int, float]:
    """(bins to shift `row` by, mean correlation there); the smallest shift wins a tie."""
    lags = sorted(range(-MAX_LAG, MAX_LAG + 1), key=lambda lag: (abs(lag), lag))
    total = np.zeros(len(lags))
    for width in WIDTHS:
        a, b = smoothed(row, width), smoothed(others, width)
        total += [float((np.roll(a, lag) * b).sum()) for lag in lags]
    agreement = np.round(total / len(WIDTHS), 4)
    return lags[int(np.argmax(agreement))], float(agreement.max())


def shifted(row: np.ndarray, lag: int) -> np.ndarray:
    out = np.zeros_like(row)
    out[max(0, lag) : GRID + min(0, lag)] = row[max(0, -lag) : GRID - max(0, lag)]
    return out


def process(inputs: dict[str, bytes], ctx) -> bytes:
    found = {name: json.loads(data) for name, data in sorted(inputs.items())}
    rows = {name: raster(f["segments"], f["span_us"]) for name, f in found.items()}
    aligned, lags, hosts = {}, {}, {}
    for name, row in rows.items():
        others = sum((rows[other] for other in rows if other != name), np.zeros(GRID))
        lag, agreement = best_lag(row, others)
        lags[name] = lag if agreement >= AGREEMENT else 0
        aligned[name] = [round(1000 * value) for value in shifted(row, lags[name]).tolist()]
        for entry in found[name]["hosts"]:
            hosts.setdefault(entry["host"], {})[name] = {"score": fixed(entry["score"]), "why": entry["why"]}
    first = next(iter(found.values()))
    return to_json(
        {
            "span_us": first["span_us"],
            "packets": first["packets"],
            "detectors": {n: {"score": f["score"], "facts": f["facts"], "lag": lags[n]} for n, f in found.items()},
            "timeline": aligned,
            "hosts": hosts,
        }
    )
