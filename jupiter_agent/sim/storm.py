"""Storms: a plan of faults told to a cluster in virtual time, and audited.

The faults are over after 90 s; the cluster then has 30 s to agree, must stay agreed for 10 s more, and is held to
bounds on tables and bytes. A storm is its seed: `digest` is equal for equal seeds in any process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.events import Event
from jupiter_agent.core.membership import PROFILES, MemberChanged, Membership
from jupiter_agent.sim.audit import Auditor, BrokenError
from jupiter_agent.sim.cluster import Node
from jupiter_agent.sim.plan import STORM_S, Plan, plan
from jupiter_agent.sim.world import World

AGREE_S, QUIET_S = 30.0, 10.0
IDLE_BYTES_PER_S = 8000
"""what an agent may send when nothing happens"""
PUBLISH_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """How a storm ended; `broken` is empty when all invariants held."""

    seed: int
    size: int
    profile: str
    faults: int
    overlap: int
    virtual_s: float = 0.0
    deaths: int = 0
    agreed_s: float = 0.0
    """after the last fault, until all saw the same"""
    bytes_per_s: float = 0.0
    """sent by the busiest member while nothing happened"""
    digest: str = ""
    broken: str = ""


class Storm(World):
    """The world of one plan, with its auditor. Effects are not kept, but hashed."""

    def __init__(self, story: Plan) -> None:
        super().__init__(story.seed, PROFILES[story.profile], PUBLISH_S)
        self.story = story
        self.auditor = Auditor(self, self._explained)
        self._hash = hashlib.sha256()
        for i in range(story.size):
            self.join(f"n{i}", *["n0"][:i])
        self.schedule(story.steps)

    def digest(self) -> str:
        return self._hash.hexdigest()[:16]

    def _explained(self, observer: str, member: str, when: float) -> bool:
        return self.story.explains(observer, member, when)

    def on_event(self, node: Node[Membership], event: Event) -> None:
        self.auditor.on_event(node, event)

    def on_effect(self, node: Node[Membership], effect: Effect) -> None:
        super().on_effect(node, effect)
        self.effects.clear()
        self.auditor.on_effect(node, effect)
        if isinstance(effect, MemberChanged | Send):
            told = effect if isinstance(effect, MemberChanged) else (effect.dst, type(effect.message).__name__)
            self._hash.update(f"{self.now:.6f} {node.seat.name} {told}\n".encode())

    def tell(self) -> tuple[float, float]:
        """The whole story: (seconds until all agreed, bytes per second in quiet). BrokenError where it went wrong."""
        while self.now < STORM_S:
            self.run(1.0)
            self.auditor.check_growth()
        self.publish_s = 0.0
        for node in self.running():
            self.publish(node.seat.name)
        took = self.run_until(self.agreed, AGREE_S, 0.25)
        if took is None:
            raise self.auditor.broken(f"no agreement {AGREE_S:g} s after the last fault: {self.auditor.views()}")
        self.run(AGREE_S - took)
        before, deaths = self._sent(), self.auditor.deaths
        self.run(QUIET_S)
        self.auditor.check_growth()
        self.auditor.check_quiet()
        if self.auditor.deaths > deaths:
            raise self.auditor.broken("somebody was declared dead long after the last fault")
        busiest = max(after - before[name] for name, after in self._sent().items()) / QUIET_S
        if busiest > IDLE_BYTES_PER_S:
            raise self.auditor.broken(f"{busiest:.0f} bytes per second sent in quiet, over {IDLE_BYTES_PER_S}")
        return took, busiest

    def _sent(self) -> dict[str, int]:
        return {node.seat.name: node.transport.counters().get("bytes_out", 0) for node in self.running()}


def storm(seed: int, size: int | None = None) -> Outcome:
    """Run one seed. Whatever breaks, an assertion of a machine's own included, is told in the outcome."""
    story = plan(seed, size)
    outcome = Outcome(seed, story.size, story.profile, len(story.faults), story.overlap())
    world = Storm(story)
    try:
        agreed_s, bytes_per_s = world.tell()
        outcome = replace(outcome, agreed_s=agreed_s, bytes_per_s=bytes_per_s)
    except (BrokenError, AssertionError) as broken:
        outcome = replace(outcome, broken=f"{type(broken).__name__}: {broken}")
    return replace(outcome, virtual_s=world.now, deaths=world.auditor.deaths, digest=world.digest())
