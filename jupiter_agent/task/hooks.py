"""Sample runs of tasks that are not native: each in a child process, ended at its share of the budget.

The child uses the app's own hook where there is one: `main()` of v4, which returns the paths of its outputs (else what
was closed in `sample_input` counts), `profile_execution(task_name)` of v5, which returns a folder and names. Hooks work
on a private copy of what they may change. Without a hook the task gets what its parents gave, as in a real run.
"""

from __future__ import annotations

import os
import select
import socket
import time

from jupiter_agent.task.errors import ContractError, RunError, last_line, print_trace
from jupiter_agent.task.frames import Pipe
from jupiter_agent.task.inotify import watch
from jupiter_agent.task.load import load_module
from jupiter_agent.task.native import Outputs
from jupiter_agent.task.serve import fail_load, leave, serve
from jupiter_agent.task.views import SCRIPTS, show_scheduler

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

    from jupiter_agent.task.native import Output
    from jupiter_agent.task.serve import Entries

HELD_S = 0.5


def sample(setup: dict[str, Any], number: int, entries: Entries, until: float) -> tuple[float, list[Output]]:
    """Seconds and outputs of one task, `number` being its run's. RunError, also at the time `until` (perf_counter)."""
    work = os.path.join(setup["work"], f"sample-{number}")
    setup = {**setup, "work": work, "held_s": HELD_S, "parallel": 1}
    os.makedirs(os.path.join(work, "0"), 0o700)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        _child(Pipe(theirs.fileno()), setup, number)
    theirs.close()
    try:
        return _follow(Pipe(ours.fileno()), [number, setup["item"], entries], until)
    finally:
        os.kill(pid, 9)  # before it sees the end of its pipe: that would end the whole group
        os.waitpid(pid, 0)
        ours.close()


def _follow(pipe: Pipe, run: list[Any], until: float) -> tuple[float, list[Output]]:
    poll = select.poll()
    poll.register(pipe.fd, select.POLLIN)
    while True:
        if not pipe.buffered() and not poll.poll(max(0.0, until - time.perf_counter()) * 1000):
            raise RunError("not done within its share of the budget")
        answer = pipe.read()
        if answer is None:
            raise RunError("its process ended")
        if answer[0] == "ready":
            if not run[2]:
                raise RunError("there is nothing to give it: no parent gave anything, and it has no hook")
            pipe.write(run)
        elif answer[0] == "done":
            return answer[2], answer[3]
        elif answer[0] in ("failed", "broken"):
            raise RunError(answer[-1])


def _child(pipe: Pipe, setup: dict[str, Any], number: int) -> None:
    """Never returns."""
    os.chdir(os.path.join(setup["work"], "0"))
    hook = HOOKS.get(setup["contract"])
    try:
        done = hook(setup, number) if hook else None
    except ContractError as error:
        fail_load(pipe, "contract", str(error))
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
        print_trace(error, setup["app_folder"])
        fail_load(pipe, "error", last_line(error, setup["app_folder"]))
    if done:
        pipe.write(["done", number, *done])
        leave(0)
    serve(pipe, setup)
    leave(0)


def _v4(setup: dict[str, Any], number: int) -> tuple[float, list[Output]] | None:
    from jupiter_agent.task.v4 import destinations

    if not _defines(setup, "main"):
        return None
    os.environ["TASK"] = setup["task"]
    folder = setup["app_folder"] = show_scheduler(setup, copies=True)
    samples = os.path.join(folder, "sample_input")
    os.makedirs(samples, exist_ok=True)
    os.chdir(folder)
    module = load_module(folder, setup["script"].removeprefix(f"{SCRIPTS}/"))
    watched = watch(samples)
    started = time.perf_counter()
    value = module.main()
    seconds = time.perf_counter() - started
    given = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    paths = [path for name in given if isinstance(name, str) for path in _found(name, folder, samples)]
    paths = paths or [path for name in dict.fromkeys(watched.closed()) for path in _found(name, samples)]
    outputs = Outputs(setup, number, setup["work"])
    children = destinations(setup, len(paths))
    return seconds, [
        outputs.from_path(path, child, n) for n, (path, child) in enumerate(zip(paths, children, strict=True))
    ]


def _v5(setup: dict[str, Any], number: int) -> tuple[float, list[Output]] | None:
    from jupiter_agent.task.files import children_of, fresh
    from jupiter_agent.task.v5 import FOLDERS, prepare

    if not _defines(setup, "profile_execution"):
        return None
    import shutil

    copy = os.path.join(setup["work"], "app")
    shutil.copytree(setup["app_folder"], copy, ignore=shutil.ignore_patterns("__pycache__"))
    setup["app_folder"] = copy
    folders = [os.path.join(setup["work"], name) for name in FOLDERS]
    fresh(*folders)
    prepare(setup, folders)
    module = load_module(copy, setup["script"])
    started = time.perf_counter()
    folder, names = module.profile_execution(setup["task"])
    seconds = time.perf_counter() - started
    outputs = Outputs(setup, number, setup["work"])
    made: list[Output] = []
    for name in names:
        parts = os.path.basename(name).split("_", 2)
        known = len(parts) == 3 and parts[1] in children_of(setup)
        for path in _found(name, str(folder), copy):
            made.append(outputs.from_path(path, [parts[1]] if known else [], len(made), parts[-1] if known else ""))
    return seconds, made


HOOKS = {"v4": _v4, "v5": _v5}


def _defines(setup: dict[str, Any], name: str) -> bool:
    """Whether the script has a function of this name at its top level. Not imported yet: that happens where it sees."""
    with open(os.path.join(setup["app_folder"], setup["script"]), "rb") as file:
        return any(line.startswith((b"def %s(" % name.encode(), b"def %s (" % name.encode())) for line in file)


def _found(name: str, *folders: str) -> list[str]:
    """The file's path as given, or in the first of the folders that has it; nothing when there is none."""
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return [os.path.realpath(path)]
    return []
