"""Reading `app_config.yaml` from a task script, with the names Jupiter v5 gives to the questions."""

from __future__ import annotations

import os
from typing import Any

import yaml

HOME = "home"
SCRIPT = "-script"
"""what follows the name of home2, home3... in the name of its script, where results are sent to it, too"""


class ChildTasksNotFoundError(Exception):
    """The app has no task of this name."""


class BaseScriptNotFoundError(Exception):
    """The app has no task of this name, or it has no script."""


class AppConfig:
    """The configuration in an app's folder. Children are always lists; what means home there is `home` here."""

    def __init__(self, app_dir: str, app_name: str = "") -> None:
        self.app_dir = str(app_dir)
        self.app_name = app_name or os.path.basename(os.path.normpath(self.app_dir))
        with open(os.path.join(self.app_dir, "app_config.yaml"), encoding="utf-8-sig") as file:
            self.cfg: dict[str, Any] = yaml.safe_load(file)
        self._tasks: dict[str, Any] = (self.cfg.get("application") or {}).get("tasks") or {}

    def get_dag_tasks(self) -> list[dict[str, Any]]:
        return list(self._tasks.get("dag_tasks") or [])

    def get_dag_task_names(self) -> list[str]:
        return [task["name"] for task in self.get_dag_tasks()]

    def get_nondag_tasks(self) -> list[dict[str, Any]]:
        return list(self._tasks.get("nondag_tasks") or [])

    def get_nondag_task_names(self) -> list[str]:
        return [task["name"] for task in self.get_nondag_tasks()]

    def child_tasks(self, task_name: str) -> list[str]:
        """Of a DAG task, a non-DAG task or `home`."""
        names = self.get_dag_task_names()
        homes = self._home_names() - set(names)
        children = self._task(task_name, ChildTasksNotFoundError).get("children") or []
        children = [children] if isinstance(children, str) else children
        return [HOME if child in homes else str(child) for child in children]

    def dag_task_map(self) -> dict[str, list[str]]:
        """DAG task -> children, `home` left out."""
        return {name: [c for c in self.child_tasks(name) if c != HOME] for name in self.get_dag_task_names()}

    def base_script(self, task_name: str) -> str:
        script = self._task(task_name, BaseScriptNotFoundError).get("base_script")
        if not script:
            raise BaseScriptNotFoundError(f"task {task_name} has no base_script")
        return str(script)

    def node_map(self) -> dict[str, Any]:
        return dict(self.cfg.get("node_map") or {})

    def home_host(self) -> Any:
        return self.node_map().get(HOME)

    def port_mappings(self) -> list[str]:
        return list((self.cfg.get("application") or {}).get("port_mappings") or [])

    def namespace_prefix(self) -> str:
        return str(self._jupiter("namespace_prefix"))

    def task_mapper(self) -> str:
        return str(self._jupiter("task_mapper"))

    def _jupiter(self, key: str) -> Any:
        return (self.cfg.get("jupiter_config") or {}).get(key, "")

    def _home_names(self) -> set[str]:
        nodes = self.node_map()
        host = nodes.get(HOME)
        return {HOME, *(["master"] if "master" in nodes else []), *([host] if isinstance(host, str) else [])}

    def _task(self, name: str, missing: type[Exception]) -> dict[str, Any]:
        home = self._tasks.get(name.removesuffix(SCRIPT))
        if name == HOME or isinstance(home, dict):  # home2, home3... are written beside home
            return dict(home or {})
        for task in [*self.get_dag_tasks(), *self.get_nondag_tasks()]:
            if task["name"] == name:
                return task
        raise missing(f"the app has no task {name}")
