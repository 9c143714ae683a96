"""Where an app, its user or its inputs want to be: checked against who is here, before anything is accepted."""

from __future__ import annotations

import msgspec

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import SINK
from jupiter_agent.core.needs import NOTHING, candidates, needs_of, per_node
from jupiter_agent.core.needs import reasons as reasons_against
from jupiter_agent.core.submit_args import SubmitArgs, entries_of
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.errors import EXIT_UNPLACEABLE, JupiterError, UsageError


def check_places(around: Surroundings, args: SubmitArgs, app: AppSpec) -> list[str]:
    """Warnings. UsageError for a mapping that does not fit the DAG; exit 3 for places that are not there."""
    warnings: list[str] = []
    wanted = {task.name: task.node for task in app.tasks if task.node}
    mapping = args.mapping
    if mapping is not None:
        names, sinks = {task.name for task in app.tasks}, {t.name for t in app.tasks if t.contract == SINK}
        extra, lacking = sorted(set(mapping) - names - {HOME}), sorted(names - sinks - set(mapping))
        if extra or lacking:
            problem = f"names unknown tasks: {', '.join(extra)}" if extra else f"lacks tasks: {', '.join(lacking)}"
            raise UsageError(f"the mapping {problem}", "a static mapping places every task of the app, no others")
        wanted |= {task: node for task, node in mapping.items() if task != HOME}
    wished = {**app.placements, **{t.name: str(t.extra["host"]) for t in app.nondag if t.extra.get("host")}}
    if args.strict_hosts:
        wanted |= wished
    absent = {task: node for task, node in wanted.items() if not _is_here(around, node)}
    unknown = sorted({host for host in wished.values() if around.find(host) is None})
    if unknown:
        warnings.append(f"the app wishes hosts that are not here: {', '.join(unknown)}; the mapper chooses instead")
    if absent:
        here = ", ".join(around.name(node) for node in around.alive())
        why = "which is not there or takes no tasks"
        reasons = [f"task '{task}' wants node '{node}', {why}" for task, node in absent.items()]
        raise JupiterError(f"not placeable: {'; '.join(reasons)}", f"living nodes: {here}", EXIT_UNPLACEABLE)
    _check_needs(around, app, mapping or {})
    return warnings


def _check_needs(around: Surroundings, app: AppSpec, mapping: dict[str, str]) -> None:
    """Exit 3, with a reason for each node, for a task whose needs no living node meets, or not the one it is put on."""
    able = [node for node in around.alive() if around.profile(node).takes_tasks]
    for task in app.tasks:
        placed = msgspec.structs.replace(task, node=mapping.get(task.name, task.node))
        if task.contract == SINK or (needs_of(task) is NOTHING and able) or candidates(placed, around, able):
            continue
        hint = per_node(reasons_against(placed, around, around.alive()))
        raise JupiterError(f"not placeable: no node can run task '{task.name}'", hint, EXIT_UNPLACEABLE)


def input_at(around: Surroundings, at: dict[str, str], app: AppSpec) -> dict[str, str]:
    """Entry -> id of the node where its inputs will be put. UsageError for no entry, exit 3 for no living node."""
    found: dict[str, str] = {}
    for entry, name in sorted(at.items()):  # '' first: what is said of one entry counts more
        node = around.find(name)
        if node is None:
            what = f"there is no living node '{name}' to put inputs at"
            raise JupiterError(what, "see: jupiter ctl get nodes", EXIT_UNPLACEABLE)
        entries = app.sources.get(entry, [entry]) if entry else entries_of(app)
        if not set(entries) <= set(entries_of(app)):
            raise UsageError(f"'{entry}' is no entry task of the app", f"entry tasks: {', '.join(entries_of(app))}")
        found |= dict.fromkeys(entries, node)
    return found


def _is_here(around: Surroundings, name: str) -> bool:
    """A living node of this name takes tasks."""
    node = around.find(name)
    return node is not None and around.profile(node).takes_tasks
