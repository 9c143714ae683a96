"""A whole cluster of the stand-in: API server, controllers, nodes, and a kubeconfig for whoever works with it."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from pathlib import Path

from jupiter_agent.bench.kube.controllers import BUILT_IN, Controllers
from jupiter_agent.bench.kube.kubelet import Kubelet, Pod, SimulatedKubelet
from jupiter_agent.bench.kube.rights import Rights
from jupiter_agent.bench.kube.server import ApiServer
from jupiter_agent.bench.kube.store import TYPES, Object, Store

USER, USER_TOKEN = "somebody", "user-token"
CLAIM_PORT = 7420
"""Nobody listens there"""


def _own_net() -> tuple[socket.socket, str]:
    """Half of the addresses of a part of the loopback network that no other stand-in on this machine has, and what
    keeps it ours. OSError when none is left."""
    for half in random.sample(range(2, 250), 248):
        claim = socket.socket()
        try:
            claim.bind((f"127.{half}.0.1", CLAIM_PORT))
        except OSError:
            claim.close()
        else:
            return claim, f"127.{half}"
    raise OSError("no part of the loopback network is free for the stand-in's pods")


class Cluster:
    """`nodes` real ones n1, n2 ...; `simulated` more, s1 ..., on which nothing runs; `marked`: they say so. `at_once`:
    without the seconds that a container runtime and the controller of namespaces take."""

    def __init__(
        self, folder: Path, nodes: int, simulated: int = 0, validate: Callable[[Object], None] | None = None,
        marked: bool = True, at_once: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self._at_once = folder, at_once
        self.store = Store(validate)
        self.rights = Rights(self.store, {USER_TOKEN: USER}, {USER})
        self.server = ApiServer(self.store, self.rights, folder / "tls")
        self.server.log_of = self._log_of
        env = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.server.port),
            "STAND_IN_CA": str(self.server.ca),
        }  # fmt: skip
        self._env = env
        self._claim, self._net = _own_net()
        self.kubelets: dict[str, Kubelet] = {}
        for number in range(1, nodes + 1):
            self.add_node(f"n{number}")
        ghosts = {f"s{number}" for number in range(1, simulated + 1)}
        for name in ghosts:
            self._make_node(name, {"kwok.x-k8s.io/node": "fake"} if marked else {})
        self._simulated = SimulatedKubelet(self.store, ghosts)
        self.controllers = Controllers(self.store, *([0.0] if at_once else []))
        self._started = False
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self._config()))
        for name in ("default", "kube-system"):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.store.create(("namespaces", "", name), body)

    def start(self) -> None:
        self._started = True
        self.server.start()
        self.controllers.start()
        self._simulated.start()
        for kubelet in self.kubelets.values():
            kubelet.start()

    def stop(self) -> None:
        for kubelet in self.kubelets.values():
            kubelet.stop()
        self._simulated.stop()
        self.controllers.stop()
        self.server.stop()
        self._claim.close()

    def add_node(self, name: str, taints: list[Object] | None = None, labels: dict[str, str] | None = None) -> Kubelet:
        self._make_node(name, {}, taints or [], labels or {})
        number = len(self.kubelets) + 1
        kubelet = self.kubelets[name] = Kubelet(self.store, name, number, self.folder / "pods", self._env, self._net)
        if self._at_once:
            kubelet.start_s = kubelet.end_s = 0.0
        if getattr(self, "_started", False):
            kubelet.start()
        return kubelet

    def _make_node(
        self, name: str, notes: dict[str, str], taints: list[Object] | None = None, labels: dict[str, str] | None = None
    ) -> None:
        hostname = {"kubernetes.io/hostname": name}
        allocatable = {"cpu": "1900m", "memory": "4037040Ki", "pods": "110"}
        node: Object = {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "annotations": notes, "labels": {**hostname, **(labels or {})}},
            "spec": {"taints": taints} if taints else {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": allocatable},
        }  # fmt: skip
        self.store.create(("nodes", "", name), node)

    def set_ready(self, name: str, ready: bool) -> None:
        """What the control plane thinks of a node."""
        condition = {"type": "Ready", "status": "True" if ready else "Unknown", "reason": "NodeStatusUnknown"}
        self.store.update(("nodes", "", name), lambda after: after["status"].update(conditions=[condition]))

    def pods(self) -> list[Pod]:
        return [pod for kubelet in self.kubelets.values() for pod in list(kubelet.pods.values())]

    def left(self) -> list[tuple[str, str]]:
        """(plural, name) of what is there besides what a cluster starts with."""
        own = {("namespaces", "default"), ("namespaces", "kube-system"), *BUILT_IN}
        found = [(plural, each["metadata"]["name"]) for plural in TYPES for each in self.store.listed(plural)]
        return [each for each in found if each not in own and each[0] != "nodes"]

    def _log_of(self, pod: Object) -> Path | None:
        known = {each.uid: each for each in self.pods()}.get(pod["metadata"]["uid"])
        return known.folder / "log" if known else None

    def _config(self) -> Object:
        server = {"server": f"https://127.0.0.1:{self.server.port}", "certificate-authority": str(self.server.ca)}
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": server}],
            "users": [{"name": USER, "user": {"token": USER_TOKEN}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": USER}}],
        }  # fmt: skip
