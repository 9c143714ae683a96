"""A job as a tree that redraws itself: which task runs where, what queues before it, how fast items leave it.

Each task hangs below the one that decided (or decides) where it runs, so a DAG is drawn as the tree of its controllers.
Imported on a terminal only, with rich, which honours NO_COLOR.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.cli.ctl.waiting import Job
from jupiter_agent.cli.kinds import Row
from jupiter_agent.cli.output import STYLES

RATE_OVER_S = 3.0
MARKS = {"completed": "✔", "running": "●", "waiting": "◷", "queued": "◷", "mapping": "◷", "failed": "✖"}
COUNTS = ("queued", "running", "done", "failed")


class Rates:
    """Items a second over the last RATE_OVER_S, per name."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def update(self, name: str, count: int, now: float) -> float | None:
        """None until two looks lie apart."""
        seen = self._seen.setdefault(name, deque())
        seen.append((now, count))
        while len(seen) > 2 and now - seen[1][0] >= RATE_OVER_S:
            seen.popleft()
        since, before = seen[0]
        return max(0, count - before) / (now - since) if now > since else None


def branches(tasks: Sequence[Row], controllers: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """Every task once, depth first, with the lines that lead to it; what has no known parent is at the top."""
    named = {str(task.get("name")): task for task in tasks}
    children: dict[str, list[str]] = {}
    for name in named:
        parent = controllers.get(name, "")
        children.setdefault(parent if parent in named and parent != name else "", []).append(name)
    drawn: set[str] = set()

    def below(parent: str, indent: str) -> Iterator[tuple[str, Row]]:
        names = [name for name in children.get(parent, []) if name not in drawn]
        for name in names:
            last = name == names[-1]
            drawn.add(name)
            yield ("" if not parent else indent + ("└─ " if last else "├─ ")), named[name]
            yield from below(name, indent + ("   " if last else "│  ") if parent else "")

    yield from below("", "")
    yield from (("", named[name]) for name in named if name not in drawn)  # a peer's circle is drawn flat


def draw(job: Row, rates: Mapping[str, float | None]) -> Group:
    """One picture of a job as `describe` answers it; `rates['']` is the whole job's."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("TASK", "NODE"):
        table.add_column(title, no_wrap=True)
    for title in (*COUNTS, "rate"):
        table.add_column(title.upper(), no_wrap=True, justify="right")
    for lines, task in branches(job.get("tasks") or [], job.get("controllers") or {}):
        state = units.text(task.get("state"))
        name = Text.assemble(lines, (MARKS.get(state, "○") + " ", STYLES.get(state, "")), units.text(task.get("name")))
        counts = [Text(units.text(task.get(count)), _style(count, task.get(count))) for count in COUNTS]
        table.add_row(name, Text(units.text(task.get("node"))), *counts, _rate(rates.get(str(task.get("name")))))
    return Group(_headline(job, rates.get("")), table)


def _headline(job: Row, rate: float | None) -> Text:
    state = units.text(job.get("state"))
    line = Text.assemble(
        (units.text(job.get("id")), "bold"), f" {units.text(job.get('name'))} ", (state, STYLES.get(state, "")),
        f" {job.get('items_done') or 0}/{job.get('items_in') or 0} items",
    )  # fmt: skip
    if failed := job.get("items_failed"):
        line.append(f", {failed} failed", "red")
    return line.append(f", {_rate(rate)}") if rate is not None else line


def _style(count: str, value: Any) -> str:
    return {"failed": "red", "running": "cyan", "queued": "yellow"}.get(count, "") if value else "dim"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3g}/s"


class LiveTree:
    """Redrawn at every poll; the last picture stays on the screen."""

    def __init__(self, session: Session, console: Console | None = None) -> None:
        self._session = session
        self._rates = Rates()
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="ellipsis")
        self._open = False

    def __call__(self, job: Job) -> None:
        detail = {**self._session.ask_patiently("describe", {"kind": "jobs", "id": job["id"]}), **job}
        now = self._session.clock.now()
        rates = {
            str(task.get("name")): self._rates.update(str(task.get("name")), int(task.get("done") or 0), now)
            for task in detail.get("tasks") or []
        }
        rates[""] = self._rates.update("", int(job.get("items_done") or 0), now)
        if not self._open:
            self._live.start()
            self._open = True
        self._live.update(draw(detail, rates), refresh=True)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._live.stop()
