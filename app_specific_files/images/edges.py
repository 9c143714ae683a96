"""Sobel's gradient: numbers for the report, and a picture of it as a result of its own."""

import json

import numpy as np
from pictures import unpack, write_pgm


def process(inputs, ctx):
    grey = unpack(inputs["decode"]).astype(np.int64)
    strength = np.minimum(gradient(grey) // 4, 255)
    picture = ctx.scratch / "edges.pgm"
    picture.write_bytes(write_pgm(strength.astype(np.uint8)))
    facts = {"mean": round(float(strength.mean()), 3), "strong": int((strength >= 64).sum())}
    return {"report": json.dumps(facts).encode(), "home": picture}


def gradient(grey):
    """|dx| + |dy| of the 3 x 3 Sobel operator; the border is repeated outwards."""
    p = np.pad(grey, 1, mode="edge")
    top, middle, bottom = p[:-2], p[1:-1], p[2:]
    across = (top + 2 * middle + bottom)[:, 2:] - (top + 2 * middle + bottom)[:, :-2]
    down = (bottom - top)[:, :-2] + 2 * (bottom - top)[:, 1:-1] + (bottom - top)[:, 2:]
    return np.abs(across) + np.abs(down)
