"""Typed messages with random contents, from members and clients, to the hosts and the home of a live job.

Each is what the wire lets through: of the right types, with ids that exist. Whatever they say, a machine answers,
refuses (and counts) or drops; nothing may leave it but effects, and its invariants hold afterwards.
"""

from __future__ import annotations

import types
import typing
from random import Random
from typing import Any

import msgspec
import pytest

from jupiter_agent.core import events as ev
from jupiter_agent.core import wire
from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.call_shapes import Arguments
from jupiter_agent.core.control import _VERBS
from jupiter_agent.core.job import SIGNED
from jupiter_agent.core.messages import jobs as jm
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.submit_args import SubmitArgs
from jupiter_agent.errors import PeerError
from jupiter_agent.sim.grid import Grid, SimApp

pytestmark = pytest.mark.slow

EDGES = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
VERBS = [*_VERBS, "nonsense"]
COUNTS = [0, 1, 1, 2, 3, 5, 100, 2**31 - 1, 2**38, 2**53 - 1, 2**63]
REALS = [0.0, 0.5, 1.0, 1e300, 1e-300]
MESSAGES = 700


class Nonsense:
    """Values of any type hint; `words` and `digests` are those that mean something in the job."""

    def __init__(self, rng: Random, job: str, words: list[str], digests: list[bytes]) -> None:
        self.rng, self.job = rng, job
        self.words = ["", "home", "a", "b", "c", "d", "i0", "i1", "../x", "last", job, *words]
        self.digests = [b"", b"1" * 8, b"2" * 32, b"x" * 64, *digests]

    def frame(self) -> bytes:
        tag, kind = self.rng.choice(list(wire.MESSAGES.items()))
        if kind is Call:
            return msgspec.msgpack.encode([tag, 7, self.rng.choice(VERBS), self.arguments()])
        return msgspec.msgpack.encode([tag, *self.fields(kind)])

    def arguments(self) -> dict[str, Any]:
        """Some arguments of verbs, now and then of another type."""
        hints = typing.get_type_hints(self.rng.choice([Arguments, SubmitArgs]), include_extras=True)
        chosen = self.rng.sample(list(hints), self.rng.randrange(len(hints)))
        given = {name: self.value(hints[name] if self.rng.random() < 0.9 else Any, name) for name in chosen}
        return {**given, "kind": self.rng.choice(["nodes", "links", "jobs", "tasks", "items", "apps", "job", "task"])}

    def fields(self, kind: type[msgspec.Struct]) -> list[Any]:
        hints = typing.get_type_hints(kind, include_extras=True)
        return [self.value(hints[name], name) for name in kind.__struct_fields__]

    def value(self, hint: Any, name: str = "") -> Any:
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self.value(args[0], name)
        if origin in (typing.Union, types.UnionType):
            some = next(arg for arg in args if arg is not type(None))
            return None if self.rng.random() < 0.3 else self.value(some, name)
        if origin is list:
            return [self.value(args[0], name) for _ in range(self.rng.choice([0, 1, 1, 2]))]
        if origin is dict:
            return {self.value(args[0]): self.value(args[1]) for _ in range(self.rng.choice([0, 1, 2]))}
        if origin is tuple:
            return [self.value(arg, name) for arg in args]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            listed = hint.__struct_config__.array_like
            fields = self.fields(hint)
            return fields if listed else dict(zip(hint.__struct_fields__, fields, strict=True))
        return self.plain(hint, name)

    def plain(self, hint: Any, name: str) -> Any:
        if hint is bool:
            return self.rng.random() < 0.5
        if hint is int:
            return self.rng.choice(COUNTS)
        if hint is float:
            return self.rng.choice(REALS)
        if hint is bytes:
            return self.rng.choice(self.digests)
        if hint is str:
            known = {"job": self.job, "sha256": self.digests[-1].hex(), "bundle": self.digests[-1].hex()}
            ends = ["completed", "failed", "cancelled", "over"]
            return self.rng.choice(ends) if name == "state" else known.get(name) or self.rng.choice(self.words)
        return self.rng.choice([1, -1.5, "x", [1], {"a": 1}, None, "9" * 30, self.job])

    def published(self) -> dict[str, Any]:
        """Of any key: numbers, or anything."""
        keys = ["speed", "load", "cpus", "memory_used", "draining", "homed", *self.words]
        pick = [*COUNTS[:-1], *REALS, "x", [1], [0.1, 5.0], {"n": 5}, None, True]
        return {self.rng.choice(keys): self.rng.choice(pick) for _ in range(self.rng.randrange(4))}


def live(seed: int) -> tuple[Grid, str]:
    """Three peers, and a job of four tasks with three items in it."""
    grid = Grid(seed)
    grid.add_peers(3)
    tasks = [TaskSpec(name, f"{name}.py", children=children) for name, children in EDGES.items()]
    functions = {name: lambda inputs: b"".join(inputs.values())[:100_000] for name in EDGES}
    app = SimApp(AppSpec("app", tasks), functions, dict.fromkeys(EDGES, 0.4))
    items = {f"i{k}": b"x%d" % k for k in range(3)}
    job: str = grid.submit("node1", app, items, keep_open=True)["id"]
    grid.run(0.6)
    return grid, job


def decoded(frame: bytes) -> Any:
    try:
        return wire.decode(frame)
    except PeerError:
        return None


@pytest.mark.parametrize("seed", range(4))
def test_no_message_and_no_call_kills_an_agent(seed):
    rng = Random(seed)
    given = 0
    while given < MESSAGES:
        grid, job = live(seed)
        machine = grid.nodes["node1"].machine
        bundle = machine.jobs.local[job].job.spec.bundle
        nonsense = Nonsense(rng, job, [grid.id(name) for name in grid.nodes], [bundle])
        for _ in range(150):
            message = decoded(nonsense.frame())
            if message is None:
                continue
            given += 1
            victim, other = rng.sample(list(grid.nodes), 2)
            src = "client:1" if isinstance(message, Call) else rng.choice([grid.id(other), "client:1"])
            if rng.random() < 0.1:
                key = rng.choice(["resources", "links", "jobs"])
                grid.nodes[other].machine.membership.publish(key, nonsense.published(), grid.now)
            grid.nodes[victim].give(ev.Received(src, message))
            grid.run(rng.choice([0, 0.05, 0.3]))
        for node in grid.nodes.values():
            node.machine.check()


CHANGES: dict[str, Any] = {
    "a cycle": lambda spec: {"tasks": [msgspec.structs.replace(spec.tasks[0], children=["a"])]},
    "an unknown child": lambda spec: {"tasks": [msgspec.structs.replace(spec.tasks[0], children=["zz"])]},
    "an unknown weight": lambda spec: {"weights": {"bogus": 1.0}},
    "a negative weight": lambda spec: {"weights": {"cpu": -1.0}},
    "seconds that are none": lambda spec: {"seconds": {"a": float("nan")}},
    "a bundle of 2^60 bytes": lambda spec: {"bundle_size": 1 << 60},
    "ports that are none": lambda spec: {"ports": ["http:x"]},
    "an id that is a path": lambda spec: {"id": "../../x"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_signed_award_with_nonsense_in_its_spec_is_refused_and_counted(change):
    grid, job = live(1)
    rogue, victim = grid.nodes["node2"].machine, grid.nodes["node3"].machine
    spec = victim.jobs.local[job].job.spec if job in victim.jobs.local else rogue.jobs.local[job].job.spec
    changed = msgspec.structs.replace(spec, **{"id": "evil", **change(spec)})
    encoded = msgspec.msgpack.encode(changed)
    signed = jm.SignedSpec(encoded, grid.id("node2"), rogue.sign(SIGNED + encoded))
    register = jm.Register("a", grid.id("node3"), 1, 1, grid.id("node2"), 1)
    award = jm.Award(signed, jm.HomeVersion(1, grid.id("node2"), 1), [register])
    grid.nodes["node3"].give(ev.Received(grid.id("node2"), wire.decode(wire.encode(award))))
    grid.run(3)
    assert victim.refused == 1
    assert changed.id not in victim.jobs.local
