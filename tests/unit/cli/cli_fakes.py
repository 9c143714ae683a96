"""A cluster that is a dictionary of answers, time that passes only when slept, and a way to run one command."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from jupiter_agent.cli.reach import Where
from jupiter_agent.errors import JupiterError

Answer = Any


def job(**changes: Any) -> dict[str, Any]:
    """A job object as agents answer it."""
    return {
        "id": "j-1f2e", "name": "cameras", "app": "example", "state": "running", "degraded": False, "home": "node1",
        "deputies": ["node2"], "mapper": "heft", "mapping": {"detect": "node2"}, "epoch": 1, "items_in": 2,
        "items_done": 0, "items_failed": 0, "submitted_at": 1_700_000_000.25, "mapping_s": 0.004, "makespan_s": None,
    } | changes  # fmt: skip


@dataclass
class FakeCluster:
    """`answers[verb]`: a body, an exception, a function of the arguments, or a list of those used one per call."""

    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    now: float = 1000.0
    reached: list[Where] = field(default_factory=list)
    """what each client was opened with"""

    @property
    def opened(self) -> int:
        return len(self.reached)

    def call(self, verb: str, args: dict[str, Any], timeout_s: float = 30.0) -> Any:
        self.calls.append((verb, args))
        self.blobs |= {each["sha256"]: each["data"] for each in args.get("inputs", ()) if each.get("data") is not None}
        answer = self.answers[verb]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(args)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def write_blob(self, content: Path | bytes) -> str:
        data = content if isinstance(content, bytes) else content.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def read_blob(self, sha256: bytes, size: int, sink: BinaryIO) -> None:
        data = self.blobs.get(sha256.hex())
        if data is None:
            raise JupiterError("no such object")
        sink.write(data)

    def close(self) -> None:
        pass

    # the clock of the session
    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def args(self, verb: str) -> dict[str, Any]:
        """The arguments of the last call of a verb."""
        return [args for name, args in self.calls if name == verb][-1]

    def result(self, sink: str, name: str, data: bytes) -> dict[str, Any]:
        """A result object whose bytes the cluster has."""
        return {"sink": sink, "name": name, "sha256": self.write_blob(data), "size": len(data)}


class FakeClock:
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def now(self) -> float:
        return self._cluster.now

    def sleep(self, seconds: float) -> None:
        self._cluster.sleep(seconds)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]
