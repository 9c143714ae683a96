"""How much the picture changes within tiles of 16 x 16, and the entropy of its greys."""

import json

import numpy as np
from pictures import unpack

TILE = 16


def process(inputs, ctx):
    grey = unpack(inputs["decode"]).astype(np.int64)
    rows, columns = (size // TILE for size in grey.shape)
    tiles = grey[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
    tiles = tiles.reshape(rows * columns, TILE * TILE)
    sums, squares, n = tiles.sum(axis=1), (tiles * tiles).sum(axis=1), TILE * TILE
    variances = (n * squares - sums * sums) // (n * n)
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    bits = -sum(float(p) * float(np.log2(p)) for p in share if p > 0)
    flat = int((variances < 25).sum())
    return json.dumps({"entropy": round(bits, 4), "flat": flat, "tiles": len(tiles)}).encode()
