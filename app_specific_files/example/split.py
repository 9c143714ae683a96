"""Entry: read one pcap window and give every detector the columns it needs, and only those.

Routes: the result is a dict, so each child gets its own payload. `scan`, `dns` and `fragments` are named only when the
window holds TCP, DNS messages or IP fragments; a child that is not named gets nothing for this item and does not run.
"""

import gzip
import ipaddress

import numpy as np
from netwindow import pack

TCP, UDP = 6, 17
HEADER_BYTES = 64  # IPv6 and the fixed part of TCP need 60
COLUMNS = {
    "t": "<i8",  # microseconds since the window's first packet
    "length": "<u4",  # bytes on the wire
    "src": "<u4",  # index into meta["hosts"]
    "dst": "<u4",
    "flow": "<u4",
    "sport": "<u2",
    "dport": "<u2",
    "fragment": "<u2",  # more-fragments bit and offset
    "id": "<u2",
    "header": "<u2",
    "proto": "u1",
    "flags": "u1",  # of TCP
    "ttl": "u1",
    "up": "u1",  # 1: the way of the flow's first packet
}


def record_offsets(data: bytes) -> np.ndarray:
    """(n, 4) of seconds, microseconds, first byte of the packet, its length on the wire."""
    if data[:4] != b"\xd4\xc3\xb2\xa1" or data[20:24] != b"\x65\0\0\0":
        raise ValueError("not a little-endian pcap of raw IP packets")
    rows, at = [], 24
    while at + 16 <= len(data):
        seconds, micros, captured, length = np.frombuffer(data, "<u4", 4, at).tolist()
        rows.append((seconds, micros, at + 16, length))
        at += 16 + captured
    if not rows or at != len(data):
        raise ValueError("the pcap is empty or cut off")
    return np.array(rows, np.int64)


def fields(data: bytes, first: np.ndarray) -> dict[str, np.ndarray]:
    """Header fields of the packets that begin at `first`, all at once."""
    raw = np.frombuffer(data + bytes(HEADER_BYTES), np.uint8)
    head = raw[first[:, None] + np.arange(HEADER_BYTES)]
    rows = np.arange(len(first))
    six = head[:, 0] >> 4 == 6
    transport = np.where(six, 40, (head[:, 0] & 15).astype(np.int64) * 4)

    def at(offset: int) -> np.ndarray:
        return head[rows, np.minimum(transport + offset, HEADER_BYTES - 1)].astype(np.int64)

    address = np.zeros((len(first), 2, 16), np.uint8)
    address[six] = head[six, 8:40].reshape(-1, 2, 16)
    address[~six, :, 12:] = head[~six, 12:20].reshape(-1, 2, 4)
    proto = np.where(six, head[:, 6], head[:, 9]).astype(np.int64)
    word = np.where(six, 0, head[:, 6].astype(np.int64) << 8 | head[:, 7])  # flags and offset; IPv6 ones are not read
    fragment = word & 0x3FFF  # more-fragments bit and offset: 0 in a whole datagram
    ported = ((proto == TCP) | (proto == UDP)) & (fragment & 0x1FFF == 0)
    return {
        "address": address,
        "six": six,
        "proto": proto,
        "fragment": fragment,
        "id": np.where(six, 0, head[:, 4].astype(np.int64) << 8 | head[:, 5]),
        "header": np.where(six, 40, transport),
        "sport": np.where(ported, at(0) << 8 | at(1), 0),
        "dport": np.where(ported, at(2) << 8 | at(3), 0),
        "flags": np.where(ported & (proto == TCP), at(13), 0),
        "ttl": np.where(six, head[:, 7], head[:, 8]).astype(np.int64),
        "payload": first + transport + 8,
    }


def host_names(address: np.ndarray, six: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Addresses as text, sorted as bytes, and each packet's (source, destination) index into them."""
    keyed = np.concatenate([np.repeat(six, 2)[:, None].astype(np.uint8), address.reshape(-1, 16)], axis=1)
    unique, index = np.unique(keyed, axis=0, return_inverse=True)
    names = [
        str(ipaddress.IPv6Address(row[1:].tobytes()) if row[0] else ipaddress.IPv4Address(row[13:].tobytes()))
        for row in unique
    ]
    return names, index.reshape(-1, 2)


def flows(ends: np.ndarray, sport: np.ndarray, dport: np.ndarray, proto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each packet's bidirectional flow, and whether it goes the way of the flow's first packet."""
    a = ends[:, 0].astype(np.int64) << 16 | sport
    b = ends[:, 1].astype(np.int64) << 16 | dport
    key = np.stack([np.minimum(a, b), np.maximum(a, b), proto], axis=1)
    _, opener, flow = np.unique(key, axis=0, return_index=True, return_inverse=True)
    flow = flow.reshape(-1)
    return flow, (a == a[opener][flow]).astype(np.int64)


def dns_messages(data: bytes, span: np.ndarray) -> dict[str, np.ndarray]:
    """The DNS payloads, end to end, and where each begins."""
    messages = [data[first:end] for first, end in span.tolist()]
    return {
        "start": np.cumsum([0, *map(len, messages)])[:-1].astype(np.uint32),
        "bytes": np.frombuffer(b"".join(messages), np.uint8),
    }


def table(data: bytes) -> tuple[dict, dict[str, np.ndarray], np.ndarray]:
    """(meta, one column per field, where each packet's bytes lie as (first payload byte, end)), in order of time."""
    offsets = record_offsets(data)
    stamp = offsets[:, 0] * 1_000_000 + offsets[:, 1]
    ends = np.append(offsets[1:, 2] - 16, len(data))
    order = np.argsort(stamp, kind="stable")
    offsets, stamp = offsets[order], stamp[order]
    field = fields(data, offsets[:, 2])
    hosts, who = host_names(field.pop("address"), field.pop("six"))
    flow, up = flows(who, field["sport"], field["dport"], field["proto"])
    span = np.stack([field.pop("payload"), ends[order]], axis=1)
    field |= {"t": stamp - stamp[0], "length": offsets[:, 3], "flow": flow, "up": up}
    field |= {"src": who[:, 0], "dst": who[:, 1]}
    column = {name: field[name].astype(dtype) for name, dtype in COLUMNS.items()}
    return {"hosts": hosts, "packets": len(stamp), "span_us": int(stamp[-1] - stamp[0]) + 1}, column, span


def process(inputs: dict[str, bytes], ctx) -> dict[str, bytes]:
    data = gzip.decompress(inputs["input"])
    meta, column, span = table(data)

    def only(names: str, rows: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        return {name: column[name][rows] for name in names.split()}

    out = {
        "volume": pack(meta, **only("t length")),
        "beacon": pack(meta, **only("t src dst")),
        "entropy": pack(meta, **only("t src dst dport up length")),
        "astute": pack(meta, **only("t src flow")),
        "evidence": pack(meta, **column),
    }
    tcp = column["proto"] == TCP
    if tcp.any():
        out["scan"] = pack(meta, **only("t src dst dport flow flags", tcp))
    dns = (column["proto"] == UDP) & ((column["sport"] == 53) | (column["dport"] == 53))
    if dns.any():
        out["dns"] = pack(meta, **only("t src dst", dns), **dns_messages(data, span[dns]))
    pieces = column["fragment"] > 0
    if pieces.any():
        word = column["fragment"][pieces].astype(np.int64)
        size = (column["length"][pieces] - column["header"][pieces]).astype(np.int64)
        place = {"start": (word & 0x1FFF) * 8, "size": size, "more": (word >> 13).astype(np.uint8)}
        out["fragments"] = pack(meta, **only("t src dst id", pieces), **place)
    return out
