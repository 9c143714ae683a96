"""From the files of an app's folder to an AppSpec (COMPAT.md has the original formats).

Owns the schema of `app_config.yaml`: native tasks in the shape of Jupiter v5. What this version cannot run is refused
by name, never ignored; unknown keys are ignored with a warning, because v5 files carry many.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import PurePosixPath

import msgspec
from yaml.nodes import Node, ScalarNode

from jupiter_agent.core.app import CONFIG, AppSpec
from jupiter_agent.core.app_script import contract
from jupiter_agent.core.app_yaml import YamlFile, did_you_mean
from jupiter_agent.core.dag import Dag, find_cycle
from jupiter_agent.core.ids import HOME, is_item_name, is_node_name, is_task_name
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import UsageError

MAX_TASKS = 10_000
SAMPLE_FOLDERS = ("samples/", "sample_input/", "sample_inputs/")
_V4 = ("configuration.txt", "DAG.txt", "dag.txt")
_OPTIONS = ("task_mapper", "wave_weights", "params", "max_open")
_TOP = ("name", "jupiter_config", "node_map", "application")
_JUPITER = (*_OPTIONS, "namespace_prefix", "docker_registry", "circe")
_APPLICATION = (*_OPTIONS, "name", "port_mappings", "tasks")
_TASK = ("name", "base_script", "command", "children", "timeout_s", "parallel", "retries", "node", "params")
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
    if CONFIG not in files:
        raise _no_config(folder, files)
    return _Parser(YamlFile(read(CONFIG), CONFIG), files, read).app(folder)


def mapper_name(text: str) -> str:
    """A mapper under our name: the original's names are translated, `_` and `-` are the same."""
    name = text.strip().lower().replace("_", "-")
    return _MAPPERS.get(name, name)


def _no_config(folder: str, files: Collection[str]) -> UsageError:
    for name in _V4:
        if name in files:
            what = f"missing in {folder}; {name} makes it a Jupiter v4 app, and those are not supported yet"
            hint = f"describe the tasks in {CONFIG}, with scripts that define process(inputs, ctx)"
            return UsageError(f"{CONFIG}:1: {what}", hint)
    near = [name for name in files if name.count("/") < 2 and name.endswith((".yaml", ".yml"))]
    hint = f"there is {sorted(near)[0]}: rename or move it" if near else "jupiter app init makes an example"
    return UsageError(f"{CONFIG}:1: missing in {folder}", hint)


class _Parser:
    """One pass over the nodes of one config file."""

    def __init__(self, yaml: YamlFile, files: Collection[str], read: Callable[[str], bytes]) -> None:
        self.yaml, self.files, self.read = yaml, files, read
        self.contracts: dict[str, str] = {}
        self.child_nodes: dict[tuple[str, str], Node] = {}

    def app(self, folder: str) -> AppSpec:
        yaml = self.yaml
        top = yaml.mapping(yaml.root, "the file", _TOP)
        jupiter = yaml.mapping(top.get("jupiter_config"), "jupiter_config", _JUPITER)
        application = yaml.mapping(top.get("application"), "application", _APPLICATION)
        if "tasks" not in application:
            at = top.get("application", yaml.root)
            raise yaml.wrong(at, "the app has no tasks", "write application: tasks: dag_tasks: [{name: ..., ...}]")
        if "port_mappings" in application:
            yaml.warn(application["port_mappings"], "port_mappings is ignored: it is not supported yet")
        options = {key: node for key, node in {**jupiter, **application}.items() if key in _OPTIONS}
        tasks = self.tasks(application["tasks"], self.home_names(top.get("node_map")))
        return AppSpec(
            name=self.name(application.get("name", top.get("name")), folder),
            tasks=tasks,
            mapper=self.mapper(options.get("task_mapper")),
            weights=self.weights(options.get("wave_weights")),
            params=self.params(options.get("params")),
            samples=sorted(f for f in self.files if f.startswith(SAMPLE_FOLDERS) and "/." not in f),
            max_open=yaml.integer(options["max_open"], "max_open", 1, 1_000_000) if "max_open" in options else 64,
            warnings=yaml.warnings,
        )

    # --- options

    def name(self, node: Node | None, folder: str) -> str:
        name = self.yaml.text(node, "name") if node else folder
        if is_item_name(name) and len(name) <= 63:
            return name
        hint = "write name: a plain word of at most 63 characters, without /"
        raise self.yaml.wrong(node or self.yaml.root, f"'{name[:80]}' cannot be an app's name", hint)

    def mapper(self, node: Node | None) -> str:
        if node is None:
            return ""
        name = mapper_name(self.yaml.text(node, "task_mapper"))
        if not is_task_name(name):
            raise self.yaml.wrong(node, f"'{name}' cannot be a mapper's name", "write task_mapper: heft")
        return name

    def weights(self, node: Node | None) -> dict[str, float]:
        found = self.yaml.mapping(node, "wave_weights", ("net", "cpu", "mem"))
        return {k: self.yaml.number(v, k, 0, 1e9) for k, v in found.items() if k in {"net", "cpu", "mem"}}

    def params(self, node: Node | None) -> dict[str, str]:
        return {key: self.yaml.text(value, f"param {key}") for key, value in self.yaml.mapping(node, "params").items()}

    def home_names(self, node_map: Node | None) -> set[str]:
        """Words that mean home where a child is expected: `home`, and what node_map calls it (COMPAT.md)."""
        names = self.yaml.mapping(node_map, "node_map")
        host = names.get(HOME)
        hosts = self.yaml.sequence(host, "node_map: home")[:1]
        return {HOME, *(["master"] if "master" in names else []), *(self.yaml.text(h, "home") for h in hosts)}

    # --- tasks

    def tasks(self, node: Node, home_names: set[str]) -> list[TaskSpec]:
        yaml = self.yaml
        found = yaml.mapping(node, "tasks", ("home", "dag_tasks", "nondag_tasks"))
        home = yaml.mapping(found.get("home"), "home", ("base_script", "children"))
        if "base_script" in home:
            hint = "take base_script out: items come in by submit and put, what reaches home is a result"
            raise yaml.wrong(home["base_script"], "home scripts are not supported yet", hint)
        if outside := yaml.sequence(found.get("nondag_tasks"), "nondag_tasks"):
            raise yaml.wrong(outside[0], "non-DAG tasks are not supported yet", "take nondag_tasks out")
        nodes = yaml.sequence(found.get("dag_tasks"), "dag_tasks")
        if not nodes:
            raise yaml.wrong(found.get("dag_tasks", node), "the app has no tasks", "list them below dag_tasks:")
        if len(nodes) > MAX_TASKS:
            raise yaml.wrong(nodes[MAX_TASKS], f"more than {MAX_TASKS} tasks")
        specs, places = self.specs(nodes)
        meant_home = home_names - set(specs)
        for name, spec in specs.items():
            specs[name] = msgspec.structs.replace(spec, children=self.children(spec, set(specs), meant_home))
        self.check_cycle(specs)
        dag = Dag(list(specs.values()))
        self.check_home(home.get("children"), dag, places)
        return [msgspec.structs.replace(spec, parents=dag.parents(name)) for name, spec in specs.items()]

    def specs(self, nodes: list[Node]) -> tuple[dict[str, TaskSpec], dict[str, Node]]:
        """Tasks and where they stand; children still as written."""
        specs: dict[str, TaskSpec] = {}
        places: dict[str, Node] = {}
        for node in nodes:
            spec = self.task(node)
            if spec.name in specs:
                first = self.yaml.at(places[spec.name])
                raise self.yaml.wrong(node, f"a second task '{spec.name}' (the first: {first})", "rename one of them")
            specs[spec.name], places[spec.name] = spec, node
        return specs, places

    def task(self, node: Node) -> TaskSpec:
        yaml = self.yaml
        if isinstance(node, ScalarNode):
            raise yaml.wrong(node, "a task must be a mapping", "write {name: ..., base_script: ..., children: [...]}")
        keys = yaml.mapping(node, "a task", _TASK)
        if "name" not in keys:
            raise yaml.wrong(node, "a task without a name", "write name: and a word")
        name = yaml.text(keys["name"], "name")
        if name == HOME or not is_task_name(name):
            why = "means the job's home" if name == HOME else "is no task name"
            raise yaml.wrong(keys["name"], f"'{name[:80]}' {why}", _name_hint(name))
        children = yaml.sequence(keys.get("children"), "children")
        for child in children:
            self.child_nodes[name, yaml.text(child, "a child")] = child
        if "command" in keys:
            command = [yaml.text(word, "command") for word in yaml.sequence(keys["command"], "command")]
            what = f"'{name}' runs a command ({' '.join(command)[:60]}): commands are not supported yet"
            raise yaml.wrong(keys["command"], what, "call it from a script that defines process(inputs, ctx)")
        return TaskSpec(
            name=name,
            script=self.script(name, keys.get("base_script"), node),
            children=[yaml.text(child, "a child") for child in children],
            timeout_s=yaml.number(keys["timeout_s"], "timeout_s", 0, 1e9, above=True) if "timeout_s" in keys else None,
            parallel=yaml.integer(keys["parallel"], "parallel", 1, 1024) if "parallel" in keys else 1,
            retries=yaml.integer(keys["retries"], "retries", 0, 1000) if "retries" in keys else 2,
            node=self.pin(keys.get("node")),
            params=self.params(keys.get("params")),
        )

    def pin(self, node: Node | None) -> str:
        name = self.yaml.text(node, "node") if node else ""
        if node and not is_node_name(name):
            hint = "letters, digits, '.' and '-', at most 63: jupiter ctl get nodes lists the names"
            raise self.yaml.wrong(node, f"'{name[:80]}' cannot be a node's name", hint)
        return name

    def script(self, task: str, node: Node | None, place: Node) -> str:
        """The script's path after its contract was checked; refused are the contracts of a later version."""
        if node is None:
            raise self.yaml.wrong(place, f"task '{task}' has no base_script", f"write base_script: {task}.py")
        written = self.yaml.text(node, "base_script")
        path = PurePosixPath(written)
        name = str(path)
        if path.is_absolute() or ".." in path.parts or name not in self.files:
            inside = [f for f in self.files if f.endswith(".py")]
            raise self.yaml.wrong(node, f"no script '{written[:80]}' in the app's folder", did_you_mean(name, inside))
        if name not in self.contracts:
            try:
                self.contracts[name] = contract(self.read(name), name)
            except UsageError as error:
                raise self.yaml.wrong(node, error.message, error.hint) from error
        if self.contracts[name] != "native":
            what = f"'{name}' defines 'task' (Jupiter v5): v5 tasks are not supported yet"
            raise self.yaml.wrong(node, what, "define process(inputs, ctx) instead")
        return name

    # --- edges

    def children(self, spec: TaskSpec, known: set[str], meant_home: set[str]) -> list[str]:
        found: dict[str, None] = {}
        for child in spec.children:
            place = self.child_nodes[spec.name, child]
            name = HOME if child in meant_home else child
            if name != HOME and name not in known:
                hint = did_you_mean(name, sorted({*known, HOME}))
                raise self.yaml.wrong(place, f"task '{spec.name}' names the unknown child '{name[:80]}'", hint)
            if name in found:
                self.yaml.warn(place, f"task '{spec.name}' names the child '{name}' twice; it gets each output once")
            found[name] = None
        return list(found)

    def check_cycle(self, specs: dict[str, TaskSpec]) -> None:
        if cycle := find_cycle({name: spec.children for name, spec in specs.items()}):
            place = self.child_nodes[cycle[-2], cycle[-1]]
            hint = f"take '{cycle[-1]}' out of the children of '{cycle[-2]}', or another edge of the cycle"
            raise self.yaml.wrong(place, "the tasks form a cycle: " + " -> ".join(cycle), hint)

    def check_home(self, node: Node | None, dag: Dag, places: dict[str, Node]) -> None:
        """Home's children, where given, must be the entries: every entry gets every item, and no other task does."""
        nodes = self.yaml.sequence(node, "children of home")
        given = {self.yaml.text(child, "a child"): child for child in nodes}
        for name, child in given.items():
            if name not in places:
                raise self.yaml.wrong(
                    child, f"home names the unknown child '{name[:80]}'", did_you_mean(name, dag.entries)
                )
            if name not in dag.entries:
                parents = ", ".join(dag.parents(name))
                what = f"home's child '{name}' has parents of its own ({parents})"
                raise self.yaml.wrong(child, what, "items enter at tasks without parents: take it out here or there")
        for name in dag.entries:
            if given and name not in given:
                what = f"task '{name}' can never get an item: no task names it as a child, nor does home"
                raise self.yaml.wrong(places[name], what, "add it to home's children, or to a task's")


def _name_hint(name: str) -> str:
    if name == HOME:
        return "name the task otherwise"
    if "_" in name:
        return f"'_' separates the parts of file names in v5: write '{name.replace('_', '-')[:63]}'"
    return "use letters, digits and '-', at most 63, the first no '-'"
