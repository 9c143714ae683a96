"""How jobs ended that this node took part in, and whom it believes about that (DESIGN.md 122).

The end of a job stops its processes and drops what is kept for it, so it is the home's to say. A former host that
remembers the end says so, too, to whoever still sends it something; that is a rumour as long as there is a home to ask.
It is believed when the home says the same, does not know the job (it lost its disk), or is gone itself.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.job import Job
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.jobs import HomeVersion, Inject, ItemFailed, JobOver
from jupiter_agent.core.runqueue import start_runs
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.errors import PeerError

if TYPE_CHECKING:
    from jupiter_agent.core.jobs import Jobs

REMEMBERED_ENDS = 10_000
EXPLAINABLE = 64


class Ends:
    """`heard`: job -> the word that it is over. `past`: the last of these jobs, for `explain`."""

    def __init__(self, jobs: Jobs, around: Surroundings) -> None:
        self.heard: OrderedDict[str, JobOver] = OrderedDict()
        self.past: OrderedDict[str, Local] = OrderedDict()
        self._jobs, self._around = jobs, around
        self._rumours: dict[str, JobOver] = {}
        """job that goes on here -> what others than its home say of it"""

    def on_over(self, src: str, message: JobOver, now: float) -> list[Effect]:
        """Somebody says that a job has ended."""
        local = self._jobs.local.get(message.job)
        cancelled = message.state == "cancelled"
        if local is None or (message.home < local.job.home and not cancelled and not local.home):
            return []
        believed = self._may_end(local.job, src, message.home)
        if local.home is not None:  # a host that was told by an earlier home
            again = not cancelled and not local.job.over and src in local.job.participants()
            late = local.home.cancel(now) if cancelled and believed else local.wave.award(src, now) if again else []
            return self._jobs.settle(local, late, now)
        if believed:
            return self._end(local, message, now)
        if src not in local.job.participants():
            raise PeerError(f"the end of job {message.job}: from a node that takes no part in it")
        self._rumours[message.job] = message
        return [Send(local.job.home.writer, local.wave.digest())]

    def on_disowned(self, src: str, local: Local, now: float) -> list[Effect]:
        """This node does not know the job: if it should be its home, others are believed about its end."""
        rumour = self._rumours.get(local.job.id)
        if rumour is None or local.home is not None or src != local.job.home.writer:
            return []
        return self._end(local, rumour, now)

    def forget(self, job: str) -> None:
        """It goes on, or begins anew."""
        self.heard.pop(job, None)
        self.past.pop(job, None)
        self._rumours.pop(job, None)

    def _may_end(self, job: Job, src: str, home: HomeVersion) -> bool:
        if src == home.writer:
            return self._around.may_be_home(src)
        homes = (home.writer, job.home.writer)
        return src in job.participants() and not any(self._lives(node) for node in homes)

    def _lives(self, node: str) -> bool:
        return self._around.knows(node) and not self._around.is_gone(node)

    def _end(self, local: Local, message: JobOver, now: float) -> list[Effect]:
        """Stop here, and remember it."""
        self.forget(message.job)
        local.job.end(message.state)
        effects = local.execution.stop(now)
        self._jobs.drop(local)
        self.past[message.job], self.heard[message.job] = local, message
        for remembered, most in ((self.past, EXPLAINABLE), (self.heard, REMEMBERED_ENDS)):
            if len(remembered) > most:
                remembered.popitem(last=False)
        return effects + start_runs(self._jobs.queue, now)


def check_failure(job: Job, src: str, message: ItemFailed) -> None:
    """PeerError unless a node that takes part in the job speaks of itself, and of one of its tasks."""
    if message.node != src or src not in job.participants() or message.task not in (*job.tasks, HOME):
        raise PeerError(f"item {message.item} of job {job.id}: not failed by a host of its tasks")


def check_injection(job: Job, src: str, message: Inject) -> None:
    """PeerError unless it comes from where a task beside the DAG, or the home script, runs or ran."""
    if src not in job.participants() or message.task not in (*job.side, HOME):
        raise PeerError(f"a file for job {job.id}: from no host of a task that makes some")
