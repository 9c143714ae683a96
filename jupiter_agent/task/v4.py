"""The v4 contract: `task(onefile_or_list, pathin, pathout)`, called once per complete group of files of an item.

Files of one item are grouped by join key, the name up to the first `_`, else up to the first `.`; each NUM_INPUTS of
a group, in order of arrival, are one call: a name with one input, else a list of names. What stays incomplete never
fires.

Every file closed in `pathout` is an output, in the order of first closing, whatever `task` returns; folders in it are
ignored, as are files never closed. FLAG `true`: each is for all children. Else in rounds, per call: the i-th of a round
is for the i-th child, and a short last round is for its first children.
"""

from __future__ import annotations

import os
import sys
import time

from jupiter_agent.task.errors import ContractError
from jupiter_agent.task.files import children_of, fresh, place
from jupiter_agent.task.inotify import watch
from jupiter_agent.task.load import check_arguments, load_module
from jupiter_agent.task.native import Output, Outputs
from jupiter_agent.task.serve import empty
from jupiter_agent.task.views import SCRIPTS, show_scheduler

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

    from jupiter_agent.task.inotify import Scan, Watch
    from jupiter_agent.task.serve import Entries, Work

CLOSING_S, LOOK_S = 0.2, 0.002
"""how long files still open when `task` returns are waited for (a program it left behind may write), and how often"""


def v4(setup: dict[str, Any]) -> Work:
    """ContractError, or what the script raises. Afterwards the app's folder is the one the scripts see."""
    setup["app_folder"] = show_scheduler(setup)
    os.environ["TASK"] = setup["task"]
    task = load_task(setup["app_folder"], setup["script"])

    slots: dict[str, _Folders] = {}

    def work(run: int, item: str, entries: Entries, scratch: str) -> tuple[float, list[Output]]:
        if scratch not in slots:
            slots[scratch] = _Folders(scratch + "-files")
        folders = slots[scratch]
        folders.clear()
        pathin, pathout = folders.pathin, folders.pathout
        names = lay_out(pathin, entries)
        outputs, seconds = Outputs(setup, run, pathout), 0.0
        found: list[Output] = []
        for group in groups(names, setup["extra"].get("inputs", 1), item):
            started = time.perf_counter()
            task(group if len(group) > 1 else group[0], pathin, pathout)
            seconds += time.perf_counter() - started
            closed = closed_files(folders.watch, pathout)
            for child, path in zip(destinations(setup, len(closed)), closed, strict=True):
                found.append(outputs.from_path(path, child, len(found)))
                if os.path.lexists(path):
                    os.unlink(path)
        return seconds, found

    return work


class _Folders:
    """One slot's folders, and the watch on its outputs: kept, because to end a watch takes the kernel milliseconds."""

    def __init__(self, top: str) -> None:
        self.pathin, self.pathout = os.path.join(top, "in"), os.path.join(top, "out")
        fresh(self.pathin, self.pathout)
        self.watch = watch(self.pathout)
        self._inode = os.stat(self.pathout).st_ino

    def clear(self) -> None:
        """As for the first run, whatever the last one did to them."""
        empty(self.pathin)
        empty(self.pathout)
        if os.stat(self.pathout).st_ino != self._inode:
            self.watch.close()
            self.watch = watch(self.pathout)
            self._inode = os.stat(self.pathout).st_ino
        self.watch.closed()
        self.watch.open_names.clear()


def load_task(folder: str, script: str) -> Any:
    """The `task` of a script in the folder that shows the app."""
    script = script.removeprefix(f"{SCRIPTS}/")
    module = load_module(folder, script)
    task = getattr(module, "task", None)
    if not callable(task):
        raise ContractError(f"{script} defines no `task`: write `def task(onefile, pathin, pathout)`")
    check_arguments(task, f"{script}: `task`", "task(onefile, pathin, pathout)", 3)
    return task


def join_key(name: str) -> str:
    """Name up to the first `_`, else up to the first `.`."""
    return name.partition("_")[0] if "_" in name else name.partition(".")[0]


def groups(names: list[str], size: int, item: str = "") -> list[list[str]]:
    """Calls in the order in which they become complete; what is left over is logged."""
    waiting: dict[str, list[str]] = {}
    complete = []
    for name in names:
        group = waiting.setdefault(join_key(name), [])
        group.append(name)
        if len(group) == size:
            complete.append(waiting.pop(join_key(name)))
    for key, group in waiting.items():
        print(
            f"[jupiter] item {item}: {len(group)} of {size} files with the key {key!r}: not run ({', '.join(group)})",
            file=sys.stderr,
        )
    return complete


def lay_out(pathin: str, entries: Entries) -> list[str]:
    """Names in order of arrival. A second file of a name, from another parent, gets a number."""
    names: list[str] = []
    for _, base, data, source in entries:
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}.{number}"
        place(os.path.join(pathin, name), data, source)
        names.append(name)
    return names


def closed_files(watched: Watch | Scan, pathout: str) -> list[str]:
    """Paths of what was closed, each once, as long as it is there."""
    found = dict.fromkeys(watched.closed())
    until = time.perf_counter() + CLOSING_S
    while watched.open_names and time.perf_counter() < until:
        time.sleep(LOOK_S)
        found.update(dict.fromkeys(watched.closed()))
    if watched.open_names:
        print(f"[jupiter] never closed, so no outputs: {', '.join(sorted(watched.open_names))}", file=sys.stderr)
    there = [name for name in found if name not in watched.open_names]
    return [path for name in there if os.path.isfile(path := os.path.join(pathout, name))]


def destinations(setup: dict[str, Any], count: int) -> list[list[str]]:
    """Of so many outputs of one call: the children of each, [] for all."""
    if str(setup["extra"].get("flag", "true")).lower() == "true":
        return [[]] * count
    children = children_of(setup)
    return [[children[number % len(children)]] for number in range(count)]
