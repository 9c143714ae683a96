"""Pictures in and out without an imaging library: PNG by zlib, arrays as .npy, results as PGM."""

import io
import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(data):
    """A uint8 array (rows, columns, channels) of an 8-bit grey, grey+alpha, RGB or RGBA picture without interlacing."""
    if data[:8] != SIGNATURE:
        raise ValueError("not a PNG")
    at, parts, header = 8, [], None
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if zlib.crc32(kind + body) != struct.unpack_from(">I", data, at + 8 + size)[0]:
            raise ValueError(f"a damaged {kind.decode('latin-1')} chunk")
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            parts.append(body)
        at += 12 + size
    width, height, depth, colour, _, _, interlaced = header
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour)
    if depth != 8 or channels is None or interlaced:
        raise ValueError("only 8-bit grey or RGB pictures without interlacing are read")
    lines = np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8).reshape(height, 1 + width * channels)
    return _unfiltered(lines, channels).reshape(height, width, channels)


def _unfiltered(lines, step):
    """Undo the filter of each row (PNG specification, section 9)."""
    above = np.zeros(lines.shape[1] - 1, np.uint8)
    rows = []
    for kind, row in zip(lines[:, 0], lines[:, 1:], strict=True):
        if kind == 0:
            above = row
        elif kind == 2:
            above = row + above
        else:
            above = _by_pixel(int(kind), row.astype(int), above.astype(int), step)
        rows.append(above)
    return np.array(rows, np.uint8)


def _by_pixel(kind, row, above, step):
    """Filters that look at the pixel to the left go from left to right."""
    done = [0] * step
    corner = [0] * step
    for i in range(0, len(row), step):
        for c in range(step):
            left, up, over = done[i + c], above[i + c], corner[c]
            if kind == 1:
                guess = left
            elif kind == 3:
                guess = (left + up) // 2
            else:
                guess = min((abs(up - over), 0, left), (abs(left - over), 1, up), (abs(left + up - 2 * over), 2, over))[
                    2
                ]
            done.append((int(row[i + c]) + int(guess)) & 255)
            corner[c] = up
    return np.array(done[step:], np.uint8)


def write_png(grey):
    """An 8-bit grey PNG."""
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def write_pgm(grey):
    return b"P5\n%d %d\n255\n" % (grey.shape[1], grey.shape[0]) + grey.tobytes()


def pack(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def unpack(data):
    return np.load(io.BytesIO(data), allow_pickle=False)
