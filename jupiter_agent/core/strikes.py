"""Items that end whoever runs them (DESIGN.md 7, rule 11): told apart by strikes, run alone, given up.

The sender of a parcel counts. A host that is lost, or starts again, with a parcel that it had received is the first
strike: cheap, and unjust to what only waited there. From then on the parcel says so, the host announces its run to
the senders a moment before it starts, and only a run that was announced is struck again. With two strikes a run has
no other of its job beside it on the node. With three the item is a dead letter: home keeps its inputs, `get items`
says why, `retry` tries again. Home hears of all announced runs, and keeps them in the item's record, so that the next
home counts on. What a run with strikes puts out has them, too: its sender may die with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import ItemFailed, Parcel, RunStarted

ALONE, OUT = 2, 3
LEAD_S = 0.05
"""from an announcement to its run: the words must have left the node before it may be ended"""
POISON, UNPLACEABLE = "poison", "unplaceable"
"""kind of failure"""


def strikes_of(parcels: Iterable[Parcel]) -> int:
    return max(parcel.strikes for parcel in parcels)


def watchers(job: Job, parcels: Iterable[Parcel], me: str) -> list[str]:
    """Whoever may have to send these parcels again, as far as known here; home always, be it this node."""
    hosts = [job.host(parcel.src) for parcel in parcels] + [job.host(HOME)]
    return [host for host in dict.fromkeys(hosts) if host and (host != me or host == job.host(HOME))]


def announcement(run: tuple[str, str, str], to: Iterable[str], over: bool = False) -> list[Effect]:
    """A run (job, task, item) begins, or is over."""
    job, task, item = run
    return [Send(node, RunStarted(job, item, task, over)) for node in to]


def suspects(lost: list[tuple[str, int, str]]) -> tuple[str, list[tuple[str, int]]]:
    """Of runs (node, boot, task) of one item whose agents ended: the task to blame, and the agents that count.

    Runs of other tasks were going on beside it, so what ended their agents, too, need not be the item: a power cut
    ends all agents at once, and an item may be on many. Only one task's losses count, then.
    """
    by_task: dict[str, dict[tuple[str, int], None]] = {}
    for node, boot, task in lost:
        by_task.setdefault(task, {})[node, boot] = None
    task = max(sorted(by_task), key=lambda each: len(by_task[each]))
    return task, list(by_task[task])


def poison_letter(
    ids: tuple[str, str], item: str, ended: list[tuple[str, int]], name: Callable[[str], str]
) -> ItemFailed:
    """Of an item that home knows to have ended the agents `ended` (node, boot), after a first one. `ids`: job, home."""
    job, home = ids
    hosts = ", ".join(name(node) for node, _ in ended)
    error = f"given up after {1 + len(ended)} agents ended while '{item}' ran there, the last {hosts}"
    return ItemFailed(job, item, "", home, OUT, POISON, error)


def dead_letter(parcel: Parcel, node: str, lost: list[str], name: Callable[[str], str]) -> ItemFailed:
    """What home is told by `node` of an item that is given up; `lost`: hosts that ended with it."""
    hosts = ", ".join(map(name, lost))
    where = f"'{parcel.item}' was in '{parcel.dst}' or behind it"
    error = f"given up after {OUT} agents ended while {where}, the last {hosts}"
    return ItemFailed(parcel.job, parcel.item, parcel.dst, node, OUT, POISON, error)
