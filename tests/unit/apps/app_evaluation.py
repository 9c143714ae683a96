"""What an app computes, without any of our runtime: the contracts of COMPAT.md and DESIGN 7, one task after another.

The dumb twin of the executor: results of the gallery and of generated apps are compared with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import queue
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import yaml

from jupiter_agent.adapters.bundle import check_folder
from jupiter_agent.apps.lint import join_key
from jupiter_agent.core.dag import Dag
from jupiter_agent.core.messages.jobs import TaskSpec

Arrived = list[tuple[str, str, bytes]]
"""(source, name, bytes); what was injected comes from `home`"""


def evaluate(folder: Path, scratch: Path, items: dict[str, dict[str, bytes]] | None = None) -> dict[str, bytes]:
    """`<item>/<sink>/<file>` -> bytes. `items`: name -> {entry: bytes}; else every sample for every entry."""
    with _importing(folder):
        return _Evaluation(folder, scratch).results(items)


@contextlib.contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Scripts import what lies beside them, and the original's `jupiter_utils`; nothing of it stays."""
    path, modules = list(sys.path), dict(sys.modules)
    sys.path[:0] = [str(folder), str(folder / "scripts")]
    parser = types.SimpleNamespace(AppConfig=_AppConfig)
    sys.modules["jupiter_utils"] = types.ModuleType("jupiter_utils")
    sys.modules["jupiter_utils"].app_config_parser = parser
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - set(modules):
            if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
                del sys.modules[name]
        sys.modules.pop("jupiter_utils", None)


class _AppConfig:
    def __init__(self, folder: str) -> None:
        application = yaml.safe_load((Path(folder) / "app_config.yaml").read_text())["application"]
        self._children = {task["name"]: task["children"] for task in application["tasks"]["dag_tasks"]}

    def child_tasks(self, name: str) -> list[str]:
        return self._children[name]


class _Evaluation:
    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        self.spec = check_folder(folder)
        self.dag = Dag(self.spec.tasks, self.spec.entries, self.spec.fed)
        self.tasks = {task.name: task for task in self.spec.tasks}
        self.queues: dict[str, queue.Queue[str]] = {}
        self.modules: dict[str, types.ModuleType] = {}

    def results(self, items: dict[str, dict[str, bytes]] | None) -> dict[str, bytes]:
        found = {}
        for item, fed in self._items(items):
            arrived: dict[str, Arrived] = {task: [] for task in self.tasks} | fed
            for name in self.dag.order:
                if not arrived[name]:
                    continue
                for child, file, data in getattr(self, self.tasks[name].contract)(
                    self.tasks[name], item, arrived[name]
                ):
                    if child == "home":
                        assert found.setdefault(f"{item}/{name}/{file}", data) == data
                    else:
                        arrived[child].append((name, file, data))
        return found

    def _items(self, items: dict[str, dict[str, bytes]] | None) -> Iterator[tuple[str, dict[str, Arrived]]]:
        if items is not None:
            for item, parts in items.items():
                yield item, {entry: [("home", item, data)] for entry, data in parts.items()}
            return
        groups: dict[str, Arrived] = {}
        for sample in self.spec.samples:
            name = Path(sample).name
            key = join_key(name) if self.spec.contract == "v4" else name
            groups.setdefault(key, []).append(("home", name, (self.folder / sample).read_bytes()))
        for item, files in groups.items():
            yield item, {entry: list(files) for entry in self.spec.entries}

    def _module(self, script: str) -> types.ModuleType:
        if script not in self.modules:
            spec = importlib.util.spec_from_file_location(f"evaluated_{len(self.modules)}", self.folder / script)
            self.modules[script] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self.modules[script])
        return self.modules[script]

    def _place(self, *names: str) -> Path:
        place = self.scratch.joinpath(*names)
        place.mkdir(parents=True, exist_ok=True)
        return place

    # --- one method per contract: (child, file name, bytes) in the order of sending

    def native(self, task: TaskSpec, item: str, arrived: Arrived) -> Arrived:
        place = self._place(item, task.name)
        inputs = {"input" if src == "home" else src: data for src, _, data in arrived}
        params = {**self.spec.params, **task.params}
        paths = {}
        for key, data in inputs.items():
            paths[key] = place / f".{key}"
            paths[key].write_bytes(data)
        ctx = types.SimpleNamespace(
            item=item, job="j", task=task.name, log=logging.getLogger("app"), params=params, scratch=place,
            path=paths.__getitem__,
        )  # fmt: skip
        value = self._module(task.script).process(inputs, ctx)
        children = self.dag.out_edges(task.name)
        sent = value if isinstance(value, dict) else dict.fromkeys(children, value)
        assert set(sent) <= set(children)
        return [
            (
                child,
                out.name if isinstance(out, Path) else task.name,
                out.read_bytes() if isinstance(out, Path) else out,
            )
            for child, out in sent.items()
            if out is not None
        ]

    def command(self, task: TaskSpec, item: str, arrived: Arrived) -> Arrived:
        place, out = self._place(item, task.name, "cwd"), self._place(item, task.name, "out")
        for src, name, data in arrived:
            (self._place(item, task.name, "in", "input" if src == "home" else src) / name).write_bytes(data)
        env = {
            **os.environ, "JUPITER_IN": str(place.parent / "in"), "JUPITER_OUT": str(out), "JUPITER_ITEM": item,
            "JUPITER_TASK": task.name, "JUPITER_JOB": "j", "JUPITER_APP": str(self.folder),
        }  # fmt: skip
        word = task.command[0]
        program = str(self.folder / word) if "/" in word else word
        words = [str(self.folder / word) if (self.folder / word).is_file() else word for word in task.command[1:]]
        subprocess.run([program, *words], cwd=place, env=env, check=True, timeout=60)
        children = self.dag.out_edges(task.name)
        sent = [
            (child, file.name, file.read_bytes())
            for file in sorted(out.iterdir())
            if file.is_file()
            for child in children
        ]
        for folder in [path for path in out.iterdir() if path.is_dir()]:
            assert folder.name in children
            sent += [(folder.name, file.name, file.read_bytes()) for file in sorted(folder.iterdir())]
        return sent

    def sink(self, task: TaskSpec, item: str, arrived: Arrived) -> Arrived:
        names = [name for _, name, _ in arrived]
        return [("home", name if names.count(name) == 1 else f"{src}_{name}", data) for src, name, data in arrived]

    def v4(self, task: TaskSpec, item: str, arrived: Arrived) -> Arrived:
        pathin, pathout = self._place(item, task.name, "in"), self._place(item, task.name, "out")
        for _, name, data in arrived:
            (pathin / name).write_bytes(data)
        names = [name for _, name, _ in arrived]
        assert len(names) == task.extra["inputs"]
        os.environ["TASK"] = task.name
        before = set(os.listdir(pathout))
        written = self._module(task.script).task(names[0] if len(names) == 1 else names, str(pathin), str(pathout))
        files = [Path(path) for path in written]
        assert {file.name for file in files} == set(os.listdir(pathout)) - before
        children = self.dag.out_edges(task.name)
        if task.extra["flag"] == "true":
            return [(child, file.name, file.read_bytes()) for file in files for child in children]
        return [(children[i % len(children)], file.name, file.read_bytes()) for i, file in enumerate(files)]

    def v5(self, task: TaskSpec, item: str, arrived: Arrived) -> Arrived:
        pathin, pathout = self._place(task.name, "in"), self._place(task.name, "out")
        if task.name not in self.queues:
            self.queues[task.name] = queue.Queue()
            args = (self.queues[task.name], str(pathin), str(pathout), task.name)
            threading.Thread(target=self._module(task.script).task, args=args, daemon=True).start()
        for src, base, data in arrived:
            name = f"{src}_{task.name}_{base}"
            (pathin / name).write_bytes(data)
            self.queues[task.name].put(name)
        self.queues[task.name].join()
        sent = []
        for file in sorted(pathout.iterdir()):
            src, child, base = file.name.split("_", 2)
            assert (src, child in self.dag.out_edges(task.name)) == (task.name, True)
            sent.append((child, base, file.read_bytes()))
            file.unlink()
        return sent


if __name__ == "__main__":  # python app_evaluation.py APP: write its expected/ anew, after a deliberate change
    import shutil
    import tempfile

    app = Path(sys.argv[1]).resolve()
    shutil.rmtree(app / "expected", ignore_errors=True)
    for path, data in evaluate(app, Path(tempfile.mkdtemp())).items():
        (app / "expected" / path).parent.mkdir(parents=True, exist_ok=True)
        (app / "expected" / path).write_bytes(data)
