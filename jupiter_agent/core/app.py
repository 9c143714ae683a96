"""An app as its author wrote it: the DAG, the tasks and their options, checked before anything runs."""

from __future__ import annotations

from msgspec import Struct

from jupiter_agent.core.messages.jobs import TaskSpec


class AppSpec(Struct, frozen=True):
    """A checked app. `tasks` in file order; parents are filled in; `mapper` '' when the app names none."""

    name: str
    tasks: list[TaskSpec]
    mapper: str = ""
    weights: dict[str, float] = {}
    params: dict[str, str] = {}
    samples: list[str] = []
    """paths inside the bundle, sorted"""
    max_open: int = 64
