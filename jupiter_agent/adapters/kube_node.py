"""What Kubernetes knows of the machine that this agent's pod runs on: published with the node's resources.

`k8s_host`, labels, taints, and what is allocatable there, asked of the API server at the start and every few minutes,
as they change (`nodes get`, which the overlay `edge` grants). Where that is not granted it is asked once, and the pod's
own environment and labels say less: its host's name, and the zone and region that Kubernetes copies to pods. CPU and
memory are never more than what the container has.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Protocol

from jupiter_agent.adapters.kube_api import KubeApi, KubeError
from jupiter_agent.adapters.pod import Account

POD_LABELS = Path("/etc/jupiter/pod/labels")
"""By the downward API: lines of KEY="VALUE" """
TOPOLOGY = "topology.kubernetes.io/"
GPUS = re.compile(r"(nvidia\.com|amd\.com|gpu\.intel\.com)/(gpu|i915|xe)")
MOST_LABELS, MOST_TAINTS, MOST_TEXT, MOST_BYTES, MOST_TAINT = 32, 8, 63, 700, 60
"""So much of it is published at most, shortest first"""
TRIES_S = (1.0, 5.0, 30.0, 120.0)
"""Pauses while there is no answer"""
AGAIN_S = (240.0, 420.0)
"""until the next question, at random: agents of one deployment start together"""
REFUSED, NOT_KNOWN = 403, (401, 404)
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)(n|u|m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei|)")
_FACTOR = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip

log = logging.getLogger("jupiter")


class Api(Protocol):
    """`KubeApi`, or a stand-in."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]: ...


class HostNode:
    """One pod's host. Known at once is what the environment says; `ask` learns the rest."""

    def __init__(self, account: Account, api: Api | None = None, pod_labels: Path = POD_LABELS) -> None:
        self._name = account.node
        self._api = api or KubeApi(account)
        self._said: dict[str, Any] = {"k8s_host": self._name} if self._name else {}
        if labels := topology(pod_labels):
            self._said["labels"] = labels
        self.found = self._said
        self.rng = Random()

    async def ask(self) -> None:
        """Again and again, until it is refused."""
        tries, known = iter(TRIES_S), False
        while self._name:
            pause = self.rng.uniform(*AGAIN_S)
            try:
                self.found = self._said | capabilities(await self._api.get(f"/api/v1/nodes/{self._name}"))
                known = True
            except KubeError as error:
                if error.status == REFUSED or (error.status in NOT_KNOWN and not known):
                    log.info("what the cluster knows of this node is not read: %s", error.message)
                    return
                pause = pause if known else next(tries, pause)
            await asyncio.sleep(pause)

    def over(self, sensed: dict[str, Any]) -> dict[str, Any]:
        """A reading of this node's sensors with what the cluster says: labels beside the operator's own, which count
        more; as many cores and as much memory as both allow."""
        found, values = self.found, dict(sensed)
        values |= {key: found[key] for key in ("k8s_host", "taints", "gpus") if key in found}
        for key in ("cpus", "memory_bytes"):
            if found.get(key):
                values[key] = min(found[key], sensed.get(key) or found[key])
        if "labels" in found:
            values["labels"] = bounded({**found["labels"], **sensed.get("labels", {})}, sensed.get("labels", {}))
        return values


def capabilities(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a Node object says, in our words. What makes no sense is left out."""
    metadata, spec, status = (node.get(key) or {} for key in ("metadata", "spec", "status"))
    found: dict[str, Any] = {}
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    if isinstance(labels, dict):
        found["labels"] = {key: value for key, value in labels.items() if _is_wanted(key, value)}
    taints = spec.get("taints") if isinstance(spec, dict) else None
    if isinstance(taints, list):
        found["taints"] = [_taint(each) for each in taints[:MOST_TAINTS] if isinstance(each, dict)]
    allocatable = status.get("allocatable") if isinstance(status, dict) else None
    if isinstance(allocatable, dict):
        if cpus := quantity(allocatable.get("cpu")):
            found["cpus"] = round(cpus, 3)
        if memory := quantity(allocatable.get("memory")):
            found["memory_bytes"] = int(memory)
        gpus = sum(int(quantity(value)) for key, value in allocatable.items() if GPUS.fullmatch(str(key)))
        if gpus:
            found["gpus"] = min(gpus, 1024)
    return found


def quantity(text: Any) -> float:
    """'1900m', '4037040Ki', '2' as a number; 0 for anything else."""
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    return float(match[1]) * _FACTOR[match[2]] if match else 0.0


def topology(file: Path) -> dict[str, str]:
    """Zone and region of the host, from the labels that its pod was given."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines)
    return {key: value.strip('"') for key, _, value in pairs if key.startswith(TOPOLOGY)}


def bounded(labels: Mapping[str, str], first: Mapping[str, str]) -> dict[str, str]:
    """As many as fit into what a node may publish: those of `first`, then the shortest."""
    kept: dict[str, str] = dict(first)
    room = MOST_BYTES - sum(len(key) + len(value) for key, value in first.items())
    for key, value in sorted(labels.items(), key=lambda pair: (len(pair[0]) + len(pair[1]), pair)):
        if key not in kept and len(kept) < MOST_LABELS:
            room -= len(key) + len(value)
            if room < 0:
                break
            kept[key] = value
    return kept


def _is_wanted(key: Any, value: Any) -> bool:
    """A text that fits, and not one of those that say again what another says."""
    fits = isinstance(key, str) and isinstance(value, str) and 0 < len(key) <= MOST_TEXT and len(value) <= MOST_TEXT
    return fits and not key.startswith("beta.kubernetes.io/")


def _taint(found: Mapping[str, Any]) -> str:
    value = f"={found['value']}" if found.get("value") else ""
    return f"{found.get('key')}{value}:{found.get('effect')}"[:MOST_TAINT]
