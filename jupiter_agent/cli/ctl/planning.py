"""`plan`: where an app's tasks would run if it were submitted now, and until when. Nothing is started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl import bundles
from jupiter_agent.cli.ctl.arguments import AppArgument, Mapper, Seed
from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.cli.output import Format

PLAN_TIMEOUT_S = 120.0
"""A first plan may have to profile the app."""


def plan(ctx: typer.Context, app: AppArgument, mapper: Mapper = None, seed: Seed = None) -> None:
    """Where an app's tasks would run, and how long."""
    session = session_of(ctx)
    args: dict[str, Any] = {"app": app.resolve().name, "mapper": mapper, "seed": seed}
    _, bundle = bundles.pack(app)
    args |= bundles.send(session, bundle)
    body = session.ask("plan", {key: value for key, value in args.items() if value is not None}, PLAN_TIMEOUT_S)
    output = session.output
    if output.is_data:
        output.fields("plan", body)
        return
    output.items("plan", body.get("tasks") or [])
    if output.form is not Format.NAME:
        print(f"\n{units.text(body.get('mapper'))}: {units.seconds(body.get('makespan_s'))} for one item")


VERBS: dict[str, Callable[..., Any]] = {"plan": plan}
