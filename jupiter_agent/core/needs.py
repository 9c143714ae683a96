"""Which nodes may run a task, and why the others may not: `node:` and `needs:` of the app against published profiles.

Every mapper asks here, whoever maps: what a node does not say it does not have, for a need is no wish. Where nodes come
and go a task without a candidate waits; at submit it is refused with a reason for each node.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.surroundings import Profile, Surroundings

NEEDS = "needs"
"""where they are in `TaskSpec.extra`"""


class Needs(Struct, frozen=True):
    """What a node must have for a task."""

    cpus: Annotated[float, Meta(ge=0)] = 0
    memory: Annotated[int, Meta(ge=0)] = 0
    """bytes"""
    gpus: Annotated[int, Meta(ge=0)] = 0
    labels: dict[str, str] = {}


NOTHING = Needs()

MOST_REASONS, MOST_NAMES = 5, 3
"""that a summary names"""


def needs_of(task: TaskSpec) -> Needs:
    """What it needs; nothing where a spec from elsewhere holds something else."""
    written: Any = task.extra.get(NEEDS)
    if not written:
        return NOTHING
    try:
        return msgspec.convert(written, Needs)
    except msgspec.ValidationError:
        return NOTHING


def candidates(task: TaskSpec, around: Surroundings, nodes: list[str]) -> list[str]:
    """Those of `nodes` that may run it. A softly pinned task may run anywhere while its node is not among them."""
    if task.node:
        pinned = _pinned(task, around, nodes)
        if pinned or _is_pinned(task):
            nodes = pinned
    needs = needs_of(task)
    return nodes if needs is NOTHING else [node for node in nodes if not lacking(needs, around.profile(node))]


def lacking(needs: Needs, profile: Profile) -> list[str]:
    """What a node has too little of, in words."""
    found = []
    if profile.cpus < needs.cpus:
        found.append(f"{profile.cpus:g} cores, {needs.cpus:g} needed")
    if profile.memory_bytes < needs.memory:
        has = f"{profile.memory_bytes / 2**30:.3g} GiB of memory" if profile.memory_bytes else "does not say its memory"
        found.append(f"{has}, {needs.memory / 2**30:.3g} GiB needed")
    if profile.gpus < needs.gpus:
        found.append(f"{profile.gpus} GPUs, {needs.gpus} needed")
    for key, value in needs.labels.items():
        if profile.labels.get(key) != value:
            found.append(f"label {key} is {profile.labels.get(key, 'not set')}, not {value}")
    return found


def waits_for(task: TaskSpec, around: Surroundings) -> str:
    """What a task without a candidate waits for."""
    here = around.alive()
    if not _is_pinned(task):
        return f"waits for a node: {summary(task, around, here) or 'none is here'}"
    pinned = _pinned(task, around, here)
    lacks = f": {summary(task, around, pinned)}" if pinned else ""
    return f"waits for node '{task.node}', to which it is pinned{lacks}"


def summary(task: TaskSpec, around: Surroundings, nodes: list[str]) -> str:
    """Why these nodes may not run a task, in a line however many they are; '' if none says why."""
    same: dict[str, list[str]] = {}
    for name, why in reasons(task, around, nodes):
        if why:
            same.setdefault(why, []).append(name)
    words = [f"{_some(names)}: {why}" for why, names in list(same.items())[:MOST_REASONS]]
    return "; ".join([*words, *([f"and {len(same) - MOST_REASONS} more"] if len(same) > MOST_REASONS else [])])


def per_node(reasons: list[tuple[str, str]]) -> str:
    """A reason for each node that has one, in a line."""
    return "; ".join(f"{name}: {why}" for name, why in reasons if why)


def _pinned(task: TaskSpec, around: Surroundings, nodes: list[str]) -> list[str]:
    """Those of `nodes` that `node:` of the task names, by id or name."""
    return [node for node in nodes if task.node in (node, around.name(node))]


def _is_pinned(task: TaskSpec) -> bool:
    return bool(task.node) and not task.extra.get("soft")


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def reasons(task: TaskSpec, around: Surroundings, nodes: list[str]) -> list[tuple[str, str]]:
    """(name, why it may not run a task) of each of these nodes; '' for one that may."""
    needs, lines = needs_of(task), []
    for node in nodes:
        profile, name = around.profile(node), around.name(node)
        why = lacking(needs, profile)
        if _is_pinned(task) and task.node not in (node, name):
            why = [f"is not '{task.node}'", *why]
        if not profile.takes_tasks:
            why = ["its disk is full" if profile.full else "takes no tasks", *why]
        if around.is_gone(node):
            why = ["is gone", *why]
        lines.append((name, ", ".join(why)))
    return lines
