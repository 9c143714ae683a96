"""A real local cluster for a bench: agents on loopback in a temporary folder, and what they cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from jupiter_agent.adapters.client import Client
from jupiter_agent.errors import JupiterError

JUPITER = Path(sys.executable).with_name("jupiter")


class BenchCluster:
    """`with BenchCluster(5) as cluster:`; `up_s` is what `jupiter local up` took, command start included."""

    def __init__(self, nodes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jupiter-bench-"))
        self.dir = self.folder / "cluster"
        self._nodes = nodes
        self.up_s = 0.0

    def __enter__(self) -> BenchCluster:
        began = time.monotonic()
        try:
            self.jupiter("local", "up", "--nodes", str(self._nodes), "--dir", str(self.dir))
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.up_s = time.monotonic() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.jupiter("local", "down", "--dir", str(self.dir))
        shutil.rmtree(self.folder, ignore_errors=True)

    def jupiter(self, *args: str) -> str:
        """Run a command; its stdout. JupiterError with its stderr when it fails."""
        done = subprocess.run([str(JUPITER), *args], capture_output=True, text=True, check=False)
        if done.returncode:
            raise JupiterError(f"`jupiter {' '.join(args)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def ctl(self, *args: str) -> Any:
        """A `jupiter ctl` command's JSON."""
        return json.loads(self.jupiter("ctl", "--dir", str(self.dir), "-o", "json", *args))

    def client(self) -> Client:
        """A session with the first agent, for what a command a time is too slow for."""
        [first, *_] = self.agents()
        return Client.open([first["address"]], (Path(first["state_dir"]) / "token").read_text().strip())

    def agents(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.jupiter("local", "status", "--dir", str(self.dir), "-o", "json"))[
            "items"
        ]
        return rows

    def modules(self, agent: dict[str, Any]) -> set[str]:
        """Top-level modules an agent has loaded."""
        return set(self.diagnostics(agent)["modules"])

    def diagnostics(self, agent: dict[str, Any]) -> dict[str, Any]:
        """What an agent writes on SIGUSR1: its modules and counters."""
        path = Path(agent["state_dir"]) / "diagnostics.json"
        path.unlink(missing_ok=True)
        os.kill(agent["pid"], signal.SIGUSR1)
        for _ in range(100):
            if path.exists():
                found: dict[str, Any] = json.loads(path.read_text())
                return found
            time.sleep(0.02)
        raise JupiterError(f"{agent['name']} wrote no diagnostics")

    def cost(self, seconds: float) -> tuple[float, float]:
        """(largest RSS in MiB, mean share of a core) of the agents over a time in which nobody asks them anything."""
        processes = [psutil.Process(agent["pid"]) for agent in self.agents()]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(seconds)
        spent = sum(sum(p.cpu_times()[:2]) - b for p, b in zip(processes, before, strict=True))
        return max(p.memory_info().rss for p in processes) / 2**20, spent / seconds / len(processes)
