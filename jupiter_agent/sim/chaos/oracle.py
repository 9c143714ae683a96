"""What must hold in the end: one home, equal registers, every item out once and whole, cancels kept, nothing left.

`unsettled` says what is not so yet, or ''. It is asked until it is content or the time for that is over; what it says
then is the failure. Its first word is the class of the failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jupiter_agent.core.execution import Execution
from jupiter_agent.core.home import Home
from jupiter_agent.core.intake import Item
from jupiter_agent.core.local import Local
from jupiter_agent.core.records import kept
from jupiter_agent.core.shelf import Shelf
from jupiter_agent.core.strikes import OUT, POISON
from jupiter_agent.sim.chaos.world import ChaosWorld, deputies_of


def unsettled(world: ChaosWorld, job: str, acked: dict[str, bytes], cancelled: bool) -> str:
    """Of one job, all of whose faults are over."""
    homes = world.homes(job)
    if len(homes) != 1:
        return f"home: {len(homes)} nodes act as home of {job}: {homes}"
    local = world.nodes[homes[0]].machine.jobs.local[job]
    assert local.home is not None
    if cancelled:
        return _cancel_kept(world, job, local)
    return (
        _registers(world, job, local)
        or _items(world, local.home, acked)
        or next(_kept_for_finished(world, job, local.home), "")
        or _copies(world, job, homes[0], local)
    )


def _cancel_kept(world: ChaosWorld, job: str, local: Local) -> str:
    if local.job.over != "cancelled":
        return f"cancel: the acknowledged cancel of {job} is forgotten: {local.job.over or 'goes on'}"
    held = [name for name, each in world.locals(job) if each.home is None and name not in _named(world, local)]
    return f"leak: {held} take part in the cancelled {job}" if held else ""


def _named(world: ChaosWorld, local: Local) -> set[str]:
    return {world.name(node) for node in deputies_of(local)}


def _registers(world: ChaosWorld, job: str, home: Local) -> str:
    for name, local in world.locals(job):
        if local.job.home != home.job.home:
            return f"registers: {name} thinks that home is {local.job.home}, which is {home.job.home}"
        for task, register in local.job.registers.items():
            mine = home.job.registers.get(task)
            if mine is None or mine.version() != register.version():
                return f"registers: {name} has {register} for {task}, home has {mine}"
    dead = [t for t, r in home.job.registers.items() if not world.nodes[world.name(r.node)].running]
    return f"stuck: tasks {dead} are on nodes that are gone" if dead else ""


def _items(world: ChaosWorld, home: Home, acked: dict[str, bytes]) -> str:
    for name in acked:
        if name not in home.items:
            return f"lost: the acknowledged item {name} is unknown at home"
    for name, item in home.items.items():
        if item.state == "failed" and item.error.get("kind") == POISON and world.losses >= OUT:
            continue  # a dead letter: so many agents ended with it inside
        if item.state == "failed":
            return f"failed: {name}: {item.error}"
        if item.state != "done":
            return f"stuck: {name} is {item.state}"
    return ""


def _kept_for_finished(world: ChaosWorld, job: str, home: Home) -> Iterator[str]:
    """Whoever still keeps something for an item that is over."""
    for name, local in world.locals(job):
        if items := kept_items(local.execution):
            yield f"leak: {name} keeps {sorted(items)[:3]}"
    for node in world.running():
        if node.machine.queue.committed():
            yield f"leak: {node.seat.name} has attempts"


def _copies(world: ChaosWorld, job: str, home: str, local: Local) -> str:
    """Deputies hold what home holds; former holders hold nothing."""
    assert local.home is not None
    if local.home.copies.degraded:
        return f"copies: {home} says that {job} is degraded"
    named = _named(world, local)
    for node in world.running():
        name, shelf = node.seat.name, node.machine.jobs.succession.shelves.get(job)
        if shelf is None and name in named:
            return f"copies: the deputy {name} of {job} has none"
        if shelf is not None and name not in named:
            return f"leak: {name} keeps copies of {job} though it is no deputy"
        if shelf is not None and (odd := _odd(shelf, local.home)):
            return f"copies: {name} differs from home {home} of {job} in {odd}"
    return ""


def _odd(shelf: Shelf, home: Home) -> list[str]:
    """Items that a deputy knows otherwise than home does."""
    names = set(shelf.items) | set(home.items)
    return sorted(name for name in names if _said(shelf.items.get(name)) != _said(home.items.get(name)))


def _said(item: Item | None) -> Any:
    if item is None:
        return None
    return item.state if not item.pending else "open", item.number, item.others, item.results, item.conflicts


def results_of(world: ChaosWorld, job: str, name: str) -> dict[str, bytes] | None:
    """sink -> bytes of a finished item, from the disk of home; None when an object is not there."""
    home = world.homes(job)[0]
    machine = home_of(world, job)
    store = world.disks[home].objects
    results = {}
    for sink, obj in machine.items[name].results:
        if obj.sha256 not in store:
            return None
        results[sink] = store[obj.sha256]
    return results


def home_of(world: ChaosWorld, job: str) -> Home:
    machine = world.nodes[world.homes(job)[0]].machine.jobs.local[job].home
    assert machine is not None
    return machine


def kept_items(execution: Execution) -> set[str]:
    """Items for which an execution holds anything."""
    joins = [*execution._joins.values(), execution.home_join]
    items = {item for join in joins for item in join.items()} | execution.outbox.items() | set(execution._numbers)
    attempts = {attempt.item for attempt in execution._fetching} | {a.item for _, a in execution._retries}
    return items | attempts | set(execution.letters.failures)


def objects_left(world: ChaosWorld) -> str:
    """Objects that no node needs, after all jobs ended and were given time."""
    for node in world.running():
        transfers, results = node.machine.transfers, set()
        for local in node.machine.jobs.local.values():
            for item in local.home.items.values() if local.home else ():
                results |= {obj.sha256 for _, obj in item.results} | {obj.sha256 for obj in item.objects()}
        for shelf in node.machine.jobs.succession.shelves.values():
            results |= {obj.sha256 for item in shelf.items.values() for obj in kept(item)}
        if left := set(transfers._users) - results - set(transfers._pinned):
            return f"leak: {node.seat.name} keeps {len(left)} objects that nobody needs"
    return ""
