"""One job on one node: its data, and the machines that work on it there."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.execution import Execution
from jupiter_agent.core.home import Home
from jupiter_agent.core.job import Job
from jupiter_agent.core.wave import Wave


class Local(Struct):
    """`home` on the job's home only."""

    job: Job
    execution: Execution
    wave: Wave
    home: Home | None = None
    settled: int = 0
    """changes of registers that its machines were told of"""

    def __post_init__(self) -> None:
        self.wave.finished = self.execution.finished

    def next_deadline(self) -> float:
        home = self.home.next_deadline() if self.home else inf
        return home if self.job.over else min(home, self.execution.next_deadline(), self.wave.next_deadline())

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for machine in (self.execution, self.wave, self.home):
            if machine is not None and machine.next_deadline() <= now:
                effects += machine.on_deadline(now)
        return effects

    def check(self) -> None:
        self.job.check()
        self.execution.check()
        if self.home:
            self.home.check()
