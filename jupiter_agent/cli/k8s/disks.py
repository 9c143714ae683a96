"""On which nodes' disks a deployment may have left state, so that `down` asks each of them and forgets none.

An agent's state outlives its pods (overlay `edge`), also those that are gone: replaced, or just being so. So once any
agent has run, every node that can be asked is. And so that a `down` which is broken off loses nothing, the DaemonSet
stays until the disks are empty: held back, without a node to run on, with the names of the nodes that had pods, and
with an image that is known to run. The next `down` finds it and does the rest; `up` brings it in line again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from jupiter_agent.cli.k8s.access import Object, is_passing
from jupiter_agent.cli.k8s.objects import Objects, metadata
from jupiter_agent.cli.k8s.pods import has_run, runs_nowhere, state_folder, to_pod
from jupiter_agent.cli.k8s.wipe import Place
from jupiter_agent.errors import JupiterError

NOWHERE = {"jupiter-agent/held-back": "true"}
"""A label that no node has"""
NODES = "jupiter-agent/nodes"
"""The annotation with the names of the nodes that had pods"""
FIRST_S = 3.0
"""A node's pod that is not younger than its DaemonSet by more is the first one there: none has run and gone so soon"""


@dataclass
class Disks:
    """Where to look."""

    pods: dict[Place, Object] = field(default_factory=dict)
    """place -> a pod, or the template of one, whose image, user and mounts fit there"""
    unsure: set[Place] = field(default_factory=set)
    """those where no agent is known to have run"""


def hold_back(objects: Objects, daemonset: Object, pods: Iterable[Object]) -> bool:
    """Leave the DaemonSet no node to run on, and note in it what a later `down` must know. False, and it is as it was,
    where there is no state on disks to be remembered, or it cannot be changed, say for want of the right."""
    spec = copy.deepcopy(daemonset["spec"])
    if not _disk(spec["template"]) or metadata(daemonset).get("deletionTimestamp"):
        return False
    pods = [pod for pod in pods if _disk(pod) and not runs_nowhere(pod)]
    nodes = {node_of(pod) for pod in pods} | _noted(daemonset)
    spec["template"]["spec"]["nodeSelector"] = NOWHERE
    for veteran in _veterans(pods)[:1]:
        _agent(spec["template"]).update({key: _agent(veteran)[key] for key in ("image", "imagePullPolicy")})
    held = {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "spec": spec,
        "metadata": {
            "name": metadata(daemonset)["name"], "namespace": objects.namespace,
            "labels": metadata(daemonset)["labels"], "annotations": {NODES: " ".join(sorted(nodes - {""}))},
        },
    }  # fmt: skip
    try:
        objects.apply(held, daemonset)
    except JupiterError as error:
        if is_passing(error):
            raise
        return False
    return True


def is_held(objects: Objects, daemonset: Object) -> bool:
    """Whether its controller knows that it is held back, and makes no pods any more."""
    for found in objects.ours(["DaemonSet"]):
        if metadata(found)["uid"] == metadata(daemonset)["uid"]:
            known = (found.get("status") or {}).get("observedGeneration") or 0
            return bool(known >= metadata(found).get("generation", 0))
    return True


def disks_of(daemonsets: list[Object], pods: list[Object], states: Mapping[str, str]) -> Disks:
    """`daemonsets` as they were before they were held back, `pods` as last seen, `states`: node -> why no agent is to
    be expected there, as far as it is known. Nothing where no agent ever ran: what is there is somebody else's, say
    that of the deployment whose ports kept ours from running."""
    found, known = Disks(), set[str]()
    pods = [pod for pod in pods if _disk(pod) and to_pod(pod).node]
    veterans = _veterans(pods)
    templates = [each["spec"]["template"] for each in daemonsets if _disk(each["spec"]["template"])]
    if not veterans and all(metadata(each).get("generation", 1) <= 1 for each in daemonsets):
        return found
    for pod in veterans:
        found.pods[node_of(pod), _disk(pod)] = pod
        known.add(node_of(pod))
    model = next(iter([*veterans, *templates]), None)
    known |= {node_of(pod) for pod in pods if runs_nowhere(pod) or any(_is_first(pod, each) for each in daemonsets)}
    for pod in pods:
        if node_of(pod) not in known:
            fits = veterans[0] if veterans else pod
            found.pods[node_of(pod), _disk(fits)] = fits
            found.unsure.add((node_of(pod), _disk(fits)))
    known |= {node_of(pod) for pod in pods}
    others = {node for node, why in states.items() if not why}.union(*map(_noted, daemonsets)) - known
    if model is not None:
        found.pods |= {(node, _disk(model)): model for node in others}
        found.unsure |= {(node, _disk(model)) for node in others}
    return found


def node_of(pod: Object) -> str:
    return to_pod(pod).node or "unscheduled"


def _veterans(pods: Iterable[Object]) -> list[Object]:
    """Pods whose agents have run, the oldest version first: its image has been on the nodes for longest."""
    return sorted(filter(has_run, pods), key=lambda pod: int(to_pod(pod).generation or 0))


def _is_first(pod: Object, daemonset: Object) -> bool:
    """Whether no pod of this DaemonSet was on the node before."""
    made = [metadata(each).get("creationTimestamp") for each in (pod, daemonset)]
    if not all(made) or to_pod(pod).generation != "1":
        return False
    younger = datetime.fromisoformat(str(made[0])) - datetime.fromisoformat(str(made[1]))
    return 0.0 <= younger.total_seconds() <= FIRST_S


def _disk(pod: Object) -> str:
    return state_folder(pod)[1]


def _agent(pod: Object) -> Object:
    return next(each for each in pod["spec"]["containers"] if each["name"] == "agent")


def _noted(daemonset: Object) -> set[str]:
    return set(str((metadata(daemonset).get("annotations") or {}).get(NODES) or "").split())
