"""An app as its author wrote it: the DAG, the tasks and their options, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec import Struct

from jupiter_agent.core.messages.jobs import TaskSpec

CONFIG = "app_config.yaml"
"""The file that makes a folder an app; its folder is the app's."""

V4_CONFIGS = ("configuration.txt", "DAG.txt", "dag.txt")
"""Any of these does so too, where there is no CONFIG: a Jupiter v4 app."""


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
    home_task: TaskSpec | None = None
    """a v5 home script: name `home`, extra role `home`, children as given (none when the app gives none)"""
    nondag: list[TaskSpec] = []
    """tasks beside the DAG: extra role `nondag`, host (wished, or ''); children are DAG tasks or home"""
    entries: list[str] = []
    """tasks that get injected items, in file order: home's children where given, else tasks without DAG parents"""
    fed: list[str] = []
    """DAG tasks that are children of non-DAG tasks, in file order"""
    placements: dict[str, str] = {}
    """task -> wished host: soft, the host need not exist here"""
    requirements: bool = False
    """the folder has a requirements.txt"""
    ports: list[str] = []
    """'service:container'"""
    contract: str = "native"
    """of all its tasks (native, v5, v4, command), `mixed` where they differ; `v4`: an item is a join key"""
    item_files: dict[str, int] = {}
    """v4: entry -> files of one key that make an item"""
    namespace_prefix: str = ""
    mapper_options: dict[str, bool] = {}
    """what the original's mapper name says beyond ours: {'rank_comm': False}"""
    sources: dict[str, list[str]] = {}
    """`home`, `home2`... -> the entries that get what is put for it; {} where home is the only one"""
    node_map: dict[str, str] = {}
    """the app's name for a node -> host; `placements` are translated already"""
    max_open_bytes: int = 1 << 32
    """bytes of inputs of open items, about, at most"""


def parse_app(folder: str, files: Collection[str], read: Callable[[str], bytes]) -> AppSpec:
    """Check the app in `folder` (its name) that holds `files` (paths inside it); `read` gives the bytes of one of them.

    UsageError for every mistake of the author, as `FILE:LINE: what` with a hint, and nothing else.
    """
    from jupiter_agent.core.app_parse import parse  # an idle agent need not import yaml and ast

    return parse(folder, files, read)
