"""Watching a job until it settles, and what its end means for the exit code (DESIGN 10, "Life of a job")."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.cli.guard import say, say_error
from jupiter_agent.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TIMEOUT,
    EXIT_UNAUTHORISED,
    EXIT_USAGE,
    JupiterError,
    UsageError,
)

Job = dict[str, Any]

TERMINAL = ("completed", "failed", "cancelled")
POLL_FIRST_S, POLL_GROWTH, POLL_LAST_S = 0.1, 1.3, 0.5
SHOWN_ERRORS = 10
FINAL = (EXIT_USAGE, EXIT_UNAUTHORISED)
"""Errors that trying again does not mend"""
REMARK_EVERY_S = 2.0
UNMAPPED_S = 3.0
"""So often a job that is being mapped is asked what it waits for"""


def one_job(session: Session, job: str, patiently: bool = False, until: float | None = None) -> Job:
    """The job object; UsageError when the agent knows no such job. `until`: of the clock, how long patience lasts."""
    args = {"kind": "jobs", "id": job}
    items = (session.ask_patiently("get", args, until) if patiently else session.ask("get", args))["items"]
    if not items:
        raise UsageError(f"no job {job!r}", "`jupiter ctl get jobs` lists them")
    return dict(items[0])


def first_look(session: Session, job: str, deadline: float | None) -> Job:
    """The job before it is waited for: its home may be away just now, but a mistaken name is told at once."""
    try:
        return one_job(session, job)
    except JupiterError as error:
        if error.exit_code in FINAL:
            raise
        say(f"{error.message}; trying again")
        return one_job(session, job, patiently=True, until=deadline)


def is_over(job: Job) -> bool:
    """Nothing will change any more."""
    return job.get("state") in TERMINAL


def has_nothing_open(job: Job) -> bool:
    """All items accepted so far are done or failed."""
    finished = (job.get("items_done") or 0) + (job.get("items_failed") or 0)
    return job.get("state") in ("running", "waiting") and finished >= (job.get("items_in") or 0)


def polls(session: Session, job_id: str, deadline: float | None) -> Iterator[Job]:
    """The job again and again, at growing distances; exit code 6 at the deadline."""
    pause = POLL_FIRST_S
    while True:
        yield one_job(session, job_id, patiently=True, until=deadline)
        left = float("inf") if deadline is None else deadline - session.clock.now()
        if left <= 0:
            hint = f"it goes on; `jupiter ctl wait {job_id}` waits again"
            raise JupiterError(f"timeout: job {job_id} is not done yet", hint, EXIT_TIMEOUT)
        session.clock.sleep(min(pause, left))
        pause = min(pause * POLL_GROWTH, POLL_LAST_S)


def settle(
    session: Session, job_id: str, timeout_s: float | None, intake_closed: bool, show: Callable[[Job], None]
) -> Job:
    """The job once all items accepted so far are done or failed.

    A job with intake open is settled when two polls in a row find nothing open: an item on its way in is counted a
    moment after its intake was acknowledged elsewhere. With intake closed only the end counts.
    """
    deadline = None if timeout_s is None else session.clock.now() + timeout_s
    idle = 0
    for job in polls(session, job_id, deadline):
        show(job)
        idle = idle + 1 if has_nothing_open(job) else 0
        late = deadline is not None and session.clock.now() >= deadline  # there will be no second look
        if is_over(job) or (idle >= (1 if late else 2) and not intake_closed):
            return job
    raise AssertionError("polls() never ends by itself")


class Progress:
    """One line on stderr: rewritten on a terminal; elsewhere a new one per state, and at most every 2 s."""

    def __init__(self, session: Session) -> None:
        self._session, self._clock = session, session.clock
        self._look_at: float = session.clock.now() + UNMAPPED_S
        """when it is asked what a job waits for that is not mapped; never again once it was said"""
        self._last = ("", "")
        self._said_at = float("-inf")
        self._live = sys.stderr.isatty()

    def __call__(self, job: Job) -> None:
        state = units.text(job.get("state"))
        line = f"{units.text(job.get('id'))} {state}: {job.get('items_done') or 0}/{job.get('items_in') or 0} items"
        if job.get("items_failed"):
            line += f", {job['items_failed']} failed"
        if self._live:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        elif line != self._last[1] and (state != self._last[0] or self._clock.now() - self._said_at >= REMARK_EVERY_S):
            say(line)
            self._last, self._said_at = (state, line), self._clock.now()
        if state == "mapping" and self._clock.now() >= self._look_at:
            self._say_what_waits(job)

    def _say_what_waits(self, job: Job) -> None:
        self._look_at = self._clock.now() + UNMAPPED_S
        try:
            tasks = self._session.ask("describe", {"kind": "jobs", "id": job["id"]}, REMARK_EVERY_S).get("tasks") or []
        except JupiterError:
            return  # it is a remark only
        waiting = [task for task in tasks if task.get("why")]
        if waiting:
            self._look_at = float("inf")
            self.close()
        for task in waiting[:SHOWN_ERRORS]:
            say(f"task {units.text(task.get('name'))} {units.text(task['why'])}")

    def close(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def detached(job_id: str) -> int:
    """Ctrl-C while waiting: the job is not ours to stop."""
    say(f"detached: job {job_id} goes on")
    say(f"hint: `jupiter ctl wait {job_id}` waits again, `jupiter ctl cancel {job_id}` stops it")
    return EXIT_INTERRUPTED


def outcome(session: Session, job: Job) -> int:
    """The exit code of a settled job; says what failed where."""
    if job.get("home_lost"):
        say(f"job {job['id']} {job.get('state')}; its home, node {job.get('home')}, is lost, and what it kept with it")
        say("hint: start that agent again with its state folder: results and errors are there")
        return EXIT_OK if job.get("state") == "completed" else EXIT_FAILED
    if job.get("state") != "failed" and not job.get("items_failed"):
        if job.get("state") == "cancelled":
            say_error(f"job {job['id']} was cancelled")
            return EXIT_FAILED
        return EXIT_OK
    details = session.ask_patiently("describe", {"kind": "jobs", "id": job["id"]})
    if details.get("reason"):
        say_error(f"job {job['id']} failed: {details['reason']}")
        return int(details.get("exit_code") or EXIT_FAILED)
    errors: list[dict[str, Any]] = details.get("errors") or []
    for error in errors[:SHOWN_ERRORS]:
        say_error(_one_line(error))
    all_of_them = max(len(errors), details.get("items_failed") or 0) if errors else 0
    if all_of_them > SHOWN_ERRORS:
        say_error(f"and {all_of_them - min(len(errors), SHOWN_ERRORS)} more")
    if not errors:
        say_error(f"job {job['id']} failed: no item says why")
    tasks = {error["task"]: None for error in errors if error.get("task")}
    say(f"hint: `jupiter ctl logs {job['id']}{'/' + next(iter(tasks)) if tasks else ''}` has the whole story")
    return EXIT_FAILED


def _one_line(error: dict[str, Any]) -> str:
    lines = [line for line in str(error.get("error") or "no message").splitlines() if line.strip()]
    places = (("item", "item"), ("task", "task"), ("on", "node"))
    where = " ".join(f"{word} {units.text(error[key])}" for word, key in places if error.get(key))
    return f"{where}: {units.log_text(lines[-1].strip() if lines else 'no message')}"
