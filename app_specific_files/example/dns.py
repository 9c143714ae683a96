"""Detector: tunnels in DNS. How much information each query of a client carries.

A resolver's ordinary questions repeat and read like language; a tunnel puts fresh data into every name. Per pair of
client and server: bits per query under a first-order model of the pair's own names (repeats cost nothing), and the
share of record types that hosts rarely ask for.

Not every window has DNS: for those the splitter names no `dns` child and this task does not run.
"""

from typing import Any

import numpy as np
from netwindow import Result, clipped, entropy_bits, finding, fixed, robust, unpack

EVERYDAY = (1, 12, 28, 33, 65)  # A, PTR, AAAA, SRV, HTTPS
MIN_QUERIES = 8


def question(message: bytes) -> tuple[bytes, int] | None:
    """(name, record type) of a query; None for an answer or what cannot be read."""
    if len(message) < 17 or message[2] & 0x80:
        return None
    labels, at = [], 12
    while at < len(message) and 0 < message[at] < 64:
        labels.append(message[at + 1 : at + 1 + message[at]])
        at += 1 + message[at]
    if at + 3 > len(message) or message[at]:
        return None
    return b".".join(labels).lower(), int.from_bytes(message[at + 1 : at + 3], "big")


def bits_per_query(names: list[bytes]) -> float:
    """Information in the distinct names under their own bigram statistics, spread over all queries."""
    text = np.frombuffer(b"\n".join([b"", *sorted(set(names)), b""]), np.uint8).astype(np.int64)
    table = np.bincount(text[:-1] * 256 + text[1:], minlength=65536).reshape(256, 256)
    before = table.sum(axis=1)
    bits = sum(entropy_bits(table[row]) * before[row] for row in np.flatnonzero(before))
    return float(bits) / len(names)


def queries(meta: dict[str, Any], column: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One row per query: when, who asked whom, which name (index into meta["names"]), which record type."""
    body, starts = column["bytes"].tobytes(), column["start"].tolist()
    asked = [question(body[a:b]) for a, b in zip(starts, [*starts[1:], len(body)], strict=True)]
    rows = np.flatnonzero([query is not None for query in asked])
    names = sorted({asked[row][0] for row in rows})
    where = {name: index for index, name in enumerate(names)}
    table = {key: column[key][rows] for key in ("t", "src", "dst")}
    table["name"] = np.array([where[asked[row][0]] for row in rows], np.int64)
    table["kind"] = np.array([asked[row][1] for row in rows], np.int64)
    return meta | {"names": names}, table


def detect(meta: dict[str, Any], column: dict[str, np.ndarray]) -> Result:
    odd_kind = ~np.isin(column["kind"], EVERYDAY)
    hosts, segments, best = [], [], {"bits_per_query": 0.0, "odd_types": 0.0}
    pairs, index = np.unique(np.stack([column["src"], column["dst"]], axis=1), axis=0, return_inverse=True)
    for number, (client, server) in enumerate(pairs.tolist()):
        mine = np.flatnonzero(index.reshape(-1) == number)
        bits = fixed(bits_per_query([meta["names"][name] for name in column["name"][mine]]))
        odd = fixed(odd_kind[mine].mean())
        best = max(best, {"bits_per_query": bits, "odd_types": odd}, key=lambda found: found["bits_per_query"])
        enough = clipped((len(mine) - MIN_QUERIES) / 32)
        score = fixed(enough * clipped(clipped((bits - 80.0) / 120.0) + 0.85 * odd))
        hosts.append((meta["hosts"][client], score, f"{round(bits)} bits a query to {meta['hosts'][server]}"))
        segments += [(t, t + 1, score) for t in column["t"][mine].tolist()]
    score = max((s for _, s, _ in hosts), default=0.0)
    return score, segments, hosts, {"queries": len(column["t"]), **best}


def process(inputs: dict[str, bytes], ctx) -> bytes:
    meta, column = queries(*unpack(inputs["split"]))
    return finding(meta, "dns", robust(detect, meta, column))
