"""What home is told again and again until it answers: items given up here, files that tasks beside the DAG made."""

from __future__ import annotations

from math import inf

from jupiter_agent.core.backlog import UNANSWERED
from jupiter_agent.core.effects import Effect, HoldTask, Notice, Send
from jupiter_agent.core.events import Produced
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Inject, ItemFailed, Obj

AGAIN_S = 2.0


class Letters:
    """Of one job on one node. A failure is answered by its item being over, a file by `Injected`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.failures: dict[str, ItemFailed] = {}
        """item -> why it is given up"""
        self._files: dict[int, Inject] = {}
        self._held: dict[str, None] = {}
        self._sequence = 0
        self._due = inf

    def give_up(self, failure: ItemFailed, now: float) -> list[Effect]:
        self.failures[failure.item] = failure
        self._due = now
        fields = {"job": failure.job, "task": failure.task, "item": failure.item, "attempt": failure.attempts}
        return [Notice("error", "item failed", {**fields, "error": failure.error})]

    def free(self, item: str) -> None:
        """The item is over."""
        self.failures.pop(item, None)

    def produced(self, event: Produced, now: float) -> list[Effect]:
        """A file for home; its task is held when home leaves many unanswered."""
        self._sequence += 1
        self._files[self._sequence] = Inject(self._job.id, self._sequence, event.task, event.child, event.obj)
        self._due = now
        if len(self._files) < UNANSWERED:
            return []
        self._held[event.task] = None
        return [HoldTask(self._job.id, event.task, True)]

    def let_go_on(self) -> list[Effect]:
        """Tasks that were held, when home has answered half of the files."""
        if not self._held or len(self._files) > UNANSWERED // 2:
            return []
        held, self._held = self._held, {}
        return [HoldTask(self._job.id, task, False) for task in held]

    def injected(self, sequence: int) -> list[Obj]:
        """Home has this file: it need not be kept any longer."""
        done = self._files.pop(sequence, None)
        return [done.obj] if done else []

    def next_deadline(self) -> float:
        return self._due if self.failures or self._files else inf

    def on_deadline(self, now: float) -> list[Effect]:
        if self.next_deadline() > now:
            return []
        self._due = now + AGAIN_S
        return [Send(self._job.home.writer, letter) for letter in [*self.failures.values(), *self._files.values()]]
