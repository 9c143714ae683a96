"""`jupiter k8s down`: what is ours off a cluster, in an order that leaves nothing behind, until it is gone."""

from __future__ import annotations

from dataclasses import dataclass, field

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.k8s.access import Object, RefusedError
from jupiter_agent.cli.k8s.deploy import POLL_S
from jupiter_agent.cli.k8s.objects import Objects, is_ours, metadata, title
from jupiter_agent.cli.k8s.pods import SIMULATED, has_run, state_folder, to_pod
from jupiter_agent.cli.k8s.reaching import node_states, read_token
from jupiter_agent.cli.k8s.wipe import Wiped, wipe
from jupiter_agent.errors import EXIT_TIMEOUT, JupiterError
from jupiter_agent.k8s.manifests import DAEMONSET, ORDER

KINDS = [kind for kind in reversed(ORDER) if kind != "Namespace"]
"""In the order in which they are removed"""
NODES_S = 3.0
"""Between looks at the nodes while pods end"""
GONE = "the node was taken out of the cluster"


@dataclass
class Removed:
    """What was done."""

    titles: list[str] = field(default_factory=list)
    why_left: str = ""
    """why a namespace of ours stays; '' when it is gone or was not ours"""
    wiped: Wiped = field(default_factory=Wiped)
    """what is still on the nodes' disks"""
    stuck: list[str] = field(default_factory=list)
    """nodes whose pods have not ended in time; all else is removed"""


def remove(objects: Objects, clock: Clock, grace_s: int, timeout_s: float) -> Removed:
    """Remove what is ours from a namespace, and the namespace if it is ours and nobody else's things are in it. Pods
    that do not end within `timeout_s` keep neither the Secret nor rights nor Services from going. JupiterError when the
    namespace takes longer."""
    until = clock.now() + timeout_s
    removed: list[str] = []
    daemonsets = objects.ours(["DaemonSet"])
    objects.delete_all(daemonsets)
    removed += [title(each) for each in daemonsets]
    ended, stuck = _end_pods(objects, clock, grace_s, until)
    wiped = _wiped(objects, [each for each in ended if _node(each) not in stuck], clock)
    rest = objects.ours([kind for kind in KINDS if kind != "DaemonSet"])
    for kind in KINDS:
        objects.delete_all([each for each in rest if each["kind"] == kind])
    removed += [title(each) for each in rest]
    why_left = _end_namespace(objects, clock, 0.0 if stuck else until)
    if why_left == "":
        removed.append(f"Namespace {objects.namespace}")
    return Removed(removed, why_left or "", wiped, stuck)


def _wiped(objects: Objects, ended: list[Object], clock: Clock) -> Wiped:
    """What is still on the nodes' disks when all that can be removed is gone. An agent that never ran left nothing:
    what is there is somebody else's, say that of the deployment whose ports kept it from running."""
    pods = {(_node(pod), disk): pod for pod in ended if (disk := state_folder(pod)[1]) and has_run(pod)}
    if not pods:
        return Wiped()
    states = node_states(objects)
    without = {} if states is None else {node: why for node, _ in pods if (why := states.get(node, GONE))}
    failed = {place: without[place[0]] for place in pods if without.get(place[0], SIMULATED) != SIMULATED}
    pods = {place: pod for place, pod in pods.items() if place[0] not in without}
    mark, why_not = _fingerprint(objects)
    wiped = wipe(objects, pods, mark, clock) if mark else Wiped(dict.fromkeys(pods, why_not))
    wiped.failed |= failed
    return wiped


def _fingerprint(objects: Objects) -> tuple[str, str]:
    """Of our cluster, in hex, or '' and why it is not known. It is a digest and no secret; the token it is from is."""
    from jupiter_agent.adapters.keys import decode_token

    try:
        token = read_token(objects)
        return (
            (decode_token(token).fingerprint.hex(), "") if token else ("", "the Secret is gone that tells whose it is")
        )
    except JupiterError as error:
        return "", f"it is not known whose it is: {error.message}"


def _end_pods(objects: Objects, clock: Clock, grace_s: int, until: float) -> tuple[list[Object], list[str]]:
    """All agents go at once, so there is nobody to hand anything over to: they get less time than the manifests say.
    Where no kubelet is heard of, or is no more, none will say that a pod has ended: it is struck off, also when that
    turns out later. Returns all pods as last seen, and the nodes on which some have not ended."""
    ended: dict[str, Object] = {}
    asked: set[str] = set()
    struck: set[str] = set()
    left: set[str] = set()
    states: dict[str, str] | None = None
    look_at = clock.now()
    while True:
        found = [each for each in objects.ours(["Pod"]) if _is_agents(each)]
        if found and clock.now() >= look_at:
            states, look_at = node_states(objects), clock.now() + NODES_S
        lost = [each for each in found if _is_lost(each, states)]
        doomed = {metadata(each)["uid"] for each in lost}
        objects.delete_all([each for each in lost if metadata(each)["uid"] not in struck], 0)
        objects.delete_all([each for each in found if metadata(each)["uid"] not in asked | doomed], grace_s)
        struck |= doomed
        asked |= {metadata(each)["uid"] for each in found}
        nodes = {_node(each) for each in found}
        ended |= {metadata(each)["uid"]: each for each in found}
        for node in sorted(left - nodes):
            say(f"{node}: gone")
        left = nodes
        if not found or clock.now() >= until:
            return list(ended.values()), sorted(nodes)
        clock.sleep(POLL_S)


def _is_lost(found: Object, states: dict[str, str] | None) -> bool:
    """A pod that is on no node yet is the API server's own."""
    node = str((found.get("spec") or {}).get("nodeName") or "")
    return bool(node) and states is not None and bool(states.get(node, GONE))


def _node(found: Object) -> str:
    return to_pod(found).node or "unscheduled"


def _is_agents(found: Object) -> bool:
    owners = metadata(found).get("ownerReferences") or ()
    return any((each.get("kind"), each.get("name")) == ("DaemonSet", DAEMONSET) for each in owners)


def _end_namespace(objects: Objects, clock: Clock, until: float) -> str | None:
    """'' when it is gone, why it is left, or None for one that is not ours, or that without time is not waited for."""
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
    if not until:
        return None
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
