"""One task of `app_config.yaml`: its keys to a TaskSpec, its script to a contract. Edges are `app_edges`' business."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from typing import Any

from yaml.nodes import Node, ScalarNode

from jupiter_agent.core.app_limits import limits, needs
from jupiter_agent.core.app_script import contract
from jupiter_agent.core.app_text import did_you_mean, name_hint
from jupiter_agent.core.app_yaml import YamlFile
from jupiter_agent.core.ids import HOME, is_node_name, is_task_name
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.needs import NEEDS
from jupiter_agent.errors import UsageError

_OPTIONAL = ("children", "timeout_s", "parallel", "retries", "replay", "node", "k8s_host", "params", "limits", "needs")
DAG_KEYS = ("name", "base_script", "command", *_OPTIONAL)
HOME_KEYS = ("base_script", "children", "k8s_host", "params", "limits")
MAX_COMMAND = 1000
_SHELL = set("|&;<>$`*?~()\"'\\")


class TaskReader:
    """Reads the tasks of one file. `child_nodes` says where an edge is written, `placements` collects wished hosts."""

    def __init__(
        self, yaml: YamlFile, files: Collection[str], read: Callable[[str], bytes], node_map: dict[str, str]
    ) -> None:
        self.yaml = yaml
        self.child_nodes: dict[tuple[str, str], Node] = {}
        self.placements: dict[str, str] = {}
        self._files, self._read, self._node_map = files, read, node_map
        self._contracts: dict[str, str] = {}

    def dag_task(self, node: Node) -> TaskSpec:
        keys = self.keys(node)
        name = self.name(keys, node)
        command = self.command(name, keys)
        script, kind = ("", "command") if command else self.script(name, keys.get("base_script"), node)
        extra: dict[str, Any] = {}
        if "replay" in keys:
            extra["replay"] = self.yaml.integer(keys["replay"], "replay", 0, 1_000_000)
            if kind != "v5":
                self.yaml.warn(keys["replay"], "replay is for v5 tasks: others keep nothing across items; ignored")
                extra = {}
        return self._spec(name, keys, (script, kind, command), extra)

    def nondag_task(self, node: Node) -> TaskSpec:
        """Runs beside the DAG; its host is a wish. UsageError for what is no v5 script."""
        keys = self.keys(node)
        name = self.name(keys, node)
        if "command" in keys:
            raise self.yaml.wrong(keys["command"], f"the non-DAG task '{name}' runs a command", _V5_ONLY)
        script = self.v5_script(name, keys.get("base_script"), node)
        spec = self._spec(name, keys, (script, "v5", []), {})
        extra = {**spec.extra, "role": "nondag", "host": self.placements.get(name, "")}
        return TaskSpec(
            spec.name, spec.script, children=spec.children, node=spec.node, params=spec.params,
            contract=spec.contract, extra=extra,
        )  # fmt: skip

    def home_task(self, keys: dict[str, Node]) -> TaskSpec | None:
        """The home script, None when there is none."""
        children = self.children(HOME, keys)
        if "base_script" not in keys:
            return None
        script = self.v5_script(HOME, keys["base_script"], keys["base_script"])
        params = self.params(keys.get("params"))
        return TaskSpec(
            HOME, script, children=children, params=params, contract="v5", extra={**self.limits(keys), "role": "home"}
        )  # fmt: skip

    def children(self, task: str, keys: dict[str, Node]) -> list[str]:
        """As written."""
        nodes = self.yaml.sequence(keys.get("children"), "children")
        names = [self.yaml.text(child, "a child") for child in nodes]
        self.child_nodes |= {(task, name): child for name, child in zip(names, nodes, strict=True)}
        return names

    def params(self, node: Node | None) -> dict[str, str]:
        return {key: self.yaml.text(value, f"param {key}") for key, value in self.yaml.mapping(node, "params").items()}

    def keys(self, node: Node) -> dict[str, Node]:
        if isinstance(node, ScalarNode):
            hint = "write {name: ..., base_script: ..., children: [...]}"
            raise self.yaml.wrong(node, "a task must be a mapping", hint)
        return self.yaml.mapping(node, "a task", DAG_KEYS)

    def name(self, keys: dict[str, Node], node: Node) -> str:
        if "name" not in keys:
            raise self.yaml.wrong(node, "a task without a name", "write name: and a word")
        name = self.yaml.text(keys["name"], "name")
        if name == HOME or not is_task_name(name):
            why = "means the job's home" if name == HOME else "is no task name"
            raise self.yaml.wrong(keys["name"], f"'{name[:80]}' {why}", name_hint(name))
        return name

    # --- what runs

    def command(self, task: str, keys: dict[str, Node]) -> list[str]:
        """The words of a command, [] when the task has a script. A shell line is refused: there is no shell."""
        if "command" not in keys:
            return []
        yaml, node = self.yaml, keys["command"]
        if "base_script" in keys:
            hint = "keep the one that is meant"
            raise yaml.wrong(node, f"task '{task}' has both a command and a base_script", hint)
        words = [yaml.text(word, "command") for word in yaml.sequence(node, "command")]
        if isinstance(node, ScalarNode) and _needs_shell(words[0]):
            raise yaml.wrong(node, f"the command of '{task}' is a shell line: {words[0][:60]}", _as_words(words[0]))
        if not words or not words[0]:
            raise yaml.wrong(node, f"the command of '{task}' is empty", "write command: [./program, arguments]")
        if len(words) > MAX_COMMAND or any("\0" in word for word in words):
            raise yaml.wrong(
                node, f"the command of '{task}' cannot be run", f"at most {MAX_COMMAND} words, none with \\0"
            )
        self.check_program(task, words[0], node)
        return words

    def check_program(self, task: str, word: str, node: Node) -> None:
        """A program with a `/` in its name is one of the app's files, or absolute; any other is looked up in PATH."""
        path = PurePosixPath(word)
        if "/" not in word or path.is_absolute():
            return
        if ".." in path.parts or str(path) not in self._files:
            near = did_you_mean(str(path), [file for file in self._files if not file.startswith("samples/")])
            hint = f"build it before you submit, or {near}" if near else "build it before you submit"
            raise self.yaml.wrong(node, f"task '{task}' runs '{word[:80]}', no file of the app's folder", hint)

    def script(self, task: str, node: Node | None, place: Node) -> tuple[str, str]:
        """The script's path and contract."""
        if node is None:
            hint = f"write base_script: {task}.py, or command: [./program, arguments]"
            raise self.yaml.wrong(place, f"task '{task}' has no base_script", hint)
        written = self.yaml.text(node, "base_script")
        path = PurePosixPath(written)
        name = str(path)
        if path.is_absolute() or ".." in path.parts or name not in self._files:
            inside = [f for f in self._files if f.endswith(".py")]
            raise self.yaml.wrong(node, f"no script '{written[:80]}' in the app's folder", did_you_mean(name, inside))
        if name not in self._contracts:
            try:
                self._contracts[name] = contract(self._read(name), name)
            except UsageError as error:
                raise self.yaml.wrong(node, error.message, error.hint) from error
        return name, self._contracts[name]

    def v5_script(self, task: str, node: Node | None, place: Node) -> str:
        script, kind = self.script(task, node, place)
        if kind != "v5":
            what = (
                f"'{script}' defines 'process', and {'home' if task == HOME else 'a non-DAG task'} is not run by items"
            )
            raise self.yaml.wrong(node or place, what, _V5_ONLY)
        return script

    # --- the rest

    def _spec(
        self, name: str, keys: dict[str, Node], runs: tuple[str, str, list[str]], extra: dict[str, Any]
    ) -> TaskSpec:
        yaml = self.yaml
        script, kind, command = runs
        self.place(name, keys.get("k8s_host"))
        return TaskSpec(
            name=name,
            script=script,
            command=command,
            children=self.children(name, keys),
            timeout_s=yaml.number(keys["timeout_s"], "timeout_s", 0, 1e9, above=True) if "timeout_s" in keys else None,
            parallel=yaml.integer(keys["parallel"], "parallel", 1, 1024) if "parallel" in keys else 1,
            retries=yaml.integer(keys["retries"], "retries", 0, 1000) if "retries" in keys else 2,
            node=self.pin(keys.get("node")),
            params=self.params(keys.get("params")),
            contract=kind,
            extra={**extra, **self.limits(keys)},
        )

    def limits(self, keys: dict[str, Node]) -> dict[str, Any]:
        """As a part of `extra`."""
        found = {"limits": limits(self.yaml, keys.get("limits")), NEEDS: needs(self.yaml, keys.get("needs"))}
        return {name: values for name, values in found.items() if values}

    def pin(self, node: Node | None) -> str:
        name = self.yaml.text(node, "node") if node else ""
        if node and not is_node_name(name):
            hint = "letters, digits, '.' and '-', at most 63: jupiter ctl get nodes lists the names"
            raise self.yaml.wrong(node, f"'{name[:80]}' cannot be a node's name", hint)
        return name

    def place(self, task: str, node: Node | None) -> None:
        """Note the wished host of a task; one that no node can be called is ignored."""
        if node is None:
            return
        written = self.yaml.text(node, "k8s_host")
        host = self._node_map.get(written, written)
        if is_node_name(host):
            self.placements[task] = host
        else:
            self.yaml.warn(node, f"k8s_host '{host[:80]}' cannot be a node's name; ignored")


_V5_ONLY = "write a script with def task(q, pathin, pathout, task_name)"


def _needs_shell(text: str) -> bool:
    return any(char.isspace() or char in _SHELL for char in text.strip())


def _as_words(text: str) -> str:
    """How a shell line is written as words."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    if any(set(word) & set("|&;<>$`") for word in words):
        return "there is no shell: put the line into an executable script, and write command: [./script.sh]"
    return "write its words as a list: command: [" + ", ".join(words) + "]"
