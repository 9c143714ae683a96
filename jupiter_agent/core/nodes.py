"""Rows of `get nodes` and `get links`: members as this agent sees them, with what they published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from jupiter_agent.core.estimate import Links
from jupiter_agent.core.membership import Member
from jupiter_agent.core.messages.links import Shape
from jupiter_agent.core.published import Published

_RESOURCES = (
    "cpus", "speed", "load", "queue_length", "steal", "memory_bytes", "memory_used", "disk_used", "received_bps",
    "sent_bps", "gpus", "gpu", "labels", "isolation", "k8s_host", "taints",
)  # fmt: skip


class Membership(Protocol):
    """What is read of the membership machine here."""

    def members(self) -> Mapping[str, Member]: ...

    def reach(self, peer: str) -> bool | str: ...


class Nodes:
    """A reader of membership, links and what is published."""

    def __init__(self, me: str, membership: Membership, links: Links, published: Published) -> None:
        self._me, self._membership, self._links, self._published = me, membership, links, published

    def homed_jobs(self, node: str) -> int:
        """How many jobs a node says it is home of."""
        return self._published.homed(node)

    def rows(self, now: float) -> list[dict[str, Any]]:
        rows = []
        for node, member in self._membership.members().items():
            resources = self._published.resources(node)
            rows.append(
                {
                    "name": member.record.name,
                    "id": node,
                    "state": str(member.state),
                    "draining": bool(resources.get("draining")),
                    "full": bool(resources.get("full")),
                    "reachable": self._reach(node),
                    "address": member.record.address,
                    "found_by": "self" if node == self._me else member.found_by,
                    "role": member.record.role,
                    "boot": member.record.boot,
                    "incarnation": member.record.incarnation,
                    "version": member.record.version,
                    "rtt_s": member.rtt_s,
                    "jobs": self.homed_jobs(node),
                    **{key: resources.get(key) for key in _RESOURCES},
                }
            )
        return sorted(rows, key=lambda row: str(row["name"]))

    def _reach(self, node: str) -> bool | str:
        """From here: true directly, "via NAME" through a neighbour, or false; alive is another matter."""
        way = self._membership.reach(node)
        if isinstance(way, bool):
            return way
        member = self._membership.members().get(way)
        return f"via {member.record.name if member else way}"

    def link_rows(self, now: float) -> list[dict[str, Any]]:
        """The links from this node and to it, then those between others, as they published them. `source` is that of
        the latency; `p`, `q`, `r`, `variance` (relative) are the model of the transfer time."""
        members = self._membership.members()
        rows = []
        for peer in members:
            if peer != self._me:
                link, inward = self._links.estimate(peer), self._links.wide(peer, now)
                rows.append(self._link(self._me, peer, (link.latency_s, link.bytes_per_s, link.samples)))
                rows[-1] |= {"source": link.source, "bandwidth_source": link.rate_source, "age_s": inward["age_s"]}
                rows[-1] |= {key: inward[key] for key in ("loss", "jitter_s")} | _model(link.shape)
                rows.append({**self._link(peer, self._me, (None, None, None)), **inward})
        for src in members:
            published = self._published.links(src) if src != self._me else {}
            for dst, (latency, bandwidth) in published.items():
                if dst != self._me:
                    rows.append(self._link(src, dst, (latency, bandwidth or None, None)))
        return sorted(rows, key=lambda row: (str(row["src"]), str(row["dst"])))

    def _link(self, src: str, dst: str, measured: tuple[Any, Any, Any]) -> dict[str, Any]:
        members = self._membership.members()
        names = [members[node].record.name if node in members else node for node in (src, dst)]
        latency, bytes_per_s, samples = measured
        return {
            "src": names[0],
            "dst": names[1],
            "latency_s": latency,
            "bandwidth_bps": bytes_per_s and 8 * bytes_per_s,
            "loss": None,
            "age_s": None,
            "samples": samples,
            "source": "measured",
            "bandwidth_source": "measured" if bytes_per_s else None,
            "jitter_s": None,
            **_model(None),
        }


def _model(shape: Shape | None) -> dict[str, float | None]:
    if shape is None:
        return dict.fromkeys(("p", "q", "r", "variance"))
    return {"p": shape.p, "q": shape.q, "r": shape.r, "variance": shape.error**2}
