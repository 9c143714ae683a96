"""What must hold in any story of a cluster: an auditor that watches every event and effect of a `World`.

Safety, always:

* *Versions only grow.* At every observer, per member: boot and incarnation, and the versions of published keys.
* *Nobody is buried too early.* A silent member not before the time that Lifeguard's formula gives for the accusers
  there really were, each counted once; a refused one not on fewer different witnesses than the size of the cluster asks
  for. The auditor counts the signed claims itself.
* *Evidence counts.* Nobody is buried as silent by one who has had newer data written by the member itself meanwhile.
* *No live connected member is dead.* Whoever is declared dead had a reason to look dead to that observer lately; the
  reasons are the faults of the story (`Reasons`).

And when the story is over (`check_quiet`): all see the same, nothing waits in a queue, no table is larger than the
cluster explains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.events import Event, Received
from jupiter_agent.core.membership import MemberChanged, Membership, MembershipSettings, ProfileChanged
from jupiter_agent.core.messages.membership import REFUSED, SUSPECTED, Claim, News
from jupiter_agent.sim.cluster import Node
from jupiter_agent.sim.world import PUBLISHED, World

Reasons = Callable[[str, str, float], bool]
"""(observer, member, time) -> whether the member may look dead to that observer"""

KEYS_PER_MEMBER = 4
TABLE_SLACK = 64
PROPER_SUSPICION_S = MembershipSettings.suspicion_s
"""the rule, whatever is planted in the machine later"""
TOLERANCE_S = 0.1
"""a claim leaves up to a coalescing delay after it was made"""


class BrokenError(Exception):
    """An invariant does not hold."""


@dataclass
class Book:
    """What one process has been told: claims by subject, version and kind, when each accuser's word came first."""

    machine: Membership
    claims: dict[tuple[str, int, int, int], dict[str, float]] = field(default_factory=dict)
    suspected: dict[str, float] = field(default_factory=dict)
    """when the suspicion that is there, or was last, began"""
    heard_of: dict[str, float] = field(default_factory=dict)
    """when newer data written by a member itself arrived"""
    pauses: dict[str, int] = field(default_factory=dict)
    """at that time: who slept dates its suspicions anew"""
    versions: dict[str, tuple[int, int]] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


class Auditor:
    """Raises BrokenError from within the run, so that the story stops where it went wrong."""

    def __init__(self, world: World, reasons: Reasons) -> None:
        self._world, self._reasons = world, reasons
        self._rules = PROPER_SUSPICION_S
        self._books: dict[str, Book] = {}
        self.deaths = 0
        """how often a member was declared dead, by anybody"""

    def broken(self, what: str) -> BrokenError:
        return BrokenError(f"at {self._world.now:.2f} s: {what}")

    def _book(self, node: Node[Membership]) -> Book:
        book = self._books.get(node.seat.name)
        if book is None or book.machine is not node.machine:
            book = self._books[node.seat.name] = Book(node.machine)
        return book

    # --- events and effects ---

    def on_event(self, node: Node[Membership], event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.message, News):
            self._heard(node, event.message.claims)

    def on_effect(self, node: Node[Membership], effect: Effect) -> None:
        if isinstance(effect, Send) and isinstance(effect.message, News):
            self._heard(node, [claim for claim in effect.message.claims if claim.by == node.seat.peer])
        elif isinstance(effect, Notice) and effect.event == "member dead":
            self._on_death(node, str(effect.fields["peer"]), str(effect.fields["why"]))
        elif isinstance(effect, MemberChanged):
            self.deaths += effect.state == "dead"
            if effect.state == "suspect":
                book = self._book(node)
                book.suspected[effect.peer] = node.now
                book.pauses[effect.peer] = node.machine.counters["pauses"]
        elif isinstance(effect, ProfileChanged):
            self._book(node).heard_of[effect.peer] = node.now

    def _heard(self, node: Node[Membership], claims: list[Claim]) -> None:
        for claim in claims:
            if claim.kind in {SUSPECTED, REFUSED}:
                told = self._book(node).claims.setdefault(
                    (claim.subject, claim.boot, claim.incarnation, claim.kind), {}
                )
                told.setdefault(claim.by, node.now)

    def _on_death(self, node: Node[Membership], peer: str, why: str) -> None:
        names = {other.seat.peer: name for name, other in self._world.nodes.items()}
        who, version = names.get(peer, peer), node.machine.members()[peer].version
        size = len(node.machine.alive()) + 1
        book = self._book(node)
        told, since = book.claims, book.suspected.get(peer, node.now)
        if why == "silent":
            self._check_evidence(node, book, peer, who)
            accusers = told.get((peer, *version, SUSPECTED), {})
            first = min(accusers.values(), default=since)
            least = self._rules(self._world.settings, size, len({*accusers, node.seat.peer}))
            if node.now - first < least - TOLERANCE_S:
                raise self.broken(
                    f"{node.seat.name} buried {who} {node.now - first:.2f} s after it was accused by {len(accusers)}; "
                    f"{size} members have to wait {least:.2f} s"
                )
        elif why == "refused":
            refusers = {*told.get((peer, *version, REFUSED), {}), node.seat.peer}
            witnesses, needed = len(refusers), 2 if size > 3 else 1
            if witnesses < needed:
                raise self.broken(f"{node.seat.name} buried {who} on the word of {witnesses}, not {needed}")
        if not self._reasons(node.seat.name, who, self._world.now):
            raise self.broken(f"{node.seat.name} declared {who} dead ({why}), which is alive and connected")

    def _check_evidence(self, node: Node[Membership], book: Book, peer: str, who: str) -> None:
        since, heard = book.suspected.get(peer, node.now), book.heard_of.get(peer, -1.0)
        slept = book.pauses.get(peer, 0) != node.machine.counters["pauses"]
        if not slept and heard > since + self._world.settings.evidence_s + TOLERANCE_S:
            raise self.broken(
                f"{node.seat.name} buried {who} as silent, with newer data of it {heard - since:.2f} s into suspicion"
            )

    # --- from time to time ---

    def check_growth(self) -> None:
        """Versions never go back at any observer."""
        for node in self._world.running():
            book, board = self._book(node), node.machine.board
            for peer, member in node.machine.members().items():
                before = book.versions.get(peer, (0, 0))
                if member.version < before:
                    raise self.broken(f"{node.seat.name} went from {before} back to {member.version} of {peer}")
                book.versions[peer] = member.version
                boot, versions = board.versions(peer)
                for key, number in versions.items():
                    if (boot, number) < book.keys.get((peer, key), (0, 0)):
                        raise self.broken(f"{node.seat.name} took an older {key} of {peer}")
                    book.keys[peer, key] = (boot, number)

    # --- in the end ---

    def check_quiet(self) -> None:
        """Views and boards are equal, and no table is larger than the members who ever were explain."""
        nodes = self._world.running()
        if not self._world.agreed():
            raise self.broken(f"views differ: {self.views()}")
        boards = {_published(node.machine, self._world.truth()) for node in nodes}
        if len(boards) > 1:
            raise self.broken("what is published differs from node to node")
        most = KEYS_PER_MEMBER * len(self._world.nodes) + TABLE_SLACK
        for node in nodes:
            for path, size in tables(node.machine).items():
                if size > most:
                    raise self.broken(f"{node.seat.name}: {path} has {size} entries, at most {most} make sense")

    def views(self) -> str:
        """Who holds whom for what they are not, for the report."""
        parts: list[str] = []
        for node in self._world.running():
            members = node.machine.members()
            wrong = []
            for name, other in self._world.nodes.items():
                member = members.get(other.seat.peer)
                state = "unknown" if member is None else member.state
                current = member is not None and member.record == other.machine.self_record
                if other.running != (state in {"alive", "suspect"}) or (other.running and not current):
                    wrong.append(f"{name} {state}{'' if current or not other.running else ' (old record)'}")
            if wrong and len(parts) < 5:
                parts.append(f"{node.seat.name} sees {', '.join(wrong[:6])}")
        return "; ".join(parts)


def _published(machine: Membership, peers: list[str]) -> tuple[tuple[int, ...], ...]:
    """The versions of what the world published; what a machine says of its own accord may change at any time."""
    return tuple(machine.board.version(peer, PUBLISHED) for peer in peers)


def tables(machine: object) -> dict[str, int]:
    """Every container reachable from a machine's own objects, by its path -> how many entries it has; of the containers
    of a kind (those of every link) the largest."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    todo: deque[tuple[str, Any]] = deque([(type(machine).__name__, machine)])
    while todo:
        path, thing = todo.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | deque | tuple | Mapping):
            if not isinstance(thing, tuple):
                sizes[path] = max(len(thing), sizes.get(path, 0))
            parts = thing.values() if isinstance(thing, Mapping) else thing
            todo.extend((path + "[]", part) for part in parts)
        elif type(thing).__module__.startswith("jupiter_agent.") and not isinstance(thing, type):
            todo.extend((f"{path}.{name}", part) for name, part in _attributes(thing))
    return sizes


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                yield name, getattr(thing, name)
