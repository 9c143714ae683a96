"""`limits:` of a task in `app_config.yaml`: what its processes may use, together, on whatever node they run; and
`needs:`, what a node must have to run it."""

from __future__ import annotations

import re
from typing import Any

from yaml.nodes import Node

from jupiter_agent.core.app_yaml import YamlFile

SIZES = ("memory", "disk")
COUNTS = {"processes": 100_000, "files": 1_000_000, "cpus": 4096}
LEAST_BYTES = 1 << 20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
          "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?i?)b?", re.IGNORECASE | re.ASCII)


def limits(yaml: YamlFile, node: Node | None) -> dict[str, int]:
    """Bytes and counts by name; only what is written. UsageError for what is no limit."""
    keys = yaml.mapping(node, "limits", (*SIZES, *COUNTS))
    found = {name: size(yaml, keys[name], name) for name in SIZES if name in keys}
    return found | {name: yaml.integer(keys[name], name, 1, most) for name, most in COUNTS.items() if name in keys}


def needs(yaml: YamlFile, node: Node | None) -> dict[str, Any]:
    """As `needs.Needs`; only what is written. UsageError for what no node can say of itself."""
    keys = yaml.mapping(node, "needs", ("cpus", "memory", "gpus", "labels"))
    found: dict[str, Any] = {}
    if "cpus" in keys:
        found["cpus"] = yaml.number(keys["cpus"], "cpus", 0, 4096)
    if "memory" in keys:
        found["memory"] = size(yaml, keys["memory"], "memory")
    if "gpus" in keys:
        found["gpus"] = yaml.integer(keys["gpus"], "gpus", 0, 1024)
    if "labels" in keys:
        labels = yaml.mapping(keys["labels"], "labels")
        found["labels"] = {key: yaml.text(value, f"label {key}") for key, value in labels.items()}
    return found


def size(yaml: YamlFile, node: Node, name: str) -> int:
    """Bytes: `500 MB`, `2GiB`, `1.5G`, or a plain number."""
    text = yaml.text(node, name)
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    count = int(float(match[1]) * unit) if match and unit else 0
    if not LEAST_BYTES <= count < 1 << 60:
        raise yaml.wrong(node, f"{name} must be a size of 1 MiB or more, not '{text[:40]}'", f"write {name}: 2 GiB")
    return count
