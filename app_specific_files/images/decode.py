"""A PNG to an array of greys. Whole numbers all the way, so every machine gets the same bytes."""

import numpy as np
from pictures import pack, read_png


def process(inputs, ctx):
    picture = read_png(inputs["input"]).astype(np.int64)
    if picture.shape[2] >= 3:  # luma of ITU-R BT.601, in thousandths
        grey = (299 * picture[:, :, 0] + 587 * picture[:, :, 1] + 114 * picture[:, :, 2] + 500) // 1000
    else:
        grey = picture[:, :, 0]
    ctx.log.info("%s: %d x %d", ctx.item, *grey.shape)
    return pack(grey.astype(np.uint8))
