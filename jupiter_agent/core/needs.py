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
        pinned = [node for node in nodes if task.node in (node, around.name(node))]
        if pinned or not task.extra.get("soft"):
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
    pinned = [node for node in here if task.node in (node, around.name(node))]
    why = "; ".join(reasons(task, around, pinned if task.node else here))
    return (f"waits for node '{task.node}', to which it is pinned" if task.node else "waits for a node") + (
        f": {why}" if why else ""
    )


def reasons(task: TaskSpec, around: Surroundings, nodes: list[str] | None = None) -> list[str]:
    """Why each of these nodes (all that live) may not run a task, one line a node."""
    needs, lines = needs_of(task), []
    for node in around.alive() if nodes is None else nodes:
        profile, name = around.profile(node), around.name(node)
        why = lacking(needs, profile)
        if task.node and task.node not in (node, name):
            why = [f"is not '{task.node}'", *why]
        if not profile.takes_tasks:
            why = ["its disk is full" if profile.full else "takes no tasks", *why]
        if around.is_gone(node):
            why = ["is gone", *why]
        lines.append(f"{name}: {'; '.join(why)}")
    return lines
