"""The links of a lab as they are now: properties, cuts, radio and routes, written into the shared block."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

from jupiter_agent.errors import UsageError
from jupiter_agent.netlab.radio import RADIO, position_at, radio_link
from jupiter_agent.netlab.routes import components, shortest_routes
from jupiter_agent.netlab.shared import Shared
from jupiter_agent.netlab.topology import LINK, site_link

_FIELDS = (
    ("delay_ms", "delay_us", 1000), ("jitter_ms", "jitter_us", 1000), ("rate_mbps", "rate_kbps", 1000),
    ("loss", "loss_ppm", 1_000_000), ("queue_ms", "queue_us", 1000),
)  # fmt: skip


class Links:
    """What the network is like; times are seconds since it came up, given by the caller."""

    def __init__(self, topology: dict[str, Any], nodes: list[dict[str, Any]], ip_base: int) -> None:
        self.names = [node["name"] for node in nodes]
        self.index = {name: i for i, name in enumerate(self.names)}
        self.n = len(nodes)
        self.radio = {**RADIO, **topology["radio"]} if "radio" in topology else None
        self.shared = Shared(
            self.n, ip_base,
            multicast=bool(topology.get("multicast", True)), shared_radio=bool(self.radio and self.radio["shared"]),
            node_queue_us=int(topology.get("node_queue_ms", 100) * 1000), seed=topology.get("seed", 1),
        )  # fmt: skip
        self._topology = topology
        self._routing = topology.get("routing", "direct")
        if self._routing not in ("direct", "shortest"):
            raise UsageError(f"routing {self._routing!r}: direct or shortest")
        mobility = topology.get("mobility", {})
        self._traces = {name: trace for name, trace in mobility.get("traces", {}).items() if name in self.index}
        self._step_s = float(mobility.get("step_s", 1.0))
        self._move_at = self._step_s if self._traces else math.inf
        self._positions: dict[str, tuple[float, float]] = {}
        self._cut: set[tuple[int, int]] = set()
        self._wanted_up = bytearray(b"\1" * (self.n * self.n))
        self._routes: array[int] | None = None
        self._routes_due: list[tuple[float, array[int]]] = []
        self._begin(nodes)

    def _begin(self, nodes: list[dict[str, Any]]) -> None:
        for i, a in enumerate(nodes):
            self.shared["tx_kbps"][i] = int(a.get("tx_mbps", 0) * 1000)
            self.shared["rx_kbps"][i] = int(a.get("rx_mbps", 0) * 1000)
            for j, b in enumerate(nodes):
                self.shared["next_hop"][i * self.n + j] = j
                link = site_link(self._topology, a, b)
                self._write(i, j, {**link, "up": link["up"] and i != j})
        for item in self._topology.get("links", []):
            self._set(item["a"], item["b"], not item.get("oneway", False), {k: item[k] for k in LINK if k in item})
        if self.radio:
            fixed = {node["name"]: (node["pos"][0], node["pos"][1]) for node in nodes if "pos" in node}
            self._place({**fixed, **{name: position_at(trace, 0.0) for name, trace in self._traces.items()}})
        if self._routing == "shortest":
            self._install(self._shortest())

    # --- changing it ---

    def change(self, a: str, b: str, now: float, *, both: bool = True, **link: Any) -> None:
        """Change some properties of a link; '*' stands for every node. UsageError for an unknown property."""
        if unknown := set(link) - set(LINK):
            raise UsageError(f"unknown link property: {', '.join(sorted(unknown))}")
        self._set(a, b, both, link)
        self._changed(now)

    def partition(self, groups: Sequence[Sequence[str]], now: float) -> None:
        """Cut every link between different groups; nodes that are not named form one more. No groups: heal all."""
        group = [-1] * self.n
        for number, members in enumerate(groups):
            for name in members:
                group[self.index[name]] = number
        self._set_cut({(i, j) for i in range(self.n) for j in range(self.n) if group[i] != group[j]}, now)

    def isolate(self, names: Sequence[str], now: float) -> None:
        """Cut every link of these nodes, besides what is cut already: to the others their hosts are silent."""
        ends = {self.index[name] for name in names}
        self._set_cut(self._cut | {(i, j) for i in range(self.n) for j in range(self.n) if ends & {i, j}}, now)

    def heal(self, now: float) -> None:
        """Undo partitions and isolations."""
        self._set_cut(set(), now)

    def move(self, positions: dict[str, tuple[float, float]], now: float) -> None:
        """Put nodes at (x, y) metres; the radio model says what their links are like."""
        if not self.radio:
            raise UsageError("nodes can be moved only in a topology with `radio`")
        self._place(positions)
        self._changed(now)

    def advance(self, now: float) -> None:
        """Let the nodes walk on, and routes that have converged take effect."""
        if now >= self._move_at:
            self._move_at += self._step_s * max(1, math.ceil((now - self._move_at) / self._step_s))
            self.move({name: position_at(trace, now) for name, trace in self._traces.items()}, now)
        while self._routes_due and self._routes_due[0][0] <= now:
            self._install(self._routes_due.pop(0)[1])

    def stand_still(self) -> None:
        """Nobody walks on from here; routes still follow what changes."""
        self._move_at = math.inf

    # --- looking at it ---

    def lossless(self) -> bool:
        """No link loses packets or has jitter."""
        return not any(self.shared["loss_ppm"]) and not any(self.shared["jitter_us"])

    def parts(self) -> list[set[str]]:
        """The connected parts of the network, as it is now."""
        found = components(range(self.n), self.n, self.shared["up"])
        return [{self.names[i] for i in part} for part in found]

    # --- inside ---

    def _write(self, i: int, j: int, link: dict[str, Any]) -> None:
        k, shared = i * self.n + j, self.shared
        for key, field, factor in _FIELDS:
            if link.get(key) is not None:
                shared[field][k] = round(link[key] * factor)
        if link.get("up") is not None:
            self._wanted_up[k] = bool(link["up"])
        shared["up"][k] = self._wanted_up[k] and (i, j) not in self._cut

    def _set(self, a: str, b: str, both: bool, link: dict[str, Any]) -> None:
        for i in range(self.n) if a == "*" else [self.index[a]]:
            for j in range(self.n) if b == "*" else [self.index[b]]:
                if i != j:
                    self._write(i, j, link)
                    if both:
                        self._write(j, i, link)

    def _set_cut(self, cut: set[tuple[int, int]], now: float) -> None:
        changed, self._cut = self._cut ^ cut, cut
        for i, j in changed:
            self._write(i, j, {})
        self._changed(now)

    def _place(self, positions: dict[str, tuple[float, float]]) -> None:
        assert self.radio is not None
        self._positions.update(positions)
        placed = [(self.index[name], place) for name, place in self._positions.items()]
        moved = {self.index[name] for name in positions}
        for number, (i, here) in enumerate(placed):
            for j, there in placed[number + 1 :]:
                if i in moved or j in moved:
                    link = radio_link(math.dist(here, there), self.radio)
                    self._write(i, j, link)
                    self._write(j, i, link)

    def _shortest(self) -> array[int]:
        return shortest_routes(self.n, self.shared["up"], self.shared["rate_kbps"], self.shared["loss_ppm"])

    def _changed(self, now: float) -> None:
        if self._routing == "shortest":
            routes = self._shortest()
            if routes != (self._routes_due[-1][1] if self._routes_due else self._routes):
                self._routes_due.append((now + self._topology.get("route_lag_s", 0.0), routes))
            self.advance(now)

    def _install(self, routes: array[int]) -> None:
        self.shared["next_hop"][:] = memoryview(routes)
        self._routes = routes
