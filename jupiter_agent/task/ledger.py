"""Which output of a v5 task belongs to which run, and when a run is done.

A run puts its files into the task's queue. It is done when each was got and done: by `task_done()`, which counts for
the file got last that is not done; or, in scripts that never mention `task_done`, when the task has given something and
gets another, or waits for one.

Outputs closed while one run is inside are its own. A task that holds files of several runs without `task_done` (it
makes batches) has outputs attributed by base name to the run whose input had that name, else to the run got last.
Everything is looked at in the task's own thread, inside `get` and `task_done`, so what came before and what after is
exact.

A done run is answered at once, unless somebody else may still write for it (bystanders.py): a file is open, or there
are other threads or child processes. Then the answer waits until nobody is at work and no file was closed for QUIET_S;
who is at work for longer than PATIENCE_S (`held_s`, if he began after the item) is not waited for. Where all others
were at rest CALM times in a row, QUIET_S is not waited for either. What comes later still, when no run is inside, is
reported by itself.

Some apps pass a file over without `task_done`. Of those that a thread holds while it waits for more, done are: files
older than one it was done with; files of a run with outputs, after SETTLE_S without another (not if there are other
threads: the file may be in their hands); any, after `held_s` without another file.
"""

from __future__ import annotations

import time
from _thread import get_ident
from collections import deque

from jupiter_agent.task.bystanders import Bystanders
from jupiter_agent.task.meter import cpu_s, peak_bytes

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from jupiter_agent.task.native import Output
    from jupiter_agent.task.pathin import PathIn
    from jupiter_agent.task.pathout import PathOut

QUIET_S, SETTLE_S, PATIENCE_S = 0.02, 0.25, 2.0
TICK_S = 0.01
"""how exactly the kernel knows when a thread or process began"""
CALM = 20
"""so many runs without anything in their quiet time: it is not waited for again until something is late"""
MANY = 64
"""runs let in at once for tasks that look at the queue's size instead of waiting"""


class Run:
    """One item's files inside the task."""

    def __init__(self, number: int, names: dict[str, str], out: PathOut) -> None:
        self.number = number
        self.names = list(names)
        self.bases = set(names.values())
        self.undone = len(names)
        self.got = 0
        self.closed: dict[str, None] = {}
        self.outputs: list[Output] = []
        self.objects = out.outputs(number)
        self.number_in = 0
        self.began = self.ended = self.touched = 0.0
        self.began_boot = self.cpu_s = 0.0
        """when it began, in seconds since boot"""
        self.due = 0.0
        """done, and to be answered at this time unless something is closed meanwhile"""

    def given(self) -> bool:
        """Whether it has outputs."""
        return bool(self.closed or self.outputs)


class _Held:
    """A file got and not done, and the thread that has it. `passed`: that thread was done with a later one."""

    __slots__ = ("passed", "run", "thread")

    def __init__(self, run: Run, thread: int) -> None:
        self.run, self.thread, self.passed = run, thread, False


class Ledger:
    """Not thread-safe: the queue's listener and the loop hold one lock around every call (v5.py)."""

    def __init__(
        self, setup: dict[str, Any], folders: tuple[PathIn, PathOut], send: Callable[[list[Any]], None]
    ) -> None:
        """`setup["counts_done"]`: the script mentions `task_done`."""
        self.runs: dict[int, Run] = {}
        self._in, self._out = folders
        self._send = send
        self._held_s: float = setup["held_s"]
        self._counts_done: bool = setup["counts_done"]
        self._waiting: deque[tuple[str, Run]] = deque()
        self._held: list[_Held] = []
        self._blocked: dict[int, float] = {}
        """threads that wait for a file, and since when"""
        self._asked: dict[int, int] = {}
        """threads that looked whether there is one, and how often since they got one"""
        self._last: Run | None = None
        self._window = 1
        self._late = 0
        self._others = Bystanders(self._out)
        self._restless = False
        self._calm = 0

    # --- from the loop -------------------------------------------------------------------------------------------

    def feed(self, number: int, names: dict[str, str], number_in: int) -> None:
        """A run's files are about to be put into the queue."""
        self.drain()
        run = self.runs[number] = Run(number, names, self._out)
        run.number_in = number_in
        self._waiting += [(name, run) for name in names]
        self._asked.clear()
        self._blocked = dict.fromkeys(self._blocked, time.perf_counter())
        if not names:
            self._done(run)
        self.settle()

    def settle(self) -> None:
        """Answer what is done."""
        if not self.runs:
            return
        self.drain()
        now = time.perf_counter()
        self._release(held for held, due in self._kept_too_long() if now >= due)
        quiet = not self._restless and not self._out.open_names()
        for run in [run for run in self.runs.values() if not run.undone]:
            if quiet or (now >= run.due and not self._is_waited_for(run, now)):
                self._answer(run)

    def _is_waited_for(self, run: Run, now: float) -> bool:
        """Somebody is at work, and has been for no longer than can be expected."""
        things, began_boot = self._others.at_work(excused=len(self._held))
        if not things:
            return False
        self._calm = 0
        patience_s = self._held_s if began_boot >= run.began_boot - TICK_S else PATIENCE_S
        if now - run.ended >= patience_s:
            self._others.give_up(things)
            return False
        run.due = now + QUIET_S
        return True

    def next_due(self) -> float:
        """When to call `settle` next, by perf_counter; 0 for never."""
        dues = [run.due for run in self.runs.values() if not run.undone]
        return min([*dues, *(due for _, due in self._kept_too_long())], default=0.0)

    def fail(self, error: str) -> None:
        """The task ended: what it had begun fails, the rest goes back to the agent."""
        self.drain()
        for run in list(self.runs.values()):
            if run.got and not run.undone:
                self._answer(run)
            elif run.got:
                self._send(["failed", run.number, "error", error])
            else:
                self._send(["back", run.number])
        self.runs.clear()

    # --- from the queue ------------------------------------------------------------------------------------------

    def on_got(self, name: str) -> None:
        me = self._returned()
        self.drain()
        if not self._counts_done:
            mine = [held for held in self._held if held.thread == me]
            self._release(mine[: max((n for n, held in enumerate(mine, 1) if held.run.given()), default=0)])
        at = next((n for n, (waiting, _) in enumerate(self._waiting) if waiting == name), -1)
        if at >= 0:
            run = self._waiting[at][1]
            del self._waiting[at]
            if self._last is not run and self._last is not None:
                self._take(self._last)  # before the next one writes files of the same names
            if not run.began:
                self._begin(run)
            run.got += 1
            self._last = run
            self._held.append(_Held(run, me))
        self.settle()
        self._let_more_in()

    def _begin(self, run: Run) -> None:
        if not self._held:
            self._others.settled()
        run.cpu_s = -cpu_s()
        run.began, run.began_boot = time.perf_counter(), time.clock_gettime(time.CLOCK_BOOTTIME)

    def on_done(self) -> None:
        self._counts_done = True
        self._others.use()
        if not self._held:
            return
        self.drain()
        me = get_ident()
        done = next((held for held in reversed(self._held) if held.thread == me), self._held[-1])
        self._release([done])
        for held in self._held:
            held.passed |= held.thread == done.thread
        self.settle()

    def on_blocked(self) -> None:
        me = get_ident()
        self._blocked.setdefault(me, time.perf_counter())
        self.drain()
        self._release(held for held in self._held if held.thread == me and (held.passed or not self._counts_done))
        self.settle()
        self._let_more_in()

    def on_asked(self) -> None:
        """Asked for the second time without getting one, it has nothing else to do."""
        me = get_ident()
        self._asked[me] = self._asked.get(me, 0) + 1
        self._let_in(MANY)
        if self._asked[me] > 1 and not self._waiting:
            self.on_blocked()

    def _returned(self) -> int:
        """This thread, which does not wait any longer."""
        me = get_ident()
        self._others.use()
        self._blocked.pop(me, None)
        self._asked.pop(me, None)
        return me

    # --- outputs -------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Attribute what was closed."""
        for name in self._out.closed():
            run = self._owner(self._out.base(name))
            if run is None:
                self._calm = 0
                self._report_late(name)
                continue
            run.closed[name] = None
            run.touched = time.perf_counter()
            if not run.undone:
                self._calm = 0
                run.due = max(run.due, run.touched + QUIET_S) if self._restless else run.due

    def _owner(self, base: str) -> Run | None:
        begun = [run for run in self.runs.values() if run.got]
        if len(begun) > 1:
            for run in begun:
                if base in run.bases:
                    return run
            return self._last if self._last in begun else begun[-1]
        return begun[0] if begun else None

    def _report_late(self, name: str) -> None:
        self._others.recall()
        output = self._out.take(name, self._out.outputs(0), self._late)
        if output:
            self._late += 1
            self._send(["made", *output])

    def _take(self, run: Run) -> None:
        for name in run.closed:
            output = self._out.take(name, run.objects, len(run.outputs))
            if output:
                run.outputs.append(output)
        run.closed.clear()

    def _answer(self, run: Run) -> None:
        self._take(run)
        del self.runs[run.number]
        if self._last is run:
            self._last = None
        self._calm += self._restless
        self._in.release(run.number_in, run.names)
        self._send(
            ["done", run.number, max(0.0, run.ended - run.began), run.outputs, max(0.0, run.cpu_s), peak_bytes()]
        )

    # --- being done ----------------------------------------------------------------------------------------------

    def _release(self, done: Iterable[_Held]) -> None:
        """These files are done."""
        for held in list(done):
            self._held.remove(held)
            self._done(held.run)

    def _done(self, run: Run) -> None:
        run.undone -= 1 if run.undone else 0
        if run.undone:
            return
        now = run.ended = time.perf_counter()
        run.cpu_s += cpu_s() if run.began else 0.0
        others = self._others.present()
        self._restless = others and (self._calm < CALM or bool(self._others.at_work(excused=len(self._held))[0]))
        run.due = now + QUIET_S if self._restless or self._out.open_names() else now

    def _kept_too_long(self) -> list[tuple[_Held, float]]:
        """Files of threads that wait for more, and when they count as done."""
        kept = [held for held in self._held if held.thread in self._blocked]
        settle_s = self._held_s if kept and self._others.present() else SETTLE_S
        return [
            (held, max(self._blocked[held.thread], held.run.touched) + (settle_s if held.run.given() else self._held_s))
            for held in kept
        ]

    def _let_more_in(self) -> None:
        """One more run for each thread that waits and will find nothing, while others hold files."""
        idle = len(self._blocked) - len(self._waiting)
        if self._held and idle > 0:
            self._let_in(len(self.runs) + idle)

    def _let_in(self, count: int) -> None:
        """Ask the agent for more runs, so that `count` may be inside."""
        if count > self._window:
            self._window = count
            self._send(["window", count])
