"""What agents leave on the disks of their nodes, and off with it: the overlay `edge` keeps state there, keys included.

Only a pod reaches a node's disk. So when the agents have ended, one more pod comes to each node, with the image, the
user and the disk that its agent had, and removes the agent's state folder: not what is beside it, which may be somebody
else's, or the state of another cluster. Where no pod can run, it is said what stays and where.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Any

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.k8s.access import Object
from jupiter_agent.cli.k8s.deploy import POLL_S
from jupiter_agent.cli.k8s.objects import Objects, metadata
from jupiter_agent.cli.k8s.pods import state_folder, to_pod
from jupiter_agent.errors import JupiterError
from jupiter_agent.k8s.manifests import MANAGED

WIPE_S = 60.0
"""How long a node may take, its pod's start included"""
NAME = "jupiter-wipe-"


def wipe(objects: Objects, pods: dict[str, Object], clock: Clock, until: float) -> dict[str, str]:
    """Remove the folders of these agents, node -> its pod as it was; node -> why it could not be done."""
    left = [each for each in objects.ours(["Pod"]) if str(metadata(each).get("name")).startswith(NAME)]
    objects.delete_all(left, 0)  # by somebody who was interrupted
    failed: dict[str, str] = {}
    running: dict[str, Object] = {}
    until = min(until, clock.now() + WIPE_S)
    try:
        for node, pod in pods.items():
            try:
                running[node] = objects.create(wiper(objects.namespace, node, pod))
            except JupiterError as error:
                failed[node] = error.message
        waiting = dict(running)
        while waiting:
            found = {metadata(each)["uid"]: each for each in objects.listed("Pod")}
            late = clock.now() >= until
            for node, sent in list(waiting.items()):
                why_not = _ended(found.get(metadata(sent)["uid"]))
                if why_not is None and late:
                    why_not = "nothing runs there in time"
                if why_not is not None:
                    del waiting[node]
                    failed |= {node: why_not} if why_not else {}
            if waiting:
                clock.sleep(POLL_S)
    finally:
        objects.delete_all(list(running.values()), 0)
    return failed


def _ended(sent: Object | None) -> str | None:
    """'' when it has done its work, why not when it has failed, None while it has not ended."""
    if sent is None:
        return "its pod was removed"
    phase = (sent.get("status") or {}).get("phase")
    pod = to_pod(sent)
    if phase == "Succeeded":
        return ""
    return str(pod) if phase == "Failed" or pod.is_stuck else None


def wiper(namespace: str, node: str, pod: Object) -> Object:
    """A pod for that node, and no Service's: it lacks the name by which agents are chosen."""
    spec = pod["spec"]
    (agent,) = [each for each in spec["containers"] if each["name"] == "agent"]
    inside, _ = state_folder(pod)
    mounts = [each for each in agent["volumeMounts"] if PurePosixPath(inside).is_relative_to(each["mountPath"])]
    volumes = [each for each in spec["volumes"] if each["name"] in {mount["name"] for mount in mounts}]
    container: dict[str, Any] = {
        "name": "wipe", "image": agent["image"], "imagePullPolicy": agent.get("imagePullPolicy", "IfNotPresent"),
        "command": ["rm", "-rf", inside], "volumeMounts": mounts,
        "securityContext": agent["securityContext"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }  # fmt: skip
    name = f"{NAME}{hashlib.sha256(node.encode()).hexdigest()[:10]}"
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "hostNetwork": bool(spec.get("hostNetwork")),
            "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}], "securityContext": spec["securityContext"],
            "containers": [container], "volumes": volumes,
        },
    }  # fmt: skip
