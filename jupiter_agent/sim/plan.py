"""Plans of storms: stories of overlapping faults for 3 to 40 members, drawn from a seed.

All faults begin and end within the first 90 s; at some moment at least three of them overlap. Everything follows from
the seed alone: no hash, clock or process enters.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from jupiter_agent.sim.world import Step

STORM_S = 90.0
SETTLED_S = 8.0
GRACE_S = 12.0
"""after a fault has ended, those it hit may still be declared dead for what they looked like"""
OVERLAPPING = 3
LEAST, MOST = 3, 40
FOREVER = float("inf")


@dataclass(frozen=True)
class Fault:
    """From `start` to `end` something is wrong with `names` (empty: with all links), maybe between `groups`."""

    kind: str
    start: float
    end: float
    names: frozenset[str] = frozenset()
    sides: tuple[frozenset[str], ...] = ()
    """of a partition"""
    ways: frozenset[frozenset[str]] = frozenset()
    """of cut links: between which two nothing, or only what one of them says, arrives"""

    def parts(self, observer: str, member: str) -> bool:
        """Whether the two are on different sides of this partition."""
        return any((observer in side) != (member in side) for side in self.sides)

    def pairs_off(self, observer: str, member: str) -> bool:
        """Whether this partition leaves nobody with the two who could vouch for one to the other."""
        return any({observer, member} == side for side in self.sides)


@dataclass
class Plan:
    """A story: how many, under which settings, what happens when."""

    seed: int
    size: int
    profile: str
    steps: list[Step] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def overlap(self) -> int:
        """The most faults that are there at one time."""
        return max(sum(f.start <= at.start < f.end for f in self.faults) for at in self.faults)

    def explains(self, observer: str, member: str, when: float) -> bool:
        """Whether there is a reason why `member` may look dead to `observer`: a fault that hit it, or stands between
        the two, now or lately. Who could not hear how a fault ended, hears of it when its own is over."""
        between = [fault for fault in self.faults if fault.parts(observer, member)]
        deaf = [*between, *(f for f in self.faults if f.kind == "pause" and observer in f.names)]
        for fault in [*between, *(f for f in self.faults if member in f.names)]:
            end = max([fault.end, *(f.end for f in deaf if f.start <= fault.end)])
            if fault.start <= when <= end + GRACE_S:
                return True
        return self._are_alone_and_cut(observer, member, when)

    def _are_alone_and_cut(self, observer: str, member: str, when: float) -> bool:
        """A cut link explains nothing while others reach both; in a partition where there are no others it does."""
        cuts = [fault for fault in self.faults if frozenset({observer, member}) in fault.ways]
        alone = [fault for fault in self.faults if fault.pairs_off(observer, member)]
        both = [(max(a.start, b.start), min(a.end, b.end)) for a in cuts for b in alone]
        return any(start <= end and start <= when <= end + GRACE_S for start, end in both)

    def text(self) -> str:
        """The story as a scenario file tells it."""
        lines = [f"# storm {self.seed}: {self.size} members, {self.profile}"]
        return "\n".join([*lines, *map(str, sorted(self.steps, key=lambda step: step.at))])


class Draw:
    """Draws the faults of one plan."""

    def __init__(self, seed: int, size: int | None) -> None:
        self.rng = random.Random(f"storm {seed}")
        drawn = LEAST + int((MOST - LEAST + 1) * self.rng.random() ** 3)
        profile = self.rng.choice(["lan", "lan", "wan", "manet"])
        self.plan = Plan(seed, size or drawn, profile)
        self.names = [f"n{i}" for i in range(self.plan.size)]
        self._free = self.names[1:]
        """not hit yet by a fault of their own; n0 is everybody's seed"""
        self._once: set[str] = set()
        self.newcomers = 0

    def step(self, at: float, verb: str, *args: str) -> None:
        self.plan.steps.append(Step(round(at, 2), verb, args))

    def fault(
        self, kind: str, start: float, end: float, *names: str,
        sides: tuple[frozenset[str], ...] = (), ways: frozenset[frozenset[str]] = frozenset(),
    ) -> None:  # fmt: skip
        self.plan.faults.append(Fault(kind, start, end, frozenset(names), sides, ways))

    def victim(self) -> str:
        """Somebody without another fault; '' when too few are left."""
        if len(self._free) <= max(1, self.plan.size // 3):
            return ""
        return self._free.pop(self.rng.randrange(len(self._free)))

    def all_faults(self) -> Plan:
        """At least three at one moment, and more around."""
        centre = self.rng.uniform(SETTLED_S + 20, STORM_S - 30)
        kinds = list(KINDS)
        while not self.plan.faults or self.plan.overlap() < OVERLAPPING:
            kind = self.rng.choice(kinds)
            start = centre - self.rng.uniform(0.0, 6.0)
            KINDS[kind](self, start, centre + self.rng.uniform(1.0, 25.0))
        for _ in range(self.rng.randrange(2, 9)):
            start = self.rng.uniform(SETTLED_S, STORM_S - 15)
            KINDS[self.rng.choice(kinds)](self, start, min(STORM_S, start + self.rng.uniform(1.0, 30.0)))
        return self.plan

    def first(self, kind: str) -> bool:
        """What is wrong with all links is so once per story: two would end each other."""
        known = kind in self._once
        self._once.add(kind)
        return not known


def _links(verb: str, most: Callable[[Draw], float], calm: str) -> Callable[[Draw, float, float], None]:
    def draw(d: Draw, start: float, end: float) -> None:
        if d.first(verb):
            d.step(start, verb, f"{d.rng.uniform(most(d) / 5, most(d)):.3f}")
            d.step(end, verb, calm)
            d.fault(verb, start, end)

    return draw


def _partition(d: Draw, start: float, end: float) -> None:
    if not d.first("split"):
        return
    names = d.rng.sample(d.names, len(d.names))
    cut = d.rng.randrange(1, len(names))
    args, sides = [*names[:cut], "|", *names[cut:]], [frozenset(names[:cut]), frozenset(names[cut:])]
    if len(names) - cut > 2 and d.rng.random() < 0.3:
        third = d.rng.randrange(cut + 1, len(names))
        args = [*names[:cut], "|", *names[cut:third], "|", *names[third:]]
        sides = [frozenset(names[:cut]), frozenset(names[cut:third]), frozenset(names[third:])]
    d.step(start, "split", *args)
    d.step(end, "heal")
    d.fault("split", start, end, sides=tuple(sides))


def _flap(d: Draw, start: float, _: float) -> None:
    """A few are out of sight for long enough to be suspected, and back before the suspicion is up."""
    if not d.first("flap"):
        return
    few = d.rng.sample(d.names, d.rng.randrange(1, max(2, len(d.names) // 3)))
    rest = [name for name in d.names if name not in few]
    end = min(STORM_S, start + d.rng.uniform(3.5, 7.0) * {"lan": 1, "wan": 2, "manet": 3}[d.plan.profile])
    d.step(start, "split", *few, "|", *rest)
    d.step(end, "heal")
    d.fault("flap", start, end, sides=(frozenset(few), frozenset(rest)))


def _asymmetric(d: Draw, start: float, end: float) -> None:
    name = d.victim()
    if not name:
        return
    others = [other for other in d.names if other != name]
    deaf_to = d.rng.sample(others, d.rng.randrange(1, max(2, len(others) // 3)))
    for other in deaf_to:
        args = (other, ">", name) if d.rng.random() < 0.7 else (name, ">", other)
        d.step(start, "cut", *args)
        d.step(end, "mend", *args)
    d.fault("cut", start, end, ways=frozenset(frozenset({name, other}) for other in deaf_to))


def _crash(d: Draw, start: float, end: float) -> None:
    name = d.victim()
    if name:
        d.step(start, d.rng.choice(["kill", "silence"]), name)
        back = d.rng.random() < 0.6
        if back:
            d.step(end, "restart", name)
        d.fault("crash", start, end if back else FOREVER, name)


def _quick_restart(d: Draw, start: float, _: float) -> None:
    name = d.victim()
    if name:
        end = start + d.rng.uniform(0.05, 3.0)
        d.step(start, "kill", name)
        d.step(end, "restart", name)
        d.fault("restart", start, end, name)


def _leave(d: Draw, start: float, end: float) -> None:
    name = d.victim()
    if name:
        d.step(start, "leave", name)
        back = d.rng.random() < 0.5
        if back:
            d.step(max(end, start + 1.0), "restart", name)
        d.fault("leave", start, max(end, start + 1.0) if back else FOREVER, name)


def _move(d: Draw, start: float, _: float) -> None:
    name = d.victim()
    if name:
        d.step(start, "move", name, f"{name}-elsewhere:7000")
        d.fault("move", start, start + 1.0, name)


def _pause(d: Draw, start: float, end: float) -> None:
    name = d.victim()
    if name:
        d.step(start, "pause", name)
        d.step(end, "resume", name)
        d.fault("pause", start, end, name)


def _starve(d: Draw, start: float, end: float) -> None:
    name = d.victim()
    if name:
        d.step(start, "starve", name)
        d.step(end, "feed", name)
        d.fault("starve", start, end, name)


def _jump(d: Draw, start: float, end: float) -> None:
    name = d.victim()
    if name:
        d.step(start, "jump", name, f"{d.rng.uniform(0.6, 30.0):.2f}")
        d.fault("jump", start, end)


def _join(d: Draw, start: float, end: float) -> None:
    if d.newcomers < 3:
        d.newcomers += 1
        d.step(start, "join", f"m{d.newcomers}", "n0", d.rng.choice(d.names))
        d.fault("join", start, end)


LOSS = {"lan": 0.1, "wan": 0.1, "manet": 0.3}

KINDS: dict[str, Callable[[Draw, float, float], None]] = {
    "loss": _links("loss", lambda d: LOSS[d.plan.profile], "0"),
    "delay": _links("delay", lambda d: 0.25, "0.003"),
    "duplicate": _links("duplicate", lambda d: 0.3, "0"),
    "reorder": _links("reorder", lambda d: 0.3, "0"),
    "split": _partition,
    "flap": _flap,
    "asymmetric": _asymmetric,
    "crash": _crash,
    "restart": _quick_restart,
    "leave": _leave,
    "move": _move,
    "pause": _pause,
    "starve": _starve,
    "jump": _jump,
    "join": _join,
}


def plan(seed: int, size: int | None = None) -> Plan:
    return Draw(seed, size).all_faults()
