"""The edges of an app: who feeds whom, where items enter, what stands beside the DAG (COMPAT.md, DESIGN.md 7)."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from yaml.nodes import Node

from jupiter_agent.core.app_homes import NamedHomes, is_named_home, sources
from jupiter_agent.core.app_tasks import HOME_KEYS, TaskReader
from jupiter_agent.core.app_text import MAX_TASKS, did_you_mean
from jupiter_agent.core.dag import Dag, find_cycle
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import TaskSpec


class Graph(NamedTuple):
    """Tasks in file order, and where items come from."""

    tasks: list[TaskSpec]
    home: TaskSpec | None
    nondag: list[TaskSpec]
    entries: list[str]
    fed: list[str]
    sources: dict[str, list[str]]


def connect(reader: TaskReader, node: Node, home_names: set[str], hosts: dict[str, str]) -> Graph:
    """Read all tasks below `tasks:` and check every edge. `hosts`: the app's name for a node -> host."""
    yaml = reader.yaml
    named_here = filter(is_named_home, yaml.keys(node))
    found = yaml.mapping(node, "tasks", ("home", *named_here, "dag_tasks", "nondag_tasks"))
    nodes = yaml.sequence(found.get("dag_tasks"), "dag_tasks")
    beside = yaml.sequence(found.get("nondag_tasks"), "nondag_tasks")
    if not nodes:
        raise yaml.wrong(found.get("dag_tasks", node), "the app has no tasks", "list them below dag_tasks:")
    if len(nodes) + len(beside) > MAX_TASKS:
        raise yaml.wrong([*nodes, *beside][MAX_TASKS], f"more than {MAX_TASKS} tasks")
    places: dict[str, Node] = {}
    specs = [_unique(reader, reader.dag_task(n), n, places) for n in nodes]
    nondag = [_unique(reader, reader.nondag_task(n), n, places) for n in beside]
    home_keys = yaml.mapping(found.get("home"), "home", HOME_KEYS)
    home = reader.home_task(home_keys)
    homes = NamedHomes(reader, found, hosts, places)
    sinks = homes.sinks([*specs, *nondag])
    nondag += homes.scripts(sinks)
    edges = _Edges(reader, [*specs, *sinks], nondag, home_names - set(places), homes.names)
    specs = [*map(edges.resolved, specs), *sinks]
    edges.check_cycle(specs)
    named = {name: edges.children(name, children) for name, children in homes.children.items()}
    nondag = [edges.resolved(spec) for spec in nondag]
    given = edges.children(
        HOME, [yaml.text(n, "a child") for n in yaml.sequence(home_keys.get("children"), "children")]
    )
    fed = {child for spec in nondag for child in spec.children if child != HOME}
    split = sources(given, named, Dag(specs).entries)
    dag = Dag(specs, [entry for entries in split.values() for entry in entries] or given or None, fed)
    edges.warn_unreachable(dag, places)
    return Graph(
        tasks=[msgspec.structs.replace(spec, parents=dag.parents(spec.name)) for spec in specs],
        home=msgspec.structs.replace(home, children=given) if home else None,
        nondag=nondag,
        entries=dag.entries,
        fed=[spec.name for spec in specs if spec.name in fed],
        sources=split,
    )


def _unique(reader: TaskReader, spec: TaskSpec, node: Node, places: dict[str, Node]) -> TaskSpec:
    if spec.name in places:
        first = reader.yaml.at(places[spec.name])
        raise reader.yaml.wrong(node, f"a second task '{spec.name}' (the first: {first})", "rename one of them")
    places[spec.name] = node
    return spec


class _Edges:
    """Children as written, to children as meant."""

    def __init__(
        self,
        reader: TaskReader,
        specs: list[TaskSpec],
        nondag: list[TaskSpec],
        home_names: set[str],
        named_homes: list[str],
    ) -> None:
        self.yaml, self.child_nodes = reader.yaml, reader.child_nodes
        self._home_names = home_names
        self._homes = {HOME, *named_homes}
        self._known = {spec.name for spec in specs}
        self._beside = {spec.name for spec in nondag}

    def resolved(self, spec: TaskSpec) -> TaskSpec:
        """Children as meant; a v5 task writes files for home under the name that its app has for it: `aliases`."""
        aliases = {word: HOME for word in spec.children if word in self._home_names and word != HOME}
        extra = {**spec.extra, "aliases": aliases} if aliases and spec.contract == "v5" else spec.extra
        return msgspec.structs.replace(spec, children=self.children(spec.name, spec.children), extra=extra)

    def children(self, task: str, written: list[str]) -> list[str]:
        """Without repetitions and without what cannot get anything; UsageError for a name nobody has."""
        found: dict[str, None] = {}
        who = task if task in self._homes else f"task '{task}'"
        for child in written:
            place = self.child_nodes[task, child]
            name = HOME if child in self._home_names else child
            if name in self._beside:
                self.yaml.warn(place, f"{who} names the non-DAG task '{name}', which is sent nothing; ignored")
            elif name == task or {name, task} <= self._homes:
                self._itself(task, name, place)
            elif name != HOME and name not in self._known:
                hint = did_you_mean(name, sorted(self._known if task in self._homes else {*self._known, HOME}))
                raise self.yaml.wrong(place, f"{who} names the unknown child '{name[:80]}'", hint)
            elif name in found:
                self.yaml.warn(place, f"{who} names the child '{name}' twice; it gets each output once")
            else:
                found[name] = None
        return list(found)

    def _itself(self, task: str, name: str, place: Node) -> None:
        if task in self._homes:
            self.yaml.warn(place, f"{task} names {'itself' if name == task else 'a home'} as a child; ignored")
        else:
            hint = f"take '{task}' out of the children of '{task}', or another edge of the cycle"
            raise self.yaml.wrong(place, f"the tasks form a cycle: {task} -> {task}", hint)

    def check_cycle(self, specs: list[TaskSpec]) -> None:
        if cycle := find_cycle({spec.name: spec.children for spec in specs}):
            place = self.child_nodes[cycle[-2], cycle[-1]]
            hint = f"take '{cycle[-1]}' out of the children of '{cycle[-2]}', or another edge of the cycle"
            raise self.yaml.wrong(place, "the tasks form a cycle: " + " -> ".join(cycle), hint)

    def warn_unreachable(self, dag: Dag, places: dict[str, Node]) -> None:
        for name in dag.unreachable:
            what = f"task '{name}' can never get an item: no task names it as a child, nor does home"
            self.yaml.warn(places[name], f"{what} (add it to home's children, or to a task's)")
