"""How long a job stands still: its worker killed, and its home, from the moment somebody takes them for dead."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jupiter_agent.bench.chaos_field import ChaosField
from jupiter_agent.errors import JupiterError

LIMIT_S = 30.0
POLL_S = 0.1

TIMED = """
import time

def process(inputs, ctx):
    time.sleep(0.15)
    return b"".join(inputs.values())
"""


class Pauses:
    """Of one job whose only task runs on one node."""

    def __init__(self, field: ChaosField, job: str, say: Callable[[str], None]) -> None:
        self._field, self._job, self._say = field, job, say

    def worker_s(self) -> float:
        """Its worker is killed: until an item is finished elsewhere. It stays down."""
        row = self._row(self._field.names[0])
        (worker,) = set(row["mapping"].values())
        asked = self._another(worker)
        self._until(asked, 3)
        at = self._field.kill(worker)
        time.sleep(0.3)
        self._say(f"kill -9 {worker}, which runs the task")
        after = self._until(asked, self._done(asked) + 1)
        return self._since(worker, at, after)

    def home_s(self) -> float:
        """Home is killed: until a result comes in at the next one. It stays down."""
        home = self._row(self._field.running()[0])["home"]
        asked = self._another(home)
        at = self._field.kill(home)
        self._say(f"kill -9 {home}, which is home")
        while (now := self._row(asked))["home"] == home:
            time.sleep(POLL_S)
        after = self._until(asked, now["items_done"] + 1)
        return self._since(home, at, after)

    def _since(self, name: str, at: float, after: float) -> float:
        seen = self._field.detected(name, at)
        self._say(
            f"{name}: taken for dead {(seen or after) - at:.2f} s after it, next item {after - at:.2f} s after it"
        )
        return max(0.0, after - (seen if seen is not None else at))

    def _another(self, *names: str) -> str:
        home = self._row(self._field.running()[0])["home"]
        return next(name for name in reversed(self._field.running()) if name not in (*names, home))

    def _until(self, asked: str, count: int) -> float:
        """The moment at which so many items are done."""
        deadline = time.monotonic() + LIMIT_S
        while self._done(asked) < count:
            if time.monotonic() > deadline:
                raise JupiterError(f"job {self._job} stands still for {LIMIT_S:g} s")
            time.sleep(POLL_S)
        return time.time()

    def _done(self, asked: str) -> int:
        return int(self._row(asked)["items_done"])

    def _row(self, asked: str) -> dict[str, Any]:
        """The job as this node hears it from home; asked again while nobody is."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                with self._field.asked(asked) as client:
                    row: dict[str, Any] = client.call("get", {"kind": "jobs", "id": self._job})["items"][0]
                    return row
            except JupiterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
