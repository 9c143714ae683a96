"""Named homes: `home2`, `home3`... beside `home`, each a source of items and a sink of results (COMPAT.md).

As a source it has entries of its own: what is put for it enters there. As a sink it is a task without code that passes
on to home what reaches it, so a result says to which of the homes it was sent, and the node wished for it is kept. Its
script, if it has one, runs beside the DAG.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from yaml.nodes import Node

from jupiter_agent.core.app_tasks import HOME_KEYS, TaskReader
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import SINK, TaskSpec

_NAME = re.compile(r"home[0-9]{1,4}\Z")


def is_named_home(word: str) -> bool:
    return bool(_NAME.match(word))


def sink(name: str, node: str = "") -> TaskSpec:
    """The task that stands for a named home where results are sent."""
    return TaskSpec(name, children=[HOME], node=node, contract=SINK)


def sinks_among(tasks: Iterable[TaskSpec], names: Iterable[str]) -> list[str]:
    """The named homes that some task sends to, in the order of `names`."""
    meant = {child for task in tasks for child in task.children}
    return [name for name in names if name in meant]


class NamedHomes:
    """Those that an `app_config.yaml` declares: below `tasks:`, or in `node_map:`. A DAG task of the name is meant."""

    def __init__(self, reader: TaskReader, found: dict[str, Node], hosts: dict[str, str], taken: Iterable[str]) -> None:
        self._reader, self._tasks = reader, set(taken)
        declared = dict.fromkeys(name for name in [*found, *hosts] if is_named_home(name))
        for name in self._tasks.intersection(found):
            raise reader.yaml.wrong(found[name], f"'{name}' is a home and a task", "rename the task")
        self.names = [name for name in declared if name not in self._tasks]
        self._keys = {name: reader.yaml.mapping(found.get(name), name, (*HOME_KEYS, "node")) for name in self.names}
        self.children = {name: reader.children(name, self._keys[name]) for name in self.names}
        """as written: where items that are put for it enter"""
        for name in self.names:
            reader.place(name, self._keys[name].get("k8s_host"))
            if name in hosts and name not in reader.placements:
                reader.placements[name] = hosts[name]

    def sinks(self, tasks: Iterable[TaskSpec]) -> list[TaskSpec]:
        wanted = sinks_among(tasks, self.names)
        for name in set(self._reader.placements).intersection(self.names).difference(wanted):
            if "base_script" not in self._keys[name]:
                del self._reader.placements[name]
        return [sink(name, self._reader.pin(self._keys[name].get("node"))) for name in wanted]

    def scripts(self, sinks: Iterable[TaskSpec]) -> list[TaskSpec]:
        """Tasks beside the DAG that make items; `-script` follows the name where results are sent there, too."""
        ends = {task.name for task in sinks}
        found = []
        for name, keys in self._keys.items():
            if "base_script" in keys:
                if name in ends:
                    what = f"the script of {name} makes items, but is not handed the results sent there"
                    self._reader.yaml.warn(keys["base_script"], f"{what}; they are kept as all results")
                extra = {"role": "nondag", "host": self._reader.placements.get(name, "")}
                own = f"{name}-script" if name in ends else name
                script = self._reader.v5_script(own, keys["base_script"], keys["base_script"])
                params = self._reader.params(keys.get("params"))
                children = self._reader.children(own, keys)
                found.append(TaskSpec(own, script, children=children, params=params, contract="v5", extra=extra))
        return found


def sources(home: list[str], named: dict[str, list[str]], roots: list[str]) -> dict[str, list[str]]:
    """Source -> its entries; {} when home is the only one. Home without children gets the roots that no other has."""
    named = {name: children for name, children in named.items() if children}
    if not named:
        return {}
    others = {child for children in named.values() for child in children}
    return {HOME: home or [root for root in roots if root not in others], **named}
