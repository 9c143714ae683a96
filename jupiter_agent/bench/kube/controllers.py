"""What makes of objects other objects: pods of DaemonSets, EndpointSlices of Services, and the end of namespaces."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Iterable
from typing import Any

from jupiter_agent.bench.kube.store import TYPES, Key, Object, StatusError, Store, selects

BUILT_IN = (("configmaps", "kube-root-ca.crt"), ("serviceaccounts", "default"))
SLICE_LABEL = "kubernetes.io/service-name"
EACH_S = 0.2
NAMESPACE_S = 5.0
"""So long the controller of namespaces lets one be that is to go: other API servers must have heard of it"""


def key_of(plural: str, found: Object) -> Key:
    return (plural, found["metadata"].get("namespace", ""), found["metadata"]["name"])


class Controllers:
    """One thread that brings everything in line after each change."""

    def __init__(self, store: Store, namespace_s: float = NAMESPACE_S) -> None:
        self.namespace_s = namespace_s
        self._store = store
        self._doomed: dict[str, float] = {}
        """uid of a namespace -> when it was first seen to go"""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        with self._store.changed:
            self._store.changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        seen = -1
        while not self._stopping:
            with self._store.changed:
                if self._store.version == seen:
                    self._store.changed.wait(EACH_S)
                seen = self._store.version
            self.turn()

    def turn(self) -> None:
        store = self._store
        for found in store.listed("namespaces"):
            self._namespace(found)
        for found in store.listed("daemonsets"):
            self._daemonset(found)
        for found in store.listed("services"):
            self._service(found)
        self._orphans()

    # --- namespaces and owners ---

    def _namespace(self, found: Object) -> None:
        store, name = self._store, found["metadata"]["name"]
        kinds = [plural for plural, each in TYPES.items() if each.in_namespace]
        if not found["metadata"].get("deletionTimestamp"):
            for plural, built in BUILT_IN:
                if store.find(plural, name, built) is None:
                    made = {"apiVersion": "v1", "kind": TYPES[plural].kind, "metadata": {"name": built}}
                    with _quietly():
                        store.create((plural, name, built), made)
            return
        now = time.monotonic()
        if now - self._doomed.setdefault(found["metadata"]["uid"], now) < self.namespace_s:
            return
        left = [(plural, each) for plural in kinds for each in store.listed(plural, name)]
        for plural, each in left:
            if not each["metadata"].get("deletionTimestamp"):
                with _quietly():
                    store.delete(key_of(plural, each))
        if not left:
            store.remove(("namespaces", "", name))

    def _orphans(self) -> None:
        """What is owned by somebody who is gone."""
        store = self._store
        alive = {each["metadata"]["uid"] for plural in ("daemonsets", "services") for each in store.listed(plural)}
        for plural in ("pods", "endpointslices"):
            for each in store.listed(plural):
                owners = [owner["uid"] for owner in each["metadata"].get("ownerReferences") or ()]
                if owners and not alive & set(owners) and not each["metadata"].get("deletionTimestamp"):
                    with _quietly():
                        store.delete(key_of(plural, each))

    # --- DaemonSets ---

    def _daemonset(self, found: Object) -> None:
        store, metadata, spec = self._store, found["metadata"], found["spec"]
        namespace, generation = metadata["namespace"], metadata["generation"]
        nodes = [each for each in store.listed("nodes") if _takes(each, spec["template"]["spec"])]
        names = {each["metadata"]["name"] for each in nodes}
        pods = [each for each in store.listed("pods", namespace) if _owner(each) == metadata["uid"]]
        for pod in pods:
            if pod["spec"]["nodeName"] not in names or pod["status"].get("phase") == "Failed":
                with _quietly():
                    store.delete(key_of("pods", pod))
        for name in sorted(names - {pod["spec"]["nodeName"] for pod in pods}):
            self._make_pod(found, name)
        fresh = [pod for pod in pods if pod["metadata"]["labels"]["pod-template-generation"] == str(generation)]
        ready = [pod for pod in pods if _is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]
        lagging = [pod for pod in pods if pod not in fresh and not pod["metadata"].get("deletionTimestamp")]
        away = [pod for pod in lagging if pod not in ready]
        there = [pod for pod in lagging if pod in ready]
        for pod in away + there[: max(0, _most_away(spec, len(names)) - (len(names) - len(ready)))]:
            with _quietly():
                store.delete(key_of("pods", pod))
        status = {
            "observedGeneration": generation, "desiredNumberScheduled": len(names), "numberReady": len(ready),
            "currentNumberScheduled": len(pods), "updatedNumberScheduled": len(fresh), "numberMisscheduled": 0,
        }  # fmt: skip
        store.update(key_of("daemonsets", found), lambda after: after.update(status=status))

    def _make_pod(self, owner: Object, node: str) -> None:
        store, metadata, template = self._store, owner["metadata"], owner["spec"]["template"]
        namespace, generation = metadata["namespace"], metadata["generation"]
        if why := _violates(store.find("namespaces", "", namespace) or {}, template["spec"]):
            self._event(owner, f"Error creating: pods is forbidden: violates PodSecurity {why}")
            return
        name = f"{metadata['name']}-{random.randrange(36**5):05x}"
        labels = {**template["metadata"].get("labels", {}), "pod-template-generation": str(generation)}
        reference = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": metadata["name"], "uid": metadata["uid"],
                     "controller": True}  # fmt: skip
        pod = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "ownerReferences": [reference]},
            "spec": {**template["spec"], "nodeName": node},
            "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
        }  # fmt: skip
        with _quietly():
            store.create(("pods", namespace, name), pod)

    def _event(self, about: Object, message: str) -> None:
        namespace, name = about["metadata"]["namespace"], about["metadata"]["name"]
        key = ("events", namespace, f"{name}.failed-create")
        if self._store.find(*key) is None:
            involved = {"kind": "DaemonSet", "name": name, "namespace": namespace}
            event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": key[2]}, "involvedObject": involved,
                     "reason": "FailedCreate", "type": "Warning", "message": message}  # fmt: skip
            with _quietly():
                self._store.create(key, event)

    # --- Services ---

    def _service(self, found: Object) -> None:
        """One EndpointSlice a Service."""
        store, metadata, spec = self._store, found["metadata"], found["spec"]
        namespace, name = metadata["namespace"], metadata["name"]
        selected = selects(",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items()))
        pods = [each for each in store.listed("pods", namespace, selected) if each["status"].get("podIP")]
        endpoints = [_endpoint(pod, bool(spec.get("publishNotReadyAddresses"))) for pod in pods]
        ports = [{"name": port["name"], "port": port["port"], "protocol": "TCP"} for port in spec["ports"]]
        key = ("endpointslices", namespace, f"{name}-slice")
        old = store.find(*key)
        if old is None:
            reference = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": metadata["uid"]}
            made = {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": key[2], "labels": {SLICE_LABEL: name}, "ownerReferences": [reference]},
                "endpoints": endpoints, "ports": ports,
            }  # fmt: skip
            with _quietly():
                store.create(key, made)
        else:
            store.update(key, lambda after: after.update(endpoints=endpoints, ports=ports))


def _endpoint(pod: Object, always: bool) -> Object:
    leaving = bool(pod["metadata"].get("deletionTimestamp"))
    ready = always or (_is_ready(pod) and not leaving)
    conditions = {"ready": ready, "serving": _is_ready(pod), "terminating": leaving}
    return {"addresses": [pod["status"]["podIP"]], "conditions": conditions, "nodeName": pod["spec"]["nodeName"]}


def _is_ready(pod: Object) -> bool:
    conditions: Iterable[Any] = pod["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _owner(found: Object) -> str:
    return next((str(each["uid"]) for each in found["metadata"].get("ownerReferences") or ()), "")


def _most_away(spec: Object, nodes: int) -> int:
    """maxUnavailable: a count, or a share that is rounded up."""
    most = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable", 1)
    return math.ceil(nodes * int(most[:-1]) / 100) if isinstance(most, str) else int(most)


def _takes(node: Object, spec: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    return (spec.get("nodeSelector") or {}).items() <= labels.items() and _tolerates(spec, node)


def _tolerates(spec: Object, node: Object) -> bool:
    """A toleration of everything, or of the very key, stands against a taint."""
    taints = [each for each in (node.get("spec") or {}).get("taints") or () if each["effect"] != "PreferNoSchedule"]
    tolerated = spec.get("tolerations") or ()
    return all(
        any(each.get("operator") == "Exists" and each.get("key") in (None, taint["key"]) for each in tolerated)
        for taint in taints
    )


def _violates(namespace: Object, spec: Object) -> str:
    """The most telling rules of Pod Security `restricted`, where the namespace enforces it."""
    labels = (namespace.get("metadata") or {}).get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        return ""
    found = ["host namespaces (hostNetwork=true)"] if spec.get("hostNetwork") else []
    found += ["hostPath volumes"] if any("hostPath" in each for each in spec.get("volumes") or ()) else []
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        context = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
        wanted = (
            ("allowPrivilegeEscalation != false", context.get("allowPrivilegeEscalation") is False),
            ("unrestricted capabilities", (context.get("capabilities") or {}).get("drop") == ["ALL"]),
            ("runAsNonRoot != true", context.get("runAsNonRoot") is True),
            ("seccompProfile", (context.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost")),
        )
        found += [what for what, holds in wanted if not holds]
    return f'"restricted:latest": {", ".join(dict.fromkeys(found))}' if found else ""


def _quietly() -> contextlib.suppress:
    """Somebody else was faster, or the namespace is going."""
    return contextlib.suppress(StatusError)
