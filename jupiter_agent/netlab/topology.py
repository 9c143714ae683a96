"""Topologies: which nodes there are and what lies between them, as JSON.

Every key but "nodes" is optional:

    name, comment, seed
    nodes     list of {"name", "site": SITE, "tx_mbps", "rx_mbps": access-link limits, "pos": [x, y],
              "count": K -> name1..nameK}; a bare string is a name
    defaults  keys for every node that does not set them itself
    link      the default link: {"delay_ms" (one way), "jitter_ms", "rate_mbps" (0: no limit), "loss" (0..1),
              "queue_ms", "up"}
    sites     {"names": [..], "rtt_ms": [[..]], "rate_mbps": number or [[..]], "loss": same, "jitter_ms": same}
    links     list of {"a", "b", "oneway": bool, + link keys}
    radio     links from positions instead: the keys of `radio.RADIO`; "shared": a node's neighbours are silent
              while it sends
    mobility  {"step_s", "traces": {node: [[t, x, y], ...]}}: piecewise-linear paths
    routing   "direct" (one hop only), "shortest" (ideal multi-hop routing that follows a change after route_lag_s)
    multicast true: one-hop multicast and broadcast to the nodes in range
    profile   "lan", "wan" or "manet": the timing that suits agents in it
    subnet ("10.77.0.0", a /16), mtu, gso ("auto", true, false), tcp ("cubic"), tcp_rmem, tcp_wmem, node_queue_ms
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jupiter_agent.errors import UsageError

FOLDER = Path(__file__).with_name("topologies")
LINK: dict[str, Any] = {
    "delay_ms": 0.0, "jitter_ms": 0.0, "rate_mbps": 0.0, "loss": 0.0, "queue_ms": 100.0, "up": True,
}  # fmt: skip
MAX_NODES = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,40}")


def known() -> list[str]:
    """Names of the topologies that come with the product."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """A topology by its name, or from a JSON file. UsageError for what is none."""
    path = Path(name) if name.endswith(".json") or "/" in name else FOLDER / f"{name}.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no topology {name!r}", f"known: {', '.join(known())}; or a JSON file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no topology: {error}") from error
    if not isinstance(found, dict) or not found.get("nodes"):
        raise UsageError(f"{path} is no topology: an object with at least `nodes`")
    return found


def lan(nodes: int, prefix: str = "node") -> dict[str, Any]:
    """So many nodes on one switch."""
    return {"name": "lan", "nodes": [{"name": prefix, "count": nodes}]}


def expanded(topology: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per node, with its defaults. UsageError for a bad or repeated name, or too many."""
    nodes: list[dict[str, Any]] = []
    for item in topology["nodes"]:
        entry = {**topology.get("defaults", {}), **({"name": item} if isinstance(item, str) else item)}
        count = entry.pop("count", None)
        names = [entry["name"]] if count is None else [f"{entry['name']}{k + 1}" for k in range(count)]
        nodes += [{**entry, "name": name} for name in names]
    seen: set[str] = set()
    for node in nodes:
        if not _NAME.fullmatch(node["name"]) or node["name"] in seen:
            raise UsageError(f"bad or repeated node name: {node['name']!r}")
        seen.add(node["name"])
    if len(nodes) > MAX_NODES:
        raise UsageError(f"{len(nodes)} nodes: at most {MAX_NODES}")
    return nodes


def trimmed(topology: dict[str, Any], count: int) -> dict[str, Any]:
    """The same with its first `count` nodes only, taken evenly over its sites."""
    nodes = expanded(topology)
    if count > len(nodes):
        raise UsageError(f"{topology.get('name', 'this topology')} has {len(nodes)} nodes, not {count}")
    order: dict[str, int] = {}
    ranked = []
    for number, node in enumerate(nodes):
        site = node.get("site", "")
        order[site] = order.get(site, 0) + 1
        ranked.append((order[site], number))
    chosen = sorted(number for _, number in sorted(ranked)[:count])
    return {**topology, "nodes": [nodes[number] for number in chosen]}


def site_link(topology: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The link between two nodes by their sites, or the default link."""
    default = {**LINK, **topology.get("link", {})}
    sites = topology.get("sites")
    if not sites or not a.get("site") or not b.get("site"):
        return default
    p, q = sites["names"].index(a["site"]), sites["names"].index(b["site"])
    link = {**default, "delay_ms": sites["rtt_ms"][p][q] / 2}
    for key in ("rate_mbps", "loss", "jitter_ms"):
        if key in sites:
            link[key] = sites[key][p][q] if isinstance(sites[key], list) else sites[key]
    return link
