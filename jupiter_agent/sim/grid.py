"""A whole cluster in virtual time: real peers over the memory network, with simulated disks and task processes.

The machines are those of production. Only their outside is simulated: an object store and a journal per node that
survive a crash, task processes that are Python functions with a duration, and a solver that answers after a while. A
seed replays exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from jupiter_agent.core import effects as ef
from jupiter_agent.core import events as ev
from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.ids import CLIENT_PREFIX
from jupiter_agent.core.ledger import Issued
from jupiter_agent.core.membership import Membership, MembershipSettings
from jupiter_agent.core.messages.control import Answer, Call, LogChunk
from jupiter_agent.core.messages.jobs import INLINE_BYTES, Chunk, Missing, Obj
from jupiter_agent.core.peer import Peer, PeerSettings
from jupiter_agent.errors import JupiterError, UnreachableError
from jupiter_agent.sim.bulk import SimBulk
from jupiter_agent.sim.cluster import Cluster, Node, Seat
from jupiter_agent.sim.trust import fake_member

WALL_OFFSET_S = 1_000_000.0
"""Wall clock minus virtual time"""

Outputs = bytes | dict[str, bytes] | None
Function = Callable[[dict[str, bytes]], Outputs]


class TaskFailureError(Exception):
    """Raised by a simulated task: the run failed."""


class AgentEndedError(Exception):
    """Raised by a simulated task: it ends the agent that runs it."""


class RefusedError(JupiterError, AssertionError):
    """An agent's refusal in its own words, with its exit code; AssertionError: tests that did not expect it fail."""


class UnansweredError(UnreachableError, AssertionError):
    """An agent that is dead, or does not answer in time."""


@dataclass(frozen=True)
class SimApp:
    """An app whose tasks are functions. `seconds`: duration of a run at speed 1, as a number or drawn per run."""

    spec: AppSpec
    functions: dict[str, Function]
    seconds: dict[str, float | Callable[[random.Random], float]] = field(default_factory=dict)

    @property
    def bundle(self) -> bytes:
        return sha256(self.spec.name.encode()).digest()


@dataclass
class Disk:
    """What a node keeps over a crash."""

    objects: dict[bytes, bytes] = field(default_factory=dict)
    partial: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    journal: list[Any] = field(default_factory=list)


class Grid(Cluster[Peer]):
    """Peers by name. `starts` lists (time, node, task, item) of every run, `answers` what clients were told."""

    def __init__(self, seed: int = 1, delay_s: tuple[float, float] = (0.0005, 0.003)) -> None:
        super().__init__(seed, delay_s)
        self.apps: dict[bytes, SimApp] = {}
        self.disks: dict[str, Disk] = {}
        self.speeds: dict[str, float] = {}
        self.settings = MembershipSettings()
        self.starts: list[tuple[float, str, str, str]] = []
        self.answers: dict[int, Answer] = {}
        self.sent: list[tuple[float, str, ef.Send]] = []
        self.bulk: SimBulk | None = None
        """set: nodes that start have a bulk channel"""
        self._seq = 0

    # --- nodes and clients -----------------------------------------------------------------------------------------

    def add_peer(self, name: str, seeds: Iterable[str] = (), speed: float = 1.0) -> Node[Peer]:
        draft, trust = fake_member(name)
        addresses = [f"{seed}:7000" for seed in seeds]
        disk = self.disks[name] = Disk()
        self.speeds[name] = speed

        def build(boot: int, rng: random.Random, now: float) -> Peer:
            record = msgspec.structs.replace(draft, boot=boot)
            membership = Membership(record, trust, self.settings, addresses, rng, now)
            peer = Peer(
                membership, trust.identity, rng, lambda *_: Issued("token"), PeerSettings(wall_offset_s=WALL_OFFSET_S)
            )
            peer.transfers.bulk = self.bulk is not None
            self.network.after(0.0, lambda: self._started(name, peer, disk))
            return peer

        return self.add(Seat(name, draft.id, draft.address, draft.curve_key), build)

    def _started(self, name: str, peer: Peer, disk: Disk) -> None:
        node = self.nodes[name]
        if node.running and node.machine is peer:
            node.perform(
                peer.restore(list(disk.journal), {name: len(data) for name, data in disk.objects.items()}, node.now)
            )
            values = {"cpus": 2, "speed": self.speeds[name], "load": 0.0, "memory_used": 0.1}
            node.give(ev.Sampled(values, WALL_OFFSET_S))

    def add_peers(self, count: int) -> list[str]:
        """node1..nodeN, each knowing node1 as its seed; run until all see all."""
        names = [f"node{i + 1}" for i in range(count)]
        for name in names:
            self.add_peer(name, [] if name == "node1" else ["node1"])
        took = self.run_until(lambda: all(len(self.nodes[n].machine.alive()) == count for n in names), 30.0)
        assert took is not None, "the cluster did not form"
        return names

    def id(self, name: str) -> str:
        return self.nodes[name].seat.peer

    def install(self, app: SimApp, *names: str) -> None:
        """Put an app's bundle into the stores of these nodes, as an upload would."""
        self.apps[app.bundle] = app
        for name in names:
            self.disks[name].objects[app.bundle] = app.spec.name.encode()
            self.nodes[name].give(ev.ObjectStored(app.bundle, len(app.spec.name)))

    def call(self, name: str, verb: str, **args: Any) -> int:
        """Ask an agent as a client does; the sequence number under which `answers` will hold the answer."""
        self._seq += 1
        self.nodes[name].give(ev.Received(f"{CLIENT_PREFIX}1", Call(self._seq, verb, args)))
        return self._seq

    def ask(self, name: str, verb: str, seconds: float = 20.0, **args: Any) -> Any:
        """Ask and wait; the body. RefusedError when the agent refuses, UnansweredError when nothing comes in time."""
        seq = self.call(name, verb, **args)
        took = self.run_until(lambda: seq in self.answers, seconds, every_s=0.01)
        if took is None:
            raise UnansweredError(f"{name} does not answer {verb}")
        answer = self.answers[seq]
        if answer.exit_code:
            raise RefusedError(answer.error, answer.hint, answer.exit_code)
        return answer.body

    def submit(self, name: str, app: SimApp, items: dict[str, bytes], **args: Any) -> dict[str, Any]:
        """Submit an app with these items at this node; the job object."""
        self.install(app, name)
        inputs = [self.upload(name, item, data) for item, data in items.items()]
        args = {"bundle": app.bundle.hex(), "size": 1, "app": app.spec.name, "ep": "off", "inputs": inputs, **args}
        body: dict[str, Any] = self.ask(name, "submit", **{**args, "size": len(app.spec.name)})
        return body

    def upload(self, name: str, item: str, data: bytes) -> dict[str, Any]:
        """One entry of `inputs`; large bytes go into the node's store first."""
        digest = sha256(data).digest()
        entry: dict[str, Any] = {"name": item, "sha256": digest.hex(), "size": len(data)}
        if len(data) <= INLINE_BYTES:
            return {**entry, "data": data}
        self.disks[name].objects[digest] = data
        self.nodes[name].give(ev.ObjectStored(digest, len(data)))
        return entry

    @staticmethod
    def small(name: str, data: bytes) -> Obj:
        """An object that travels inside messages."""
        return Obj(name, sha256(data).digest(), len(data), data)

    def results(self, name: str, job: str) -> dict[str, dict[tuple[str, str], bytes]]:
        """item -> (sink, file name) -> bytes, as the home of the job has them."""
        body = self.ask(name, "results", job=job)
        store = self.disks[body["home"]].objects
        return {
            item["name"]: {(r["sink"], r["name"]): store[bytes.fromhex(r["sha256"])] for r in item["results"]}
            for item in body["items"]
        }

    # --- the outside -----------------------------------------------------------------------------------------------

    def on_effect(self, node: Node[Peer], effect: Effect) -> None:
        if isinstance(effect, ef.Send):
            self.sent.append((self.now, node.seat.name, effect))
            if effect.dst.startswith(CLIENT_PREFIX) and isinstance(effect.message, Answer):
                self.answers[effect.message.seq] = effect.message
        action = _ACTIONS.get(type(effect))
        if action is not None:
            getattr(self, action.__name__)(node, effect)
        elif self.bulk is not None and (carry := _BULK.get(type(effect))) is not None:
            carry(self.bulk, node, effect)
        super().on_effect(node, effect)

    def _later(
        self, node: Node[Peer], seconds: float, event: ev.Event, objects: dict[bytes, bytes] | None = None
    ) -> None:
        """An answer of this very process, with what it stores: nothing when the process is gone by then."""
        machine = node.machine

        def arrive() -> None:
            if node.running and node.machine is machine:
                self.disks[node.seat.name].objects.update(objects or {})
                node.give(event)

        self.network.after(seconds, arrive)

    def _append(self, node: Node[Peer], effect: ef.Append) -> None:
        record = msgspec.to_builtins(effect.record, builtin_types=(bytes,))
        self.disks[node.seat.name].journal.append(record)

    def _write(self, node: Node[Peer], effect: ef.WriteChunk) -> None:
        disk = self.disks[node.seat.name]
        parts = disk.partial.setdefault(effect.sha256, {})
        parts[effect.offset] = effect.data
        if sum(map(len, parts.values())) == effect.size:
            data = b"".join(parts[offset] for offset in sorted(parts))
            del disk.partial[effect.sha256]
            error = "" if sha256(data).digest() == effect.sha256 or effect.sha256 in self.apps else "wrong digest"
            if not error:
                disk.objects[effect.sha256] = data
            self._later(node, 0.0, ev.ObjectStored(effect.sha256, effect.size, error))

    def _send_chunk(self, node: Node[Peer], effect: ef.SendChunk) -> None:
        data = self.disks[node.seat.name].objects.get(effect.sha256)
        message: Chunk | Missing = Missing(effect.sha256)
        if data is not None:
            part = data[effect.offset : effect.offset + effect.length]
            message = Chunk(effect.sha256, len(data), effect.offset, part)
        node.send(ef.Send(effect.dst, message))

    def _store(self, node: Node[Peer], effect: ef.StoreInline) -> None:
        self.disks[node.seat.name].objects[effect.sha256] = effect.data

    def _drop(self, node: Node[Peer], effect: ef.DropObject) -> None:
        self.disks[node.seat.name].objects.pop(effect.sha256, None)

    def _open(self, node: Node[Peer], effect: ef.OpenBundle) -> None:
        self._later(node, 0.01, ev.BundleOpened(effect.sha256, self.apps[effect.sha256].spec))

    def _run(self, node: Node[Peer], effect: ef.StartRun) -> None:
        """Run the task's function; it takes its time at this node's speed."""
        self.starts.append((self.now, node.seat.name, effect.task, effect.item))
        app = self.apps[node.machine.jobs.local[effect.job].job.spec.bundle]
        store = self.disks[node.seat.name].objects
        inputs = {
            parent: b"".join(obj.data if obj.data is not None else store[obj.sha256] for obj in objects)
            for parent, objects in effect.inputs
        }
        wanted = app.seconds.get(effect.task, 0.01)
        seconds = (wanted(self.rng) if callable(wanted) else wanted) / self.speeds[node.seat.name] + effect.after_s
        try:
            outputs, large = self._outputs(effect.task, app.functions[effect.task](inputs))
            self._later(node, seconds, ev.RunDone(effect.run, outputs, seconds), large)
        except TaskFailureError as failure:
            self._later(node, seconds, ev.RunFailed(effect.run, "error", str(failure)))
        except AgentEndedError:
            name, machine = node.seat.name, node.machine
            self.network.after(effect.after_s, lambda: self.crash(name) if node.machine is machine else None)

    def _outputs(self, task: str, value: Outputs) -> tuple[list[tuple[list[str], Obj]], dict[bytes, bytes]]:
        """What a run gives, and the bytes of its large objects by digest."""
        outputs: list[tuple[list[str], Obj]] = []
        large: dict[bytes, bytes] = {}
        if value is None:
            return outputs, large
        pairs = [([], value)] if isinstance(value, bytes) else [([child], data) for child, data in value.items()]
        for children, data in pairs:
            digest = sha256(data).digest()
            inline = data if len(data) <= INLINE_BYTES else None
            if inline is None:
                large[digest] = data
            outputs.append((list(children), Obj(task, digest, len(data), inline)))
        return outputs, large

    def _solve(self, node: Node[Peer], effect: ef.Solve) -> None:
        from jupiter_agent.adapters.solver import solve

        self._later(node, 0.01, solve(effect))

    def _choose(self, node: Node[Peer], effect: ef.ChooseNode) -> None:
        from jupiter_agent.adapters.foreign import answer

        found = answer({"choose": effect.view, "rule": effect.rule})
        self._later(node, 0.01, ev.NodeChosen(effect.job, effect.task, found.get("value", ""), found.get("error", "")))

    def _read_log(self, node: Node[Peer], effect: ef.ReadLog) -> None:
        text = f"{effect.task} on {node.seat.name}\n".encode()
        chunk = LogChunk(effect.seq, effect.offset, len(text), text[effect.offset :][: effect.length])
        self._later(node, 0.0, ev.Received(effect.dst, chunk))


_ACTIONS: dict[type[Effect], Callable[[Grid, Node[Peer], Any], None]] = {
    ef.Append: Grid._append,
    ef.WriteChunk: Grid._write,
    ef.SendChunk: Grid._send_chunk,
    ef.StoreInline: Grid._store,
    ef.DropObject: Grid._drop,
    ef.OpenBundle: Grid._open,
    ef.StartRun: Grid._run,
    ef.Solve: Grid._solve,
    ef.ChooseNode: Grid._choose,
    ef.ReadLog: Grid._read_log,
}
_BULK: dict[type[Effect], Callable[[SimBulk, Node[Peer], Any], None]] = {
    ef.TellBulk: SimBulk.tell,
    ef.FetchBulk: SimBulk.take,
    ef.DropBulk: SimBulk.drop,
}
