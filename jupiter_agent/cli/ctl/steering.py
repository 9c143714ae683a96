"""Verbs that steer what runs: do failed items again, move tasks, empty a node, forget one that will not come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl import completing
from jupiter_agent.cli.ctl.arguments import JobArgument, NodeArgument
from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.cli.guard import say
from jupiter_agent.errors import UsageError


def retry(
    ctx: typer.Context,
    job: JobArgument,
    item: Annotated[str | None, typer.Argument(metavar="[ITEM]", help="Only this one; else all that failed.")] = None,
) -> None:
    """Run failed items again."""
    session = session_of(ctx)
    retried = list(session.call("retry", {"job": job} | ({"item": item} if item else {})).get("retried") or [])
    if session.output.is_data:
        session.output.fields("retry", {"job": job, "retried": retried})
        return
    print("\n".join(map(str, retried)), end="\n" if retried else "")
    if not retried:
        say("nothing had failed")


def remap(
    ctx: typer.Context,
    job: JobArgument,
    task: Annotated[
        str | None, typer.Option("--task", metavar="T", help="Move this one.", autocompletion=completing.task)
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="NODE", help="To this node.", autocompletion=completing.node)
    ] = None,
) -> None:
    """Map a running job anew, or move one task.

    By what is measured now; runs under way are finished where they are.
    """
    session = session_of(ctx)
    if (task is None) != (to is None):
        raise UsageError("--task and --to belong together", "without both, the job's mapper decides for all tasks")
    args = {"job": job} | ({"task": task, "node": to} if task else {})
    session.output.object("jobs", session.call("remap", args))


def drain(ctx: typer.Context, node: NodeArgument) -> None:
    """Move all tasks off a node, and give it no more.

    It stays a member.
    """
    session = session_of(ctx)
    session.output.object("drain", session.call("drain", {"node": node}))


def forget(ctx: typer.Context, node: NodeArgument) -> None:
    """Strike a dead or departed node from the list."""
    session = session_of(ctx)
    body = session.call("forget", {"node": node})
    if session.output.is_data:
        session.output.fields("forget", body)
    else:
        print(body.get("forgotten"))


VERBS: dict[str, Callable[..., Any]] = {"retry": retry, "remap": remap, "drain": drain, "forget": forget}
