"""The rules of the executor, each switched off in the machines themselves: a suite that does not notice tests nothing.

A mutation patches classes or functions of `core` for the time of one run. `seeds` are some that catch it; they go
stale when anything draws another random number, and `jupiter bench chaos --mutations` finds new ones. Rules whose
window random faults hit too rarely have a directed scenario instead (tests/sim/test_mutations.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import msgspec

from jupiter_agent.core import join
from jupiter_agent.core.copies import Stream
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.home import Home
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.intervals import FinishedSet
from jupiter_agent.core.job import Job
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.join import JoinBuffer
from jupiter_agent.core.messages.jobs import Parcel, ParcelReceived, Register, RegisterDigest
from jupiter_agent.core.outbox import Outbox, OutKey, Owed
from jupiter_agent.core.replication import Replication, Then
from jupiter_agent.core.shelf import Shelf
from jupiter_agent.core.spreading import Spreading
from jupiter_agent.core.succession import Succession
from jupiter_agent.core.wave import Wave

NEVER = 1_000_000
EVENT_S = 3.0
"""Who repairs on the event of a death only stops this long after it"""

Patches = list[tuple[Any, str, Any]]
"""(where, name, value instead)"""


@dataclass(frozen=True)
class Mutation:
    """`rule`: what is switched off. `patches` gives the replacements afresh. `caught`: False for a control."""

    name: str
    rule: str
    patches: Callable[[], Patches]
    seeds: tuple[int, ...] = ()
    caught: bool = True

    @contextmanager
    def applied(self) -> Iterator[None]:
        patches = self.patches()
        before = [(where, name, where.__dict__[name]) for where, name, _ in patches]
        for where, name, value in patches:
            setattr(where, name, value)
        try:
            yield
        finally:
            for where, name, value in before:
                setattr(where, name, value)


# --- joins -----------------------------------------------------------------------------------------------------------


def _ignore_stamps() -> Patches:
    def merged(parcels: Iterable[Parcel]) -> dict[str, bytes]:
        return {ancestor: stamp for parcel in parcels for ancestor, stamp in parcel.carried.items()}

    return [(join, "merged_stamps", merged)]


def _changed_parcels(change: Callable[[Parcel], Parcel | None]) -> Patches:
    emit = Execution.emit

    def mutated(self: Execution, parcels: list[Parcel], now: float) -> list[Effect]:
        return emit(self, [other for parcel in parcels if (other := change(parcel)) is not None], now)

    return [(Execution, "emit", mutated)]


def _bare_tokens() -> Patches:
    return _changed_parcels(lambda p: p if p.objects else msgspec.structs.replace(p, carried={}))


def _no_tokens() -> Patches:
    return _changed_parcels(lambda parcel: parcel if parcel.objects else None)


class FirstCome(JoinBuffer):
    """Takes the first parcel of each edge, whatever its stamps."""

    def sets(self, item: str) -> Iterator[tuple[dict[str, bytes], list[Parcel]]]:
        arrived = self._items.get(item, {})
        if all(arrived.get(edge) for edge in self._in_edges):
            yield {}, [next(iter(arrived[edge].values())) for edge in self._in_edges]


def _home_takes_first() -> Patches:
    begin = Execution.__init__

    def init(self: Execution, *args: Any) -> None:
        begin(self, *args)
        self.home_join = FirstCome(args[0].dag.in_edges(HOME))

    return [(Execution, "__init__", init)]


def _short_key() -> Patches:
    return [(join, "key_of", lambda parcel: (parcel.stamp, frozenset()))]


def _fire_once() -> Patches:
    begin = Job.__init__

    def init(self: Job, *args: Any) -> None:
        begin(self, *args)
        self.dag.need = dict.fromkeys(self.dag.need, frozenset())

    return [(Job, "__init__", init)]


def _fire_every_set_whole() -> Patches:
    """Not a rule of its own: the sets of all agreeing parcels, the product over the edges, are needed, too."""

    def sets(self: JoinBuffer, item: str) -> Iterator[tuple[dict[str, bytes], list[Parcel]]]:
        arrived = self._items.get(item, {})
        if any(not arrived.get(edge) for edge in self._in_edges):
            return
        for parcels in product(*([list(arrived[edge].values())[-1]] for edge in self._in_edges)):
            stamps = join.merged_stamps(parcels)
            if stamps is not None:
                yield stamps, list(parcels)

    return [(JoinBuffer, "sets", sets)]


# --- the outbox ------------------------------------------------------------------------------------------------------


def _boots_ignored() -> Patches:
    return [(Outbox, "_boot", lambda self, host: 0)]


def _flush(moved: Callable[[Outbox, Owed], bool]) -> Patches:
    """Received parcels are sent again for a new boot, and for a new host if `moved` says so."""

    def flush(self: Outbox, now: float) -> list[Effect]:
        for key, owed in list(self._kept.items()):
            same = self._job.host(owed.parcel.dst) == owed.target
            if (same and self._boot(owed.target) > owed.boot) or (not same and moved(self, owed)):
                self._pending[key] = self._kept.pop(key)
                owed.tries, owed.due = 0, now
        effects: list[Effect] = []
        for owed in list(self._pending.values()):
            if owed.target != self._job.host(owed.parcel.dst) or self._boot(owed.target) > owed.boot or owed.due <= now:
                effects += self._send(owed, now)
        self._look_ahead()
        return effects

    return [(Outbox, "flush", flush)]


def _never_to_new_hosts() -> Patches:
    return _flush(lambda outbox, owed: False)


def _moves_leave_the_rest() -> Patches:
    return _flush(lambda outbox, owed: outbox._around.is_gone(owed.target))


def _freed_when_received() -> Patches:
    received = Outbox.on_received

    def mutated(self: Outbox, node: str, ack: ParcelReceived) -> None:
        key: OutKey = (ack.item, ack.src, ack.dst, (ack.stamp, frozenset(ack.carried.items())))
        received(self, node, ack)
        if self._kept.pop(key, None) is not None:
            self._by_item[ack.item].discard(key)

    return [(Outbox, "on_received", mutated)]


# --- registers and repair --------------------------------------------------------------------------------------------


def _nobody_repairs() -> Patches:
    return [(Wave, "_repairer", lambda self, task: None)]


def _repair_on_events() -> Patches:
    is_lost = Wave._is_lost

    def mutated(self: Wave, node: str) -> bool:
        if not is_lost(self, node):
            return False
        since: dict[str, float] = self.__dict__.setdefault("_lost_since", {})
        return self._now - since.setdefault(node, self._now) < EVENT_S

    return [(Wave, "_is_lost", mutated)]


def _older_bases_rejected() -> Patches:
    def merge(self: Job, registers: list[Register]) -> list[Register]:
        won = []
        for register in registers:
            if register.task not in self.tasks and register.task not in self.side:
                continue
            self._named[register.node] = None
            mine = self.registers.get(register.task)
            known = register.basis >= self.basis(register.task)
            if mine is None or (known and register.version()[1:] > mine.version()[1:]):
                self.registers[register.task] = register
                won.append(register)
        self.changes += len(won)
        return won

    return [(Job, "merge", merge)]


def _one_way_digests() -> Patches:
    on_digest = Spreading.on_digest

    def mutated(self: Spreading, src: str, message: RegisterDigest) -> list[Effect]:
        return on_digest(self, src, msgspec.structs.replace(message, answer=True, finished=self.finished.digest()))

    return [(Spreading, "on_digest", mutated)]


def _home_asks_nobody() -> Patches:
    on_digest = Spreading.on_digest

    def mutated(self: Spreading, src: str, message: RegisterDigest) -> list[Effect]:
        if message.asker:
            return []
        return on_digest(self, src, message)

    return [(Spreading, "on_digest", mutated)]


def _finished_told_once() -> Patches:
    return [(FinishedSet, "digest", lambda self: 0)]


# --- home ------------------------------------------------------------------------------------------------------------


def _home_not_synced() -> Patches:
    append = Home._append
    owner = next(each for each in Home.__mro__ if "_append" in each.__dict__)

    def mutated(self: Home, kind: str, value: Any) -> Any:
        return msgspec.structs.replace(append(self, kind, value), sync=False)

    return [(owner, "_append", mutated)]


# --- copies and failover ---------------------------------------------------------------------------------------------


def _nothing_withheld(full: bool) -> Patches:
    """Acknowledgements (`full`: FINISHED) do not wait for the copies."""
    when = Replication.when

    def mutated(self: Replication, fully: bool, then: Then, now: float) -> list[Effect]:
        return then(now) if fully is full else when(self, fully, then, now)

    return [(Replication, "when", mutated)]


def _finished_though_degraded() -> Patches:
    when = Replication.when
    return [(Replication, "when", lambda self, full, then, now: when(self, False, then, now))]


def _no_promotion() -> Patches:
    return [(Succession, "_turn", lambda self, shelf: NEVER)]


def _no_new_deputies() -> Patches:
    replace = Replication.replace
    return [(Replication, "replace", lambda self: not self.deputies.n and replace(self))]


def _no_copies_of_before() -> Patches:
    begin = Stream.__init__

    def init(self: Stream, job: str, to: str, ident: Any, rest: Iterator[Any], at: int) -> None:
        begin(self, job, to, ident, iter([next(rest)]), at)

    return [(Stream, "__init__", init)]


def _no_hand_over() -> Patches:
    return [
        (Succession, "_hand_over", lambda self, shelf, now: []),
        (Shelf, "owes", lambda self, transfers: False),
    ]


def _let_go_at_once() -> Patches:
    learn = Shelf.learn
    return [(Shelf, "learn", lambda self, home, deputies, complete: learn(self, home, deputies, True))]


def _deputies_only() -> Patches:
    turn = Succession._turn

    def mutated(self: Succession, shelf: Shelf) -> int:
        return turn(self, shelf) if self._around.me in shelf.deputies.nodes else NEVER

    return [(Succession, "_turn", mutated)]


def _one_number_finished() -> Patches:
    def finish(self: Home, name: str, now: float) -> list[Effect]:
        item = self.items[name]
        if not item.pending:
            self._execution.finished.add(item.number)
        self._execution.on_finished(now)
        return self.telling.spread(now)

    return [(Home, "_finish", finish)]


def _specs_as_signed_once() -> Patches:
    return [(Jobs, "_vouched", lambda self, signed: signed)]


MUTATIONS: list[Mutation] = [
    Mutation("stamps", "joins compare the stamps of ancestors", _ignore_stamps),
    Mutation("token-stamps", "tokens carry stamps, as data do", _bare_tokens),
    Mutation("tokens", "an edge without data gets a token", _no_tokens, (1, 0)),
    Mutation("home-join", "home is a join: it commits an agreeing set", _home_takes_first),
    Mutation("carried-key", "a duplicate has the same stamp and the same carried stamps", _short_key),
    Mutation("refire", "a task runs once per value of the stamps its outputs carry", _fire_once),
    Mutation("all-sets", "every agreeing set is offered, not that of the newest only", _fire_every_set_whole),
    Mutation("new-boot", "what a receiver's earlier life had is sent again", _boots_ignored, (104, 156, 178, 256)),
    Mutation("new-host", "what an earlier host had is sent to the new one", _never_to_new_hosts, (0, 2)),
    Mutation("moves-whole", "a move sends every unfinished input again", _moves_leave_the_rest, (2,)),
    Mutation("kept", "outputs are kept until their item is finished", _freed_when_received, (0, 2)),
    Mutation("repair", "somebody places the tasks of a dead node anew", _nobody_repairs, (1, 7)),
    Mutation("repair-by-state", "as long as a register names a dead node, not on its death", _repair_on_events),
    Mutation("basis-order", "registers are ordered by basis, none is rejected", _older_bases_rejected, (33,)),
    Mutation("digests-both-ways", "who asks with a digest tells what it knows, too", _one_way_digests, (3, 11)),
    Mutation("deciders-tell", "what home may not tell its decider tells", _home_asks_nobody),
    Mutation("finished-spread", "what is finished spreads until all know it", _finished_told_once, (3, 11)),
    Mutation("home-synced", "home's journal is on disk before anybody is told", _home_not_synced),
    Mutation("acks-copied", "what is acknowledged is on the deputies", partial(_nothing_withheld, False)),
    Mutation("finished-copied", "FINISHED waits for the deputies", partial(_nothing_withheld, True)),
    Mutation("not-degraded", "FINISHED is withheld while copies are lacking", _finished_though_degraded),
    Mutation("promotion", "a deputy takes over", _no_promotion, (1, 5)),
    Mutation("new-deputies", "a lost deputy is replaced", _no_new_deputies, (31, 63)),
    Mutation("re-copied", "a new deputy gets what was before it", _no_copies_of_before, (1, 0)),
    Mutation("handed-over", "who is not home hands over what home may lack", _no_hand_over, (5, 9)),
    Mutation("kept-copies", "a replaced deputy keeps its copies until others have them", _let_go_at_once),
    Mutation("heirs", "with no deputy alive any holder of copies takes over", _deputies_only),
    Mutation("all-numbers", "a finished item is finished under all its numbers", _one_number_finished),
    Mutation("vouched", "the acting home signs the spec itself", _specs_as_signed_once),
]
