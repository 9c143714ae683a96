"""What scheduling can refuse. Bad input is a plain ValueError, an unknown mapper a KeyError."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


class Unplaceable(Exception):  # noqa: N818 - the name is part of the public contract
    """No node may run `task`. `reasons` has one line per node considered, saying why not."""

    def __init__(self, task: Hashable, reasons: Sequence[str]) -> None:
        super().__init__(task, list(reasons))
        self.task = task
        self.reasons = list(reasons)

    def __str__(self) -> str:
        return f"task {self.task} cannot be placed: {'; '.join(self.reasons) or 'there is no node'}"


class Infeasible(ValueError):  # noqa: N818 - reads as what it says: the schedule is infeasible
    """A schedule breaks a rule of its problem; the message names the tasks and the rule."""
