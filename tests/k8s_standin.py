"""What tests of Kubernetes share: the stand-in cluster, strict about bodies, and commands run in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate

from jupiter_agent.bench.kube.cluster import Cluster
from jupiter_agent.cli.k8s.access import ClientAccess, open_access
from jupiter_agent.cli.main import main

VERSION = "1.36"
EDGE = ("k8s", "up", "--overlay", "edge", "--timeout", "60")
WHOLE = ["cluster.json", "node.json"]
"""What makes a state folder that of a node and a cluster"""


def validate(found: dict[str, Any]) -> None:
    """As the API server of `VERSION` does with fieldValidation=Strict; ValueError. Custom ones are of example.org."""
    if found["apiVersion"].startswith("example.org/"):
        return
    try:
        kubernetes_validate.validate(found, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise ValueError(error.message) from error


class Rig:
    """A running stand-in, that takes no longer than it must, and `jupiter` as its user types it."""

    def __init__(self, folder: Path, monkeypatch: Any, capsys: Any, **options: Any) -> None:
        self.cluster = Cluster(folder, validate=validate, **{"at_once": True, **options})
        self.cluster.start()
        self._capsys = capsys
        monkeypatch.setenv("KUBECONFIG", str(self.cluster.kubeconfig))
        monkeypatch.setenv("JUPITER_LOG_LEVEL", "info")

    @property
    def store(self) -> Any:
        return self.cluster.store

    def access(self) -> ClientAccess:
        found = open_access("", {"KUBECONFIG": str(self.cluster.kubeconfig)})
        assert isinstance(found, ClientAccess)
        return found

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        self._capsys.readouterr()
        code = main(arguments)
        return code, *self._capsys.readouterr()

    def done(self, *arguments: str) -> None:
        """Run a command that must succeed."""
        code, out, err = self.run(*arguments)
        assert code == 0, out + err

    def wait(self, ready: Callable[[], Any], limit_s: float = 40.0) -> Any:
        deadline = time.monotonic() + limit_s
        while not (found := ready()):
            assert time.monotonic() < deadline, "it does not come"
            time.sleep(0.05)
        return found

    def writes(self) -> list[tuple[str, str]]:
        """What was asked to be changed, in order: (method, last part of the path)."""
        changing = ("POST", "PATCH", "PUT", "DELETE")
        return [
            (method, path.rpartition("/")[2]) for method, path in self.cluster.server.requests if method in changing
        ]


Make = Callable[..., Rig]


def rigs(folder: Path, monkeypatch: Any, capsys: Any) -> Iterator[Make]:
    """What a fixture yields to tests that make their clusters themselves; those made are stopped."""
    made: list[Rig] = []

    def build(nodes: int = 0, **options: Any) -> Rig:
        made.append(Rig(folder, monkeypatch, capsys, nodes=nodes, **options))
        return made[-1]

    yield build
    for rig in made:
        rig.cluster.stop()


def on_disk(rig: Rig) -> dict[str, list[str]]:
    """node -> those of `WHOLE` in the agent's state folder on its disk"""
    found = {name: kubelet.disk / "var/lib/jupiter/agent" for name, kubelet in rig.cluster.kubelets.items()}
    return {name: [file for file in WHOLE if (folder / file).exists()] for name, folder in found.items()}


def pods_of(rig: Rig, node: str) -> list[dict[str, Any]]:
    return list(rig.store.listed("pods", wanted=lambda pod: pod["spec"].get("nodeName") == node))
