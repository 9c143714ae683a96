"""A small world for the job machines: faked surroundings with literal ids, and short ways to make their messages."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Any, TypeVar

import msgspec

from jupiter_agent.core.dag import Dag
from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.home import Home
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import HomeVersion, JobSpec, Obj, Parcel, Register, SignedSpec, TaskSpec
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.surroundings import Estimate, LinkEstimate, Profile
from jupiter_agent.core.transfer import Transfers

E = TypeVar("E", bound=Effect)
M = TypeVar("M", bound=Message)

DIAMOND = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
CHAIN = {"a": ["b"], "b": []}
VERSION = HomeVersion(1, "home1", 1)


class Around:
    """Implements core.surroundings.Surroundings; the name of node `n1` is `name-n1`."""

    def __init__(self, me: str = "n1", nodes: tuple[str, ...] = ("home1", "n1", "n2", "n3")) -> None:
        self.me = me
        self.rng = Random(1)
        self.boot = 1
        self.nodes = sorted({me, *nodes})
        self.gone: set[str] = set()
        self.unknown: set[str] = set()
        self.boots: dict[str, int] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.latencies: dict[str, float] = {}
        self.published: dict[str, dict[str, tuple[float, float]]] = {}

    def alive(self) -> list[str]:
        return [node for node in self.nodes if node not in self.gone | self.unknown]

    def is_gone(self, node: str) -> bool:
        return node in self.gone

    def may_be_home(self, node: str) -> bool:
        return True

    def dead(self) -> list[str]:
        return sorted(self.gone)

    def knows(self, node: str) -> bool:
        return node in self.nodes and node not in self.unknown

    def name(self, node: str) -> str:
        return f"name-{node}"

    def find(self, name: str) -> str | None:
        return next((node for node in self.alive() if name in (node, self.name(node))), None)

    def boot_of(self, node: str) -> int:
        return self.boots.get(node, 1)

    def profile(self, node: str) -> Profile:
        return Profile(**self.profiles.get(node, {}))

    def links(self, node: str) -> dict[str, tuple[float, float]]:
        return self.published.get(node, {})

    def link(self, peer: str) -> LinkEstimate:
        return LinkEstimate(self.latencies.get(peer, 0.001), 1e7, 1, "measured")

    def link_from(self, peer: str) -> LinkEstimate:
        return self.link(peer)

    def task_time(self, job: Job, task: str, node: str, loaded: bool = True) -> Estimate:
        profile = self.profile(node)
        busy = 1.0 + profile.load / profile.cpus if loaded else 1.0
        seconds = job.spec.seconds.get(task, 1.0) / profile.speed * busy
        return Estimate(seconds, seconds / 2, seconds * 2, 0, "prior")

    def sign(self, data: bytes) -> bytes:
        return b"signed"

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        return signature == b"signed"

    def wall(self, now: float) -> float:
        return 1_000_000.0 + now


def task_specs(edges: dict[str, list[str]], **changes: Any) -> list[TaskSpec]:
    """`changes` are options of every task."""
    tasks = [TaskSpec(task, script=f"{task}.py", children=children, **changes) for task, children in edges.items()]
    dag = Dag(tasks)
    return [msgspec.structs.replace(task, parents=dag.parents(task.name)) for task in tasks]


def job_spec(edges: dict[str, list[str]], mapper: str = "wave-greedy", **changes: Any) -> JobSpec:
    fields: dict[str, Any] = {
        "id": "job1", "name": "app", "app": "app", "bundle": b"B" * 32, "bundle_size": 10, "tasks": task_specs(edges),
        "mapper": mapper, "seed": 1, "params": {}, "weights": {}, "seconds": {}, "edge_bytes": {},
        "submitted_at": 1_000_000.0, "replicas": 0,
    }  # fmt: skip
    return JobSpec(**{**fields, **changes})


def signed(spec: JobSpec) -> SignedSpec:
    return SignedSpec(msgspec.msgpack.encode(spec), "home1", b"signed")


def make_job(edges: dict[str, list[str]], mapper: str = "wave-greedy", **changes: Any) -> Job:
    spec = job_spec(edges, mapper, **changes)
    return Job(signed(spec), spec, VERSION)


def reg(task: str, node: str, epoch: int = 1, basis: int = 1, writer: str = "home1", boot: int = 1) -> Register:
    return Register(task, node, basis, epoch, writer, boot)


def place(job: Job, **hosts: str) -> Job:
    """Registers as if somebody had decided so."""
    job.merge([reg(task, node) for task, node in hosts.items()])
    return job


def small(data: bytes, name: str = "o") -> Obj:
    return Obj(name, sha256(data).digest(), len(data), data)


def large(data: bytes, size: int = 600_000, name: str = "o") -> Obj:
    """An object that is fetched; its bytes are not made."""
    return Obj(name, sha256(data).digest(), size)


def parcel(src: str, dst: str, stamp: bytes = b"1", item: str = "i", number: int = 1, **more: Any) -> Parcel:
    """With one small object, unless `objects` says otherwise. `carried`: ancestor -> stamp."""
    objects = more.pop("objects", [small(src.encode() + stamp)])
    return Parcel("job1", item, src, dst, stamp, more.pop("carried", {}), objects, (VERSION, number))


def of_type(effects: list[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: list[Effect], kind: type[M]) -> list[tuple[str, M]]:
    """(node, message) of this kind."""
    return [(e.dst, e.message) for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


class Host:
    """One node's execution of one job, with the app open; at home also its home machine."""

    def __init__(self, job: Job, me: str = "n1", slots: int = 8) -> None:
        self.job, self.around = job, Around(me)
        self.queue, self.transfers = RunQueue(slots), Transfers(me)
        self.execution = Execution(job, self.around, self.queue, self.transfers)
        self.started = self.execution.on_bundle(0.0)

    def with_home(self) -> Home:
        return Home(self.job, self.execution, self.around, self.transfers)
