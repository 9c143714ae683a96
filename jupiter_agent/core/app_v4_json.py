"""`scripts/config.json` of a v4 folder: which script a task runs, with which arguments, and where it is profiled.

`taskname_map: {task: [script without .py, is_dag, args...]}`, `exec_profiler: {task: bool}`; all else is the app's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from jupiter_agent.core.app_text import decode, did_you_mean, wrong

SCRIPTS = "scripts/"
FILE = f"{SCRIPTS}config.json"
MAX_ARGS = 1000
Arg: TypeAlias = str | int | float | bool | None


class TaskMap:
    """What config.json says of each task; empty when there is none."""

    def __init__(self, files: Collection[str], read: Callable[[str], bytes], warn: Callable[[str, str], None]) -> None:
        self._files, self._warn = files, warn
        self._text = decode(read(FILE), FILE) if FILE in files else ""
        top = self._loaded()
        self._map: dict[str, Any] = self._object(top, "taskname_map")
        self._profiler: dict[str, Any] = self._object(top, "exec_profiler")

    def _loaded(self) -> dict[str, Any]:
        if FILE not in self._files:
            return {}
        try:
            top = json.loads(self._text)
        except json.JSONDecodeError as error:
            raise wrong(f"{FILE}:{error.lineno}", f"not JSON: {error.msg}", _SYNTAX) from error
        except (RecursionError, ValueError) as error:  # too deep; a number of too many digits
            raise wrong(f"{FILE}:1", f"not JSON that can be read: {type(error).__name__}", _SYNTAX) from error
        if not isinstance(top, dict):
            raise wrong(f"{FILE}:1", "the file must be an object", 'write {"taskname_map": {...}}')
        return top

    def _object(self, top: dict[str, Any], key: str) -> dict[str, Any]:
        value = top.get(key)
        if value is not None and not isinstance(value, dict):
            raise wrong(self.at(key), f"{key} must be an object", f'write "{key}": {{task: ...}}')
        return value or {}

    def at(self, key: str) -> str:
        """Where a key is written."""
        place = max(self._text.find('"taskname_map"'), 0)
        found = self._text.find(f'"{key}"', place)
        return f"{FILE}:{self._text.count(chr(10), 0, max(found, 0)) + 1}"

    def in_dag(self, task: str) -> bool:
        """What its second word says; a task that is not named is in the DAG."""
        words = self._map.get(task)
        return not (isinstance(words, list) and len(words) > 1 and str(words[1]).strip().lower() == "false")

    def warn_unlisted(self, known: Collection[str]) -> None:
        """The original runs what has a line, and nothing else."""
        for task in self._map:
            if task not in known:
                self._warn(self.at(task), f"task '{task}' has no line in the DAG's file; ignored")

    def entry(self, task: str, at: str, shell: bool) -> tuple[str, list[Arg], bool]:
        """(script's path, arguments, whether it is profiled at home only); with `shell` a shell script will do.

        UsageError when there is no such script.
        """
        words = self._map.get(task)
        if words is None:
            what = f"task '{task}' is not in taskname_map of {FILE}"
            return self._script(task, at, what, shell), [], self._at_home(task)
        words = [words] if isinstance(words, str) else words
        if not isinstance(words, list) or not words or not isinstance(words[0], str):
            raise wrong(self.at(task), f"taskname_map of '{task}' must be a list", 'write ["script", true]')
        if len(words) > MAX_ARGS:
            raise wrong(self.at(task), f"taskname_map of '{task}' has more than {MAX_ARGS} words")
        script = self._script(words[0], self.at(task), f"no script '{words[0][:80]}' in {SCRIPTS}", shell)
        return script, [self._argument(task, word) for word in words[2:]], self._at_home(task)

    def _script(self, word: str, at: str, what: str, shell: bool) -> str:
        name = f"{SCRIPTS}{word.removesuffix('.py')}.py"
        if name not in self._files and shell and (program := f"{SCRIPTS}{word.removesuffix('.sh')}.sh") in self._files:
            return program
        if name not in self._files:
            known = sorted(f[len(SCRIPTS) : -3] for f in self._files if f.startswith(SCRIPTS) and f.endswith(".py"))
            raise wrong(at, what, did_you_mean(word, known) or f"write {SCRIPTS}{word[:80]}.py")
        return name

    def _argument(self, task: str, word: Any) -> Arg:
        if word is None or isinstance(word, bool | float):
            return word
        if isinstance(word, int):
            return word if abs(word) < 2**63 else str(word)
        text = word if isinstance(word, str) else json.dumps(word)
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise wrong(self.at(task), f"an argument of '{task}' holds half a character (a surrogate)")
        return text

    def _at_home(self, task: str) -> bool:
        return str(self._profiler.get(task, True)).strip().lower() == "false"


_SYNTAX = "check quotes, commas and brackets of this line and the one above"
