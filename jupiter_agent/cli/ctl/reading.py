"""Verbs that only look: get, describe, explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl import completing
from jupiter_agent.cli.ctl.arguments import JobArgument, KindArgument, TaskArgument
from jupiter_agent.cli.ctl.session import Session, session_of
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.kinds import KINDS, find_kind, generic_columns

WATCH_EVERY_S = 1.0


def get(
    ctx: typer.Context,
    kind: KindArgument,
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this one.", autocompletion=completing.object_id)
    ] = None,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on and print what changes.")] = False,
) -> None:
    """List objects of a kind."""
    session = session_of(ctx)
    plural = find_kind(kind)
    args = {"kind": plural} | ({"id": id} if id else {})
    if watch:
        _watch(session, plural, args)
    body = session.ask("get", args)
    missing = [units.text(name) for name in body.get("missing") or []]
    session.output.items(plural, body["items"], {"missing": missing} if missing else None)
    if missing:
        verb, whose = ("does", "its") if len(missing) == 1 else ("do", "their")
        say(f"{', '.join(missing)} {verb} not answer; {whose} jobs are not listed")


def _watch(session: Session, plural: str, args: dict[str, str]) -> None:
    """Every object that is new or changed since the last look, until Ctrl-C."""
    shown: dict[str, str] = {}
    while True:
        for row in session.ask_patiently("get", args)["items"]:
            key, now = KINDS[plural].key(row), session.output.shown(plural, row)
            if shown.get(key) != now:
                session.output.stream(plural, row)
                shown[key] = now
        session.clock.sleep(WATCH_EVERY_S)


def describe(
    ctx: typer.Context,
    kind: KindArgument,
    id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completing.object_id)],
) -> None:
    """Everything about one object."""
    session = session_of(ctx)
    plural = find_kind(kind)
    body = session.ask("describe", {"kind": plural, "id": id})
    session.output.fields(KINDS[plural].name, body, KINDS[plural].key(body))


def explain(
    ctx: typer.Context,
    job: JobArgument,
    task: TaskArgument = None,
) -> None:
    """Why each task is where it is.

    The candidates with their numbers and reasons, as the decider weighed them.
    """
    session = session_of(ctx)
    body = session.ask("explain", {"job": job} | ({"task": task} if task else {}))
    if session.output.is_data:
        session.output.fields("explanation", body)
        return
    if not body["tasks"]:
        print("nothing is decided yet; `jupiter ctl describe job` says how far it is, and why")
    for entry in body["tasks"]:
        by = f", decided by {units.text(entry['decided_by'])}" if entry.get("decided_by") else ""
        print(f"{units.text(entry.get('task'))} -> {units.text(entry.get('node'))}{by}")
        if entry.get("why"):
            print(f"  {units.text(entry['why'])}")
        for line in _unprofiled((body.get("profiling") or {}).get("errors") or {}, entry.get("task")):
            print(f"  {line}")
        if candidates := entry.get("candidates"):
            session.output.table(candidates, generic_columns(candidates))
        if len(history := entry.get("history") or []) > 1:
            print("  moved:")
            for place in history:
                at, node, why = (units.text(place.get(key)) for key in ("moved_at", "node", "why"))
                print(f"    {_when(place.get('moved_at'), at)} {node}: {why}")
        print()


def _unprofiled(errors: Mapping[str, Mapping[str, str]], task: Any) -> list[str]:
    """Why there is no sample run of a task: once for all nodes of which the same is true."""
    nodes: dict[str, list[str]] = {}
    for node, why in (errors.get(task) or {}).items():
        nodes.setdefault(why, []).append(node)
    return [f"no sample run on {units.text(', '.join(names))}: {units.text(why)}" for why, names in nodes.items()]


def _when(value: Any, otherwise: str) -> str:
    return units.timestamp(value, 0) if isinstance(value, int | float) else otherwise


VERBS: dict[str, Callable[..., Any]] = {"get": get, "describe": describe, "explain": explain}
