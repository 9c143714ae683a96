"""A cluster in virtual time: machines over the memory network, with faults. A seed replays exactly.

Any machine fits: something with `on_event`, `on_deadline`, `next_deadline` and `check`. `Cluster` is its driver
(deadlines before the inbox, as in production) and its outside world: it performs the network effects and hands all
others to `on_effect`. Its clock is the network's; nothing here sleeps or looks at a wall clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast

import msgspec

from jupiter_agent.adapters import memory
from jupiter_agent.adapters.memory import MemoryTransport, Network
from jupiter_agent.core import effects, events, wire
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.events import Event
from jupiter_agent.core.membership import Membership, MembershipSettings
from jupiter_agent.errors import PeerError
from jupiter_agent.sim.trust import fake_member

CHECK_EVERY = 50
"""A machine's invariants are checked after this many steps, and whenever a run ends."""

ROUNDING_S = 1e-9
"""Between the network's clock and a node's: a deadline this near is due."""


class Machine(Protocol):
    """What the driver needs of a machine."""

    def on_event(self, event: Event, now: float) -> list[Effect]: ...

    def on_deadline(self, now: float) -> list[Effect]: ...

    def next_deadline(self) -> float: ...

    def check(self) -> None: ...


M = TypeVar("M", bound=Machine)


@dataclass(frozen=True)
class Seat:
    """Who sits at a node: its name and how others reach and recognise it."""

    name: str
    peer: str
    address: str
    curve_key: str


@dataclass
class Node(Generic[M]):
    """One agent process, a `Sink` of its transport. `build` makes the machine anew at every start."""

    cluster: Cluster[M]
    seat: Seat
    build: Callable[[int, random.Random, float], M]
    """(boot, rng, now) -> machine"""
    boot: int = 0
    running: bool = False
    stopped: bool = False
    backlog: list[Event] = field(default_factory=list)
    steps: int = 0
    wake_at: float = float("inf")
    clock_s: float = 0.0
    """this node's clock minus the network's: machines of different hosts share no clock"""
    machine: M = field(init=False)
    transport: MemoryTransport = field(init=False)
    joins: dict[str, Callable[[bytes], None]] = field(default_factory=dict)

    # --- Sink ---

    def on_frame(self, src: str, frame: bytes) -> None:
        try:
            message = wire.decode(frame)
        except PeerError as error:
            self.cluster.network.counters[error.message] += 1
            if error.message != wire.UNKNOWN:
                self.give(events.Garbled(src, error.message))
            return
        self.give(events.Received(src, message))

    def on_up(self, peer: str) -> None:
        self.give(events.SessionUp(peer))

    def on_down(self, peer: str, reason: str) -> None:
        self.give(events.SessionDown(peer, reason))

    def on_port(self, peer: str, outcome: str) -> None:
        self.give(events.PortTested(peer, outcome))

    def on_join(self, frame: bytes, answer: Callable[[bytes], None]) -> None:
        src = f"join:{len(self.joins)}"
        self.joins[src] = answer
        self.give(events.JoinRequested(src, wire.decode(frame)))

    # --- the driver ---

    @property
    def now(self) -> float:
        return self.cluster.now + self.clock_s

    def give(self, event: Event) -> None:
        if self.stopped:
            self.backlog.append(event)
        elif self.running:
            self.cluster.on_event(self, event)
            self.perform(self.machine.on_event(event, self.now))
            self.stepped()

    def serve(self) -> None:
        if not self.running or self.stopped or self.cluster.now < self.wake_at:
            return
        now, self.wake_at = self.now, float("inf")
        due = self.machine.next_deadline()
        if due <= now + ROUNDING_S:
            self.perform(self.machine.on_deadline(max(now, due)))
        self.stepped()

    def stepped(self) -> None:
        self.steps += 1
        if self.steps % CHECK_EVERY == 0:
            self.machine.check()
        due = self.machine.next_deadline() - self.clock_s if self.running else float("inf")
        if due < self.wake_at:
            self.wake_at = max(due, self.cluster.now)
            self.cluster.network.at(self.wake_at, self.serve)

    def perform(self, batch: list[Effect]) -> None:
        for effect in batch:
            if not self.running:
                return
            handler = _HANDLERS.get(type(effect))
            if handler is not None:
                handler(self, effect)
            self.cluster.on_effect(self, effect)

    def send(self, effect: effects.Send) -> None:
        frame = wire.encode(effect.message)
        if effect.dst in self.joins:
            self.joins.pop(effect.dst)(frame)
        else:
            self.transport.send(effect.dst, frame)

    def send_join(self, effect: effects.SendJoin) -> None:
        def answered(frame: bytes | None, error: str) -> None:
            message = wire.decode(frame) if frame is not None else None
            self.give(events.JoinAnswered(effect.address, message, error))

        self.cluster.network.ask_join(self.seat.address, effect.address, wire.encode(effect.message), answered)


_HANDLERS: dict[type[Effect], Callable[[Node, Effect], None]] = {  # type: ignore[type-arg]
    effects.Learn: lambda node, e: node.transport.learn(e.peer, e.address, e.curve_key),  # type: ignore[attr-defined]
    effects.Forget: lambda node, e: node.transport.forget(e.peer),  # type: ignore[attr-defined]
    effects.Ban: lambda node, e: node.transport.ban(e.peer, e.for_s),  # type: ignore[attr-defined]
    effects.Connect: lambda node, e: node.transport.connect(e.peer),  # type: ignore[attr-defined]
    effects.Disconnect: lambda node, e: node.transport.disconnect(e.peer),  # type: ignore[attr-defined]
    effects.TestPort: lambda node, e: node.transport.test_port(e.peer, e.address),  # type: ignore[attr-defined]
    effects.Send: lambda node, e: node.send(cast(effects.Send, e)),
    effects.SendJoin: lambda node, e: node.send_join(cast(effects.SendJoin, e)),
    effects.Halt: lambda node, e: node.cluster.crash(node.seat.name),
}


class Cluster(Generic[M]):
    """Nodes by name over one network. `effects` keeps (time, node name, effect) of everything but network traffic."""

    def __init__(self, seed: int = 1, delay_s: tuple[float, float] = (0.0005, 0.003)) -> None:
        self.rng = random.Random(seed)
        self.network = Network(self.rng, delay_s)
        self.nodes: dict[str, Node[M]] = {}
        self.effects: list[tuple[float, str, Effect]] = []

    @property
    def now(self) -> float:
        return self.network.now

    def on_event(self, node: Node[M], event: Event) -> None:
        """Every event passes here before its machine gets it."""

    def on_effect(self, node: Node[M], effect: Effect) -> None:
        """Every effect passes here after the network ones were performed; subclasses perform the rest."""
        if type(effect) not in _HANDLERS or isinstance(effect, effects.Halt):
            self.effects.append((self.now, node.seat.name, effect))

    # --- nodes ---

    def add(self, seat: Seat, build: Callable[[int, random.Random, float], M]) -> Node[M]:
        node = self.nodes[seat.name] = Node(self, seat, build)
        self.start(seat.name)
        return node

    def start(self, name: str) -> None:
        """Start, or start again after a crash, with a new machine and the next boot number."""
        node = self.nodes[name]
        seat = node.seat
        node.boot += 1
        node.running, node.stopped, node.backlog, node.wake_at = True, False, [], float("inf")
        node.transport = self.network.attach(seat.peer, seat.address, seat.curve_key, node)
        node.transport.on_join = node.on_join
        node.machine = node.build(node.boot, random.Random(self.rng.getrandbits(32)), node.now)
        node.stepped()

    def crash(self, name: str, how: str = memory.CLOSED) -> None:
        """kill -9 (`closed`) or a powered-off host (`silent`)."""
        self.nodes[name].running = False
        self.network.crash(self.nodes[name].seat.address, how)

    def stop(self, name: str) -> None:
        """SIGSTOP: the process stands still, its port stays open."""
        self.nodes[name].stopped = True
        self.nodes[name].transport.state = memory.STOPPED

    def cont(self, name: str) -> None:
        """SIGCONT: late deadlines are served first, then what arrived meanwhile."""
        node = self.nodes[name]
        node.stopped, node.transport.state = False, memory.UP
        node.wake_at = min(node.wake_at, self.now)
        node.serve()
        backlog, node.backlog = node.backlog, []
        for event in backlog:
            node.give(event)

    def jump(self, name: str, seconds: float) -> None:
        """The node's clock is later by as much at once: it was suspended, or its host's clock leapt."""
        node = self.nodes[name]
        node.clock_s += seconds
        node.wake_at = min(node.wake_at, self.now)
        node.serve()

    def partition(self, *groups: list[str]) -> None:
        self.network.partition(*([self.nodes[name].seat.address for name in group] for group in groups))

    def heal(self) -> None:
        self.network.heal()

    def running(self) -> list[Node[M]]:
        return [node for node in self.nodes.values() if node.running]

    # --- time ---

    def run(self, seconds: float) -> None:
        self._advance(seconds)
        self._check()

    def _advance(self, seconds: float) -> None:
        limit = self.now + seconds
        while self.network.step(limit):
            pass

    def _check(self) -> None:
        for node in self.running():
            node.machine.check()

    def run_until(self, predicate: Callable[[], bool], seconds: float, every_s: float = 0.05) -> float | None:
        """Run until the predicate holds, looked at every `every_s`; the seconds it took, or None if it never held."""
        started = self.now
        while not predicate():
            if self.now >= started + seconds:
                self._check()
                return None
            self._advance(min(every_s, started + seconds - self.now))
        self._check()
        return self.now - started


def add_member(
    cluster: Cluster[Membership],
    name: str,
    seeds: Iterable[str] = (),
    settings: MembershipSettings | None = None,
    admin: bool = True,
) -> Node[Membership]:
    """A node that runs membership alone. `seeds` are names of other nodes; keys are those of `sim.trust`."""
    draft, trust = fake_member(name, admin=admin)
    addresses = [f"{seed}:7000" for seed in seeds]

    def build(boot: int, rng: random.Random, now: float) -> Membership:
        record = msgspec.structs.replace(draft, boot=boot)
        return Membership(record, trust, settings or MembershipSettings(), addresses, rng, now)

    return cluster.add(Seat(name, draft.id, draft.address, draft.curve_key), build)
