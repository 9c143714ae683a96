"""Which runs of a job's tasks need not begin here: they have begun here, or at the task's earlier host (rule 7).

An attempt is told apart by its projection: the stamps its outputs must carry. When a task moves, its senders send every
unfinished input to the new host, which would run all of them again. So the old host withdraws what has not started and
tells the new one what has (`Moved`). Those are spared there as long as the old host lives and has not started again: it
owes their outputs, and nobody else has them. The word may come later than the inputs, or before them; if it is lost,
runs are made twice and count once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.supervision import SPARED, Moved, Spared
from jupiter_agent.core.runqueue import Attempt, RunQueue
from jupiter_agent.core.surroundings import Surroundings

Projection: TypeAlias = frozenset[tuple[str, bytes]]
Key: TypeAlias = tuple[str, str]
"""(task, item)"""
MOST = 16_384
"""Runs of other nodes remembered; of more, some are made twice"""


class Begun:
    """The runs of one job, as far as one node knows."""

    def __init__(self, job: Job, around: Surroundings, queue: RunQueue) -> None:
        self._job, self._around, self._queue = job, around, queue
        self._here: dict[Key, set[Projection]] = {}
        self._elsewhere: dict[Key, dict[Projection, tuple[str, int]]] = {}
        """-> the node, and its boot"""
        self._count = 0
        self._left: set[str] = set()
        """tasks that were here and went elsewhere"""

    def add(self, attempt: Attempt) -> None:
        """It begins here, or is passed on."""
        self._here.setdefault((attempt.task, attempt.item), set()).add(attempt.projection)

    def has(self, attempt: Attempt) -> bool:
        key = (attempt.task, attempt.item)
        return attempt.projection in self._here.get(key, ()) or attempt.projection in self._elsewhere.get(key, ())

    def free(self, item: str, tasks: Collection[str]) -> None:
        """The item is over."""
        for task in tasks:
            self._here.pop((task, item), None)
        for key in [key for key in self._elsewhere if key[1] == item]:
            self._count -= len(self._elsewhere.pop(key))

    # --- tasks that come and go --------------------------------------------------------------------------------

    def leaving(self, tasks: Collection[str]) -> set[str]:
        """Those of these tasks, none of which is here, that just went: what has not started here is withdrawn."""
        left = set(tasks) - self._left
        self._left |= left
        for task in left:
            self._withdraw(task, lambda attempt: True)
        return left

    def tell(self, tasks: Collection[str]) -> list[Effect]:
        """The new hosts of these tasks what has begun here."""
        effects: list[Effect] = []
        for task in sorted(tasks):
            host = self._job.host(task)
            if host is not None and not self._around.is_gone(host):
                runs = self._runs(task)
                parts = [runs[at : at + SPARED] for at in range(0, len(runs), SPARED)]
                effects += [Send(host, Moved(self._job.id, task, part)) for part in parts]
        return effects

    def forget(self, attempt: Attempt) -> None:
        """It has not begun after all."""
        self._here[attempt.task, attempt.item].discard(attempt.projection)

    def missed(self, hosted: Collection[str], items: dict[str, list[str]]) -> list[Key]:
        """What may have to run here after all: all of a task that came back, and what died with another node.

        `items`: task -> those of which something is here.
        """
        back = [task for task in items if task in hosted and task in self._left]
        self._left.difference_update(back)
        return [*((task, item) for task in back for item in items[task]), *(k for k in self._lost() if k[0] in hosted)]

    def on_moved(self, src: str, message: Moved) -> None:
        """The earlier host of a task has begun these runs: what waits here of them need not start."""
        register = self._job.registers.get(message.task)
        known = register is not None and (register.left == src or src in self._job.participants())
        if message.task not in self._job.tasks or not known:
            return
        for run in message.runs:
            if self._count < MOST and run.node != self._around.me:
                runs = self._elsewhere.setdefault((message.task, run.item), {})
                self._count -= len(runs)
                runs[frozenset(run.stamps.items())] = (run.node, run.boot)
                self._count += len(runs)
        self._lost()
        spared = self._elsewhere
        self._withdraw(message.task, lambda a: a.projection in spared.get((a.task, a.item), ()))

    def _withdraw(self, task: str, which: Callable[[Attempt], bool]) -> None:
        for attempt in self._queue.withdraw(self._job.id, task, which):
            self.forget(attempt)

    def _runs(self, task: str) -> list[Spared]:
        me = (self._around.me, self._around.boot)
        mine = [
            (item, projection, me) for (of, item), all_of in self._here.items() if of == task for projection in all_of
        ]
        others = [
            (item, p, at) for (of, item), all_of in self._elsewhere.items() if of == task for p, at in all_of.items()
        ]
        return [Spared(item, dict(projection), *at) for item, projection, at in [*mine, *others]]

    def _lost(self) -> list[Key]:
        """Runs that died with their nodes; they are forgotten."""
        found = []
        for key, runs in list(self._elsewhere.items()):
            gone = [
                p for p, (node, boot) in runs.items() if self._around.is_gone(node) or self._around.boot_of(node) > boot
            ]
            for projection in gone:
                del runs[projection]
            self._count -= len(gone)
            found += [key] * bool(gone)
            if not runs:
                del self._elsewhere[key]
        return found
