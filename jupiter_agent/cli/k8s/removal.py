"""`jupiter k8s down`: what is ours off a cluster, in an order that leaves nothing behind, until it is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.k8s.access import Object, RefusedError
from jupiter_agent.cli.k8s.deploy import POLL_S
from jupiter_agent.cli.k8s.disks import disks_of, hold_back, is_held, node_of
from jupiter_agent.cli.k8s.objects import Objects, is_ours, metadata, title
from jupiter_agent.cli.k8s.pods import SIMULATED, state_folder
from jupiter_agent.cli.k8s.reaching import node_states, read_token
from jupiter_agent.cli.k8s.wipe import Wiped, clear, wipe
from jupiter_agent.errors import EXIT_TIMEOUT, JupiterError, UnauthorisedError, UsageError
from jupiter_agent.k8s.manifests import DAEMONSET, ORDER

KINDS = [kind for kind in reversed(ORDER) if kind != "Namespace"]
"""In the order in which they are removed"""
NODES_S = 3.0
"""Between looks at the nodes while pods end"""
HELD_S = 5.0
"""How long a controller is waited for that does not say that it knows of a change"""
NAMESPACE_S = 10.0
"""So long a namespace may take at least, however late it is"""
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
    daemonsets = objects.ours(["DaemonSet"])
    held = [each for each in daemonsets if hold_back(objects, each, _agents(objects))]
    objects.delete_all([each for each in daemonsets if each not in held])
    held_until = clock.now() + HELD_S
    ended, stuck = _end_pods(
        objects, clock, grace_s, until,
        lambda: clock.now() >= held_until or all(is_held(objects, each) for each in held),
    )  # fmt: skip
    removed = [title(each) for each in daemonsets + clear(objects)]
    wiped = _wiped(objects, daemonsets, ended, set(stuck), clock, until)
    objects.delete_all(held)
    rest = objects.ours([kind for kind in KINDS if kind != "DaemonSet"])
    for kind in KINDS:
        objects.delete_all([each for each in rest if each["kind"] == kind])
    removed += [title(each) for each in rest]
    why_left = _end_namespace(objects, clock, 0.0 if stuck else max(until, clock.now() + NAMESPACE_S))
    if why_left == "":
        removed.append(f"Namespace {objects.namespace}")
    return Removed(removed, why_left or "", wiped, stuck)


def _wiped(
    objects: Objects, daemonsets: list[Object], ended: list[Object], stuck: set[str], clock: Clock, until: float
) -> Wiped:
    """What is still on the nodes' disks when all that can be removed is gone."""
    if not any(state_folder(each)[1] for each in [*ended, *(each["spec"]["template"] for each in daemonsets)]):
        return Wiped()
    states = node_states(objects)
    disks = disks_of(daemonsets, ended, states or {})
    if not disks.pods:
        return Wiped()
    without = {} if states is None else {node: why for node, _ in disks.pods if (why := states.get(node, GONE))}
    without = {**dict.fromkeys(stuck, "its pod has not ended"), **without}
    failed = {place: without[place[0]] for place in disks.pods if without.get(place[0], SIMULATED) != SIMULATED}
    pods = {place: pod for place, pod in disks.pods.items() if place[0] not in without}
    mark, why_not = _fingerprint(objects) if pods else ("", "")
    wiped = wipe(objects, pods, mark, clock, until) if mark else Wiped(dict.fromkeys(pods, why_not))
    wiped.failed |= failed
    wiped.unsure = disks.unsure
    return wiped


def _fingerprint(objects: Objects) -> tuple[str, str]:
    """Of our cluster, in hex, or '' and why it is not known. It is a digest and no secret; the token it is from is."""
    from jupiter_agent.adapters.keys import decode_token

    try:
        token = read_token(objects)
        return (
            (decode_token(token).fingerprint.hex(), "") if token else ("", "the Secret is gone that tells whose it is")
        )
    except (UnauthorisedError, UsageError) as error:
        return "", f"it is not known whose it is: {error.message}"


def _end_pods(
    objects: Objects, clock: Clock, grace_s: int, until: float, no_more_come: Callable[[], bool]
) -> tuple[list[Object], list[str]]:
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
        found = _agents(objects)
        if found and clock.now() >= look_at:
            states, look_at = node_states(objects), clock.now() + NODES_S
        lost = [each for each in found if _is_lost(each, states)]
        doomed = {metadata(each)["uid"] for each in lost}
        objects.delete_all([each for each in lost if metadata(each)["uid"] not in struck], 0)
        objects.delete_all([each for each in found if metadata(each)["uid"] not in asked | doomed], grace_s)
        struck |= doomed
        asked |= {metadata(each)["uid"] for each in found}
        nodes = {node_of(each) for each in found}
        ended |= {metadata(each)["uid"]: each for each in found}
        for node in sorted(left - nodes):
            say(f"{node}: gone")
        left = nodes
        if (not found and no_more_come()) or clock.now() >= until:
            return list(ended.values()), sorted(nodes)
        clock.sleep(POLL_S)


def _is_lost(found: Object, states: dict[str, str] | None) -> bool:
    """A pod that is on no node yet is the API server's own."""
    node = str((found.get("spec") or {}).get("nodeName") or "")
    return bool(node) and states is not None and bool(states.get(node, GONE))


def _agents(objects: Objects) -> list[Object]:
    return [each for each in objects.ours(["Pod"]) if _is_agents(each)]


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
