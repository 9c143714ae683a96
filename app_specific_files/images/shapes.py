"""What stands out: Otsu's threshold (IEEE Trans. SMC 9(1), 1979), then connected bright regions by union-find."""

import json

import numpy as np
from pictures import unpack


def process(inputs, ctx):
    grey = unpack(inputs["decode"])
    level = otsu(grey)
    sizes = [size for size in regions(grey > level) if size >= int(ctx.params["smallest"])]
    return json.dumps({"threshold": level, "regions": len(sizes), "largest": max(sizes, default=0)}).encode()


def otsu(grey):
    """The level that separates two classes best; whole numbers, the lowest of equals."""
    counts = np.bincount(grey.ravel(), minlength=256).tolist()
    total, weighted = sum(counts), sum(i * count for i, count in enumerate(counts))
    best, level, below, sum_below = -1.0, 0, 0, 0
    for i, count in enumerate(counts[:-1]):
        below += count
        sum_below += i * count
        if 0 < below < total:
            apart = (sum_below * total - weighted * below) ** 2 / (below * (total - below))
            if apart > best:
                best, level = apart, i
    return level


def regions(mask):
    """Sizes of the 4-connected regions of a mask."""
    parents, sizes = [], []

    def root(i):
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    above = []
    for row in mask:
        bounds = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0])))).tolist()
        here = []
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            number = len(parents)
            parents.append(number)
            sizes.append(end - start)
            here.append((start, end, number))
            for first, last, other in above:
                if first < end and start < last:
                    a, b = root(number), root(other)
                    if a != b:
                        parents[a] = b
                        sizes[b] += sizes[a]
        above = here
    return [size for i, size in enumerate(sizes) if parents[i] == i]
