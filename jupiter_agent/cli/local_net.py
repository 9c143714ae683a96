"""A local cluster on an emulated network (`jupiter local up --net`): where its nodes are, and how to get in there.

The network lives as long as the command that made it, so that one stays. Other commands find in `cluster.json` which
network namespace a node is in, and enter it before they connect.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupiter_agent.netlab import Lab

PORT = 7421


@dataclass(frozen=True)
class Place:
    """Where a node listens: `netns` is the path of its network namespace, '' for this one."""

    name: str
    bind: str
    netns: str = ""
    profile: str = ""


class Network:
    """An emulated network with an agent's place on each of its nodes."""

    def __init__(self, lab: Lab, profile: str) -> None:
        self.lab = lab
        self.places = [Place(name, f"{lab.ip(name)}:{PORT}", str(lab.netns_path(name)), profile) for name in lab.names]

    def is_whole(self) -> bool:
        """Everybody can reach everybody, as it is now."""
        return len(self.lab.parts()) == 1

    def watched(self, check: Callable[[], None]) -> Callable[[], None]:
        """The same check; time goes on in the network as well."""

        def both() -> None:
            self.lab.advance()
            check()

        return both


@contextlib.contextmanager
def network(name: str | None, count: int | None) -> Iterator[Network | None]:
    """The named network with its first `count` nodes (all), or none. UsageError where it cannot be made."""
    if name is None:
        yield None
        return
    from jupiter_agent.netlab import Lab, load, trimmed

    topology = load(name)
    if count is not None:
        topology = trimmed(topology, count)
    with Lab(topology) as lab:
        yield Network(lab, str(topology.get("profile", "")))


def namespace_of(folder: Path) -> str:
    """The namespace of a node of the cluster in this folder, or ''. That of any node will do: they reach each other."""
    try:
        nodes = json.loads((folder / "cluster.json").read_text("utf-8"))["nodes"]
        paths = [str(node.get("netns", "")) for node in nodes]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ""
    return next((path for path in paths if path and Path(path).exists()), "")
