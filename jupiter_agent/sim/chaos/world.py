"""The cluster of one chaos run: a Grid whose disks lose their unsynced tail, and on which faults and traps fall."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jupiter_agent.core import effects as ef
from jupiter_agent.core import events as ev
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.jobs import Award, Finished, Registers
from jupiter_agent.core.peer import Peer
from jupiter_agent.sim.bulk import SimBulk
from jupiter_agent.sim.chaos.apps import ChaosApp
from jupiter_agent.sim.chaos.scenario import Fault
from jupiter_agent.sim.cluster import Node
from jupiter_agent.sim.grid import Disk, Grid

POLL_S = 0.25
TAIL_S = 3.0
"""Of what was not synced a power cut takes up to this long"""


@dataclass
class Tail:
    """What a disk may yet lose: when objects came that no synced record names, journal records not synced."""

    objects: dict[bytes, float] = field(default_factory=dict)
    synced: int = 0
    """journal records that are safe"""


class ChaosWorld(Grid):
    """`mortal_home`: the home of a job, or its copies, may be lost for good, as long as copies are left."""

    def __init__(self, seed: int, mortal_home: bool, replicas: int = 1) -> None:
        super().__init__(seed)
        self.chance = Random(seed * 31 + 7)
        if seed % 4 == 1:  # in the others objects come in chunks, as between agents that only messages reach
            self.bulk = SimBulk(self)
        self.mortal_home, self.replicas = mortal_home, replicas
        self.tails: dict[str, Tail] = {}
        self.gone: set[str] = set()
        self.traps: list[Fault] = []
        self.log: list[str] = []
        self.jobs: list[str] = []
        self.chaos_apps: dict[str, ChaosApp] = {}
        self.budget = 0
        """holders of copies that may yet be lost: set anew whenever all is fully copied and reachable"""
        self.losses = 0
        """agents that ended"""
        self.on_cancel: Callable[[], None] = lambda: None

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:8.3f} {text}")

    # --- who is what ---------------------------------------------------------------------------------------------

    def locals(self, job: str) -> Iterator[tuple[str, Local]]:
        """(node, its part in the job) of the running nodes."""
        for node in self.running():
            local = node.machine.jobs.local.get(job)
            if local is not None:
                yield node.seat.name, local

    def homes(self, job: str) -> list[str]:
        """Running nodes that act as home of the job."""
        return [name for name, local in self.locals(job) if local.home and local.job.home.writer == self.id(name)]

    def deputies(self, job: str) -> list[str]:
        """Whom the acting homes name as deputies."""
        named: dict[str, None] = {}
        for name, local in self.locals(job):
            if local.home and local.job.home.writer == self.id(name):
                named.update(dict.fromkeys(self.name(d) for d in deputies_of(local)))
        return list(named)

    def name(self, node: str) -> str:
        return next(name for name, each in self.nodes.items() if each.seat.peer == node)

    def holders(self) -> set[str]:
        """Nodes that hold something which nobody else may have: homes and deputies, living or down."""
        held: set[str] = set()
        for name, node in self.nodes.items():
            for local in node.machine.jobs.local.values() if name not in self.gone else ():
                if local.home:
                    held |= {name, *map(self.name, deputies_of(local))}
            if name not in self.gone and node.machine.jobs.succession.shelves:
                held.add(name)
        return held

    def poll(self) -> None:
        """See again and again whether losses are allowed: a cut, a crash or a false suspicion may cost a copy."""
        if self.jobs and all(self._whole(job) for job in self.jobs):
            self.budget = self.replicas
        self.network.after(POLL_S, self.poll)

    def _whole(self, job: str) -> bool:
        """Every acting home has its deputies, complete and in reach, and nobody else holds anything."""
        homes = self.homes(job)
        safe: set[str] = set(homes)
        for name in homes:
            local = self.nodes[name].machine.jobs.local[job]
            deputies = [self.name(node) for node in deputies_of(local)]
            if local.home is None or local.home.copies.degraded or any(self._apart(name, d) for d in deputies):
                return False
            safe |= set(deputies)
        others = [name for name in self.nodes if name not in self.gone and name not in safe]
        return bool(homes) and not any(job in self.nodes[n].machine.jobs.succession.shelves for n in others)

    def _apart(self, one: str, other: str) -> bool:
        a, b = self.nodes[one].seat.address, self.nodes[other].seat.address
        return not self.nodes[other].running or not self.network.both_ways(a, b)

    def find(self, who: str) -> str | None:
        """home, dep or a name -> a running node."""
        if who in self.nodes:
            return who if self.nodes[who].running else None
        found = [name for job in self.jobs for name in (self.homes(job) if who == "home" else self.deputies(job))]
        return self.chance.choice(found) if found else None

    # --- disks ---------------------------------------------------------------------------------------------------

    def tail(self, name: str) -> Tail:
        return self.tails.setdefault(name, Tail())

    def _sync(self, node: Node[Peer], effect: ef.Append) -> None:
        """A synced record makes safe what was journaled before it, and the objects that it names."""
        tail, journal = self.tail(node.seat.name), self.disks[node.seat.name].journal
        if effect.sync:
            for record in journal[tail.synced :]:
                for digest in _digests(record):
                    tail.objects.pop(digest, None)
            tail.synced = len(journal)

    def cut_power(self, name: str) -> None:
        """The machine stops at once: what was not synced within the last moments is gone."""
        disk, tail, since = self.disks[name], self.tail(name), self.now - self.chance.uniform(0, TAIL_S)
        for digest in [digest for digest, at in tail.objects.items() if at >= since]:
            disk.objects.pop(digest, None)
        disk.partial.clear()
        kept = self.chance.randint(tail.synced, len(disk.journal)) if len(disk.journal) > tail.synced else tail.synced
        del disk.journal[kept:]
        self.tails[name] = Tail(synced=len(disk.journal))

    # --- faults --------------------------------------------------------------------------------------------------

    def strike(self, fault: Fault, node: str = "") -> None:
        """Do what a fault says; `node`: where a trap was sprung."""
        _STRIKES[fault.kind](self, fault, node)

    def _down(self, fault: Fault, node: str) -> None:
        name = node or self.find(fault.who)
        if name is None or not self.nodes[name].running:
            return
        self.note(f"FAULT {fault.kind} {name} for {fault.seconds:g} s{' silently' if fault.silent else ''}")
        self.budget -= name in self.holders()
        self.crash(name, "silent" if fault.silent or fault.kind == "power" else "closed")
        if fault.kind == "power":
            self.cut_power(name)
        self.network.after(fault.seconds, lambda: self.back(name))

    def back(self, name: str) -> None:
        if not self.nodes[name].running and name not in self.gone:
            self.note(f"{name} starts again")
            self.start(name)

    def _wipe(self, fault: Fault, node: str) -> None:
        name = node or self.find(fault.who)
        if name is None or name in self.gone or not self._may_lose(name):
            return
        self.note(f"FAULT {name} lost for good{' silently' if fault.silent else ''}")
        self.budget -= name in self.holders()
        self.gone.add(name)
        self.crash(name, "silent" if fault.silent else "closed")
        self.disks[name] = Disk()
        self.nodes[name].machine.jobs.local.clear()
        self.nodes[name].machine.jobs.succession.shelves.clear()

    def _may_lose(self, name: str) -> bool:
        left = [each for each in self.nodes if each not in self.gone and each != name]
        if len(left) < self.replicas + 1 or len(left) < 2:
            return False
        return name not in self.holders() or (self.mortal_home and self.budget > 0)

    def _cut(self, fault: Fault, node: str) -> None:
        side = [node] if node else list(fault.nodes)
        rest = [name for name in self.nodes if name not in side]
        self.note(f"FAULT {','.join(side)} cut off for {fault.seconds:g} s")
        self.budget = 0
        cuts = {(a, b) for x in side for y in rest for a, b in ((x, y), (y, x))}
        self._sever(cuts, fault.seconds)

    def _oneway(self, fault: Fault, node: str) -> None:
        deaf, mute = self.find(fault.who), self.find(fault.nodes[0])
        if deaf and mute and deaf != mute:
            self.note(f"FAULT {deaf} hears nothing of {mute} for {fault.seconds:g} s")
            self.budget -= {deaf, mute} <= self.holders()
            self._sever({(mute, deaf)}, fault.seconds)

    def _sever(self, pairs: set[tuple[str, str]], seconds: float) -> None:
        """Cuts may overlap: each heals what it cut."""
        network = self.network
        cuts = [(self.nodes[a].seat.address, self.nodes[b].seat.address) for a, b in pairs]
        fresh = [cut for cut in cuts if cut not in network.cuts]
        network.cuts.update(fresh)
        network.after(network.lost_after_s, network._lose_unreachable)
        network.after(seconds, lambda: network.cuts.difference_update(fresh))

    def _loss(self, fault: Fault, node: str) -> None:
        before = self.network.loss
        self.note(f"FAULT half of all frames lost for {fault.seconds:g} s")
        self.network.loss = 0.5
        self.network.after(fault.seconds, lambda: setattr(self.network, "loss", min(before, 0.08)))

    def _blackout(self, fault: Fault, node: str) -> None:
        self.note("FAULT power cut everywhere")
        self.budget = 0
        for each in list(self.running()):
            name = each.seat.name
            self.crash(name, "silent")
            self.cut_power(name)
            self.network.after(fault.seconds + self.chance.uniform(0, 2), lambda name=name: self.back(name))  # type: ignore[misc]

    def _move(self, fault: Fault, node: str) -> None:
        asked = self.chance.choice([each.seat.name for each in self.running()] or [""])
        if asked and self.jobs:
            self.note(f"{asked} is asked to move {fault.task} to {fault.who}")
            self.call(asked, "remap", job=self.jobs[0], task=fault.task, node=fault.who)

    def _cancel(self, fault: Fault, node: str) -> None:
        self.on_cancel()

    def end_faults(self) -> None:
        """Everything works again, and all but the lost are back."""
        self.note("--- no more faults")
        self.traps.clear()
        self.heal()
        network = self.network
        network.loss = network.duplicate = network.reorder = 0.0
        for name in self.nodes:
            self.back(name)

    def crash(self, name: str, how: str = "closed") -> None:
        self.losses += 1
        super().crash(name, how)

    # --- traps ---------------------------------------------------------------------------------------------------

    def on_effect(self, node: Node[Peer], effect: Effect) -> None:
        super().on_effect(node, effect)
        name = node.seat.name
        if isinstance(effect, ef.Append):
            self._sync(node, effect)
            if isinstance(effect.record, tuple) and effect.record[2] == "item" and effect.record[3].get("results"):
                self.event("commit", name)
        elif isinstance(effect, ef.StoreInline | ef.WriteChunk):
            self.tail(name).objects[effect.sha256] = self.now
        elif isinstance(effect, ef.Send):
            message = effect.message
            if isinstance(message, Finished):
                self.event("finished", name)
            elif isinstance(message, Award | Registers) and any(r.writer == node.seat.peer for r in message.registers):
                self.event("write", name)
        elif isinstance(effect, ef.Notice):
            self.note(f"{name}: {effect.event} { ({k: v for k, v in effect.fields.items() if k != 'job'}) }")
            if effect.event in ("home taken over", "deputies named"):
                self.event("named" if effect.event == "deputies named" else "promote", name)

    def _run(self, node: Node[Peer], effect: ef.StartRun) -> None:
        app = self.chaos_apps.get(effect.job)
        if app is not None:
            app.item = (effect.job, effect.item)
        self.note(f"{node.seat.name} runs {effect.task} of {effect.item}")
        super()._run(node, effect)
        self.event("start", node.seat.name)

    def _later(
        self, node: Node[Peer], seconds: float, event: ev.Event, objects: dict[bytes, bytes] | None = None
    ) -> None:
        name, machine = node.seat.name, node.machine

        def stored() -> None:
            if node.running and node.machine is machine:
                self.tail(name).objects.update(dict.fromkeys(objects or {}, self.now))

        self.network.after(seconds, stored)
        super()._later(node, seconds, event, objects)
        if isinstance(event, ev.RunDone):
            self.network.after(seconds, lambda: self.event("end", name))

    def event(self, what: str, node: str) -> None:
        """A trap that waits for this is sprung a moment later."""
        for trap in self.traps:
            if trap.event == what and self.now >= trap.at:
                self.traps.remove(trap)
                self.network.after(trap.delay, lambda trap=trap: self.strike(trap, node))  # type: ignore[misc]
                break


_STRIKES: dict[str, Callable[[ChaosWorld, Fault, str], None]] = {
    "crash": ChaosWorld._down,
    "power": ChaosWorld._down,
    "wipe": ChaosWorld._wipe,
    "cut": ChaosWorld._cut,
    "oneway": ChaosWorld._oneway,
    "loss": ChaosWorld._loss,
    "blackout": ChaosWorld._blackout,
    "move": ChaosWorld._move,
    "cancel": ChaosWorld._cancel,
}


def deputies_of(local: Local) -> list[str]:
    """Ids of the deputies that a home names."""
    return list(local.home.copies.deputies.nodes) if local.home else []


def _digests(value: Any) -> Iterator[bytes]:
    """The 32-byte strings inside a journal record."""
    if isinstance(value, bytes) and len(value) == 32:
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _digests(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _digests(each)
