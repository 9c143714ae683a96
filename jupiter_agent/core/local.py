"""One job on one node: its data, and the machines that work on it there."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from msgspec import Struct, field

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.home import Home
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.supervision import Moved, Pace
from jupiter_agent.core.moves import Moves
from jupiter_agent.core.supervisor import WORTH, Supervisor
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.wave import Wave


class Local(Struct):
    """`home` on the job's home only."""

    job: Job
    execution: Execution
    wave: Wave
    home: Home | None = None
    settled: int = 0
    """changes of registers that its machines were told of"""
    moves: Moves = field(default_factory=Moves)
    supervisor: Supervisor | None = None
    """of jobs whose tasks may move to better places"""

    def __post_init__(self) -> None:
        self.wave.finished = self.execution.finished

    def supervise(self, around: Surroundings, now: float) -> None:
        """Look after this job's tasks, if its submitter wants that."""
        if self.job.spec.remap in WORTH:
            self.supervisor = Supervisor(self.job, around, self.execution, now)
            self.supervisor.candidates, self.supervisor.announce = self.wave.candidates, self.wave.announce
            self.supervisor.considered = self.wave.considered

    def on_word(self, src: str, message: Moved | Pace, now: float) -> list[Effect]:
        """A host of a task says how it goes there, or what it has begun of a task that came here."""
        if isinstance(message, Moved):
            return self.execution.on_moved(src, message, now)
        if self.supervisor is not None:
            self.supervisor.on_pace(src, message, now)
        return []

    def next_deadline(self) -> float:
        home = self.home.next_deadline() if self.home else inf
        supervisor = self.supervisor.next_deadline() if self.supervisor else inf
        if self.job.over:
            return home
        return min(home, supervisor, self.execution.next_deadline(), self.wave.next_deadline())

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for machine in (self.execution, self.wave, self.home):
            if machine is not None and machine.next_deadline() <= now:
                effects += machine.on_deadline(now)
        if self.supervisor is not None and self.supervisor.next_deadline() <= now:
            taken = (len(self.home.items), self.home.intake.open) if self.home else None
            effects += self.supervisor.on_round(taken, now)
        return effects

    def check(self) -> None:
        self.job.check()
        self.execution.check()
        if self.home:
            self.home.check()


def slowest(jobs: Iterable[Local]) -> float:
    """How many times what is usual the runs take here now, of the job that is worst off; 1: as usual."""
    return max((local.supervisor.slow for local in jobs if local.supervisor and not local.job.over), default=1.0)
