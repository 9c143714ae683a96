"""What home tells the hosts of a job: which items are over, and that the job is (DESIGN.md 7, rules 5 and 9)."""

from __future__ import annotations

from math import inf

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Finished, JobOver
from jupiter_agent.core.surroundings import Surroundings

SPREAD_S = 0.1
OVER_AGAIN_S = 2.0
OVER_TIMES = 5


class Telling:
    """Tells all hosts a moment after something was over, so that many items go together; the end a few times."""

    def __init__(self, job: Job, execution: Execution, around: Surroundings) -> None:
        self.over = False
        """hosts may be told that the job is over"""
        self._job, self._execution, self._around = job, execution, around
        self._at = inf
        self._left = 0

    def spread(self, now: float) -> list[Effect]:
        """Something more is finished."""
        self._at = min(self._at, now + SPREAD_S)
        return []

    def end(self, now: float) -> list[Effect]:
        """The job is over, for everybody."""
        self.over, self._at, self._left = True, now, OVER_TIMES
        return []

    def next_deadline(self) -> float:
        return self._at

    def on_deadline(self, now: float) -> list[Effect]:
        """Tell the hosts what is over: items, or the whole job (a few times; later on request)."""
        self._at, job = inf, self._job
        message: Finished | JobOver = Finished(job.id, job.home, self._execution.finished.to_intervals())
        if self.over:
            self._left -= 1
            self._at = now + OVER_AGAIN_S if self._left > 0 else inf
            message = JobOver(job.id, job.home, job.over)
        others = [node for node in job.participants() if node != self._around.me and not self._around.is_gone(node)]
        return [Send(node, message) for node in others]
