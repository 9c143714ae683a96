"""One job as one node knows it: spec, DAG, the home register and the assignment registers (DESIGN.md 7, rule 6).

Registers are last-writer-wins, ordered by (basis, epoch, writer, boot). Nothing is rejected, older ones lose, so any
two nodes that have seen the same registers agree whatever the order of arrival. `basis` is the epoch of the
controller's register that the writer knew: a decision of a controller that was itself replaced loses against its
successor's.
"""

from __future__ import annotations

import zlib
from statistics import median
from typing import NamedTuple

import msgspec

from jupiter_agent.core.app_text import port_mapping
from jupiter_agent.core.bounds import struct_checker
from jupiter_agent.core.dag import Dag
from jupiter_agent.core.ids import HOME, is_item_name
from jupiter_agent.core.messages.jobs import EPOCH_MAX, HomeVersion, JobSpec, Register, SignedSpec, TaskSpec
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.errors import PeerError
from schedulers.local import Weights, controllers

SIGNED = b"jupiter job spec\0"
"""What a spec's signature is over, before the spec"""
SETTLE_S = 3.0
"""After a start: time for membership to say who is here before anything is decided"""

NAMED = 1024
"""Nodes that took part in a job once and are still told of it; who takes part now always is"""

WISH = 1000
"""So much a person's word adds to the basis of a register"""

UNKNOWN_BYTES = 4096
"""per item on an edge, where nothing was measured"""

LEAP = 1 << 20
"""No epoch gets so far ahead of what is known here: an untrue register of the highest epoch would stand for ever"""

ACTIVE = ("mapping", "running", "waiting")
"""States of a job that is not over."""

_rank_of_state = {"completed": 1, "failed": 1, "cancelled": 2}


_decode = msgspec.msgpack.Decoder(JobSpec).decode
_has_sense = struct_checker(JobSpec) or (lambda spec: True)


def decode_spec(signed: SignedSpec) -> JobSpec:
    """The spec inside; PeerError when it is malformed. The signature is the caller's to check, before."""
    try:
        spec = _decode(signed.spec)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise PeerError(f"a job spec does not decode: {error}") from None
    tasks = [*spec.tasks, *spec.nondag, *([spec.home_task] if spec.home_task else [])]
    if not all(map(is_item_name, [spec.id, *(task.name for task in tasks)])):  # they become names of folders and files
        raise PeerError(f"job spec {spec.id!r}: a name that cannot be a file's")
    if any(port_mapping(pair) != pair for pair in spec.ports):
        raise PeerError(f"job spec {spec.id}: no pairs of ports")
    if not _has_sense(spec) or not set(spec.weights) <= set(Weights._fields):
        raise PeerError(f"job spec {spec.id}: a number without meaning")
    return spec


def usual_bytes(edge_bytes: dict[str, int]) -> int:
    """What an edge carries of which nothing is known: the median of the measured ones, else of the inputs, else
    something."""
    inner = [size for edge, size in edge_bytes.items() if not edge.startswith(f"{HOME}>")]
    return int(median(inner or edge_bytes.values() or [UNKNOWN_BYTES]))


class Plan(NamedTuple):
    """What an auction promised of a task: `Register` says it to all."""

    done_s: float = 0.0
    sends: tuple[tuple[str, float], ...] = ()


UNPLANNED = Plan()


class Job:
    """Spec, DAG and registers of one job; the same on every node that takes part. UsageError: `Dag`."""

    def __init__(self, signed: SignedSpec, spec: JobSpec, home: HomeVersion) -> None:
        self.signed = signed
        self.spec = spec
        self.id = spec.id
        self.home = home
        self.dag = Dag(spec.tasks, spec.entries, spec.fed)
        parents = {task.name: self.dag.parents(task.name) for task in spec.tasks}
        self.tasks: dict[str, TaskSpec] = {
            task.name: msgspec.structs.replace(task, parents=parents[task.name]) for task in spec.tasks
        }
        """as the spec says, but for `parents`: those follow from the children"""
        self.side: dict[str, TaskSpec] = {task.name: task for task in spec.nondag}
        """tasks beside the DAG"""
        self.controllers: dict[str, str | None] = controllers(list(parents), parents)
        mean, seconds = spec.averages, {task: s * spec.averages.pace for task, s in spec.seconds.items()}
        self._usual_bytes = usual_bytes(spec.edge_bytes)
        sizes = {f"{u}>{v}": self.bytes_on(u, v) for u in self.dag.order for v in self.dag.out_edges(u)}
        self.ranks = self.dag.upward_ranks(seconds, sizes, mean.latency_s, mean.inv_rate)
        self.registers: dict[str, Register] = {}
        self._named: dict[str, None] = {}
        """nodes that some register named once, as host, home or deputy"""
        self.inputs: dict[str, tuple[str, int]] = {}
        """at home: entry -> where the inputs put last came from, and their mean bytes"""
        self.changes = 0
        """how often a register changed here"""
        self.over = ""
        """'' or the terminal state: completed, failed, cancelled"""

    @property
    def processes(self) -> list[str]:
        """Names of all tasks that have a process somewhere, the home script and those beside the DAG included."""
        return [*self.tasks, *self.side, *([HOME] if self.spec.home_task else [])]

    @property
    def mapped(self) -> bool:
        return len(self.registers) >= len(self.tasks) and all(task in self.registers for task in self.tasks)

    def host(self, task: str) -> str | None:
        """The node a task (or `home`) is assigned to, as far as known here."""
        if task == HOME:
            return self.home.writer
        register = self.registers.get(task)
        return register.node if register else None

    def input_from(self, entry: str) -> tuple[str, int]:
        """(node, bytes per item) where injected items of an entry come from: as seen last, as announced, or home."""
        node = self.spec.input_at.get(entry, self.home.writer)
        return self.inputs.get(entry, (node, self.spec.edge_bytes.get(f"{HOME}>{entry}", 0)))

    def bytes_on(self, parent: str, child: str) -> int:
        """Bytes per item on an edge: as measured, else the median of the edges that were, else the mean input."""
        known = self.spec.edge_bytes.get(f"{parent}>{child}")
        return self._usual_bytes if known is None else known

    def hosted_by(self, node: str) -> list[str]:
        return [task for task, register in self.registers.items() if register.node == node]

    def controller_host(self, task: str) -> str | None:
        """The node that decides where `task` runs: the host of its controller, home for entry tasks."""
        return self.host(self.controllers[task] or HOME)

    def basis(self, task: str) -> int:
        """Epoch of the controller's register as known here (of home's version for entry tasks)."""
        controller = self.controllers.get(task)
        if controller is None:
            return self.home.epoch
        register = self.registers.get(controller)
        return register.epoch if register else 0

    def ancestry(self, task: str) -> list[str]:
        """The chain of controllers above a task, nearest first, without home."""
        chain = []
        above = self.controllers.get(task)
        while above is not None:
            chain.append(above)
            above = self.controllers[above]
        return chain

    def merge(self, registers: list[Register]) -> list[Register]:
        """Take in registers; the ones that won. Registers of unknown tasks, and leaps of epochs, are a peer's
        mistake and ignored."""
        won = []
        for register in registers:
            if register.task not in self.tasks and register.task not in self.side:
                continue
            mine = self.registers.get(register.task)
            if max(register.epoch, register.basis) > LEAP + (max(mine.epoch, mine.basis) if mine else 0):
                continue
            self.involve([register.node])
            if mine is None or register.version() > mine.version():
                self.registers[register.task] = register
                won.append(register)
        self.changes += len(won)
        return won

    def merge_home(self, home: HomeVersion) -> bool:
        if home <= self.home or home.epoch > self.home.epoch + LEAP:
            return False
        self.home = home
        self.involve([home.writer])
        self.changes += 1
        return True

    def involve(self, nodes: list[str]) -> None:
        """These take part as well, or did: hosts, homes, holders of copies. Those named longest ago are forgotten."""
        self._named |= dict.fromkeys(nodes)
        while len(self._named) > NAMED:
            del self._named[next(iter(self._named))]

    def write(
        self, task: str, node: str, writer: tuple[str, int], why: str, wish: bool = False, plan: Plan = UNPLANNED
    ) -> Register:
        """A new register that wins over what is known here. `writer`: (node id, boot).

        `wish`: a person said so; it wins over repairs that somebody makes at the same time elsewhere, too.
        """
        mine = self.registers.get(task)
        basis = min(max(self.basis(task), mine.basis if mine else 0) + (WISH if wish else 0), EPOCH_MAX)
        epoch = min(mine.epoch + 1, EPOCH_MAX) if mine else 1
        left = mine.node if mine and mine.node != node else ""
        register = Register(task, node, basis, epoch, *writer, why, plan.done_s, list(plan.sends), left)
        self.registers[task] = register
        self.involve([node])
        self.changes += 1
        return register

    def end(self, state: str) -> bool:
        """Job state is a lattice: running < completed/failed < cancelled. True when this changed it."""
        if _rank_of_state[state] <= _rank_of_state.get(self.over, 0):
            return False
        self.over = state
        return True

    def digest(self) -> int:
        """One number over home version and registers: equal on nodes that know the same."""
        known = [
            self.home,
            sorted((task, *register.version(), register.node) for task, register in self.registers.items()),
        ]
        return zlib.crc32(msgspec.msgpack.encode(known))

    def hosts(self) -> list[str]:
        """Every node that a register or the home version names, in the order of the tasks."""
        return list(dict.fromkeys([*(register.node for register in self.registers.values()), self.home.writer]))

    def participants(self) -> list[str]:
        """The hosts, and whoever was one: after a partition nobody else tells them what they missed."""
        return list(dict.fromkeys([*self.hosts(), *self._named]))

    def tellable(self, around: Surroundings) -> list[Register]:
        """What this node tells others: all it knows. Home speaks of its own decisions only, and for the silent:
        writers that are gone, that nobody has heard of, or that started again and may have forgotten."""
        told, me = list(self.registers.values()), around.me

        def silent(r: Register) -> bool:
            return not around.knows(r.writer) or around.is_gone(r.writer) or around.boot_of(r.writer) > r.boot

        return told if me != self.home.writer else [r for r in told if me == r.writer or silent(r)]

    def check(self) -> None:
        """Raise when a register names a task that does not exist or differs from its key."""
        for task, register in self.registers.items():
            assert task in self.tasks or task in self.side, f"register of the unknown task {task}"
            assert register.task == task, f"register of {task} is {register}"
