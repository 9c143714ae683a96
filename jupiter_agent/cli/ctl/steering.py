"""Verbs that steer what runs: do failed items again, move tasks, empty a node, forget one that will not come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl import completing
from jupiter_agent.cli.ctl.arguments import JobArgument, NodeArgument
from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format
from jupiter_agent.cli.units import count
from jupiter_agent.errors import UsageError


def retry(
    ctx: typer.Context,
    job: JobArgument,
    item: Annotated[
        str | None,
        typer.Argument(
            metavar="[ITEM]", help="Only this one; else all that failed.", autocompletion=completing.failed_item
        ),
    ] = None,
) -> None:
    """Run failed items again, as a new job.

    Of the same app, with the same settings. `-o name` prints its id.
    """
    session = session_of(ctx)
    body = session.call("retry", {"job": job} | ({"item": item} if item else {}))
    retried, new = [str(name) for name in body.get("retried") or []], str(body.get("job") or job)
    if session.output.is_data:
        session.output.fields("retry", {"job": new, "retried": retried})
    elif session.output.form is Format.NAME:
        print(new)
    else:
        print("\n".join(retried), end="\n" if retried else "")
        say(f"{count(len(retried), 'item')} tried again in job {new}: `jupiter ctl wait {new}`")


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

    Without --task the job's mapper decides for all tasks, by what is known now; those that it puts elsewhere move.
    Runs under way are finished where they are.
    """
    session = session_of(ctx)
    if (task is None) != (to is None):
        raise UsageError("--task and --to belong together", "without both, the job's mapper decides for all tasks")
    args = {"job": job} | ({"task": task, "node": to} if task else {})
    body = dict(session.call("remap", args))
    moved = body.get("moved")
    if moved is not None:
        say("moved: " + ", ".join(f"{name} to {node}" for name, node in moved.items()) if moved else "nothing moved")
    session.output.object("jobs", body)


def drain(ctx: typer.Context, node: NodeArgument) -> None:
    """Move all tasks off a node, and give it no more.

    It stays a member. A restart of its agent ends it.
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
