"""A cluster of agents on this machine, kept in one folder (DESIGN 10, "Local clusters").

    DIR/cluster.json       which nodes there are and where each listens
    DIR/token              the cluster's token, 0600
    DIR/nodeK/             a node's state folder: agent.json and token (the agent's own), agent.pid (ours), agent.log

The first agent founds the cluster and writes its token; the others start together with it, by file, for an argument
list is public. Nothing here signals a process that is not provably the one it started.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from jupiter_agent.adapters.disk import replace_file
from jupiter_agent.cli import ports, procfs, reach
from jupiter_agent.cli.local_net import Place
from jupiter_agent.cli.local_node import Node
from jupiter_agent.cli.reach import Caller, Where
from jupiter_agent.config import did_you_mean
from jupiter_agent.errors import JupiterError, UsageError
from jupiter_agent.netlab.system import inside

START_LIMIT_S, START_EACH_S = 30.0, 0.5
STOP_LIMIT_S = 10.0
KILL_LIMIT_S = 3.0
POLL_S = 0.03
Check = Callable[[], None]
"""Called while waiting; raises KeyboardInterrupt when the user wants to stop."""


class LocalCluster:
    """The agents of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()  # the same folder whatever path leads to it: pids are known by it
        self.token_file = self.folder / "token"
        self.nodes = [Node(self.folder, place) for place in self._read()]

    def _read(self) -> list[Place]:
        try:
            content = json.loads((self.folder / "cluster.json").read_text("utf-8"))
            return [Place(**{key: str(value) for key, value in entry.items()}) for entry in content["nodes"]]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{self.folder}/cluster.json is damaged: {error}", "give another --dir") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One `jupiter local` at a time changes a folder. UsageError for what cannot be written in it meanwhile."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self.folder / "lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UsageError(f"another `jupiter local` is at work in {self.folder}", "wait for it") from None
                yield
        except OSError as error:
            place = error.filename or self.folder
            raise UsageError(f"cannot use {place}: {error.strerror}", "give another --dir") from error

    def find(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        hint = did_you_mean(name, [node.name for node in self.nodes]) if self.nodes else "`jupiter local up` makes some"
        raise UsageError(f"no node {name!r} in {self.folder}", hint)

    def plan(self, count: int) -> None:
        """Decide who listens where: as before where that is still free."""
        before = {node.name: node.bind for node in self.nodes}
        names = [f"node{number}" for number in range(1, count + 1)]
        kept = {name: before[name] for name in names if name in before and ports.is_free(ports.port_of(before[name]))}
        free = ports.free_ports({ports.port_of(bind) for bind in kept.values()})
        self.settle([Place(name, kept.get(name) or f"127.0.0.1:{next(free)}") for name in names])

    def settle(self, places: list[Place]) -> None:
        """Who listens where is decided: written down, for the commands to come."""
        self.nodes = [Node(self.folder, place) for place in places]
        content = {"nodes": [{k: v for k, v in asdict(place).items() if v} for place in places]}
        replace_file(self.folder / "cluster.json", json.dumps(content, indent=2) + "\n")

    def start(self, check: Check, mark: dict[str, str], whole: bool = True) -> None:
        """All agents that were planned, until each sees all alive, if the network is whole. On any failure the caller
        stops what has started.

        `mark` goes into their environments.
        """
        deadline = time.monotonic() + START_LIMIT_S + START_EACH_S * len(self.nodes)
        first, *others = self.nodes
        first.spawn(None, mark)
        own_token = first.folder / "token"
        self._wait(lambda: first.is_up and own_token.is_file(), deadline, check, f"{first.name} does not come up")
        self._publish(own_token.read_text("utf-8"))
        for node in others:
            check()
            node.spawn(self.token_file, mark)
        if whole:
            self._wait_for_sight(self.nodes, deadline, check)

    def start_one(self, node: Node, check: Check, mark: dict[str, str]) -> None:
        """One agent again, on the state it left, until it answers. `mark` as in `start`."""
        deadline = time.monotonic() + START_LIMIT_S
        node.spawn(None if node is self.nodes[0] else self.token_file, mark)
        self._wait(lambda: node.is_up, deadline, check, f"{node.name} does not come up")
        self._wait_for_sight([node], deadline, check)

    def stop(self) -> list[str]:
        """SIGTERM, time to drain, SIGKILL; then whatever tasks are left. Returns the names that ran."""
        running = [node for node in self.nodes if node.signal(signal.SIGTERM, signal.SIGCONT)]
        self._wait_for_end(running, STOP_LIMIT_S)
        for node in running:
            node.signal(signal.SIGKILL)
        self._wait_for_end(running, KILL_LIMIT_S)
        self._sweep()
        return [node.name for node in running]

    def kill(self, node: Node) -> bool:
        """SIGKILL, as a crash would; False when it was not running."""
        was_running = node.signal(signal.SIGKILL)
        self._wait_for_end([node], KILL_LIMIT_S)
        return was_running

    def _publish(self, token: str) -> None:
        replace_file(self.token_file, token)

    def _wait(self, ready: Callable[[], bool], deadline: float, check: Check, complaint: str) -> None:
        while not ready():
            check()
            for node in self.nodes:
                node.check_alive()
            if time.monotonic() >= deadline:
                raise JupiterError(f"{complaint} in time", f"see {self.folder}/*/agent.log")
            time.sleep(POLL_S)

    def _wait_for_sight(self, asked: list[Node], deadline: float, check: Check) -> None:
        """Until each of `asked` reports all of `asked` alive."""
        names = {node.name for node in asked}
        with contextlib.ExitStack() as clients:
            views = {node.name: _View(node, self.token_file, clients) for node in asked}
            blind = dict(views)

            def ready() -> bool:
                for name in list(blind):
                    if names <= blind[name].alive():
                        del blind[name]
                return not blind

            self._wait(ready, deadline, check, "not all agents see each other")

    def _wait_for_end(self, nodes: list[Node], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while any(node.is_running for node in nodes) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for node in nodes:
            node.reap()

    def _sweep(self) -> None:
        """Task processes carry a mark made of the folder they were started in (adapters/processes.py)."""
        from jupiter_agent.adapters.limits import MARK

        folders = [entry for node in self.nodes for entry in node.folder.glob("*/")]
        marks = {f"{entry.st_dev}-{entry.st_ino}-" for entry in (folder.stat() for folder in folders)}
        if marks:
            procfs.kill_marked(MARK, marks)


class _View:
    """What one agent says of the members."""

    def __init__(self, node: Node, token_file: Path, clients: contextlib.ExitStack) -> None:
        self._node = node
        self._token_file = token_file
        self._clients = clients
        self._client: Caller | None = None

    def alive(self) -> set[str]:
        """Names it holds alive; empty while it does not answer."""
        if not self._node.is_up:
            return set()
        try:
            if self._client is None:
                where = Where(peers=(str(self._node.agent["address"]),), token_file=self._token_file)
                with inside(self._node.place.netns):
                    self._client = reach.open_client(where)
                self._clients.callback(self._client.close)
            items = self._client.call("get", {"kind": "nodes"}, 2.0)["items"]
        except JupiterError:
            return set()
        return {str(item["name"]) for item in items if item.get("state") == "alive"}
