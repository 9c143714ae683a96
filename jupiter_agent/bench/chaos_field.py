"""A real cluster on which faults fall: agents in network namespaces whose links can be cut, one on a small disk.

Where no namespaces can be had (not root), agents are on loopback: a node that should be cut off is stopped instead
(SIGSTOP), which its peers cannot tell from a dead link, and the disk is not filled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from jupiter_agent.adapters.client import Client
from jupiter_agent.bench.cluster import JUPITER, BenchCluster
from jupiter_agent.errors import JupiterError
from jupiter_agent.netlab import system
from jupiter_agent.netlab.topology import lan

UP_S, BACK_S = 90.0, 40.0
DISK = "96m"
"""of the node with a small disk; below 32 MiB it is full (adapters/sensors.py)"""
_DEAD = re.compile(r"(\S+) WARNING member dead peer=\S+ name=(\S+)")


class ChaosField(BenchCluster):
    """`with ChaosField(5) as field`: nodes node1..nodeN, the last one on a disk of its own."""

    def __init__(self, nodes: int) -> None:
        super().__init__(nodes)
        self.names = [f"node{k + 1}" for k in range(nodes)]
        self.emulated = system.why_not() == ""
        self.gone: set[str] = set()
        self._cuts: set[tuple[str, str]] = set()
        self._stopped: set[str] = set()
        self._up: subprocess.Popen[bytes] | None = None
        self._disk: Path | None = None

    def __enter__(self) -> ChaosField:
        if not self.emulated:
            super().__enter__()
            return self
        topology = self.folder / "lan.json"
        topology.write_text(json.dumps(lan(len(self.names))))
        disk = self.dir / self.names[-1]
        disk.mkdir(parents=True, mode=0o700)
        system.run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(disk))
        self._disk = disk
        began = time.monotonic()
        try:
            command = [str(JUPITER), "local", "up", "--net", str(topology), "--dir", str(self.dir)]
            with (self.folder / "up.log").open("wb") as log:
                self._up = subprocess.Popen(command, stdout=log, stderr=log)
            while "see each other" not in (self.folder / "up.log").read_text():
                if self._up.poll() is not None or time.monotonic() > began + UP_S:
                    raise JupiterError(f"no cluster: {(self.folder / 'up.log').read_text().strip()}")
                time.sleep(0.1)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.up_s = time.monotonic() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        if self._up is not None:
            self._up.send_signal(signal.SIGTERM)
            self._up.wait()
        if self._disk is not None:
            system.run("umount", "-l", str(self._disk), check=False)
        super().__exit__(kind, error, trace)

    # --- nodes ---------------------------------------------------------------------------------------------------

    def running(self) -> list[str]:
        return [name for name in self.names if name not in self.gone and self.pid(name)]

    def pid(self, name: str) -> int:
        """0 when it does not run."""
        try:
            pid = int(json.loads((self.dir / name / "agent.json").read_text())["pid"])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, KeyError):
            return 0
        return pid if os.fsencode(self.dir.resolve() / name) in command else 0

    def kill(self, *names: str) -> float:
        """SIGKILL, all at once; the moment, in seconds since the epoch."""
        pids = [pid for name in names if (pid := self.pid(name))]
        at = time.time()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return at

    def start(self, *names: str) -> None:
        for name in names:
            self.jupiter("local", "start", name, "--dir", str(self.dir))

    def lose(self, *names: str) -> float:
        """Killed, and their disks are gone for good."""
        self.gone.update(names)
        at = self.kill(*names)
        for name in names:
            for path in sorted((self.dir / name).rglob("*"), reverse=True):
                with contextlib.suppress(OSError):
                    path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
        return at

    def detected(self, name: str, since: float) -> float | None:
        """When the first other node took this one for dead."""
        found = []
        for other in self.names:
            if other == name or other in self.gone:
                continue
            for stamp, dead in _DEAD.findall((self.dir / other / "agent.log").read_text("utf-8", "replace")):
                at = datetime.fromisoformat(stamp).timestamp()
                if dead == name and at >= since:
                    found.append(at)
        return min(found, default=None)

    @contextlib.contextmanager
    def asked(self, name: str) -> Iterator[Client]:
        """A session with one node, from where it is."""
        agent = json.loads((self.dir / name / "agent.json").read_text())
        token = (self.dir / "token").read_text().strip()
        with system.inside(self._place(name).get("netns", "")):
            client = Client.open([str(agent["address"])], token)
        try:
            yield client
        finally:
            client.close()

    def _place(self, name: str) -> dict[str, Any]:
        nodes = json.loads((self.dir / "cluster.json").read_text())["nodes"]
        place: dict[str, Any] = next(node for node in nodes if node["name"] == name)
        return place

    # --- links and disks -----------------------------------------------------------------------------------------

    def cut(self, side: Iterable[str], rest: Iterable[str]) -> None:
        """No packet passes between a node of one and a node of the other."""
        side, rest = list(side), list(rest)
        if not self.emulated:
            for name in min(side, rest, key=len):
                if pid := self.pid(name):
                    os.kill(pid, signal.SIGSTOP)
                    self._stopped.add(name)
            return
        for a, b in [(a, b) for a in side for b in rest] + [(b, a) for a in side for b in rest]:
            if (a, b) not in self._cuts:
                self._cuts.add((a, b))
                self._route("add", a, b)

    def heal(self) -> None:
        for name in self._stopped:
            if pid := self.pid(name):
                os.kill(pid, signal.SIGCONT)
        for a, b in sorted(self._cuts):
            self._route("del", a, b)
        self._stopped, self._cuts = set(), set()

    def _route(self, verb: str, at: str, to: str) -> None:
        """What a node sends to another one vanishes."""
        address = str(self._place(to)["bind"]).rpartition(":")[0]
        netns = self._place(at)["netns"]
        system.run("nsenter", f"--net={netns}", "ip", "route", verb, "blackhole", f"{address}/32", check=False)

    @property
    def on_small_disk(self) -> str:
        """The node whose disk can be filled, or ''."""
        return self._disk.name if self._disk is not None and self._disk.name not in self.gone else ""

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Not a byte is left on the small disk."""
        assert self._disk is not None
        filler = self._disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # a buffer would be written at close
            while True:
                file.write(bytes(1 << 16))
        try:
            yield
        finally:
            filler.unlink()
