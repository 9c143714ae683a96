"""`jupiter local`: a whole cluster on this machine, to try things out and to test (DESIGN 10, "Local clusters")."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from jupiter_agent.cli.groups import Group
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format, Output, refuse_exports
from jupiter_agent.cli.reach import LOCAL_DIR
from jupiter_agent.cli.start_guard import start_guard
from jupiter_agent.errors import EXIT_OK, JupiterError, UsageError

if TYPE_CHECKING:
    from jupiter_agent.cli.local_cluster import LocalCluster

app = typer.Typer(cls=Group, rich_markup_mode=None, help="A cluster of agents on this machine.")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, a terminal that was closed"""

Dir = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The cluster's folder: keys, logs, state.")]


def _complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell: silent about a folder that cannot be read."""
    try:
        return [node.name for node in _open(Path(ctx.params.get("folder") or LOCAL_DIR)).nodes]
    except JupiterError:
        return []


NodeName = Annotated[str, typer.Argument(metavar="NODE", help="node1, node2, ...", autocompletion=_complete_node)]


def _open(folder: Path) -> LocalCluster:
    """Imported here: `jupiter ctl` has no use for what starting processes needs."""
    from jupiter_agent.cli.local_cluster import LocalCluster

    return LocalCluster(folder)


class Signals:
    """SIGINT, SIGTERM and SIGHUP as a flag: a process just started is always noted before we react."""

    def __init__(self) -> None:
        self.came = False

    def check(self) -> None:
        if self.came:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        wanted = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # as `nohup` wishes
        before = {number: signal.signal(number, self._note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@app.command()
def up(
    nodes: Annotated[int | None, typer.Option(min=1, max=200, metavar="N", help="How many agents (default 3).")] = None,
    folder: Dir = LOCAL_DIR,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop them on Ctrl-C.")] = False,
    net: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="On an emulated network: wan8, manet20 ... (root; stays)."),
    ] = None,
) -> int:
    """Start agents node1..nodeN; returns when all see all. If it fails, no process is left."""
    from jupiter_agent.cli.local_net import network

    cluster, signals, began = _open(folder), Signals(), time.monotonic()
    with signals.caught(), network(net, nodes) as emulated:
        check = emulated.watched(signals.check) if emulated else signals.check
        with start_guard() as mark, cluster.lock():
            if running := [node.name for node in cluster.nodes if node.is_running]:
                raise UsageError(f"{', '.join(running)} already run in {folder}", f"jupiter local down --dir {folder}")
            if emulated:
                cluster.settle(emulated.places)
            else:
                cluster.plan(nodes or 3)
            whole = emulated is None or emulated.is_whole()
            try:
                cluster.start(check, mark, whole)
            except BaseException:
                cluster.stop()
                raise
        at = "" if folder == LOCAL_DIR else f" --dir {folder}"
        done = "see each other" if whole else "run, in a network that is in parts,"
        seconds = f"{time.monotonic() - began:.1f} s"
        ready = f"{len(cluster.nodes)} agents {done} after {seconds}; try: jupiter ctl{at} get nodes"
        if foreground or emulated:
            _stay(cluster, signals, ready, check)
        else:
            say(ready)
    return EXIT_OK


def _stay(cluster: LocalCluster, signals: Signals, ready: str, check: Callable[[], None]) -> None:
    """Until a signal, or until the terminal that we write to is gone; says who ends meanwhile."""
    try:
        say(ready)
        Output().items("local", [node.status() for node in cluster.nodes])
        say("Ctrl-C stops them")
        with contextlib.suppress(KeyboardInterrupt):
            _watch(cluster, check)
        say("stopping ...")
    finally:
        cluster.stop()


def _watch(cluster: LocalCluster, check: Callable[[], None]) -> None:
    """Until `check` says to end."""
    running = {node.name for node in cluster.nodes}
    while True:
        check()
        for node in cluster.nodes:
            node.reap()
        now = {node.name for node in cluster.nodes if node.is_running}
        for name in sorted(running ^ now):
            say(f"{name} {'runs again' if name in now else 'has ended'}")
        running = now
        time.sleep(0.2)


@app.command()
def down(folder: Dir = LOCAL_DIR) -> None:
    """Stop all agents and their tasks; their state stays in DIR."""
    cluster = _open(folder)
    if not cluster.nodes:
        say(f"no cluster in {folder}")
        return
    with cluster.lock():
        stopped = cluster.stop()
    say(f"stopped {', '.join(stopped)}" if stopped else "no agent was running")


@app.command()
def status(
    folder: Dir = LOCAL_DIR,
    output: Annotated[Format, typer.Option("--output", "-o", help="What stdout shows.")] = Format.TABLE,
) -> None:
    """List the agents and whether they run."""
    refuse_exports(output, "local status")
    Output(output).items("local", [node.status() for node in _open(folder).nodes])


@app.command()
def kill(node: NodeName, folder: Dir = LOCAL_DIR) -> None:
    """SIGKILL one agent, as a crash would."""
    cluster = _open(folder)
    found = cluster.find(node)
    with cluster.lock():
        say(f"killed {node}" if cluster.kill(found) else f"{node} was not running")


@app.command()
def start(node: NodeName, folder: Dir = LOCAL_DIR) -> None:
    """Start one agent again with the state it left; returns when it answers."""
    cluster, signals = _open(folder), Signals()
    found = cluster.find(node)
    with signals.caught(), start_guard() as mark, cluster.lock():
        if found.is_running:
            say(f"{node} runs already")
            return
        try:
            cluster.start_one(found, signals.check, mark)
        except BaseException:
            cluster.kill(found)
            raise
    say(f"{node} is up")
