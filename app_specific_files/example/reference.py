"""What the cluster must answer, computed without it: the whole DAG in this one process.

    python reference.py                      print {item: {sink task: {file name: sha256}}} for samples/
    python reference.py --out DIR            write the results as DIR/<item>/<sink task>/<file name>
    python reference.py --write-expected     rewrite expected.json, which the tests compare with

It runs the very task scripts, in topological order, under the rules of the native contract (../README.md): a plain
value goes to every child, a dict to the children it names, None to nobody; a task waits for all its parents, does not
see those that sent it nothing, and is skipped when none sent anything. What a sink returns as bytes is named after the
task; a Path keeps its own name.
"""

import argparse
import graphlib
import hashlib
import importlib.util
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

APP = Path(__file__).resolve().parent
HOME = "home"
INPUT = "input"

Value = bytes | Path
Results = dict[str, dict[str, bytes]]  # sink task -> file name -> content


@dataclass(frozen=True)
class Task:
    """One entry of `dag_tasks`, with its children as a tuple."""

    name: str
    script: str
    children: tuple[str, ...]
    params: dict[str, str]

    @property
    def sends_to(self) -> tuple[str, ...]:
        return self.children or (HOME,)


@dataclass(frozen=True)
class Context:
    """The part of `ctx` that a task may use; `path` gives an input as a file."""

    item: str
    task: str
    params: dict[str, str]
    scratch: Path
    inputs: dict[str, bytes]
    job: str = "reference"
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("reference"))

    def path(self, parent: str) -> Path:
        folder = self.scratch / ".inputs"
        folder.mkdir(exist_ok=True)
        (folder / parent).write_bytes(self.inputs[parent])
        return folder / parent


def load_tasks(app_dir: Path) -> dict[str, Task]:
    """The DAG of app_config.yaml, parents before children."""
    entries = yaml.safe_load((app_dir / "app_config.yaml").read_text())["application"]["tasks"]["dag_tasks"]
    tasks = {}
    for entry in entries:
        children = entry.get("children") or []
        children = [children] if isinstance(children, str) else children
        params = {name: str(value) for name, value in (entry.get("params") or {}).items()}
        tasks[entry["name"]] = Task(entry["name"], entry["base_script"], tuple(children), params)
    sorter = graphlib.TopologicalSorter({name: set() for name in tasks})
    for task in tasks.values():
        for child in task.sends_to:
            if child != HOME:
                sorter.add(child, task.name)
    return {name: tasks[name] for name in sorter.static_order()}


def load_process(app_dir: Path, script: str) -> Callable[[dict[str, bytes], Context], Any]:
    """`process` of one script. Scripts import the modules beside them."""
    if str(app_dir) not in sys.path:
        sys.path.insert(0, str(app_dir))
    spec = importlib.util.spec_from_file_location(f"reference_{Path(script).stem}", app_dir / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.process


def routed(task: Task, value: Any) -> dict[str, Value]:
    """Receiver -> what it gets."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return dict.fromkeys(task.sends_to, value)
    if unknown := set(value) - set(task.sends_to):
        raise ValueError(f"task {task.name} sends to {sorted(unknown)}, which are not its children")
    return {receiver: each for receiver, each in value.items() if each is not None}


def named(task: str, value: Value) -> tuple[str, bytes]:
    """A result's (file name, content)."""
    return (value.name, value.read_bytes()) if isinstance(value, Path) else (task, bytes(value))


def run_item(tasks: dict[str, Task], processes: dict[str, Callable], item: str, data: bytes) -> Results:
    """One item through the whole DAG. `tasks` must be in topological order."""
    parents = {name: {t.name for t in tasks.values() if name in t.sends_to} for name in tasks}
    arrived: dict[str, dict[str, bytes]] = {name: {} if parents[name] else {INPUT: data} for name in tasks}
    results: Results = {}
    for task in tasks.values():
        inputs = arrived[task.name]
        if not inputs:
            continue  # only tokens: skipped, and its children learn nothing from it
        with tempfile.TemporaryDirectory() as scratch:
            context = Context(item, task.name, task.params, Path(scratch), inputs)
            for receiver, value in routed(task, processes[task.name](dict(inputs), context)).items():
                file_name, content = named(task.name, value)
                if receiver == HOME:
                    results.setdefault(task.name, {})[file_name] = content
                else:
                    arrived[receiver][task.name] = content
    return results


def expected(app_dir: Path, samples: list[Path]) -> dict[str, Results]:
    """{item: {sink task: {file name: content}}}; an item is named after its file."""
    tasks = load_tasks(app_dir)
    processes = {task.name: load_process(app_dir, task.script) for task in tasks.values()}
    return {path.name: run_item(tasks, processes, path.name, path.read_bytes()) for path in samples}


def sample_files(app_dir: Path = APP) -> list[Path]:
    return sorted((app_dir / "samples").iterdir())


def hashes(results: dict[str, Results]) -> dict[str, dict[str, dict[str, str]]]:
    """The same tree with sha256 in place of contents."""
    return {
        item: {sink: {n: hashlib.sha256(b).hexdigest() for n, b in files.items()} for sink, files in sinks.items()}
        for item, sinks in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The expected results of every sample, without a cluster.")
    parser.add_argument("samples", nargs="*", type=Path, help="items; default: all of samples/")
    parser.add_argument("--out", type=Path, help="write result files here instead of printing hashes")
    parser.add_argument("--write-expected", action="store_true", help="rewrite expected.json")
    args = parser.parse_args()
    results = expected(APP, args.samples or sample_files())
    if args.out:
        for item, sinks in results.items():
            for sink, files in sinks.items():
                (args.out / item / sink).mkdir(parents=True, exist_ok=True)
                for file_name, content in files.items():
                    (args.out / item / sink / file_name).write_bytes(content)
        return
    text = json.dumps(hashes(results), indent=1, sort_keys=True) + "\n"
    if args.write_expected:
        (APP / "expected.json").write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
