"""The warm process: one item after another (up to `parallel` at once) until the agent closes the pipe.

The agent sends the setup, a map (see main.py), and then per run [run, item, [[key, name, data or None, path], ...]].
The process answers ["ready"], or ["broken", kind, error] when the script does not load (it then ends), and per run
["done", run, seconds, outputs, CPU seconds, peak bytes] or ["failed", run, kind, error].

What one run is depends on the contract; v5 tasks, which ask for their files themselves, have a loop of their own
(v5.py).
"""

from __future__ import annotations

import os
import sys
import time

from jupiter_agent.task.errors import ContractError, RunError, last_line, print_trace
from jupiter_agent.task.frames import Pipe
from jupiter_agent.task.harden import end_group
from jupiter_agent.task.meter import Meter

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jupiter_agent.task.native import Output

    Entries = list[tuple[str, str, bytes | None, str]]
    Work = Callable[[int, str, Entries, str], tuple[float, list[Output]]]
    """(run, item, entries, scratch folder) -> (seconds inside the task, outputs)"""


def serve(pipe: Pipe, setup: dict[str, Any]) -> None:
    """Load, say so, and work. Returns when there is nothing left to read."""
    try:
        if setup["contract"] == "v5":
            from jupiter_agent.task.v5 import load as load_v5

            go_on = load_v5(pipe, setup)
        elif setup["contract"] == "v4" and setup["extra"].get("role"):
            from jupiter_agent.task.program import load as load_program

            go_on = load_program(pipe, setup)
        else:
            go_on = _Server(pipe, setup, work_of(setup)).run
    except SystemExit as stop:
        fail_load(pipe, "error", f"{setup['script']}: SystemExit: {stop.code}")
    except ContractError as error:
        fail_load(pipe, "contract", str(error))
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
        print_trace(error, setup["app_folder"])
        fail_load(pipe, "error", last_line(error, setup["app_folder"]))
    else:
        pipe.write(["ready"])
        go_on()


def work_of(setup: dict[str, Any]) -> Work:
    """What a run does under this contract. ContractError, or what the script raises."""
    contract = setup["contract"]
    if contract == "native":
        return native(setup)
    if contract == "command":
        from jupiter_agent.task.command import command

        return command(setup)
    if contract == "v4":
        from jupiter_agent.task.v4 import v4

        return v4(setup)
    raise ContractError(f"tasks of the {contract} contract are not run here")


def native(setup: dict[str, Any]) -> Work:
    """`process(inputs, ctx)`."""
    from jupiter_agent.task.load import load
    from jupiter_agent.task.native import Context, Inputs, Outputs

    process = load(setup["app_folder"], setup["script"])

    def work(run: int, item: str, entries: Entries, scratch: str) -> tuple[float, list[Output]]:
        inputs = Inputs(entries)
        context = Context(setup, item, inputs, scratch)
        started = time.perf_counter()
        value = process(inputs, context)
        seconds = time.perf_counter() - started
        return seconds, Outputs(setup, run, scratch).take(value)

    return work


def fail_load(pipe: Pipe, kind: str, error: str) -> None:
    pipe.write(["broken", kind, error])
    leave(1)


def leave(code: int) -> None:
    """End at once: user threads and exit handlers could keep a normal exit waiting for ever."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


def exit_code(stop: SystemExit) -> int:
    """What `sys.exit(value)` means to the shell; a message is printed."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


class _Server:
    """`parallel` slots, each reading, running and answering by itself; the first is the main thread."""

    def __init__(self, pipe: Pipe, setup: dict[str, Any], work: Work) -> None:
        self._pipe = pipe
        self._setup = setup
        self._work = work
        self._read_lock: Any = _NO_LOCK
        self._write_lock: Any = _NO_LOCK

    def run(self) -> None:
        if self._setup["parallel"] > 1:
            import threading

            self._read_lock, self._write_lock = threading.Lock(), threading.Lock()
            for slot in range(1, self._setup["parallel"]):
                threading.Thread(target=self._slot, args=(slot,), name=f"slot-{slot}", daemon=True).start()
        self._slot(0)

    def _slot(self, slot: int) -> None:
        scratch, meter = os.path.join(self._setup["work"], str(slot)), Meter(self._setup["parallel"] == 1)
        while True:
            with self._read_lock:
                request = self._pipe.read()
            if request is None:
                end_group()
            answer = self._attempt(request, scratch, meter)
            with self._write_lock:
                self._pipe.write(answer)
            self._clean(scratch)

    def _attempt(self, request: Any, scratch: str, meter: Meter) -> list[Any]:
        run, item, entries = request
        try:
            meter.begin()
            seconds, outputs = self._work(run, item, entries, scratch)
            return ["done", run, seconds, outputs, *meter.used()]
        except SystemExit as stop:
            leave(exit_code(stop))
            raise
        except ContractError as error:
            return ["failed", run, "contract", str(error)]
        except RunError as error:
            return ["failed", run, "error", str(error)]
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
            print_trace(error, self._setup["app_folder"])
            return ["failed", run, "error", last_line(error, self._setup["app_folder"])]

    def _clean(self, scratch: str) -> None:
        empty(scratch)
        if self._setup["parallel"] == 1:
            os.chdir(scratch)


class _NoLock:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


_NO_LOCK = _NoLock()


def empty(folder: str) -> None:
    """Remove what is in it; the folder itself comes back when user code removed it."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        os.makedirs(folder, exist_ok=True)
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            import shutil

            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
