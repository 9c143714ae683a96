"""A fleet: many real agents on this machine, what they have seen, and what they cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

from msgspec import Struct

from jupiter_agent.adapters.keys import decode_token, encode_token
from jupiter_agent.bench.ground import Ground, wait_until
from jupiter_agent.bench.sightings import Sightings
from jupiter_agent.bench.traced import Order
from jupiter_agent.errors import JupiterError

FOUND_S = 20.0
SEEDS = 4
AT_ONCE = 6
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


class Cost(Struct, frozen=True):
    """What idle agents used per second, and hold. Means over agents, except where it says `max`."""

    cpu_ms: float
    sent_bytes: float
    rss_mib_max: float
    pss_mib: float
    fds_max: int
    fds: float


class Fleet:
    """`with Fleet(ground) as fleet: fleet.start(names)`. All its processes end with it."""

    def __init__(self, ground: Ground, profile: str = "lan") -> None:
        self.ground = ground
        self.folder = Path(tempfile.mkdtemp(prefix="jupiter-fleet-"))
        self.seen = Sightings(self.folder / "trace")
        self.pids: dict[str, int] = {}
        self._profile = profile
        self._zygote: subprocess.Popen[str] | None = None
        self._own: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- agents ---

    def start(self, names: Iterable[str]) -> float:
        """Start agents, the first founding the cluster, a few at a time: a hundred that start at once on two cores
        spend their time on each other's timeouts. Returns when it began."""
        began = time.monotonic()
        first, *others = names
        self._zygote = subprocess.Popen(
            [sys.executable, "-P", "-m", "jupiter_agent.bench.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.fork(first)
        token = self.folder / first / "token"
        if not self.wait(token.is_file, FOUND_S):
            raise JupiterError(f"{first} does not come up", self.log_of(first))
        self._name_seeds([first])
        for number, name in enumerate(others, 1):
            if number == SEEDS:
                wait_until(lambda: not self._starting(), FOUND_S, self._tick, 0.02)
                self._name_seeds(self.running)
            wait_until(lambda: self._starting() < AT_ONCE, FOUND_S, self._tick, 0.02)
            self.fork(name)
        return began

    def _name_seeds(self, names: list[str]) -> None:
        """The founder's token, as it is when it knows these: with one seed only all would join at the founder."""
        founded = decode_token((self.folder / names[0] / "token").read_text().strip())
        seeds = tuple(self.ground.address(name) for name in names)
        (self.folder / "token").write_text(encode_token(replace(founded, seeds=seeds)))

    def _starting(self) -> int:
        """How many have not joined yet."""
        agents = self.seen.agents
        return sum(name not in agents or agents[name].joined is None for name in self.pids)

    def fork(self, name: str) -> None:
        """An agent that shares the pages of all others'."""
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        print(json.dumps(asdict(self._order(name))), file=self._zygote.stdin, flush=True)
        self.pids[name] = int(self._zygote.stdout.readline())

    def execute(self, name: str, module: str = "jupiter_agent.bench.traced") -> None:
        """An agent that is started as on any other machine, Python and all. `module` takes its order from there."""
        order = self._order(name)
        command = [sys.executable, "-P", "-m", module, json.dumps(asdict(order))]
        if order.netns:
            command = ["nsenter", f"--net={order.netns}", "--", *command]
        Path(order.folder).mkdir(mode=0o700, exist_ok=True)
        with (Path(order.folder) / "agent.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=order.folder)
        self._own.append(process)
        self.pids[name] = process.pid

    def _order(self, name: str) -> Order:
        token = self.folder / "token"
        beacon = "on" if self._profile == "manet" else "off"
        settings = {"bind": self.ground.address(name), "profile": self._profile, "mdns": "off", "beacon": beacon}
        if token.exists():
            settings["token_file"] = str(token)
        folder = str(self.folder / name)
        return Order(name, folder, str(self.folder / "trace"), self.ground.netns(name), dict(settings))

    def kill(self, name: str) -> float:
        """SIGKILL, as a crash; when."""
        now = time.monotonic()
        os.kill(self.pids.pop(name), signal.SIGKILL)
        return now

    def signal(self, names: Iterable[str], number: signal.Signals) -> float:
        now = time.monotonic()
        for name in names:
            os.kill(self.pids[name], number)
        return now

    @property
    def running(self) -> list[str]:
        return list(self.pids)

    def log_of(self, name: str) -> str:
        """The last lines of an agent's log."""
        path = self.folder / name / "agent.log"
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-5:]) if path.exists() else "no log"

    def crashed(self) -> list[str]:
        """Agents that ended although nobody ended them."""
        return [name for name, pid in self.pids.items() if not is_running(pid)]

    def close(self) -> None:
        for process in self._own:
            process.kill()
            process.wait()
        if self._zygote is not None:
            self._zygote.kill()  # its children go with it
            self._zygote.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- time ---

    def wait(self, ready: Callable[[], bool], limit_s: float) -> bool:
        """Whether it became so in time; traces are read, and the ground's time goes on, meanwhile."""
        return wait_until(ready, limit_s, self._tick)

    def pass_time(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def seen_now(self) -> float:
        """The time, with all that was seen before it taken in."""
        self.seen.read()
        return time.monotonic()

    def _tick(self) -> None:
        self.ground.advance()
        self.seen.read()

    # --- cost ---

    def cost(self, seconds: float) -> Cost:
        """Of all running agents, over a time in which nobody asks them anything."""
        cpu, sent, began = self._cpu_s(), self._sent(), time.monotonic()
        self.pass_time(seconds)
        passed = time.monotonic() - began
        after, sent_after = self._cpu_s(), self._sent()
        memory = [_memory(pid) for pid in self.pids.values()]
        fds = [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids.values()]
        return Cost(
            cpu_ms=1000 * mean(after[name] - cpu[name] for name in self.pids) / passed,
            sent_bytes=(sent_after - sent) / passed / len(self.pids),
            rss_mib_max=max(rss for rss, _ in memory), pss_mib=mean(pss for _, pss in memory),
            fds_max=max(fds), fds=mean(fds),
        )  # fmt: skip

    def rss_mib(self, name: str) -> float:
        return _memory(self.pids[name])[0]

    def _cpu_s(self) -> dict[str, float]:
        found = {}
        for name, pid in self.pids.items():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found[name] = (int(fields[11]) + int(fields[12])) / TICKS
        return found

    def _sent(self) -> int:
        """Bytes on the wire with all headers: of the lab's links, or of the loopback interface."""
        if self.ground.lab is not None:
            return sum(self.ground.lab.sent_bytes(name) for name in self.pids)
        return int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text())


def is_running(pid: int) -> bool:
    """False also when it only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _memory(pid: int) -> tuple[float, float]:
    """(RSS, PSS) in MiB: what is mapped, and the same with shared pages divided among those who share them."""
    found = dict.fromkeys(("Rss", "Pss"), 0.0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        if key[:-1] in found:
            found[key[:-1]] = int(value) * 1024 / MIB
    return found["Rss"], found["Pss"]
