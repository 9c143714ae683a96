"""`plan`: where an app's tasks would run if it were submitted now, until when, and what if nodes or links were others.

Nothing is started.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isnan
from typing import Annotated, Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl import bundles
from jupiter_agent.cli.ctl.arguments import AppArgument, Mapper, Seed
from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.cli.output import Format
from jupiter_agent.core.what_if import SPEEDS
from jupiter_agent.errors import UsageError

PLAN_TIMEOUT_S = 120.0
"""A first plan may have to profile the app."""

RATES = {"bit": 1 / 8, "kbit": 125.0, "mbit": 125e3, "gbit": 125e6}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([a-z]+)")

Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="CHANGE", help="What if: -N (not there), +N or +N:speed=2 (new), N:speed=0.5."),
]
Links = Annotated[
    list[str] | None,
    typer.Option("--link", metavar="A:B:RATE[:DELAY]", help="What if: such as a:b:5mbit, a:b:20ms, a:b:5mbit:20ms."),
]


def plan(
    ctx: typer.Context,
    app: AppArgument,
    mapper: Mapper = None,
    seed: Seed = None,
    node: Nodes = None,
    link: Links = None,
) -> None:
    """Where an app's tasks would run, and how long."""
    session = session_of(ctx)
    args: dict[str, Any] = {"app": app.resolve().name, "mapper": mapper, "seed": seed}
    args["what_if"] = what_if(node or [], link or []) or None
    _, bundle = bundles.pack(app)
    args |= bundles.send(session, bundle)
    body = session.ask("plan", {key: value for key, value in args.items() if value is not None}, PLAN_TIMEOUT_S)
    output = session.output
    if output.is_data:
        output.fields("plan", body)
        return
    output.items("plan", body.get("tasks") or [])
    if output.form is not Format.NAME:
        if links := body.get("links"):
            print()
            output.items("planned-links", links)
        print("\n" + "\n".join(summary(body)))


def summary(body: dict[str, Any]) -> list[str]:
    """What stands below the tables."""
    path = body.get("critical_path") or []
    steps = [f"{units.text(step.get('task'))}@{units.text(step.get('node'))}" for step in path]
    lines = [f"critical path: {' > '.join(steps)}"] if steps else []
    made = f"{units.text(body.get('mapper'))}: {units.seconds(body.get('makespan_s'))} for one item"
    rate, busiest = body.get("throughput_hz"), body.get("busiest")
    if rate and busiest:
        made += f", {rate:.3g} items/s ({units.text(busiest.get('node'))} is busy {units.text(busiest.get('what'))})"
    return [*lines, made]


def what_if(nodes: list[str], links: list[str]) -> dict[str, Any]:
    """The changes as the agent takes them; UsageError for one that cannot be read."""
    without, speeds, added = [], {}, []
    for word in nodes:
        name, colon, setting = word.lstrip("+-").partition(":")
        key, equals, value = setting.partition("=")
        if word.startswith("-") and name and not colon:
            without.append(name)
        elif name and word[0] != "-" and key == "speed" and equals and _is_number(value):
            if not SPEEDS[0] <= float(value) <= SPEEDS[1]:
                raise UsageError(f"--node {word}: a speed is from {SPEEDS[0]:g} to {SPEEDS[1]:g}")
            speeds[name] = float(value)
        elif word.startswith("+") and name and not colon:
            speeds[name] = 1.0
        else:
            raise UsageError(f"--node {word}: not -N, +N, +N:speed=X or N:speed=X")
        added += [name] * word.startswith("+")
    changes: dict[str, Any] = {"without": without, "speeds": speeds, "added": added}
    changes["links"] = [_link(word) for word in links]
    return {key: value for key, value in changes.items() if value}


def _is_number(text: str) -> bool:
    try:
        return not isnan(float(text))
    except ValueError:
        return False


def _link(word: str) -> dict[str, Any]:
    a, _, rest = word.partition(":")
    b, _, rest = rest.partition(":")
    found: dict[str, Any] = {"a": a, "b": b}
    for part in rest.split(":"):
        match = _QUANTITY.fullmatch(part.lower())
        if match and match[2] in RATES:
            found["bytes_per_s"] = float(match[1]) * RATES[match[2]]
        elif match and match[2] in TIMES:
            found["latency_s"] = float(match[1]) * TIMES[match[2]]
        else:
            raise UsageError(f"--link {word}: '{part}' is neither a rate nor a delay", "such as a:b:5mbit:20ms")
    if not a or not b or found.get("bytes_per_s") == 0:
        raise UsageError(f"--link {word}: not A:B:RATE[:DELAY]", "such as a:b:5mbit:20ms")
    return found


VERBS: dict[str, Callable[..., Any]] = {"plan": plan}
