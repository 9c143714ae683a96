"""Fixtures of the end-to-end tests. Tests that kill nobody share one cluster of five; the others get their own.

Nothing outlives the session: a process that works below its folders or inherited its mark is an error then.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e_rig import MARK, Agent, Cluster, living, marked

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all clusters of this session are; its end is the check that nothing is left running."""
    folder = tmp_path_factory.mktemp("e2e")
    os.environ[MARK] = str(folder)
    yield folder
    left = living(folder) | dict.fromkeys(marked(str(folder)), "carries our mark")
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"left running: {left}"


def fresh(base: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of a test's own, not made yet."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[5:45].strip("-")
    return base / f"{next(_numbers)}-{name}"


@pytest.fixture(scope="session")
def cluster(base: Path) -> Iterator[Cluster]:
    """Five agents that no test kills."""
    shared = Cluster(base / "shared")
    shared.up(5)
    yield shared
    shared.down()


@pytest.fixture
def make_cluster(base: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Cluster]]:
    """Clusters of a test's own, which it may hurt."""
    made: list[Cluster] = []

    def make(nodes: int = 0) -> Cluster:
        own = Cluster(fresh(base, request))
        made.append(own)
        return own.up(nodes) if nodes else own

    yield make
    for own in made:
        own.down()
        assert not living(own.folder)


@pytest.fixture
def make_agent(base: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Agent]]:
    """Agents started by hand: make_agent(name, *flags, **environment)."""
    made: list[Agent] = []
    folder = fresh(base, request)
    folder.mkdir()

    def make(name: str, *args: object, **env: str) -> Agent:
        made.append(Agent(folder / name, name, *args, **env))
        return made[-1].run()

    yield make
    for agent in made:
        if agent.runs:
            agent.terminate()
