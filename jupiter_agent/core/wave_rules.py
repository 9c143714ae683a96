"""Decisions of a third party's WAVE rule: asked off the loop, with what this node knows; the answer is checked.

A rule is somebody else's code (`schedulers.rules`). It runs in a process of its own, so a decision is an effect and
its answer an event. Whatever goes wrong, an error, no answer in time, a node that is none of those shown or has left
meanwhile, the caller decides by the greedy rule and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from jupiter_agent.core.effects import ChooseNode, Effect
from jupiter_agent.core.events import NodeChosen
from schedulers.rules import PREFIX, View, to_plain

ANSWER_S = 30.0
"""The process that is asked gives up much sooner; this is for a lost answer"""


class Decision(NamedTuple):
    """`node`: an id, None where the rule gave none; then `why` says what went wrong."""

    task: str
    node: str | None
    why: str


class Rules:
    """The questions of one job that are open at this node."""

    def __init__(self, job: str, mapper: str) -> None:
        self.name = mapper.removeprefix(PREFIX) if mapper.startswith(PREFIX) else ""
        """of the rule, '' when the job has none"""
        self._job = job
        self._open: dict[str, tuple[float, dict[str, str]]] = {}
        """task -> when to stop waiting, and name -> id of the nodes shown"""

    def __contains__(self, task: str) -> bool:
        return task in self._open

    def ask(self, view: View, ids: dict[str, str], now: float) -> list[Effect]:
        self._open[view.task] = (now + ANSWER_S, ids)
        return [ChooseNode(self._job, view.task, self.name, to_plain(view))]

    def on_chosen(self, event: NodeChosen) -> list[Decision]:
        """An answer to an open question; others are late, and ignored."""
        if event.task not in self._open:
            return []
        _, ids = self._open.pop(event.task)
        if event.error or event.node not in ids:
            wrong = event.error or f"it chose {event.node!r:.80}, which is none of the nodes"
            return [Decision(event.task, None, f"rule {self.name} failed: {wrong}; ")]
        return [Decision(event.task, ids[event.node], f"rule {self.name}, of {len(ids)} nodes")]

    def forget(self, wanted: Callable[[str], bool]) -> None:
        """Questions that are not this node's to ask any longer."""
        self._open = {task: waiting for task, waiting in self._open.items() if wanted(task)}

    def next_deadline(self) -> float:
        return min((due for due, _ in self._open.values()), default=inf)

    def late(self, now: float) -> list[Decision]:
        """Questions that are never answered."""
        overdue = [task for task, (due, _) in self._open.items() if due <= now]
        for task in overdue:
            del self._open[task]
        return [Decision(task, None, f"rule {self.name} failed: no answer; ") for task in overdue]
