"""One agent of a local cluster: its state folder, and its process if it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupiter_agent.cli import procfs, reach
from jupiter_agent.cli.local_net import Place
from jupiter_agent.errors import JupiterError

LOG_LINES = 8

AGENT = (sys.executable, "-P", "-m", "jupiter_agent.cli.agent_main")
"""How an agent is started: without a shell, so its pid is the agent's own (also through nsenter, which becomes it)."""

NO_MARK: Mapping[str, str] = {}
PASSED_ON = ("JUPITER_LOG_LEVEL", "JUPITER_DEBUG", "JUPITER_CPROFILE")


class Node:
    """One agent: its folder, its process if it runs."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.name = place.name
        self.bind = place.bind
        self.place = place
        self.folder = folder / place.name
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    @property
    def started(self) -> procfs.Started | None:
        return procfs.load(self.folder / "agent.pid")

    @property
    def is_running(self) -> bool:
        return self._is_ours or procfs.is_running(self.started, self.folder)

    @property
    def _is_ours(self) -> bool:
        """This very command started it: no proof is needed, and /proc has none yet while the program is loaded."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def agent(self) -> dict[str, Any]:
        """agent.json of this node, {} when it has never run."""
        return reach.read_agent_file(self.folder) or {}

    @property
    def is_up(self) -> bool:
        """The running process itself has written where it listens."""
        started = self.started
        return started is not None and self.agent.get("pid") == started.pid

    def status(self) -> dict[str, Any]:
        running = self.is_running
        started = self.started
        return {
            "name": self.name, "id": self.agent.get("id"), "pid": started.pid if started and running else None,
            "address": self.agent.get("address") or self.bind, "state_dir": str(self.folder), "running": running,
        }  # fmt: skip

    def spawn(self, token_file: Path | None, mark: Mapping[str, str] = NO_MARK) -> None:
        """Start the agent, detached: its own session, none of our files."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JUPITER_") or k in PASSED_ON}
        environment |= mark
        if token_file:
            environment["JUPITER_TOKEN_FILE"] = str(token_file)
        command = [*AGENT, "run", "--name", self.name, "--bind", self.bind, "--state-dir", str(self.folder)]
        command += ["--mdns", "off", "--beacon", "off"]  # local clusters never meet
        if self.place.profile:
            command += ["--profile", self.place.profile]
        if self.place.netns:
            command = ["nsenter", f"--net={self.place.netns}", "--", *command]
        with (self.folder / "agent.log").open("ab") as log:
            self._log_from = log.tell()
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, env=environment, start_new_session=True,
            )  # fmt: skip
        # Not reaped before `check_alive`, so the number is its own even if it has ended already.
        procfs.Started(self._popen.pid, procfs.start_ticks(self._popen.pid) or 0).save(self.folder / "agent.pid")

    def check_alive(self) -> None:
        """JupiterError with the last lines of the log when the process we started has ended."""
        if self._popen is None or (code := self._popen.poll()) is None:
            return
        with (self.folder / "agent.log").open("rb") as log:
            log.seek(self._log_from)
            lines = log.read()[-8192:].decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        raise JupiterError(
            "\n".join([f"{self.name} ended at start with {code}", *lines]), f"see {self.folder}/agent.log"
        )

    def signal(self, *numbers: signal.Signals) -> bool:
        """False when it does not run."""
        if self._popen is None or not self._is_ours:
            return procfs.send_signal(self.started, self.folder, *numbers)
        for number in numbers:
            self._popen.send_signal(number)
        return True

    def reap(self) -> None:
        if self._popen is not None:
            self._popen.poll()
