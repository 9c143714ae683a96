"""Sink: for an alert, the flows of the accused as a table a person can check. Nothing for any other item.

Its parents are the splitter, which sends the whole window, and fusion, which names this task only for alerts. For the
others this task still runs, because one parent delivered, finds `fuse` absent from `inputs` and returns None.
"""

import csv
import io
import json
from pathlib import Path

import numpy as np
from netwindow import unpack

HEADER = ["source", "destination", "protocol", "port", "packets", "bytes", "answered", "first_s", "last_s", "tcp_flags"]
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
FLAGS = "FSRPAUEC"


def flag_letters(bits: int) -> str:
    return "".join(letter for place, letter in enumerate(FLAGS) if bits >> place & 1)


def rows(meta: dict, column: dict[str, np.ndarray], accused: int) -> list[list[object]]:
    """One row per flow of the accused, in order of time. A flow's source is whoever sent its first packet here."""
    order = np.lexsort((column["t"], column["flow"]))
    groups = np.split(order, np.flatnonzero(np.diff(column["flow"][order])) + 1)
    out = []
    for group in sorted(groups, key=lambda group: int(group[0])):
        first = group[0]
        source, target = int(column["src"][first]), int(column["dst"][first])
        if accused not in (source, target):
            continue
        seconds = [f"{int(column['t'][at]) // 1000 / 1000:.3f}" for at in (group[0], group[-1])]
        proto = int(column["proto"][first])
        out.append(
            [
                meta["hosts"][source],
                meta["hosts"][target],
                PROTOCOLS.get(proto, str(proto)),
                int(column["dport"][first]),
                len(group),
                int(column["length"][group].sum()),
                "yes" if (column["src"][group] == target).any() else "no",
                *seconds,
                flag_letters(int(np.bitwise_or.reduce(column["flags"][group]))),
            ]
        )
    return out


def process(inputs: dict[str, bytes], ctx) -> Path | None:
    if "fuse" not in inputs:
        return None
    meta, column = unpack(ctx.path("split").read_bytes())
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for host in json.loads(inputs["fuse"])["hosts"]:
        table.writerows(rows(meta, column, meta["hosts"].index(host)))
    path = Path(ctx.scratch) / "flows.csv"
    path.write_text(text.getvalue())
    return path
