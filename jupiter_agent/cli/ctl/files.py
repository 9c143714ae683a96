"""Verbs that move files: put inputs in, take results out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl import completing, feeding, intake, saving, waiting
from jupiter_agent.cli.ctl.arguments import JobArgument
from jupiter_agent.cli.ctl.session import Session, session_of
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.units import count
from jupiter_agent.errors import UsageError


def put(
    ctx: typer.Context,
    job: JobArgument,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Files, or folders of files.")] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="ENTRY", help="Only for this entry task.", autocompletion=completing.task),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="NODE", help="Let the items enter at this node.", autocompletion=completing.node),
    ] = None,
    rename: Annotated[bool, typer.Option("--rename", help="Rename an item whose name is taken.")] = False,
    watch_dir: Annotated[
        Path | None,
        typer.Option("--watch-dir", metavar="DIR", help="Every file of DIR, and each that appears, until Ctrl-C."),
    ] = None,
) -> int:
    """Give a job more inputs: each file is one item."""
    session = session_of(ctx)
    if not paths and not watch_dir:
        raise UsageError("nothing to put", "name files, or a folder to watch: --watch-dir DIR")
    found = intake.collect(paths or [], may_repeat=rename)
    feed = feeding.Feed(session, job, task, at, rename)
    if watch_dir:
        return feeding.follow(feed, found, watch_dir)
    if session.output.is_data:
        feed.job = waiting.one_job(session, job)["id"]
    try:
        accepted, ignored = feed.put(found)
    finally:
        feed.close()
    if session.output.is_data:
        session.output.fields("put", {"job": feed.job, "accepted": accepted, "ignored": ignored})
    else:
        print("\n".join(accepted), end="\n" if accepted else "")
    return 0


def results(
    ctx: typer.Context,
    job: JobArgument,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write DIR/<item>/<sink task>/<file>.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until all items are done or failed.")] = False,
) -> int:
    """List a job's results, or write them to a folder."""
    session = session_of(ctx)
    if out and os.path.lexists(out):  # else it is made with the first result
        saving.make_folder(out, "--out")
    if follow:
        job_id = waiting.one_job(session, job)["id"]
        try:
            return _follow_results(session, job_id, out)
        except KeyboardInterrupt:
            return waiting.detached(job_id)
    body = session.ask("results", {"job": job})
    written = saving.save(session, body["items"], out) if out else []
    if out:
        say(f"{count(len(written), 'result')} written to {out}")
    extra = {key: value for key, value in body.items() if key != "items"}
    session.output.items("results", body["items"], {"job": job, **extra})
    return 0


def _follow_results(session: Session, job_id: str, out: Path | None) -> int:
    """Each finished item once, as it finishes; ends as `wait` does."""
    seen: set[str] = set()
    idle = 0
    for job in waiting.polls(session, job_id, None):
        items = session.ask_patiently("results", {"job": job_id})["items"]
        fresh = [item for item in items if item["name"] not in seen and item.get("state") in ("done", "failed")]
        for item in fresh:
            if out:
                saving.save(session, [item], out)
            session.output.stream("results", item)
            seen.add(item["name"])
        idle = idle + 1 if waiting.has_nothing_open(job) else 0
        if waiting.is_over(job) or idle >= 2:
            return waiting.outcome(session, job)
    return 0


VERBS: dict[str, Callable[..., Any]] = {"put": put, "results": results}
