"""What agents leave on the disks of their nodes, and off with it: the overlay `edge` keeps state there, keys included.

Only a pod reaches a node's disk. So when the agents have ended, one more pod comes to each node, with the image, the
user and the disk that its agent had, and removes the agent's state folder if it is of the cluster that goes
(`emptying`): not what is beside it, nor the state of another cluster. Where no pod can run, it is said what stays.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.k8s import emptying
from jupiter_agent.cli.k8s.access import PATIENCE_S, Object, RefusedError, is_passing
from jupiter_agent.cli.k8s.deploy import POLL_S
from jupiter_agent.cli.k8s.objects import AT_ONCE, Objects, metadata
from jupiter_agent.cli.k8s.pods import exit_of, is_taken, runs_nowhere, state_folder, to_pod
from jupiter_agent.errors import JupiterError
from jupiter_agent.k8s.manifests import MANAGED

FIRST_S, NEXT_S = 20.0, 6.0
"""How long a pod may wait for its node's kubelet to take it, and how long it may after another one has ended: a node
whose kubelet takes none holds nobody up. One that is taken has what is left of the command's time, and `FIRST_S`."""
NAME = "jupiter-wipe-"
FOREIGN = "of another cluster"
WORDS = {0: "", emptying.FOREIGN: FOREIGN, emptying.IN_USE: "an agent still uses it"}
"""What an end says"""

Place = tuple[str, str]
"""A node, and a folder on its disk"""


@dataclass
class Wiped:
    """What is still there."""

    failed: dict[Place, str] = field(default_factory=dict)
    """and why it could not be removed"""
    foreign: list[Place] = field(default_factory=list)
    """not the cluster's that goes"""
    unsure: set[Place] = field(default_factory=set)
    """of those that failed: where nothing may be"""


def clear(objects: Objects) -> list[Object]:
    """Remove the pods of a `down` that was interrupted while it wiped. They may have ended, and stay for good else."""
    left = [each for each in objects.ours(["Pod"]) if str(metadata(each).get("name")).startswith(NAME)]
    objects.delete_all(left, 0)
    return left


def wipe(objects: Objects, pods: Mapping[Place, Object], fingerprint: str, clock: Clock, until: float) -> Wiped:
    """Remove the folders of these agents, each named by a pod as it was there. An error that may pass ends it: what is
    not wiped for it can be, by another `down`."""
    wiped, running = Wiped(), dict[Place, Object]()

    def send(place: Place) -> None:
        try:
            running[place] = _sent(objects, wiper(objects.namespace, place[0], pods[place], fingerprint))
        except JupiterError as error:
            if is_passing(error):
                raise
            wiped.failed[place] = error.message

    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(send, pods))
        _await(objects, running, wiped, clock, until)
    finally:
        objects.delete_all(list(running.values()), 0)
    return wiped


def _sent(objects: Objects, wanted: Object) -> Object:
    """Its name is its node's and folder's, so one that is there already is what an earlier request has made, whose
    answer was lost."""
    try:
        return objects.create(wanted, PATIENCE_S)
    except RefusedError as error:
        found = objects.ours(["Pod"]) if (error.status, error.reason) == (409, "AlreadyExists") else []
        for each in found:
            if metadata(each)["name"] == wanted["metadata"]["name"]:
                return each
        raise


def _await(objects: Objects, running: Mapping[Place, Object], wiped: Wiped, clock: Clock, until: float) -> None:
    began = clock.now()
    waiting, take_until, end_until = dict(running), began + FIRST_S, max(until, began + FIRST_S)
    while True:
        found = {metadata(each)["uid"]: each for each in objects.listed("Pod")}
        now = clock.now()
        for place, sent in list(waiting.items()):
            why_not = _ended(found.get(metadata(sent)["uid"]))
            if why_not is not None:
                del waiting[place]
                take_until = now + NEXT_S
            if why_not == FOREIGN:
                wiped.foreign.append(place)
            elif why_not:
                wiped.failed[place] = why_not
        for place, sent in list(waiting.items()):
            taken = is_taken(found[metadata(sent)["uid"]])
            if now >= (end_until if taken else take_until):
                del waiting[place]
                wiped.failed[place] = "it takes longer than there is time" if taken else "nothing runs there in time"
        if not waiting:
            return
        clock.sleep(POLL_S)


def _ended(sent: Object | None) -> str | None:
    """'' when it has done its work, why not when it has failed, None while it has not ended."""
    if sent is None:
        return "its pod was removed"
    phase, code = (sent.get("status") or {}).get("phase"), exit_of(sent)
    if phase == "Succeeded" or code in WORDS or runs_nowhere(sent):
        return WORDS[code or 0]
    pod = to_pod(sent)
    return str(pod) if phase == "Failed" or pod.is_stuck else None


def wiper(namespace: str, node: str, pod: Object, fingerprint: str) -> Object:
    """A pod for that node, and no Service's: it lacks the name by which agents are chosen."""
    spec = pod["spec"]
    (agent,) = [each for each in spec["containers"] if each["name"] == "agent"]
    inside, outside = state_folder(pod)
    mounts = [each for each in agent["volumeMounts"] if PurePosixPath(inside).is_relative_to(each["mountPath"])]
    volumes = [each for each in spec["volumes"] if each["name"] in {mount["name"] for mount in mounts}]
    container: dict[str, Any] = {
        "name": "wipe", "image": agent["image"], "imagePullPolicy": agent.get("imagePullPolicy", "IfNotPresent"),
        "command": ["python", "-I", "-B", "-c", inspect.getsource(emptying), inside, fingerprint],
        "volumeMounts": mounts, "securityContext": agent["securityContext"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }  # fmt: skip
    name = f"{NAME}{hashlib.sha256(f'{node} {outside}'.encode()).hexdigest()[:10]}"
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "hostNetwork": bool(spec.get("hostNetwork")),
            "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}], "securityContext": spec["securityContext"],
            "containers": [container], "volumes": volumes,
        },
    }  # fmt: skip
