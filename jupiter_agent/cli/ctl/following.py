"""Verbs that follow what is written elsewhere: task logs and the agents' events."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl import waiting
from jupiter_agent.cli.ctl.arguments import PlaceArgument
from jupiter_agent.cli.ctl.session import Session, session_of
from jupiter_agent.errors import EXIT_OK

FOLLOW_EVERY_S = 0.5
LOG_CHUNK_BYTES = 256 * 1024

Follow = Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is added.")]


class LogReader:
    """One task's log from the start, in whole lines: what has no line end yet waits for it."""

    def __init__(self, session: Session, job: str, task: str, node: str) -> None:
        self.job, self.task, self.node = job, task, node
        self._session = session
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""

    def read(self) -> list[str]:
        """All whole lines since the last call."""
        end = self._offset + 1
        while self._offset < end:
            place = {"job": self.job, "task": self.task, "offset": self._offset, "length": LOG_CHUNK_BYTES}
            body = self._session.ask("log", place)
            data, end = bytes(body["data"]), int(body["end"])
            if not data:
                break
            self._offset += len(data)
            self._partial += self._decoder.decode(data)
        *lines, self._partial = self._partial.split("\n")
        return lines

    def rest(self) -> list[str]:
        """The last line, when the log ends without a line end."""
        last, self._partial = self._partial, ""
        return [last] if last else []


def logs(
    ctx: typer.Context,
    place: PlaceArgument,
    follow: Follow = False,
) -> int:
    """What tasks wrote.

    Their stdout, stderr and log, from the nodes that keep it.
    """
    session = session_of(ctx)
    job, _, task = place.partition("/")
    if not follow:
        _print_whole(session, job, task)
        return EXIT_OK
    try:
        _follow_lines(session, job, task)
    except KeyboardInterrupt:
        return waiting.detached(job)
    return EXIT_OK


def _follow_lines(session: Session, job: str, task: str) -> None:
    """Whole lines as they come, until the job is over."""
    readers: dict[str, LogReader] = {}
    over = False
    while not over:
        readers = _find_readers(session, job, task, readers)
        over = waiting.is_over(waiting.one_job(session, job, patiently=True))
        _print_lines(session, readers, task, over)
        if not over:
            session.clock.sleep(FOLLOW_EVERY_S)


def _print_whole(session: Session, job: str, task: str) -> None:
    readers = _find_readers(session, job, task, {})
    if session.output.is_data:
        job = next((r.job for r in readers.values()), job)
        parts = [{"task": r.task, "node": r.node, "text": "\n".join([*r.read(), *r.rest()])} for r in readers.values()]
        session.output.fields("logs", {"job": job, "items": parts})
    else:
        _print_lines(session, readers, task, over=True)


def _find_readers(session: Session, job: str, task: str, known: dict[str, LogReader]) -> dict[str, LogReader]:
    """A reader per task; those open are kept while the log stays on its node, for a task that moved begins another."""
    body = session.ask("logs", {"job": job} | ({"task": task} if task else {}))
    readers: dict[str, LogReader] = {}
    for entry in body["logs"]:
        name, node = entry["task"], entry["node"]
        old = known.get(name)
        readers[name] = old if old and old.node == node else LogReader(session, body.get("job") or job, name, node)
    return readers


def _print_lines(session: Session, readers: dict[str, LogReader], task: str, over: bool) -> None:
    tasks = {reader.task for reader in readers.values()}
    width = max((len(name) for name in tasks), default=0)
    clean = units.log_text if sys.stdout.isatty() else str
    for reader in readers.values():
        prefix = "" if task or len(tasks) == 1 else f"{units.text(reader.task):<{width}} | "
        for line in reader.read() + (reader.rest() if over else []):
            if session.output.is_data:
                session.output.stream_object("log", {"task": reader.task, "node": reader.node, "line": line})
            else:
                print(prefix + clean(line))
    sys.stdout.flush()


def events(ctx: typer.Context, follow: Follow = False) -> None:
    """What agents noticed: members, jobs, failures."""
    session = session_of(ctx)
    body = session.ask("events", {"since": 0})
    while body.get("more"):
        later = session.ask("events", {"since": body["next"]})
        body = {**later, "events": [*body["events"], *later["events"]]}
    if not follow and session.output.is_data:
        session.output.items("events", body["events"])
        return
    while True:
        for event in body["events"]:
            session.output.stream("events", event)
        if not follow:
            return
        session.clock.sleep(FOLLOW_EVERY_S)
        body = session.ask_patiently("events", {"since": body["next"]})


VERBS: dict[str, Callable[..., Any]] = {"logs": logs, "events": events}
