"""The v5 contract: `task(q, pathin, pathout, task_name)`, called once, in a thread, looping for ever.

The main thread takes runs from the agent and looks after time; the ledger says what is done (ledger.py). Besides the
frames of serve.py the process sends

    ["window", n]                                   up to n runs may be inside at once (1 at first)
    ["back", run]                                   not begun: give it to the next process
    ["made", children, name, data, number, size]    an output that belongs to no run
    ["taken", file]                                 a large file that was delivered is laid out
    ["ended"]                                       a home script's or non-DAG task's function returned

Home scripts and non-DAG tasks have no runs: files come as ["deliver", [[key, name, data, path], ...]], and each output
is reported at once.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time

from jupiter_agent.task.bystanders import OWN_THREADS
from jupiter_agent.task.errors import ContractError, last_line, print_trace
from jupiter_agent.task.files import fresh
from jupiter_agent.task.harden import end_group
from jupiter_agent.task.itemqueue import ItemQueue
from jupiter_agent.task.ledger import Ledger
from jupiter_agent.task.load import check_arguments, load_module
from jupiter_agent.task.pathin import PathIn
from jupiter_agent.task.pathout import PathOut
from jupiter_agent.task.views import show_jupiter

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from jupiter_agent.task.frames import Pipe
    from jupiter_agent.task.serve import Entries

FOLDERS = ("circe_input", "circe_output")
LOOK_S = 0.05
"""between two looks where the kernel does not tell (inotify.Scan), and at threads of a task that returned"""


def load(pipe: Pipe, setup: dict[str, Any]) -> Callable[[], None]:
    """What to do after `ready`. ContractError, or whatever the script raises while it is imported."""
    folders = [os.path.join(setup["work"], name) for name in FOLDERS]
    fresh(*folders)
    prepare(setup, folders)
    task = load_task(setup["app_folder"], setup["script"])
    setup["counts_done"] = counts_done(task, os.path.join(setup["app_folder"], setup["script"]))
    if setup["extra"].get("role") in ("home", "nondag"):
        from jupiter_agent.task.resident import Resident

        return Resident(pipe, setup, folders, task).run
    return V5(pipe, setup, folders, task).run


def prepare(setup: dict[str, Any], folders: list[str]) -> None:
    """What v5 scripts find around them: the environment, `jupiter_utils`, the paths."""
    import jupiter_agent

    compat = os.path.join(os.path.dirname(jupiter_agent.__file__), "compat")
    sys.path.append(compat)
    task, extra = setup["task"], setup["extra"]
    defaults = {
        "MY_TASK_NAME": task,
        "CIRCE_HOME_IP": "127.0.0.1",
        "CIRCE_TASK_TO_IP": " ".join(f"{name}:127.0.0.1" for name in extra.get("tasks", [task])),
        "CIRCE_NONDAG_TASK_TO_IP": " ".join(f"{name}:127.0.0.1" for name in extra.get("nondag_tasks", [])),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ["JUPITER_CHILDREN"] = " ".join(setup["children"] or ["home"])
    os.environ["JUPITER_OUTPUT"] = folders[1]
    os.environ["PYTHONPATH"] = compat
    show_jupiter(setup, folders, compat)


def load_task(folder: str, script: str) -> Any:
    """The script's `task`, after its signature was looked at."""
    module = load_module(folder, script)
    task = getattr(module, "task", None)
    if not callable(task):
        raise ContractError(f"{script} defines no `task`: write `def task(q, pathin, pathout, task_name)`")
    check_arguments(task, f"{script}: `task`", "task(q, pathin, pathout, task_name)", 4)
    return task


def counts_done(task: Any, path: str) -> bool:
    """Whether the script, or its `task` from wherever, uses `task_done`; comments do not count."""
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    own = getattr(task, "__code__", None)
    return mentions(code, "task_done") or (own is not None and mentions(own, "task_done"))


def mentions(code: CodeType, name: str) -> bool:
    """Whether this code, or code inside it, uses an attribute or global of this name."""
    return name in code.co_names or any(mentions(c, name) for c in code.co_consts if hasattr(c, "co_names"))


class Loop:
    """The main thread, and the thread the task runs in. Its kinds (`V5`, `Resident`) define `on_request`, `on_time` and
    `on_end`."""

    def __init__(self, pipe: Pipe, setup: dict[str, Any], folders: list[str], task: Any) -> None:
        self.pipe, self.setup, self.task = pipe, setup, task
        self.lock = threading.RLock()
        self.folders = folders
        self.inward, self.outward = PathIn(folders[0], setup["task"]), PathOut(setup, folders[1])
        self.queue: ItemQueue
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._end: str | None = None
        """'' when the function returned, else how it failed"""

    def run(self) -> None:
        thread = threading.Thread(target=self._run_task, name=self.setup["task"], daemon=True)
        thread.start()
        poll = select.poll()
        for fd in (self.pipe.fd, self._wake, self.outward.fd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            ready = {} if self.pipe.buffered() else dict(poll.poll(self._patience()))
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if self.pipe.fd in ready or self.pipe.buffered():
                request = self.pipe.read()
                if request is None:
                    end_group()
                with self.lock:
                    self.on_request(request)
            with self.lock:
                self.on_time()
                if self._end or (self._end == "" and not thread.is_alive() and _alone()):
                    self.on_end(self._end)

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def give(self, names: list[str], entries: Entries) -> int:
        """Put files where the task looks, but not their names into its queue."""
        return self.inward.put(names, entries)

    def on_request(self, request: Any) -> None:
        raise NotImplementedError

    def on_time(self) -> None:
        raise NotImplementedError

    def on_end(self, error: str) -> None:
        """The task's function returned (''), or failed."""
        raise NotImplementedError

    def next_due(self) -> float:
        return 0.0

    def _patience(self) -> int | None:
        """Milliseconds until there is something to do without being told."""
        due = self.next_due()
        if self.outward.fd < 0 or self._end is not None:
            due = min(due or float("inf"), time.perf_counter() + LOOK_S)
        return max(0, int((due - time.perf_counter()) * 1000) + 1) if due else None

    def _run_task(self) -> None:
        end = ""
        try:
            self.task(self.queue, *self.folders, self.setup["task"])
        except SystemExit as stop:
            end = f"{self.setup['script']}: SystemExit: {stop.code}" if stop.code else ""
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is answered
            print_trace(error, self.setup["app_folder"])
            end = last_line(error, self.setup["app_folder"])
        self._end = end
        self.wake()


class V5(Loop):
    """A task of the DAG; it is its queue's listener."""

    def __init__(self, pipe: Pipe, setup: dict[str, Any], folders: list[str], task: Any) -> None:
        super().__init__(pipe, setup, folders, task)
        self._ledger = Ledger(setup, (self.inward, self.outward), pipe.write)
        self.queue = ItemQueue(self)

    def on_request(self, request: Any) -> None:
        run, _, entries = request
        names = self.inward.names(entries)
        self._ledger.feed(run, names, self.give(list(names), entries))
        for name in names:
            self.queue.put(name)

    def on_time(self) -> None:
        self._ledger.drain()
        self._ledger.settle()

    def next_due(self) -> float:
        with self.lock:
            return self._ledger.next_due()

    def on_end(self, error: str) -> None:
        error = error or f"{self.setup['script']}: `task` returned; it must loop for ever: while True: name = q.get()"
        from jupiter_agent.task.serve import leave

        self.pipe.write(["broken", "error", error])  # first, or the agent would send the next run here
        self._ledger.fail(error)
        leave(1)

    def on_got(self, name: str) -> None:
        with self.lock:
            self._ledger.on_got(name)
            self._note()

    def on_done(self) -> None:
        with self.lock:
            self._ledger.on_done()
            self._note()

    def on_blocked(self) -> None:
        with self.lock:
            self._ledger.on_blocked()
            self._note()

    def on_asked(self) -> None:
        with self.lock:
            self._ledger.on_asked()
            self._note()

    def _note(self) -> None:
        """The loop may sleep for too long."""
        if self._ledger.next_due():
            self.wake()


def _alone() -> bool:
    """No thread that user code started is left, but daemons."""
    return sum(not thread.daemon for thread in threading.enumerate()) <= OWN_THREADS - 1
