"""Members in a world of faults: everything that can happen to a cluster, as verbs over names, in virtual time.

A `Step` is one thing done at one time, written as a line of text ("12.5 pause n3"); storms (`sim/storm.py`) draw them
from a seed, scenario files (`sim/scenario.py`) list them. Both run here, so that the story of a failing seed can be
kept as a scenario. A node keeps over a crash what an agent has on disk: its boot epoch, its admission and the addresses
it remembers. Every node's clock has an origin of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jupiter_agent.adapters import memory
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.membership import Joined, Membership, MembershipSettings
from jupiter_agent.sim.cluster import Cluster, Node, Seat
from jupiter_agent.sim.trust import fake_member

PUBLISHED = "resources"
"""the key that nodes of a world publish"""


@dataclass(frozen=True)
class Step:
    """At `at` seconds of virtual time do `verb` with `args`, all of them text."""

    at: float
    verb: str
    args: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"{self.at:g}", self.verb, *self.args))


@dataclass
class Disk:
    """What outlives a process."""

    boot: int = 0
    admission: bytes = b""
    remembered: list[str] = field(default_factory=list)
    published: int = 0


class World(Cluster[Membership]):
    """Members by name. `publish_s`: every node publishes something new about that often; 0: never."""

    def __init__(self, seed: int = 1, settings: MembershipSettings | None = None, publish_s: float = 0.0) -> None:
        super().__init__(seed)
        self.settings = settings or MembershipSettings()
        self.publish_s = publish_s
        self.disks: dict[str, Disk] = {}
        self.paused: set[str] = set()
        self._starving: dict[str, int] = {}

    # --- members ---

    def join(self, name: str, *seeds: str, admin: bool = True, node_name: str = "") -> None:
        """A new node, or one that is started again. `seeds` are names of nodes; `node_name` if it is to claim another's
        name."""
        disk = self.disks.setdefault(name, Disk())
        draft, trust = fake_member(name, admin=admin)

        def build(boot: int, rng: random.Random, now: float) -> Membership:
            address = self.nodes[name].seat.address
            self.nodes[name].boot = boot = max(boot, disk.boot + 1)
            record = msgspec.structs.replace(
                draft, boot=boot, address=address, admission=disk.admission, name=node_name or name
            )
            hints = [self.nodes[seed].seat.address if seed in self.nodes else f"{seed}:7000" for seed in seeds]
            wanted = dict.fromkeys(other for other in (*hints, *disk.remembered) if other != address)
            return Membership(record, trust, self.settings, wanted, rng, now)

        node = self.nodes[name] = Node(self, Seat(name, draft.id, draft.address, draft.curve_key), build)
        node.clock_s = self.rng.uniform(0.0, 1e5)
        self.start(name)
        if self.publish_s:
            self._publish_soon(name)

    def restart(self, name: str, address: str = "") -> None:
        """Start it again, maybe at another address: the same identity, the next boot."""
        node = self.nodes[name]
        if address:
            self.network.moved(node.seat.address, address)
            node.seat = Seat(name, node.seat.peer, address, node.seat.curve_key)
        self.start(name)

    def move(self, name: str, address: str) -> None:
        """The node ends and is at once back at another address."""
        self.crash(name)
        self.restart(name, address)

    def leave(self, name: str) -> None:
        """A graceful end: good-bye, and 0.2 s later the process is gone."""
        node = self.nodes[name]
        node.perform(node.machine.leave(node.now))
        node.stepped()
        process = node.machine
        self.network.after(0.2, lambda: self.crash(name) if node.machine is process and node.running else None)

    def publish(self, name: str) -> None:
        node, disk = self.nodes[name], self.disks[name]
        disk.published += 1
        node.perform(node.machine.publish(PUBLISHED, {"load": disk.published}, node.now))
        node.stepped()

    def _publish_soon(self, name: str) -> None:
        def publish() -> None:
            node = self.nodes[name]
            if self.publish_s and node.running and not node.stopped:
                self.publish(name)
            self._publish_soon(name)

        if self.publish_s:
            self.network.after(self.publish_s * self.rng.uniform(0.5, 1.5), publish)

    # --- faults ---

    def pause(self, name: str) -> None:
        if self.nodes[name].running:
            self.paused.add(name)
            self.stop(name)

    def resume(self, name: str) -> None:
        if name in self.paused:
            self.paused.discard(name)
            if self.nodes[name].stopped:
                self.cont(name)

    def starve(self, name: str) -> None:
        """From now on its loop stands still for 0.1 to 1.2 s, again and again."""
        turn = self._starving[name] = self._starving.get(name, 0) + 1

        def stand() -> None:
            if self._starving.get(name) == turn:
                self.pause(name)
                self.network.after(self.rng.uniform(0.1, 1.2), walk)

        def walk() -> None:
            self.resume(name)
            self.network.after(self.rng.uniform(0.05, 0.5), stand)

        stand()

    def feed(self, name: str) -> None:
        self._starving.pop(name, None)
        self.resume(name)

    def cut(self, *args: str) -> None:
        """`cut a b` cuts both ways, `cut a > b` only what a sends to b."""
        for src, dst in self._ways(args):
            self.network.cut(src, dst)

    def mend(self, *args: str) -> None:
        for way in self._ways(args):
            self.network.cuts.discard(way)

    def _ways(self, args: Iterable[str]) -> list[tuple[str, str]]:
        names = [name for name in args if name != ">"]
        src, dst = (self.nodes[name].seat.address for name in names)
        return [(src, dst)] if ">" in args else [(src, dst), (dst, src)]

    def reject(self, name: str) -> None:
        """Its host refuses new connections; open sessions go on."""
        self.network.rejecting.add(self.nodes[name].seat.address)

    def drop(self, *names: str) -> None:
        """The session between two nodes is lost."""
        a, b = (self.nodes[name] for name in names)
        session = a.transport.sessions.get(b.seat.peer)
        if session is not None:
            self.network.drop(session, "lost", 0.0)

    def split(self, *args: str) -> None:
        """`split a b | c d`: groups that do not reach each other."""
        groups: list[list[str]] = [[]]
        for name in args:
            if name == "|":
                groups.append([])
            else:
                groups[-1].append(name)
        self.partition(*groups)

    def set_link(self, kind: str, value: str) -> None:
        """Of all links: `loss`, `duplicate` and `reorder` are chances, `delay` is the most a frame takes (s)."""
        if kind == "delay":
            low = self.network.delay_s[0]
            self.network.delay_s = (low, max(low, float(value)))
        else:
            setattr(self.network, kind, float(value))

    # --- steps ---

    def do(self, step: Step) -> None:
        VERBS[step.verb](self, *step.args)

    def schedule(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.network.at(step.at, lambda step=step: self.do(step))  # type: ignore[misc]

    # --- the outside ---

    def on_effect(self, node: Node[Membership], effect: Effect) -> None:
        if isinstance(effect, Joined):
            disk = self.disks[node.seat.name]
            disk.boot, disk.admission = effect.boot, effect.admission
        super().on_effect(node, effect)

    def crash(self, name: str, how: str = memory.CLOSED) -> None:
        node = self.nodes[name]
        if node.running and node.machine.joined:
            members, living = node.machine.members(), node.machine.alive()
            known = [members[peer].record.address for peer in living if peer != node.seat.peer]
            self.disks[name].remembered = known or self.disks[name].remembered
        self.paused.discard(name)
        super().crash(name, how)

    # --- views ---

    def truth(self) -> list[str]:
        """Sorted ids of the nodes that run."""
        return sorted(node.seat.peer for node in self.running())

    def agreed(self) -> bool:
        """Every running node sees exactly those that run, each at its present version."""
        nodes, truth = self.running(), self.truth()
        present = {node.seat.peer: node.machine.self_record for node in nodes}
        return all(
            node.machine.alive() == truth
            and all(node.machine.members()[peer].record == record for peer, record in present.items())
            for node in nodes
        )


VERBS: dict[str, Callable[..., Any]] = {
    "join": World.join,
    "claim": lambda world, name, seed, other: world.join(name, seed, admin=False, node_name=other),
    "kill": lambda world, name: world.crash(name),
    "silence": lambda world, name: world.crash(name, memory.SILENT),
    "restart": World.restart,
    "move": World.move,
    "leave": World.leave,
    "publish": World.publish,
    "pause": World.pause,
    "resume": World.resume,
    "starve": World.starve,
    "feed": World.feed,
    "jump": lambda world, name, seconds: world.jump(name, float(seconds)),
    "cut": World.cut,
    "mend": World.mend,
    "drop": World.drop,
    "reject": World.reject,
    "accept": lambda world, name: world.network.rejecting.discard(world.nodes[name].seat.address),
    "split": World.split,
    "heal": lambda world: world.heal(),
    "loss": lambda world, value: world.set_link("loss", value),
    "duplicate": lambda world, value: world.set_link("duplicate", value),
    "reorder": lambda world, value: world.set_link("reorder", value),
    "delay": lambda world, value: world.set_link("delay", value),
}
"""What a step can do; the arguments are text."""
