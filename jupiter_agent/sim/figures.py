"""The membership table's figures in virtual time: how long until everybody knows, and who is wrongly called dead.

Each measurement starts from a cluster of its own, formed and settled, so that none disturbs another.
"""

from __future__ import annotations

from jupiter_agent.core.membership import PROFILES, MemberChanged
from jupiter_agent.sim.world import PUBLISHED, World

FORM_S = 120.0
SETTLE_S = 15.0


def formed(size: int, profile: str = "lan", seed: int = 1) -> tuple[World, float]:
    """n0..n(size-1), started within the first 2 s, all knowing n0; and the seconds until all saw all."""
    world = World(seed, PROFILES[profile])
    for i in range(size):
        world.network.at(2.0 * i / size, lambda i=i: world.join(f"n{i}", *["n0"][:i]))  # type: ignore[misc]
    world.run(2.0)
    took = world.run_until(world.agreed, FORM_S, 0.1)
    world.run(SETTLE_S)
    world.effects.clear()
    return world, float("inf") if took is None else 2.0 + took


def everywhere(world: World, name: str, state: str) -> bool:
    peer = world.nodes[name].seat.peer
    return all(n.machine.members()[peer].state == state for n in world.running() if n.seat.peer != peer)


def dead_everywhere_s(world: World, name: str, how: str) -> float:
    """From the end of `name` (`closed`: its host refuses; `silent`) until the last other calls it dead."""
    world.crash(name, how)
    took = world.run_until(lambda: everywhere(world, name, "dead"), 60.0)
    return float("inf") if took is None else took


def published_everywhere_s(world: World, name: str) -> float:
    """From a change of a profile until the last member has it."""
    world.publish(name)
    peer, value = world.nodes[name].seat.peer, {"load": world.disks[name].published}
    took = world.run_until(lambda: all(n.machine.board.get(peer, PUBLISHED) == value for n in world.running()), 60.0)
    return float("inf") if took is None else took


def joiner_everywhere_s(world: World, seed: str) -> float:
    """From the start of a newcomer until it sees all and all see it."""
    world.join("late", seed)
    took = world.run_until(world.agreed, 60.0)
    return float("inf") if took is None else took


def healed_s(world: World, seconds: float) -> float:
    """Two halves apart for so long; from healing until everybody has one full view."""
    names = list(world.nodes)
    world.partition(names[::2], names[1::2])
    world.run(seconds)
    world.heal()
    took = world.run_until(world.agreed, 60.0)
    return float("inf") if took is None else took


def false_deaths(size: int, profile: str, loss: float, seconds: float) -> int:
    """How often anybody calls anybody dead while this share of all frames is lost, and nobody is."""
    world, _ = formed(size, profile)
    world.network.loss = loss
    deaths = 0
    for _ in range(round(seconds / 10)):
        world.run(10.0)
        deaths += sum(isinstance(e, MemberChanged) and e.state == "dead" for _, _, e in world.effects)
        world.effects.clear()
    return deaths
