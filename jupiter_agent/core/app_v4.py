"""A Jupiter v4 folder to an AppSpec: configuration.txt, scripts/config.json and two side files (COMPAT.md).

`configuration.txt`: line 1 says how many lines follow, each `task NUM_INPUTS FLAG child...`. A task that is its own
child, or that config.json calls no part of the DAG, runs beside it. Every task has the contract `v4` and extra
{"inputs", "flag", "args", "profile_at_home"}, one beside the DAG {"role", "host", "main"} too: `main` if its script,
which may be a shell script, is run as a program with `args`. What the original ignored is ignored here, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import msgspec

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.app_homes import is_named_home, sink, sinks_among
from jupiter_agent.core.app_script import check_v4
from jupiter_agent.core.app_text import (
    MAX_TASKS,
    MAX_WARNINGS,
    decode,
    did_you_mean,
    name_hint,
    samples_in,
    shown,
    wrong,
)
from jupiter_agent.core.app_v4_json import TaskMap
from jupiter_agent.core.app_v4_side import placements, ports
from jupiter_agent.core.dag import Dag, find_cycle
from jupiter_agent.core.ids import HOME, is_item_name, is_task_name
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import UsageError

HOME_WORDS = ("home", "scheduler")
MAX_INPUTS = 100_000
_FORM = "a line is: task NUM_INPUTS FLAG child..."


class Line(NamedTuple):
    """One task as written. `at` is FILE:LINE."""

    at: str
    name: str
    inputs: int
    flag: str
    children: list[str]


def parse_v4(config: str, folder: str, files: Collection[str], read: Callable[[str], bytes]) -> AppSpec:
    """The app in a folder whose `config` names its tasks. UsageError `FILE:LINE: what` for every mistake."""
    if not is_item_name(folder) or len(folder) > 63:
        raise wrong(f"{config}:1", f"'{folder[:80]}' cannot be an app's name", "rename the folder")
    return _Folder(config, files, read).app(folder)


class _Folder:
    """One pass over the files of a v4 folder."""

    def __init__(self, config: str, files: Collection[str], read: Callable[[str], bytes]) -> None:
        self.config, self.files, self.read = config, files, read
        self.warnings: list[str] = []
        self.map = TaskMap(files, read, self.warn)

    def warn(self, at: str, what: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(f"{at}: {shown(what)}")

    def app(self, folder: str) -> AppSpec:
        lines = self.lines()
        beside = {line.name for line in lines.values() if line.name in line.children or not self.map.in_dag(line.name)}
        if len(beside) == len(lines):
            raise wrong(f"{self.config}:1", "the app has no tasks in its DAG", _FORM)
        specs = [self.spec(line, lines, beside) for line in lines.values()]
        tasks = [spec for spec in specs if spec.name not in beside]
        nondag = [self.outside(spec, lines[spec.name]) for spec in specs if spec.name in beside]
        self.map.warn_unlisted(lines)
        self.check_cycle(tasks, lines)
        homes = dict.fromkeys(child for line in lines.values() for child in line.children if is_named_home(child))
        tasks += [sink(name) for name in sinks_among(tasks, homes) if name not in lines]
        fed = {child for spec in nondag for child in spec.children if child != HOME}
        dag = Dag(tasks, None, fed)
        tasks = [msgspec.structs.replace(task, parents=dag.parents(task.name)) for task in tasks]
        known = {spec.name for spec in [*tasks, *nondag]}
        return AppSpec(
            name=folder,
            tasks=tasks,
            samples=samples_in(self.files),
            warnings=self.warnings,
            nondag=nondag,
            entries=dag.entries,
            fed=[task.name for task in tasks if task.name in fed],
            placements=placements(self.files, self.read, known, self.warn),
            requirements="requirements.txt" in self.files,
            ports=ports(self.files, self.read, self.warn),
            contract="v4",
            item_files={task.name: task.extra["inputs"] for task in tasks if task.name in dag.entries},
        )

    # --- configuration.txt

    def lines(self) -> dict[str, Line]:
        written = list(self.words())
        if not written:
            raise wrong(f"{self.config}:1", "the file is empty", f"line 1 is the number of lines that follow; {_FORM}")
        (at, first), rest = written[0], written[1:]
        count = _whole(first[0]) if len(first) == 1 else None
        if count is None:
            what = f"line 1 must be the number of lines that follow, not '{' '.join(first)[:80]}'"
            raise wrong(at, what, f"write {len(written)} into a line of its own before it")
        if count < len(rest):
            self.warn(rest[count][0], f"line 1 says {count} lines follow; what comes after them is ignored")
        elif count > len(rest):
            self.warn(at, f"line 1 says {count} lines follow, there are {len(rest)}")
        if min(count, len(rest)) > MAX_TASKS:
            raise wrong(rest[MAX_TASKS][0], f"more than {MAX_TASKS} tasks")
        found: dict[str, Line] = {}
        for place, words in rest[:count]:
            line = self.line(place, words)
            if line.name in found:
                what = f"a second task '{line.name}' (the first: {found[line.name].at})"
                raise wrong(place, what, "rename one of them")
            found[line.name] = line
        if not found:
            raise wrong(at, "the app has no tasks", _FORM)
        return found

    def words(self) -> Iterator[tuple[str, list[str]]]:
        """(FILE:LINE, words) of the lines that are not blank."""
        text = decode(self.read(self.config), self.config)
        for number, line in enumerate(text.split("\n"), 1):
            if words := line.split():
                yield f"{self.config}:{number}", words

    def line(self, at: str, words: list[str]) -> Line:
        name, *rest = words
        if name == HOME or not is_task_name(name):
            why = "means the job's home" if name == HOME else "is no task name"
            raise wrong(at, f"'{name[:80]}' {why}", name_hint(name))
        if len(rest) < 2:
            raise wrong(at, f"task '{name}' lacks {'NUM_INPUTS and FLAG' if not rest else 'its FLAG'}", _FORM)
        inputs = _whole(rest[0])
        if inputs is None or inputs > MAX_INPUTS:
            what = f"NUM_INPUTS of '{name}' must be a whole number, not '{rest[0][:80]}'"
            raise wrong(at, what, f"{_FORM}; 1 when it waits for one file")
        if inputs == 0:
            self.warn(at, f"NUM_INPUTS of '{name}' is 0; it is taken as 1")
        flag = "true" if rest[1].lower() == "true" else "false"
        return Line(at, name, max(inputs, 1), flag, rest[2:])

    # --- tasks

    def spec(self, line: Line, lines: dict[str, Line], beside: set[str]) -> TaskSpec:
        script, args, at_home = self.map.entry(line.name, line.at, line.name in beside)
        if line.name not in beside and not self.defines_task(script, line.at):
            raise wrong(
                line.at, f"{script}:1: the script defines no 'task'", "define def task(onefile, pathin, pathout)"
            )
        return TaskSpec(
            name=line.name,
            script=script,
            children=self.children(line, lines, beside),
            contract="v4",
            extra={"inputs": line.inputs, "flag": line.flag, "args": args, "profile_at_home": at_home},
        )

    def outside(self, spec: TaskSpec, line: Line) -> TaskSpec:
        """A non-DAG task: one that config.json calls so, or that has no `task`, is a program that gets its `args`."""
        program = not self.map.in_dag(line.name) or not self.defines_task(spec.script, line.at)
        return msgspec.structs.replace(spec, extra={**spec.extra, "role": "nondag", "host": "", "main": program})

    def defines_task(self, script: str, at: str) -> bool:
        """UsageError for what is not Python, or takes other arguments."""
        if script.endswith(".sh"):
            return False
        try:
            return check_v4(self.read(script), script)
        except UsageError as error:
            raise wrong(at, error.message, error.hint) from error

    def children(self, line: Line, lines: dict[str, Line], beside: set[str]) -> list[str]:
        found: dict[str, None] = {}
        for child in line.children:
            name = HOME if child in HOME_WORDS and child not in lines else child
            if name == line.name:
                continue
            if name in beside:
                self.warn(
                    line.at, f"task '{line.name}' names the non-DAG task '{name}', which is sent nothing; ignored"
                )
            elif name != HOME and name not in lines and not is_named_home(name):
                hint = did_you_mean(name, [*lines, HOME])
                raise wrong(line.at, f"task '{line.name}' names the unknown child '{name[:80]}'", hint)
            elif name in found:
                self.warn(line.at, f"task '{line.name}' names the child '{name}' twice; once counts")
            else:
                found[name] = None
        return list(found)

    def check_cycle(self, tasks: list[TaskSpec], lines: dict[str, Line]) -> None:
        if cycle := find_cycle({task.name: task.children for task in tasks}):
            hint = f"take '{cycle[-1]}' out of the children of '{cycle[-2]}', or another edge of the cycle"
            raise wrong(lines[cycle[-2]].at, "the tasks form a cycle: " + " -> ".join(cycle), hint)


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
