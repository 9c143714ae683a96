"""How far what tasks make by themselves may be ahead of what the job takes (DESIGN.md 124).

A home script or a task beside the DAG makes items as fast as it likes, while the DAG takes `max_open` at a time. When
so many wait at home that `limit` is reached, the task is held: nothing more is read from its process, whose pipe fills
until it waits. Where the task runs elsewhere, home leaves its files unanswered, and the node there holds it when
`UNANSWERED` of them are. Held tasks go on at half of that.
"""

from __future__ import annotations

from jupiter_agent.core.effects import Effect, HoldTask
from jupiter_agent.core.intake import Intake
from jupiter_agent.core.job import Job
from jupiter_agent.core.replication import Then

LEAST = 256
UNANSWERED = 64


class Backlog:
    """At the home of one job."""

    def __init__(self, job: Job, intake: Intake) -> None:
        self.limit = max(LEAST, 4 * job.spec.max_open)
        self._job, self._intake = job, intake
        self._held: dict[str, None] = {}
        self._late: dict[tuple[str, int], Then] = {}
        """(node, its number for the file) -> the answer"""

    @property
    def is_full(self) -> bool:
        return self._intake.waiting >= self.limit

    def after_file(self, task: str) -> list[Effect]:
        """A task of this node made a file: hold it, if that was enough."""
        if not self.is_full:
            return []
        self._held[task] = None
        return [HoldTask(self._job.id, task, True)]

    def answer(self, asker: tuple[str, int], then: Then, now: float) -> list[Effect]:
        """Answer a file that came from another node; later, if there are enough."""
        if not self.is_full:
            return then(now)
        self._late[asker] = then
        return []

    def step(self, now: float) -> list[Effect]:
        """Something left: let go on what was held, and answer, when there is room again."""
        if not (self._held or self._late) or self._intake.waiting > self.limit // 2:
            return []
        return self.end(now)

    def end(self, now: float) -> list[Effect]:
        """Nothing is held by this home any more."""
        held, self._held = self._held, {}
        late, self._late = self._late, {}
        effects: list[Effect] = [HoldTask(self._job.id, task, False) for task in held]
        return [*effects, *(effect for then in late.values() for effect in then(now))]
