"""Walkers with radios in virtual time: the ad-hoc networks of `netlab`, without sockets and at no cost of real time.

Who is in a component of the radio graph reaches everybody in it over the fewest hops, as with an ideal routing protocol
that follows a change after `ROUTE_LAG_S`. TCP hides loss as delay: a hop that loses a packet costs a retransmission.
Beacons reach one hop. What is not modelled: queues, collisions, connections that stall for longer than their path did.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from jupiter_agent.adapters.memory import Network
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.core.membership import PROFILES, MemberChanged, Membership
from jupiter_agent.netlab.radio import RADIO, position_at, radio_link
from jupiter_agent.sim.cluster import Node
from jupiter_agent.sim.world import World

STEP_S, ROUTE_LAG_S = 1.0, 2.0
HOP_S, AGAIN_S = 0.002, (0.2, 1.0)
LOST_AFTER_S = 18.0
BEACON_S = 5.0
FRAME_BYTES, HANDSHAKE_BYTES = 130, 2600
"""beside the payload of a frame: CURVE and ZMTP, TCP and IP headers, the acknowledgement; and of a new session"""
SETTLE_S, IDLE_S, LOOKS, CUT_S, HEAL_S = 110.0, 60.0, 12, 30.0, 90.0
TOGETHER_S = 30.0
"""A death is false when the two were connected for so long before it"""
VALUES = {"resources": (5.0, 260), "links": (30.0, 160)}
"""what agents publish: how often they want to, and its size"""


class Air(Network):
    """Reaches along hops; counts what nodes say, and what the air carries for it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng, lost_after_s=LOST_AFTER_S)
        self.hops: dict[tuple[str, str], int] = {}
        self.loss_of: dict[tuple[str, str], float] = {}
        """of a path: the chance that a packet has to be sent anew"""
        self.said_bytes = self.carried_bytes = 0

    def reaches(self, src: str, dst: str) -> bool:
        return (src == dst or (src, dst) in self.hops) and super().reaches(src, dst)

    def delay(self, src: str, dst: str) -> float:
        again = self.rng.uniform(*AGAIN_S) if self.rng.random() < self.loss_of.get((src, dst), 0.0) else 0.0
        return HOP_S * self.hops.get((src, dst), 1) * self.rng.uniform(0.7, 1.3) + again

    def lost(self, src: str, dst: str) -> bool:
        return not self.reaches(src, dst)

    def on_sent(self, src: str, dst: str, size: int) -> None:
        whole = size + FRAME_BYTES if size else HANDSHAKE_BYTES
        sent = whole * (1 + self.loss_of.get((src, dst), 0.0))
        self.said_bytes += int(sent)
        self.carried_bytes += int(sent * self.hops.get((src, dst), 1))


class Roaming(World):
    """The nodes of a topology with `radio` and `mobility`, by their names, each knowing the first few."""

    def __init__(self, topology: dict[str, Any], seed: int = 1, beacons: bool = True) -> None:
        super().__init__(seed, PROFILES["manet"])
        self.air = self.network = Air(self.rng)
        self._traces = topology["mobility"]["traces"]
        self._radio = {**RADIO, **topology["radio"]}
        self._beacons = beacons
        self.still = False
        self.sides: list[set[str]] = []
        """of a partition beside what walking does"""
        self.together: dict[tuple[str, str], float] = {}
        """since when two have been connected"""
        self.names: list[str] = list(topology["nodes"])
        self.false_deaths: list[tuple[float, str, str]] = []
        self._look()
        self._step()
        for number, name in enumerate(self.names):
            self.network.at(4.0 + number * 0.4, lambda name=name: self._begin(name))  # type: ignore[misc]

    def _begin(self, name: str) -> None:
        self.join(name, *[other for other in self.names[:4] if other != name])
        for key, (every_s, size) in VALUES.items():
            self._say(name, key, every_s, size)
        if self._beacons:
            self._beacon(name)

    def _say(self, name: str, key: str, every_s: float, size: int) -> None:
        node = self.nodes[name]
        if node.running and not node.stopped and node.machine.joined:
            value: dict[str, object] = {"of": self.rng.randbytes(size - 20)}
            node.perform(node.machine.publish(key, value, node.now, every_s))
            node.stepped()
        self.network.after(every_s * self.rng.uniform(0.8, 1.2), lambda: self._say(name, key, every_s, size))

    def _beacon(self, name: str) -> None:
        node = self.nodes[name]
        if node.running and not node.stopped:
            self.air.said_bytes += 90
            self.air.carried_bytes += 90
            hint = Hint(node.seat.address, "beacon", node.seat.peer)
            for other in self.running():
                way = (node.seat.address, other.seat.address)
                if self.air.hops.get(way) == 1 and self.rng.random() >= self.air.loss_of[way]:
                    other.give(SeedsFound((hint,)))
        self.network.after(BEACON_S * self.rng.uniform(0.8, 1.2), lambda: self._beacon(name))

    # --- the radio ---

    def _step(self) -> None:
        self._look()
        self.network.after(STEP_S, self._step)

    def _look(self) -> None:
        """Who hears whom now; paths follow later."""
        at = 0.0 if self.still else self.now
        if not self.still:
            self._at = {name: position_at(self._traces[name], at) for name in self.names}
        hops: dict[tuple[str, str], int] = {}
        loss: dict[tuple[str, str], float] = {}
        near: dict[str, dict[str, float]] = {name: {} for name in self.names}
        for one in self.names:
            for other in self.names:
                link = radio_link(math.dist(self._at[one], self._at[other]), self._radio)
                if one != other and link["up"] and not self._parted(one, other):
                    near[one][other] = link["loss"]
        for start in self.names:
            self._paths(start, near, hops, loss)
        self.network.after(ROUTE_LAG_S, lambda: self._install(hops, loss))
        self._note_parts(hops)

    def _paths(
        self,
        start: str,
        near: dict[str, dict[str, float]],
        hops: dict[tuple[str, str], int],
        loss: dict[tuple[str, str], float],
    ) -> None:
        done, edge = {start: 0.0}, [start]
        count = 0
        while edge:
            count += 1
            found: dict[str, float] = {}
            for here in edge:
                for there, lossy in near[here].items():
                    if there not in done:
                        found[there] = min(found.get(there, 1.0), 1 - (1 - done[here]) * (1 - lossy))
            for there, lossy in found.items():
                hops[f"{start}:7000", f"{there}:7000"], loss[f"{start}:7000", f"{there}:7000"] = count, lossy
            done |= found
            edge = sorted(found)

    def _parted(self, one: str, other: str) -> bool:
        return any((one in side) != (other in side) for side in self.sides)

    def _install(self, hops: dict[tuple[str, str], int], loss: dict[tuple[str, str], float]) -> None:
        fewer = self.air.hops.keys() - hops.keys()
        self.air.hops, self.air.loss_of = hops, loss
        if fewer:
            self.network.after(LOST_AFTER_S, self.air._lose_unreachable)

    def _note_parts(self, hops: dict[tuple[str, str], int]) -> None:
        pairs = {(a.removesuffix(":7000"), b.removesuffix(":7000")) for a, b in hops}
        self.together = {pair: self.together.get(pair, self.now) for pair in pairs}

    # --- what is seen ---

    def on_effect(self, node: Node[Membership], effect: Effect) -> None:
        super().on_effect(node, effect)
        self.effects.clear()
        if isinstance(effect, MemberChanged) and effect.state == "dead":
            names = {other.seat.peer: other for other in self.nodes.values()}
            dead, by = names[effect.peer], node.seat.name
            since = self.together.get((by, dead.seat.name), math.inf)
            if dead.running and self.now - since > TOGETHER_S:
                self.false_deaths.append((self.now, by, dead.seat.name))

    def agree(self) -> bool:
        """In every component everybody sees exactly those who run there; who hears nobody accuses nobody, so that one
        alone counts as a component of its own only for the others."""
        running = {node.seat.name: node for node in self.running()}
        for name, node in running.items():
            part = [other for other in running if other == name or (name, other) in self.together]
            if len(part) > 1 and node.machine.alive() != sorted(running[other].seat.peer for other in part):
                return False
        return True


@dataclass(frozen=True)
class Journey:
    """What became of a cluster of walkers."""

    said_bps: float
    """bits per second that a node says itself, headers included, while nothing is asked of it"""
    carried_bps: float
    """the same with forwarding"""
    agreed: float
    """share of looks at which views were equal in each component"""
    healed_s: float
    """after a kill, pauses and a cut, and once nobody walks any more: until views are equal"""
    false_deaths: int


def journey(topology: dict[str, Any], seed: int = 1, beacons: bool = True, settle_s: float = SETTLE_S) -> Journey:
    """The story of `jupiter bench fleet --net manet20`. `settle_s`: where on their paths the walkers are when it
    begins."""
    world = Roaming(topology, seed, beacons)
    world.run(settle_s)
    air, names = world.air, world.names
    said, carried, looks = air.said_bytes, air.carried_bytes, 0
    for _ in range(LOOKS):
        world.run(IDLE_S / LOOKS)
        looks += world.agree()
    said, carried = air.said_bytes - said, air.carried_bytes - carried
    world.crash(names[3])
    world.run(5.0)
    for name in names[7:9]:
        world.pause(name)
    world.run(3.0)
    for name in names[7:9]:
        world.resume(name)
    world.run(10.0)
    world.sides = [set(names[: len(names) // 2])]
    world.run(CUT_S)
    world.sides, world.still = [], True
    took = world.run_until(world.agree, HEAL_S, 0.5)
    per_node = 8 / IDLE_S / len(names)
    healed_s = math.inf if took is None else took
    return Journey(said * per_node, carried * per_node, looks / LOOKS, healed_s, len(world.false_deaths))
