"""What a pod is doing, and what keeps it from it: read from its status, said in a line, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from jupiter_agent.cli.k8s.access import Object
from jupiter_agent.cli.k8s.objects import metadata

IMAGE_HINT = (
    "give one with --image, load it on that node (`ctr -n k8s.io images import FILE`, `k3s ctr`, `kind load`) with "
    "--pull-policy Never, or make it known to the registry"
)
LOGS_HINT = "`jupiter k8s logs {node} --previous` shows what it said"
HINTS = {
    "ErrImageNeverPull": IMAGE_HINT,
    "ErrImagePull": IMAGE_HINT,
    "ImagePullBackOff": IMAGE_HINT,
    "InvalidImageName": "--image NAME:TAG",
    "ImageInspectError": IMAGE_HINT,
    "CreateContainerConfigError": "an object it refers to is missing or wrong: `jupiter k8s up` makes them anew",
    "CreateContainerError": "the node's container runtime refused it: `kubectl describe pod` tells more",
    "RunContainerError": "the node's container runtime could not start it: is the image for this kind of processor?",
    "CrashLoopBackOff": LOGS_HINT,
    "OOMKilled": "give it more memory: limits of the DaemonSet in daemonset/base",
    "Evicted": "the node lacks disk or memory",
    "Unschedulable": "the node has no room, or a taint: the overlay `edge` tolerates every taint",
    "FailedCreate": "Pod Security or a quota refuses its pods: --overlay restricted, or another namespace",
}
"""Why a pod is stuck -> what to do"""
SIMULATED = "the node is simulated"
NOT_READY = "the node is not ready"
WAITS = frozenset({"ContainerCreating", "PodInitializing"})
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
"""Every API server annotates DaemonSets with it: `generation` also counts changes that make no new pods"""


@dataclass(frozen=True)
class Pod:
    """One agent's pod, as far as it matters here."""

    name: str
    uid: str
    node: str
    ip: str
    phase: str
    """pending, starting, running, ready, leaving, failed"""
    reason: str = ""
    """why it is stuck, one of Kubernetes' words"""
    detail: str = ""
    restarts: int = 0
    started_at: str = ""
    generation: str = ""
    """of the DaemonSet's template when it was made"""
    revision: str = ""
    """a hash of what it was made from; the same again after a way back"""

    @property
    def is_stuck(self) -> bool:
        return bool(self.reason)

    @property
    def runs(self) -> bool:
        return self.phase in ("running", "ready")

    @property
    def hint(self) -> str:
        return HINTS.get(self.reason, "`jupiter k8s status` and `kubectl describe pod` tell more").format(
            node=self.node or self.name
        )

    def __str__(self) -> str:
        text = f"{self.reason}: {self.detail}" if self.detail else self.reason or self.phase
        return text[:300]


def to_pod(found: Object) -> Pod:
    """From an object of the API."""
    spec, status, meta = found.get("spec") or {}, found.get("status") or {}, metadata(found)
    statuses = [each for key in ("initContainerStatuses", "containerStatuses") for each in status.get(key) or ()]
    reason, detail = _stuck(status, statuses)
    labels = meta.get("labels") or {}
    return Pod(
        name=str(meta.get("name")),
        uid=str(meta.get("uid")),
        node=str(spec.get("nodeName") or _wanted_node(spec)),
        ip=str(status.get("podIP") or ""),
        phase=_phase(status, bool(meta.get("deletionTimestamp")), statuses),
        reason=reason,
        detail=" ".join(detail.split()),
        restarts=sum(int(each.get("restartCount") or 0) for each in statuses),
        started_at=str(meta.get("creationTimestamp") or ""),
        generation=str(labels.get("pod-template-generation") or ""),
        revision=str(labels.get("controller-revision-hash") or ""),
    )


def of_newest(pods: Iterable[Pod], daemonset: Object) -> frozenset[str]:
    """uids of the pods that are as the DaemonSet wants them now: made from this generation of its template, or from an
    earlier one that was the same. While none is of this generation, its count tells whether all are."""
    meta, status = metadata(daemonset), daemonset.get("status") or {}
    generation = str((meta.get("annotations") or {}).get(TEMPLATE_GENERATION) or meta.get("generation") or "")
    pods = [pod for pod in pods if pod.phase != "leaving"]
    revisions = {pod.revision for pod in pods if pod.generation == generation}
    if not revisions and int(status.get("updatedNumberScheduled") or 0) >= len({pod.node for pod in pods}):
        return frozenset(pod.uid for pod in pods)
    same = revisions - {""}
    return frozenset(pod.uid for pod in pods if pod.generation == generation or pod.revision in same)


def _phase(status: Mapping[str, Any], leaving: bool, statuses: list[Object]) -> str:
    if leaving:
        return "leaving"
    if status.get("phase") in ("Failed", "Succeeded"):
        return "failed"
    if _condition(status, "Ready").get("status") == "True":
        return "ready"
    if status.get("phase") == "Running" and any("running" in (each.get("state") or {}) for each in statuses):
        return "running"
    return "starting" if _condition(status, "PodScheduled").get("status") == "True" else "pending"


def _stuck(status: Mapping[str, Any], statuses: list[Object]) -> tuple[str, str]:
    if status.get("phase") == "Failed":
        told = next(_waiting(statuses), ("Failed", "")) if not status.get("reason") else ("", "")
        return str(status.get("reason") or told[0]), str(status.get("message") or told[1])
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("reason") or "Unschedulable"), str(scheduled.get("message") or "")
    return next(_waiting(statuses), ("", ""))


def _waiting(statuses: list[Object]) -> Iterator[tuple[str, str]]:
    for each in statuses:
        state, last = each.get("state") or {}, (each.get("lastState") or {}).get("terminated") or {}
        waiting = state.get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason and reason not in WAITS:
            ended = f"it ended with {last.get('exitCode')} ({last.get('reason')})" if last else ""
            said = str(last.get("message") or "") if last else ""
            word = "OOMKilled" if last.get("reason") == "OOMKilled" else reason
            yield word, "; ".join(part for part in (ended, said, str(waiting.get("message") or "")) if part)
        ended_now = state.get("terminated") or {}
        if ended_now and ended_now.get("exitCode"):
            said = " ".join(str(ended_now.get("message") or "").split())[-200:]
            ended = f"it ended with {ended_now.get('exitCode')}"
            yield str(ended_now.get("reason") or "Error"), f"{ended}; {said}" if said else ended


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


def _wanted_node(spec: Mapping[str, Any]) -> str:
    """The node that a DaemonSet's pod waits for: it is in its affinity until it is scheduled."""
    place = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in place.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def state_folder(pod: Object) -> tuple[str, str]:
    """Of an agent's pod, or the template of one: where its state is in the container, and where that is on the node's
    disk; '' for the latter where it ends with the pod. What else a node lends to its pod is not meant."""
    spec = pod.get("spec") or {}
    agent: Object = next((each for each in spec.get("containers") or () if each.get("name") == "agent"), {})
    inside = next((each.get("value") for each in agent.get("env") or () if each.get("name") == "JUPITER_STATE_DIR"), "")
    disks = {each["name"]: each["hostPath"]["path"] for each in spec.get("volumes") or () if each.get("hostPath")}
    for mount in agent.get("volumeMounts") or ():
        top = PurePosixPath(mount["mountPath"])
        if mount["name"] in disks and inside and PurePosixPath(inside).is_relative_to(top):
            return inside, str(PurePosixPath(disks[mount["name"]]) / PurePosixPath(inside).relative_to(top))
    return str(inside or ""), ""


def has_run(pod: Object) -> bool:
    """Whether the agent of a pod ever ran there: a container runtime names its containers. Of a pod that was never
    started there is none, nor on a simulated node, whatever the pod's phase."""
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        last = (each.get("lastState") or {}).get("terminated") or {}
        if each.get("name") == "agent" and (each.get("containerID") or last.get("containerID")):
            return True
    return False


def runs_nowhere(pod: Object) -> bool:
    """Whether a pod is said to run without a container that a runtime could name: its node is simulated, and may not
    say so. A kubelet knows a container by what the runtime calls it."""
    status = pod.get("status") or {}
    statuses = status.get("containerStatuses") or ()
    named = (each.get("containerID") or ((each.get("lastState") or {}).get("terminated") or {}) for each in statuses)
    return status.get("phase") == "Running" and not any(named)


def is_taken(pod: Object) -> bool:
    """Whether its node's kubelet has taken it."""
    status = pod.get("status") or {}
    return bool(status.get("startTime") or status.get("containerStatuses"))


def exit_of(pod: Object) -> int | None:
    """The code that the only container of a pod ended with; None while it has not."""
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        code = ((each.get("state") or {}).get("terminated") or {}).get("exitCode")
        if code is not None:
            return int(code)
    return None


def has_no_agent(node: Object) -> str:
    """Why no agent is to be expected on a node, '' where one is: simulated, or lost."""
    notes = {**(metadata(node).get("annotations") or {}), **(metadata(node).get("labels") or {})}
    if any(key.startswith("kwok.x-k8s.io/") for key in notes) or notes.get("type") == "kwok":
        return SIMULATED
    ready = _condition(node.get("status") or {}, "Ready")
    if ready.get("status") != "True":
        return f"{NOT_READY}: {ready.get('message') or ready.get('reason') or 'nothing is heard of it'}"
    return ""
