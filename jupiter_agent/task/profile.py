"""A sample run: the whole DAG once, one task after the other, in one process that the agent ends at its budget.

    process -> agent   ["measured", task, seconds, {child: bytes}, CPU seconds, bytes in], ["spoilt", task, error],
                       ["finished", makespan]

Each task is reported when it is done, so what was measured counts even if a later one hangs. A task that fails passes
nothing on; one whose inputs are all missing is not run, and says so. Loading a script is not counted. Native tasks run
here, the others in a child process each, with their hooks (hooks.py); a task has `task_s`, or what is left, or, in a
process of its own, half of what is left. Home scripts and non-DAG tasks are left out.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would import enum
import os
import time

from jupiter_agent.task.errors import ContractError, RunError, last_line, print_trace
from jupiter_agent.task.frames import Pipe
from jupiter_agent.task.meter import Meter
from jupiter_agent.task.native import HOME, Output
from jupiter_agent.task.serve import empty, leave, native

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

INPUT = "input"
USED, SHARE = 0.9, 0.5
"""of the budget, so that the last report arrives before the agent ends us; of what is left of that, for one task"""

Entry = tuple[str, str, bytes | None, str]
"""as `Inputs` takes it"""


def profile(pipe: Pipe, setup: dict[str, Any]) -> None:
    """Run `setup["tasks"]` (maps with name, script, contract, children, parents, ...) in an order of the DAG."""
    size = os.path.getsize(setup["sample"])
    began = time.perf_counter()
    until = began + setup["budget_s"] * USED
    beside = {task["name"] for task in setup["tasks"] if task["extra"].get("role")} | {HOME}
    waiting: dict[str, list[Entry]] = {task["name"]: [] for task in setup["tasks"]}
    for number, task in enumerate(in_order(setup["tasks"], beside), 1):
        entries = waiting.pop(task["name"])
        if beside.issuperset(task["parents"]):
            entries.append((INPUT, setup["sample_name"], None, setup["sample"]))
            pipe.write(["measured", HOME, 0.0, {task["name"]: size}, 0.0, 0])
        if entries or task["contract"] in ("v4", "v5"):
            _one(pipe, setup, task, number, (entries, waiting, until))
        elif waiting_for := [parent for parent in task["parents"] if parent not in beside]:
            pipe.write(["spoilt", task["name"], f"it was given nothing by {', '.join(waiting_for)}"])
    pipe.write(["finished", time.perf_counter() - began])
    leave(0)


class Within:
    """RunError in the midst of what takes longer, as soon as the interpreter is at work again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = max(seconds, 0.001)
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = _signal.signal(_signal.SIGALRM, self._late)
        _signal.setitimer(_signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        _signal.setitimer(_signal.ITIMER_REAL, 0.0)
        _signal.signal(_signal.SIGALRM, self._before)

    def _late(self, *_: object) -> None:
        raise RunError(f"not done within {self._seconds:.3g} s")


def in_order(tasks: list[dict[str, Any]], beside: Collection[str] = (HOME,)) -> list[dict[str, Any]]:
    """Parents first, otherwise as in the file; what hangs on a cycle is left out, and what is `beside` the DAG."""
    left, placed, order = [task for task in tasks if task["name"] not in beside], set(beside), []
    while ready := [task for task in left if placed.issuperset(task["parents"])]:
        order += ready
        placed.update(task["name"] for task in ready)
        left = [task for task in left if task["name"] not in placed]
    return order


def _one(
    pipe: Pipe, setup: dict[str, Any], task: dict[str, Any], number: int,
    flow: tuple[list[Entry], dict[str, list[Entry]], float],
) -> None:  # fmt: skip
    """`flow`: its entries, what waits for the tasks after it, the end of the budget."""
    entries, waiting, until = flow
    scratch = os.path.join(setup["work"], "0")
    own = {**setup, **task, "task": task["name"], "item": setup["sample_name"]}
    try:
        now = time.perf_counter()
        meter = Meter(alone=True)
        if task["contract"] == "native":
            with Within(min(until - now, setup["task_s"] or until - now)):
                work = native(own)
                meter.begin()
                seconds, outputs = work(number, setup["sample_name"], entries, scratch)
        else:
            from jupiter_agent.task.hooks import sample

            meter.begin()
            share = (
                min(until - now, setup["task_s"]) if setup["task_s"] else (until - now) * (SHARE if waiting else 1.0)
            )
            seconds, outputs = sample(own, number, entries, now + share)
        used = meter.used()[0]
    except (ContractError, RunError) as error:
        pipe.write(["spoilt", task["name"], str(error)])
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
        print_trace(error, setup["app_folder"])
        pipe.write(["spoilt", task["name"], last_line(error, setup["app_folder"])])
    else:
        sizes = _deliver(outputs, task, os.path.join(setup["out"], f"{number}."), waiting)
        given = sum(os.path.getsize(path) if data is None else len(data) for _, _, data, path in entries)
        pipe.write(["measured", task["name"], seconds, sizes, used, given])
    empty(scratch)
    os.chdir(scratch)


def _deliver(
    outputs: list[Output], task: dict[str, Any], prefix: str, waiting: dict[str, list[Entry]]
) -> dict[str, int]:
    """Hand each object to its children; bytes per child that got something."""
    sizes: dict[str, int] = {}
    for children, name, data, n, size in outputs:
        for child in children or task["children"] or [HOME]:
            sizes[child] = sizes.get(child, 0) + size
            if child in waiting:
                waiting[child].append((task["name"], name, data, f"{prefix}{n}"))
    return sizes
