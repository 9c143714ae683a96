"""Putting inputs into a running job: once, or every file of a folder as it appears (`put --watch-dir`).

A put repeated with the same bytes changes nothing, so one whose answer was lost is simply done again, if need be
through another agent. With `--at` only that node's agent will do, and it is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jupiter_agent.cli.ctl import intake, waiting
from jupiter_agent.cli.ctl.folder import Folder
from jupiter_agent.cli.ctl.intake import Input
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.cli.guard import say, say_error
from jupiter_agent.cli.units import count
from jupiter_agent.errors import EXIT_OK, EXIT_USAGE, JupiterError

LOOK_EVERY_S = 0.25
ASK_EVERY_S = 5.0
"""How often an idle feed asks whether its job still runs."""
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 5.0

BATCH = 50
"""Files of one put."""

_T = TypeVar("_T")


class Feed:
    """Puts into one job, at whoever is asked or at one node."""

    def __init__(self, session: Session, job: str, task: str | None, at: str | None, rename: bool) -> None:
        self.session, self.job = session, job
        self._task, self._at, self._rename = task, at, rename
        self._target: Session | None = None
        self.quiet = False
        """say nothing of what the job has already"""

    def put(self, inputs: list[Input]) -> tuple[list[str], list[str]]:
        """Names accepted, and names ignored because the job has them already; of each batch all or nothing."""
        target = self.open()
        accepted, ignored = list[str](), list[str]()
        args = {"job": self.job, "rename": self._rename} | ({"at": self._at} if self._at else {})
        for batch in intake.batches(intake.send(target.client, inputs, self._task)):
            body = target.call("put", {**args, "inputs": batch})
            accepted += body.get("accepted") or []
            ignored += body.get("ignored") or []
        if ignored and not self.quiet:
            say(f"ignored, the job has them already: {', '.join(ignored)}")
        return accepted, ignored

    def open(self) -> Session:
        """Who takes the inputs. UsageError for a node nobody knows."""
        if self._target is None:
            self._target = self.session.at(self._at) if self._at else self.session
        return self._target

    def close(self) -> None:
        """Hang up; the next put looks for the node, or for any agent, anew."""
        if self._target is not None:
            self._target.close()
        self._target = None
        self.session.close()


def submit(session: Session, args: dict[str, Any], inputs: list[Input]) -> dict[str, Any]:
    """Submit, and put the inputs where `input_at` says: mapped for those places first, then fed at each of them."""
    sizes = [each.path.stat().st_size for each in inputs]
    announced = {"input_bytes": sum(sizes) // len(sizes)} if sizes else {}
    open_ = bool(args.get("keep_open") or inputs)
    job = dict(session.call("submit", {**args, **announced, "inputs": [], "keep_open": open_}))
    if not inputs:
        return job
    places = [*sorted(args["input_at"].items(), reverse=True), ("", None)]  # single entries before all the others
    try:
        for entry, node in places[: 1 + [place[0] for place in places].index("")]:
            feed = Feed(session, job["id"], entry or None, node, rename=False)
            feed.quiet = True
            feed.put(inputs)
            feed.close()
        return job if args.get("keep_open") else {**job, **session.call("close", {"job": job["id"]})}
    except (JupiterError, KeyboardInterrupt):
        say(f"job {job['id']} is open and may lack inputs: put them again (the same bytes count once), or cancel it")
        raise


class _Stream:
    """A feed that goes on through lost agents, counting what it did."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._clock = feed.session.clock
        self.accepted = self.ignored = self.refused = 0

    def put(self, inputs: list[Input]) -> None:
        """All at once; one by one when they are refused together, so that one bad name does not stop the others."""
        try:
            self._put_surely(inputs)
        except OSError as error:
            self._refuse(inputs, error.strerror or str(error), "it was not put; it will be when it changes")
        except JupiterError as error:
            if error.exit_code != EXIT_USAGE or self._is_closed():
                raise
            self._refuse(inputs, error.message, error.hint)

    def _put_surely(self, inputs: list[Input]) -> None:
        """A refusal counts when it is given twice: while home is away its job may not be known."""
        try:
            self._put(inputs)
        except JupiterError as error:
            if error.exit_code != EXIT_USAGE or self._is_closed():
                raise
            self._put(inputs)

    def _refuse(self, inputs: list[Input], message: str, hint: str) -> None:
        if len(inputs) == 1:
            self.refused += 1
            say_error(f"{inputs[0].path}: {message}", hint)
        else:
            for each in inputs:
                self.put([each])

    def _put(self, inputs: list[Input]) -> None:
        accepted, ignored = self._patiently(lambda: self._feed.put(inputs))
        self.accepted += len(accepted)
        self.ignored += len(ignored)
        for name in accepted:
            if self._feed.session.output.is_data:
                self._feed.session.output.stream_object("put", {"job": self._feed.job, "accepted": [name]})
            else:
                print(name, flush=True)

    def is_over(self) -> bool:
        """Whether the job ended: no more inputs are of use."""
        job = self._patiently(lambda: waiting.one_job(self._feed.session, self._feed.job, patiently=True))
        return waiting.is_over(job)

    def _is_closed(self) -> bool:
        """Whether the job takes no inputs at all any more. UsageError when it is not known."""
        ask = self._feed.session.ask_patiently
        job = self._patiently(lambda: ask("describe", {"kind": "jobs", "id": self._feed.job}))
        return waiting.is_over(job) or job.get("intake_open") is False

    def _patiently(self, do: Callable[[], _T]) -> _T:
        """Until it succeeds, or fails for a reason that stays. Each new complaint is said once."""
        pause, said = RETRY_FIRST_S, ""
        while True:
            try:
                return do()
            except JupiterError as error:
                if error.exit_code in waiting.FINAL:
                    raise
                self._feed.close()
                if error.message != said:
                    say(f"{error.message}; trying again")
                    said = error.message
                self._clock.sleep(pause)
                pause = min(pause * 2, RETRY_LAST_S)

    def account(self) -> str:
        more = [f"{n} {what}" for n, what in ((self.ignored, "there already"), (self.refused, "refused")) if n]
        return f"{count(self.accepted, 'file')} put into job {self._feed.job}" + "".join(f", {part}" for part in more)


def follow(feed: Feed, first: list[Input], path: Path) -> int:
    """Put `first`, then each file of the folder, those in it at the start too; until Ctrl-C or the end of the job."""
    folder = Folder(path)
    feed.job = waiting.one_job(feed.session, feed.job)["id"]
    stream = _Stream(feed)
    say(f"watching {path} for job {feed.job}; Ctrl-C ends it")
    try:
        feed.open()
        if first:
            stream.put(first)
        _watch(folder, stream, feed)
    except KeyboardInterrupt:
        say(f"{stream.account()}; the job goes on")
        return EXIT_OK
    except JupiterError:
        say(stream.account())
        raise
    finally:
        feed.close()
    say(f"{stream.account()}; the job is over")
    return EXIT_OK


def _watch(folder: Folder, stream: _Stream, feed: Feed) -> None:
    """Returns when the job is over."""
    clock = feed.session.clock
    asked_at = clock.now()
    while True:
        found = [Input(path.name, path) for path in folder.complete()]
        for begin in range(0, len(found), BATCH):
            stream.put(found[begin : begin + BATCH])
        if clock.now() - asked_at >= ASK_EVERY_S:
            if stream.is_over():
                return
            asked_at = clock.now()
        clock.sleep(LOOK_EVERY_S)
