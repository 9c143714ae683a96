"""What a chaos task gives for its inputs: bytes that list the runs they stem from. Shipped with real apps as it is.

Only the standard library: this file also runs inside task processes, beside the script that calls it.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any


class Violation(AssertionError):  # noqa: N818
    """Something happened that must never happen. Its text begins with a class: `mixed: ...`."""


def answer(
    name: str, kind: str, edges: list[str], inputs: dict[str, bytes], nonce: int, size: int = 0
) -> bytes | dict[str, bytes] | None:
    """Of task `name` with these out-edges; `nonce` is 0 where it is deterministic, `size` the least bytes of outputs.

    Violation when the inputs stem from two runs of one task.
    """
    lineage = merged(f"task {name}", [data for parent, data in sorted(inputs.items()) if parent != "input"])
    if kind == "constant":
        return json.dumps({"lineage": {}, "value": f"{name} {nonce % 2}"}).encode().ljust(size)
    value = _digest(name, nonce, sorted(inputs.items()))
    lineage[name] = nonce
    content = json.dumps({"lineage": lineage, "value": value}, sort_keys=True).encode().ljust(size)
    choice = int(_digest("choice", value), 16)
    if kind == "filter" and choice % 2:
        return None
    if kind == "router":
        return dict.fromkeys([child for bit, child in enumerate(edges) if choice >> bit & 1], content)
    return content


def merged(where: str, contents: list[bytes]) -> dict[str, int]:
    """The runs that these objects stem from. Violation when they name two runs of one task."""
    runs: dict[str, int] = {}
    for content in contents:
        for ancestor, run in json.loads(content)["lineage"].items():
            if runs.setdefault(ancestor, run) != run:
                raise Violation(f"mixed: {where} stem from two runs of {ancestor}")
    return runs


def _digest(*parts: Any) -> str:
    return sha256(repr(parts).encode()).hexdigest()
