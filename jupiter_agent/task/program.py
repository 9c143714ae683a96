"""A v4 task beside the DAG: its script as a program of its own, with its arguments, for as long as it wants to run.

Python scripts run in this very process, as `__main__`; shell scripts in a child. The end of the program is told; one
that fails is started again by the agent. Where the script is no program (`main` is false) nothing ever reaches the
task.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from jupiter_agent.task.errors import last_line, print_trace
from jupiter_agent.task.harden import end_group
from jupiter_agent.task.serve import exit_code, leave
from jupiter_agent.task.views import SCRIPTS, show_scheduler

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jupiter_agent.task.frames import Pipe


def load(pipe: Pipe, setup: dict[str, Any]) -> Callable[[], None]:
    """What to do after `ready`."""
    folder = setup["app_folder"] = show_scheduler(setup)
    os.environ["TASK"] = setup["task"]
    path = os.path.join(folder, setup["script"].removeprefix(f"{SCRIPTS}/"))
    words = [path, *map(str, setup["extra"].get("args", []))]

    def run() -> None:
        if not setup["extra"].get("main"):
            while pipe.read() is not None:
                pass
            end_group()
        error = _run(words, folder)
        pipe.write(["broken", "error", error] if error else ["ended"])
        leave(1 if error else 0)

    return run


def _run(words: list[str], folder: str) -> str:
    """How it failed; '' when it did not."""
    name = os.path.basename(words[0])
    try:
        code = _shell(words) if name.endswith(".sh") else _python(words, folder)
    except SystemExit as stop:
        code = exit_code(stop)
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
        print_trace(error, folder)
        return last_line(error, folder)
    return f"{name}: exited with code {code}" if code else ""


def _shell(words: list[str]) -> int:
    import subprocess

    return subprocess.call(["sh", *words])


def _python(words: list[str], folder: str) -> int:
    """As `python words...` would, threads that are no daemons included."""
    import threading

    sys.path.insert(0, folder)
    sys.argv = words
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = words[0]
    with open(words[0], "rb") as file:
        code = compile(file.read(), words[0], "exec")
    exec(code, module.__dict__)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    return 0
