"""`jupiter app lint`: what is wrong with an app, what will surprise its author, and how to mend it.

Errors are what every node would refuse at submit, and what can never run. Warnings are what the parser ignores, and
what the scripts show (`lint_scripts`). Nothing is executed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jupiter_agent.adapters.bundle import check_folder, make_bundle
from jupiter_agent.apps.lint_scripts import script_findings
from jupiter_agent.core.app import CONFIG, V4_CONFIGS, AppSpec
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import UsageError

WHEELS = "wheels"
_PLACE = re.compile(r"([^:\s][^:]*):([0-9]+): (.*)", re.DOTALL)
_MENDS = {
    "is ignored": "correct the key, or take it out",
    "ignored": "correct it, or take it out",
    "can never get an item": "name it as a child of home or of another task",
    "is given twice": "take one of the two out",
    "twice": "take one of them out",
    "line 1 says": "make line 1 the number of lines that follow",
    "is taken as 1": "write 1, or the number of files it waits for",
}
"""Words of the parser's warnings -> how to mend it."""


class Finding(NamedTuple):
    """`level`: error or warning; `line` 0 where the file as a whole is meant."""

    level: str
    file: str
    line: int
    what: str
    hint: str

    def at(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def lint(folder: Path, offline: bool = False) -> list[Finding]:
    """Errors first, then by file and line. `offline`: nodes reach no package index. UsageError: no such folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", f"APP is the folder with {CONFIG} or {V4_CONFIGS[0]}")
    findings = set(_findings(folder.resolve(), offline))
    return sorted(findings, key=lambda f: (f.level, f.file, f.line, f.what))


def _findings(folder: Path, offline: bool) -> Iterator[Finding]:
    try:
        spec = check_folder(folder)
        with make_bundle(folder).file:
            pass
    except UsageError as error:
        yield _from_text("error", error.message, error.hint)
        return
    for warning in spec.warnings:
        hint = next((mend for words, mend in _MENDS.items() if words in warning), "")
        yield _from_text("warning", warning, hint)
    config = next(name for name in (CONFIG, *V4_CONFIGS) if (folder / name).is_file())
    yield from _samples(spec, config)
    yield from _hosts(spec, config)
    if spec.requirements:
        yield from _requirements(folder, offline)
    tasks = [*spec.tasks, *spec.nondag, *filter(None, [spec.home_task])]
    for task in tasks:
        if task.contract == "command":
            yield from _program(folder, config, task)
    for script, contract in sorted({(task.script, task.contract) for task in tasks if task.script.endswith(".py")}):
        replayed = all(task.extra.get("replay") for task in tasks if task.script == script)
        for line, what, hint in script_findings((folder / script).read_bytes(), script, contract, replayed):
            yield Finding("warning", script, line, what, hint)


def _from_text(level: str, text: str, hint: str) -> Finding:
    match = _PLACE.fullmatch(text)
    return Finding(level, match[1], int(match[2]), match[3], hint) if match else Finding(level, ".", 0, text, hint)


def _samples(spec: AppSpec, config: str) -> Iterator[Finding]:
    if not spec.samples:
        hint = "put one file per item into sample_input/" if spec.contract == "v4" else "put files into samples/"
        yield Finding("warning", config, 0, "no samples: nothing can be profiled before the first item", hint)
    wanted = max(spec.item_files.values(), default=1)
    keys = Counter(join_key(os.path.basename(sample)) for sample in spec.samples) if wanted > 1 else Counter()
    for key, count in keys.items():
        if count % wanted:
            what = f"{count} samples with the key '{key}', and an item of an entry task takes {wanted}"
            yield Finding("warning", config, 0, what, "files of one item agree up to the first _, else the first .")


def join_key(name: str) -> str:
    """v4: the part of a file's name that says to which item it belongs."""
    return name.split("_", 1)[0] if "_" in name else name.split(".", 1)[0]


def _hosts(spec: AppSpec, config: str) -> Iterator[Finding]:
    file = config if config == CONFIG else "input_node.txt"
    if spec.placements:
        wishes = [f"{task} ({host})" for task, host in spec.placements.items()]
        shown = ", ".join(wishes[:5]) + (f" and {len(wishes) - 5} more" if len(wishes) > 5 else "")
        what = f"hosts are wished for: {shown}; where one is not there the mapper chooses"
        yield Finding("warning", file, 0, what, "jupiter ctl get nodes lists the names; `node:` pins strictly")


def _requirements(folder: Path, offline: bool) -> Iterator[Finding]:
    """Each requirement needs a wheel in the bundle when nothing else is installed from."""
    if not offline and not (folder / WHEELS).is_dir():
        return
    why = "a node without internet cannot install it" if offline else f"where there is {WHEELS}/, nothing is downloaded"
    wheels = {_project(path.name.split("-")[0]) for path in (folder / WHEELS).glob("*.whl")}
    lines = (folder / "requirements.txt").read_text("utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        name = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        if name and _project(name[1]) not in wheels:
            what = f"no wheel of '{name[1]}' in {WHEELS}/: {why}"
            hint = f"pip download -r requirements.txt -d {WHEELS}"
            yield Finding("error", "requirements.txt", number, what, hint)


def _project(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _program(folder: Path, config: str, task: TaskSpec) -> Iterator[Finding]:
    word = task.command[0]
    line = next(
        (n for n, text in enumerate((folder / config).read_text("utf-8-sig").splitlines(), 1) if word in text), 0
    )
    if "/" not in word:
        if shutil.which(word) is None and (folder / word).is_file():
            yield from _carried(folder, config, line, task)
        elif shutil.which(word) is None:
            what = f"task '{task.name}' runs '{word}', which is not installed here"
            yield Finding("warning", config, line, what, "install it on every node that may run the task")
    elif os.path.isabs(word):
        what = f"task '{task.name}' runs '{word}' by its absolute path"
        yield Finding("warning", config, line, what, "carry the program in the app's folder, or name it without a path")
    else:
        yield from _carried(folder, config, line, task)


def _carried(folder: Path, config: str, line: int, task: TaskSpec) -> Iterator[Finding]:
    """A program that is one of the app's files."""
    path = folder / task.command[0]
    if not os.access(path, os.X_OK):
        what = f"task '{task.name}' runs '{task.command[0]}', which is not executable"
        yield Finding("error", config, line, what, f"chmod +x {task.command[0]}")
    with path.open("rb") as file:
        first = file.readline(200)
    if first.startswith(b"#!") and first.endswith(b"\r\n"):
        what = "the first line ends in a carriage return: no interpreter has such a name"
        yield Finding("error", str(Path(task.command[0])), 1, what, "save the script with Unix line ends")
