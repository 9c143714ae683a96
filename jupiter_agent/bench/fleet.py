"""`jupiter bench fleet`: a hundred real agents on one machine: what they see of each other, how soon, at what cost.

As root the agents live in namespaces of an emulated switched network, each with an address of its own: there a host can
fall silent, the network can part, and every byte is counted with its headers. Without root they share the loopback
interface, and the rows that need a network of one's own are left out, loudly. `--net wan106|manet20|slow`: see
`netlab_runs`.

Agents are forked from one process that has imported everything; the last joiner is started as on any other machine.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from types import FrameType

from jupiter_agent.bench import Figure
from jupiter_agent.bench.ground import Ground, InLab, Loopback
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.errors import JupiterError, UsageError
from jupiter_agent.netlab import Lab, lan, why_not

SPARE = 3
SMALL = 50
"""Fewer agents than this: a run for CI, with fewer repetitions"""
SEEN_LIMIT_S = 60.0
DEAD_LIMIT_S = 40.0
SETTLE_S = 15.0
STOPPED = 10
STOP_S, HOG_S, WATCH_S = 3.0, 20.0, 20.0
PARTITION_S = 60.0
HOG = "while True: pass"


class Lan:
    """The rows, measured one after the other on one fleet."""

    def __init__(self, fleet: Fleet, names: list[str], spare: list[str]) -> None:
        self.fleet, self._names, self._spare = fleet, names, spare
        self._small = len(names) < SMALL
        self._rng = random.Random(len(names))
        self.gone: set[str] = set()

    def rows(self) -> dict[str, Callable[[], list[Figure]]]:
        """In the order in which they are measured; `start` is always measured."""
        return {
            "start": self.start, "idle": self.idle, "join": self.join, "profile": self.profile, "kill": self.kill,
            "silent": self.silent, "load": self.load, "partition": self.partition,
        }  # fmt: skip

    # --- rows ---

    def start(self) -> list[Figure]:
        began = self.fleet.start(self._names)
        seen = full_view(self.fleet, SEEN_LIMIT_S)
        return [Figure(f"{len(self._names)} agents: all see all after start", seen - began, "s", 30.0)]

    def idle(self) -> list[Figure]:
        self.fleet.pass_time(5.0 if self._small else SETTLE_S)
        cost = self.fleet.cost(10.0 if self._small else 30.0)
        traffic = (
            "sent, headers included" if self.fleet.ground.lab else "sent by all on this loopback, headers included"
        )
        return [
            Figure("idle agent: CPU", cost.cpu_ms, "ms/s", 6.0),
            Figure("idle agent: RSS, largest", cost.rss_mib_max, "MiB", 45.0),
            Figure("idle agent: PSS", cost.pss_mib, "MiB"),
            Figure("idle agent: file descriptors, most", cost.fds_max, "", 50),
            Figure("idle agent: file descriptors", cost.fds, ""),
            Figure(f"idle agent: {traffic}", cost.sent_bytes / 1000, "kB/s", 8.0),
        ]

    def join(self) -> list[Figure]:
        """From the start of an agent's own work (Python has loaded it) until everybody sees it."""
        times = []
        for name in self._spare:
            others = self.fleet.running
            self.fleet.execute(name)
            times.append(
                self._everywhere(name, ("alive",), others, SEEN_LIMIT_S) - self.fleet.seen.agents[name].started
            )
        self.fleet.pass_time(5.0)
        rss = max(self.fleet.rss_mib(name) for name in self._spare)
        return [
            Figure(f"last joiner seen by all, worst of {len(times)}", max(times), "s", 1.0),
            Figure("joiner that shares no pages: RSS", rss, "MiB", 45.0),
        ]

    def profile(self) -> list[Figure]:
        times = []
        for name in self._some(3 if self._small else 5):
            began = self.fleet.signal([name], signal.SIGUSR2)
            times.append(self._everywhere(name, ("profile",), self.fleet.running, 20.0, began) - began)
        return [
            Figure(f"profile change seen everywhere, worst of {len(times)}", max(times), "s", 2.5),
            Figure("profile change seen everywhere, median", median(times), "s"),
        ]

    def kill(self) -> list[Figure]:
        times = []
        for name in self._some(3 if self._small else 6):
            began = self.fleet.kill(name)
            self.gone.add(name)
            times.append(self._everywhere(name, ("dead", "left"), self.fleet.running, DEAD_LIMIT_S, began) - began)
        return [
            Figure(f"killed -> dead everywhere, median of {len(times)}", median(times), "s", 2.0),
            Figure("killed -> dead everywhere, worst", max(times), "s", 4.0),
        ]

    def silent(self) -> list[Figure]:
        """Every packet from and to the host vanishes; the process lives on."""
        lab = self.fleet.ground.lab
        assert lab is not None
        times = []
        for name in self._some(1 if self._small else 3):
            began = self.fleet.seen_now()
            lab.isolate(name)
            self.gone.add(name)
            others = [each for each in self.fleet.running if each != name]
            times.append(self._everywhere(name, ("dead",), others, DEAD_LIMIT_S, began) - began)
            self.fleet.kill(name)
            lab.heal()
        return [
            Figure(f"host silent -> dead everywhere, median of {len(times)}", median(times), "s", 12.0),
            Figure("host silent -> dead everywhere, worst", max(times), "s", 15.0),
        ]

    def load(self) -> list[Figure]:
        """Some agents stand still for a while; every core is busy for longer."""
        began = self.fleet.seen_now()
        with hogs():
            self.fleet.pass_time(HOG_S / 4)
            stopped = self._some(min(STOPPED, len(self.fleet.running) // 4))
            self.fleet.signal(stopped, signal.SIGSTOP)
            self.fleet.pass_time(STOP_S)
            self.fleet.signal(stopped, signal.SIGCONT)
            self.fleet.pass_time(HOG_S * 3 / 4 - STOP_S)
        self.fleet.pass_time(WATCH_S / 2 if self._small else WATCH_S)
        return [self.false_deaths(f"{len(stopped)} agents stopped {STOP_S:g} s, all cores busy {HOG_S:g} s", began)]

    def partition(self) -> list[Figure]:
        lab = self.fleet.ground.lab
        assert lab is not None
        half = self._some(len(self.fleet.running) // 2)
        began = self.fleet.seen_now()
        lab.partition(half)
        self.fleet.pass_time(PARTITION_S)
        parted = len({each.subject for each in self.fleet.seen.dead_since(began, self.fleet.running)})
        healed = self.fleet.seen_now()
        lab.heal()
        whole = full_view(self.fleet, SEEN_LIMIT_S) - healed
        return [
            Figure(f"partition of {PARTITION_S:g} s: members held dead by somebody", parted, "agents"),
            Figure("partition healed -> one full view", whole, "s", 5.0),
        ]

    def false_deaths(self, what: str, began: float) -> Figure:
        wrong = self.fleet.seen.dead_since(began, self.fleet.running, self.gone)
        return Figure(f"false deaths: {what}", len(wrong), "", 0)

    # --- helpers ---

    def _some(self, count: int) -> list[str]:
        """Any agents but the founder and the last joiners."""
        able = [name for name in self.fleet.running if name not in (self._names[0], *self._spare)]
        return self._rng.sample(able, count)

    def _everywhere(
        self, name: str, states: Iterable[str], observers: Iterable[str], limit_s: float, after: float = 0.0
    ) -> float:
        return everywhere(self.fleet, name, states, observers, (limit_s, after))


# --- what other runs need as well ---


def full_view(fleet: Fleet, limit_s: float) -> float:
    """When the last of the running agents came to see exactly the others; infinity if that takes too long."""
    fleet.wait(lambda: fleet.seen.all_see_all(fleet.running) is not None, limit_s)
    if crashed := fleet.crashed():
        raise JupiterError(f"{crashed[0]} has ended", fleet.log_of(crashed[0]))
    since = fleet.seen.all_see_all(fleet.running)
    return float("inf") if since is None else since


def everywhere(
    fleet: Fleet, name: str, states: Iterable[str], observers: Iterable[str], limit_after: tuple[float, float]
) -> float:
    """When the last observer saw the agent in one of these states, after a time; infinity if over the limit."""
    limit_s, after = limit_after
    wanted, told = tuple(states), list(observers)
    fleet.wait(lambda: fleet.seen.everywhere(name, wanted, told, after) is not None, limit_s)
    found = fleet.seen.everywhere(name, wanted, told, after)
    return float("inf") if found is None else found


@contextmanager
def hogs() -> Iterator[None]:
    """Every core has something else to do."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", HOG]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def ended_politely() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does: nothing is left behind."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ground(names: list[str]) -> Ground:
    """A lab where there can be one."""
    return Loopback() if why_not() else InLab(Lab({**lan(1), "nodes": names}))


def chosen(known: Iterable[str], rows: str) -> list[str]:
    """The rows that were asked for, all by default. UsageError for one there is not."""
    known = list(known)
    wanted = [row for row in rows.split(",") if row] or known
    if foreign := [row for row in wanted if row not in known]:
        raise UsageError(f"no row {foreign[0]!r}", f"rows: {', '.join(known)}")
    return wanted


def run(nodes: int = 0, net: str = "lan", rows: str = "") -> list[Figure]:
    """The table of `--net`; `nodes` agents (lan: 106), only `rows` of it."""
    from jupiter_agent.bench import netlab_runs

    with ended_politely():
        if net in netlab_runs.RUNS:
            return netlab_runs.RUNS[net](nodes, rows)
        if net != "lan":
            raise UsageError(f"no net {net!r}", f"one of: lan, {', '.join(netlab_runs.RUNS)}")
        return run_lan(nodes or 106, rows)


def run_lan(nodes: int, rows: str) -> list[Figure]:
    names = [f"node{number + 1}" for number in range(nodes + (1 if nodes < SMALL else SPARE))]
    ground = _ground(names)
    with ground, Fleet(ground) as fleet:
        table = Lan(fleet, names[:nodes], names[nodes:])
        wanted = chosen(table.rows(), rows)
        if ground.lab is None:
            print(f"NOT MEASURED: silent, partition ({why_not()})", file=sys.stderr, flush=True)
            wanted = [row for row in wanted if row not in ("silent", "partition")]
        elif nodes < SMALL and not rows:
            wanted.remove("partition")
        figures: list[Figure] = []
        for row, measure in table.rows().items():
            if row in wanted or row == "start":
                figures += told(measure())
        return figures


def told(figures: list[Figure]) -> list[Figure]:
    """Said at once: the whole table takes minutes."""
    load = os.getloadavg()[0]
    for figure in figures:
        print(f"   {figure.name}: {figure.value:.4g} {figure.unit} (load {load:.1f})", file=sys.stderr, flush=True)
    return figures
