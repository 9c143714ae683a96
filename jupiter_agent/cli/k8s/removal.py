"""`jupiter k8s down`: what is ours off a cluster, in an order that leaves nothing behind, until it is gone."""

from __future__ import annotations

from dataclasses import dataclass, field

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.k8s.access import Object, RefusedError
from jupiter_agent.cli.k8s.deploy import POLL_S
from jupiter_agent.cli.k8s.objects import Objects, is_ours, metadata, title
from jupiter_agent.cli.k8s.pods import SIMULATED, state_folder, to_pod
from jupiter_agent.cli.k8s.reaching import nodes_without
from jupiter_agent.cli.k8s.wipe import wipe
from jupiter_agent.errors import EXIT_TIMEOUT, JupiterError
from jupiter_agent.k8s.manifests import DAEMONSET, ORDER

KINDS = [kind for kind in reversed(ORDER) if kind != "Namespace"]
"""In the order in which they are removed"""


@dataclass
class Removed:
    """What was done."""

    titles: list[str] = field(default_factory=list)
    why_left: str = ""
    """why a namespace of ours stays; '' when it is gone or was not ours"""
    kept: dict[str, str] = field(default_factory=dict)
    """node -> the folder with an agent's state that is still on its disk, and why"""


def remove(objects: Objects, clock: Clock, grace_s: int, timeout_s: float) -> Removed:
    """Remove what is ours from a namespace, and the namespace if it is ours and nobody else's things are in it.
    JupiterError when it takes longer than `timeout_s`."""
    until = clock.now() + timeout_s
    removed: list[str] = []
    daemonsets = objects.ours(["DaemonSet"])
    objects.delete_all(daemonsets)
    removed += [title(each) for each in daemonsets]
    kept = _wiped(objects, _end_pods(objects, clock, grace_s, until), clock, until)
    rest = objects.ours([kind for kind in KINDS if kind != "DaemonSet"])
    for kind in KINDS:
        objects.delete_all([each for each in rest if each["kind"] == kind])
    removed += [title(each) for each in rest]
    why_left = _end_namespace(objects, clock, until)
    if why_left == "":
        removed.append(f"Namespace {objects.namespace}")
    return Removed(removed, why_left or "", kept)


def _wiped(objects: Objects, ended: dict[str, Object], clock: Clock, until: float) -> dict[str, str]:
    """What is still on the nodes' disks, node -> folder and why, when all that can be removed is gone."""
    disks = {node: disk for node, pod in ended.items() if (disk := state_folder(pod)[1])}
    without = nodes_without(objects) if disks else {}
    failed = {node: why for node, why in without.items() if node in disks and why != SIMULATED}
    failed |= wipe(objects, {node: ended[node] for node in disks if node not in without}, clock, until)
    return {node: f"{disks[node]} ({why})" for node, why in failed.items()}


def _end_pods(objects: Objects, clock: Clock, grace_s: int, until: float) -> dict[str, Object]:
    """All agents go at once, so there is nobody to hand anything over to: they get less time than the manifests say.
    Where no kubelet is heard of, none will say that a pod has ended: it is struck off. Returns node -> its pod."""
    ended: dict[str, Object] = {}
    asked: set[str] = set()
    left: set[str] = set()
    lost = nodes_without(objects)
    while True:
        found = [each for each in objects.ours(["Pod"]) if _is_agents(each)]
        fresh = [each for each in found if metadata(each)["uid"] not in asked]
        objects.delete_all([each for each in fresh if _node(each) not in lost], grace_s)
        objects.delete_all([each for each in fresh if _node(each) in lost], 0)
        asked |= {metadata(each)["uid"] for each in fresh}
        nodes = {_node(each) for each in found}
        ended |= {_node(each): each for each in found}
        for node in sorted(left - nodes):
            say(f"{node}: gone")
        left = nodes
        if not found:
            return ended
        if clock.now() >= until:
            hint = "is the node there? its kubelet has to say so; `kubectl delete pod --force` does without"
            raise JupiterError(f"pods do not end on {', '.join(sorted(nodes))}", hint, EXIT_TIMEOUT)
        clock.sleep(POLL_S)


def _node(found: Object) -> str:
    return to_pod(found).node or "unscheduled"


def _is_agents(found: Object) -> bool:
    owners = metadata(found).get("ownerReferences") or ()
    return any((each.get("kind"), each.get("name")) == ("DaemonSet", DAEMONSET) for each in owners)


def _end_namespace(objects: Objects, clock: Clock, until: float) -> str | None:
    """'' when it is gone, why it is left, or None for one that is not ours."""
    try:
        found = objects.get("Namespace", objects.namespace)
    except RefusedError as error:
        if error.status == 403:
            return None
        raise
    if found is None or not is_ours(found):
        return None
    if not metadata(found).get("deletionTimestamp") and (why := _why_left(objects)):
        return why
    objects.delete({**found, "kind": "Namespace"})
    while objects.get("Namespace", objects.namespace) is not None:
        if clock.now() >= until:
            hint = f"`kubectl get namespace {objects.namespace} -o yaml` shows what holds it"
            raise JupiterError(f"the namespace {objects.namespace} is still being deleted", hint, EXIT_TIMEOUT)
        clock.sleep(POLL_S)
    return ""


def _why_left(objects: Objects) -> str:
    """'' when nothing of others is in the namespace, for sure."""
    others, unknown = objects.others()
    held = [f"it holds {', '.join(others[:5])}"] if others else []
    return "; ".join(held + ([f"not all in it can be listed: {', '.join(unknown[:5])}"] if unknown else []))
