"""Whatever was said once may be said again, by anybody and late: nothing changes by it."""

from __future__ import annotations

import random

import pytest

from jupiter_agent.core.effects import Halt, Send, SendJoin
from jupiter_agent.core.events import JoinRequested, Received
from jupiter_agent.core.membership import MemberChanged
from jupiter_agent.sim.world import World


class Recorder(World):
    """Keeps every message that was sent, and every request to join."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.said: list[tuple[str, object]] = []
        self.asked: list[object] = []

    def on_effect(self, node, effect):
        super().on_effect(node, effect)
        if isinstance(effect, Send) and not effect.dst.startswith("join:"):
            self.said.append((node.seat.peer, effect.message))
        elif isinstance(effect, SendJoin):
            self.asked.append(effect.message)


def story(seed: int) -> Recorder:
    """Joins, a move, a restart and a leave among six."""
    world = Recorder(seed)
    for i in range(6):
        world.join(f"n{i}", *["n0"][:i], admin=i < 2)
    world.run(5.0)
    world.move("n3", "n3-elsewhere:7000")
    world.crash("n4")
    world.run(1.0)
    world.restart("n4")
    world.leave("n5")
    world.run(30.0)
    assert world.agreed()
    return world


def seen(world: Recorder) -> dict[str, dict[str, tuple[str, tuple[int, int], str]]]:
    return {
        node.seat.name: {p: (m.state, m.version, m.record.address) for p, m in node.machine.members().items()}
        for node in world.running()
    }


@pytest.mark.parametrize("seed", range(3))
def test_old_joins_and_old_messages_said_again_change_no_view(seed):
    world, rng = story(seed), random.Random(seed)
    before, said, asked = seen(world), list(world.said), list(world.asked)
    assert len(asked) >= 5
    world.effects.clear()
    names = [node.seat.name for node in world.running()]
    for _ in range(300):
        src, message = rng.choice(said)
        node = world.nodes[rng.choice(names)]
        if node.seat.peer != src:  # no session has our own key at its other end
            node.give(Received(src, message))
        if rng.random() < 0.2:
            world.nodes[rng.choice(names)].give(JoinRequested(f"join:{rng.random()}", rng.choice(asked)))
        world.run(rng.choice([0.0, 0.01, 0.1]))
    world.run(30.0)
    assert world.agreed()
    after = seen(world)
    for name, members in before.items():
        for peer, (state, version, address) in members.items():
            assert after[name][peer][0] == state
            assert after[name][peer][1] >= version
            assert after[name][peer][2] == address
    assert [e for _, _, e in world.effects if isinstance(e, Halt)] == []
    assert [e for _, _, e in world.effects if isinstance(e, MemberChanged) and e.state == "dead"] == []
