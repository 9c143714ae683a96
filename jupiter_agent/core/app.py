"""An app as its author wrote it: the DAG, the tasks and their options, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec import Struct

from jupiter_agent.core.messages.jobs import TaskSpec

CONFIG = "app_config.yaml"
"""The file that makes a folder an app; its folder is the app's."""


class AppSpec(Struct, frozen=True):
    """A checked app. `tasks` in file order; parents are filled in; `mapper` '' when the app names none."""

    name: str
    tasks: list[TaskSpec]
    mapper: str = ""
    weights: dict[str, float] = {}
    """of the mapper's score: net, cpu, mem"""
    params: dict[str, str] = {}
    samples: list[str] = []
    """paths inside the bundle, sorted"""
    max_open: int = 64
    """open items of one job at most"""
    warnings: list[str] = []
    """'app_config.yaml:LINE: what is ignored', for `submit` and `lint` to print"""


def parse_app(folder: str, files: Collection[str], read: Callable[[str], bytes]) -> AppSpec:
    """Check the app in `folder` (its name) that holds `files` (paths inside it); `read` gives the bytes of one of them.

    UsageError for every mistake of the author, as `app_config.yaml:LINE: what` with a hint, and nothing else.
    """
    from jupiter_agent.core.app_parse import parse  # an idle agent need not import yaml and ast

    return parse(folder, files, read)
