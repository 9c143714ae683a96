"""A sample run: the whole DAG once, one task after the other, in one process that the agent ends at its budget.

    process -> agent   ["measured", task, seconds, {child: bytes}], ["spoilt", task, error], ["finished"]

Each task is reported when it is done, so what was measured counts even if a later one hangs. A task that fails passes
nothing on; so does one whose inputs are all missing. Loading a script is not counted.
"""

from __future__ import annotations

import os
import time

from jupiter_agent.task.errors import ContractError, last_line, print_trace
from jupiter_agent.task.frames import Pipe
from jupiter_agent.task.load import load
from jupiter_agent.task.native import HOME, Context, Inputs, Output, Outputs
from jupiter_agent.task.serve import empty, leave

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

INPUT = "input"

Entry = tuple[str, str, bytes | None, str]
"""as `Inputs` takes it"""


def profile(pipe: Pipe, setup: dict[str, Any]) -> None:
    """Run `setup["tasks"]` (maps with name, script, contract, children, parents, params) in an order of the DAG."""
    size = os.path.getsize(setup["sample"])
    waiting: dict[str, list[Entry]] = {task["name"]: [] for task in setup["tasks"]}
    for number, task in enumerate(in_order(setup["tasks"])):
        entries = waiting.pop(task["name"])
        parents = [parent for parent in task["parents"] if parent != HOME]
        if not parents:
            entries.append((INPUT, setup["sample_name"], None, setup["sample"]))
            pipe.write(["measured", HOME, 0.0, {task["name"]: size}])
        if entries:
            _one(pipe, setup, task, number, entries, waiting)
    pipe.write(["finished"])
    leave(0)


def in_order(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parents first, otherwise as in the file; what hangs on a cycle is left out."""
    left, placed, order = list(tasks), {HOME}, []
    while ready := [task for task in left if placed.issuperset(task["parents"])]:
        order += ready
        placed.update(task["name"] for task in ready)
        left = [task for task in left if task["name"] not in placed]
    return order


def _one(
    pipe: Pipe, setup: dict[str, Any], task: dict[str, Any], number: int, entries: list[Entry],
    waiting: dict[str, list[Entry]],
) -> None:  # fmt: skip
    scratch = os.path.join(setup["work"], "0")
    try:
        if task["contract"] != "native":
            raise ContractError(f"a {task['contract']} task is not run by the profiler")
        process = load(setup["app_folder"], task["script"])
        own = {**setup, "task": task["name"], "children": task["children"], "params": task["params"]}
        inputs = Inputs(entries)
        context = Context(own, setup["sample_name"], inputs, scratch)
        started = time.perf_counter()
        value = process(inputs, context)
        seconds = time.perf_counter() - started
        outputs = Outputs(own, number, scratch).take(value)
    except ContractError as error:
        pipe.write(["spoilt", task["name"], str(error)])
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
        print_trace(error, setup["app_folder"])
        pipe.write(["spoilt", task["name"], last_line(error, setup["app_folder"])])
    else:
        sizes = _deliver(outputs, task, os.path.join(setup["out"], f"{number}."), waiting)
        pipe.write(["measured", task["name"], seconds, sizes])
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
