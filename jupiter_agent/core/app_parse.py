"""From the files of an app's folder to an AppSpec (COMPAT.md has the original formats).

Owns the schema of `app_config.yaml` but for its tasks: options, names, places. The shape is Jupiter v5's, with native,
v5 and command tasks side by side. Unknown keys are ignored with a warning, because v5 files carry many; what is known
and wrong is refused with its line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from yaml.nodes import Node

from jupiter_agent.core.app import CONFIG, V4_CONFIGS, AppSpec
from jupiter_agent.core.app_edges import connect
from jupiter_agent.core.app_limits import size
from jupiter_agent.core.app_tasks import TaskReader
from jupiter_agent.core.app_text import port_mapping, samples_in
from jupiter_agent.core.app_v4 import parse_v4
from jupiter_agent.core.app_yaml import YamlFile
from jupiter_agent.core.ids import HOME, is_item_name, is_task_name
from jupiter_agent.core.messages.jobs import SINK, TaskSpec
from jupiter_agent.errors import UsageError

_OPTIONS = ("task_mapper", "wave_weights", "params", "max_open", "max_open_bytes")
_TOP = ("name", "jupiter_config", "node_map", "application")
_JUPITER = (*_OPTIONS, "namespace_prefix", "docker_registry", "circe")
_APPLICATION = (*_OPTIONS, "name", "port_mappings", "tasks")
_MAPPERS = {
    "heft-duplicate": "heft",
    "heft-dup-no-comm-cost": "heft",
    "heft-balance": "heft-balanced",
    "heft-modified": "heft-balanced",
    "wave": "wave-greedy",
}
"""The original's names, after `_` became `-`."""


def parse(folder: str, files: Collection[str], read: Callable[[str], bytes]) -> AppSpec:
    """See `app.parse_app`."""
    if CONFIG in files:
        return _Parser(YamlFile(read(CONFIG), CONFIG), files, read).app(folder)
    for name in V4_CONFIGS:
        if name in files:
            return parse_v4(name, folder, files, read)
    raise _no_config(folder, files)


def mapper_name(text: str) -> str:
    """A mapper under our name: the original's names are translated, `_` and `-` are the same."""
    name = text.strip().lower().replace("_", "-")
    return _MAPPERS.get(name, name)


def mapper_options(text: str) -> dict[str, bool]:
    """What the original's name of a mapper says beyond ours."""
    return {"rank_comm": False} if text.strip().lower().replace("_", "-") == "heft-dup-no-comm-cost" else {}


def _no_config(folder: str, files: Collection[str]) -> UsageError:
    near = [name for name in files if name.count("/") < 2 and name.endswith((".yaml", ".yml"))]
    hint = f"there is {sorted(near)[0]}: rename or move it" if near else "jupiter app init makes an example"
    return UsageError(f"{CONFIG}:1: missing in {folder}", hint)


class _Parser:
    """One pass over the nodes of one config file."""

    def __init__(self, yaml: YamlFile, files: Collection[str], read: Callable[[str], bytes]) -> None:
        self.yaml, self.files, self.read = yaml, files, read

    def app(self, folder: str) -> AppSpec:
        yaml = self.yaml
        top = yaml.mapping(yaml.root, "the file", _TOP)
        jupiter = yaml.mapping(top.get("jupiter_config"), "jupiter_config", _JUPITER)
        application = yaml.mapping(top.get("application"), "application", _APPLICATION)
        if "tasks" not in application:
            at = top.get("application", yaml.root)
            raise yaml.wrong(at, "the app has no tasks", "write application: tasks: dag_tasks: [{name: ..., ...}]")
        options = {key: node for key, node in {**jupiter, **application}.items() if key in _OPTIONS}
        node_map = self.node_map(top.get("node_map"))
        reader = TaskReader(yaml, self.files, self.read, node_map)
        graph = connect(reader, application["tasks"], self.home_names(top.get("node_map")), node_map)
        mapper, extra = self.mapper(options.get("task_mapper"))
        prefix = jupiter.get("namespace_prefix")
        return AppSpec(
            name=self.name(application.get("name", top.get("name")), folder),
            tasks=graph.tasks,
            mapper=mapper,
            weights=self.weights(options.get("wave_weights")),
            params=reader.params(options.get("params")),
            samples=samples_in(self.files),
            max_open=yaml.integer(options["max_open"], "max_open", 1, 1_000_000) if "max_open" in options else 64,
            max_open_bytes=size(yaml, options["max_open_bytes"], "max_open_bytes")
            if "max_open_bytes" in options
            else 1 << 32,
            warnings=yaml.warnings,
            home_task=graph.home,
            nondag=graph.nondag,
            entries=graph.entries,
            fed=graph.fed,
            sources=graph.sources,
            placements=reader.placements,
            requirements="requirements.txt" in self.files,
            ports=self.ports(application.get("port_mappings")),
            contract=_common_contract([*graph.tasks, *graph.nondag, *filter(None, [graph.home])]),
            namespace_prefix=yaml.text(prefix, "namespace_prefix") if prefix else "",
            mapper_options=extra,
            node_map=node_map,
        )

    def name(self, node: Node | None, folder: str) -> str:
        name = self.yaml.text(node, "name") if node else folder
        if is_item_name(name) and len(name) <= 63:
            return name
        hint = "write name: a plain word of at most 63 characters, without /"
        raise self.yaml.wrong(node or self.yaml.root, f"'{name[:80]}' cannot be an app's name", hint)

    def mapper(self, node: Node | None) -> tuple[str, dict[str, bool]]:
        if node is None:
            return "", {}
        written = self.yaml.text(node, "task_mapper")
        name = mapper_name(written)
        if not is_task_name(name):
            raise self.yaml.wrong(node, f"'{name}' cannot be a mapper's name", "write task_mapper: heft")
        return name, mapper_options(written)

    def weights(self, node: Node | None) -> dict[str, float]:
        found = self.yaml.mapping(node, "wave_weights", ("net", "cpu", "mem"))
        return {k: self.yaml.number(v, k, 0, 1e9) for k, v in found.items() if k in {"net", "cpu", "mem"}}

    def ports(self, node: Node | None) -> list[str]:
        """Each as 'service:container'."""
        found: dict[str, None] = {}
        for mapping in self.yaml.sequence(node, "port_mappings"):
            written = self.yaml.text(mapping, "a port mapping")
            ports = port_mapping(written)
            if ports is None:
                what = f"'{written[:80]}' is no port mapping"
                raise self.yaml.wrong(mapping, what, 'write "SERVICE:CONTAINER", such as "9000:8000", ports 1 to 65535')
            found[ports] = None
        return list(found)

    def node_map(self, node: Node | None) -> dict[str, str]:
        """Name in the app -> host; of a list of hosts the first."""
        found = {}
        for name, value in self.yaml.mapping(node, "node_map").items():
            for host in self.yaml.sequence(value, f"node_map: {name}")[:1]:
                found[name] = self.yaml.text(host, f"node_map: {name}")
        return found

    def home_names(self, node_map: Node | None) -> set[str]:
        """Words that mean home where a child is expected: `home`, and what node_map calls it (COMPAT.md)."""
        names = self.yaml.mapping(node_map, "node_map")
        hosts = self.yaml.sequence(names.get(HOME), "node_map: home")[:1]
        return {HOME, *(["master"] if "master" in names else []), *(self.yaml.text(h, "home") for h in hosts)}


def _common_contract(tasks: Iterable[TaskSpec]) -> str:
    kinds = {task.contract for task in tasks if task.contract != SINK}
    return kinds.pop() if len(kinds) == 1 else "mixed"
