"""The objects of the stand-in: versions, watches, server-side apply, deletion in stages."""

from __future__ import annotations

import copy
import datetime
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jupiter_agent.bench.kube import fields

Object = dict[str, Any]

LOG = 2000
"""Changes a watch can go back to, unless fewer are left by `forget`"""
CONTROLLER = "controller"
"""Who has the fields of what the stand-in makes by itself"""


class StatusError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def to_object(self) -> Object:
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": self.code,
            "reason": self.reason, "message": self.message,
        }  # fmt: skip


@dataclass(frozen=True)
class Type:
    """A kind of object. `api`: group and version."""

    kind: str
    plural: str
    api: str
    in_namespace: bool = True

    @property
    def group(self) -> str:
        return self.api.partition("/")[0] if "/" in self.api else ""


TYPES = {
    each.plural: each
    for each in (
        Type("Namespace", "namespaces", "v1", in_namespace=False),
        Type("Node", "nodes", "v1", in_namespace=False),
        Type("Pod", "pods", "v1"),
        Type("Service", "services", "v1"),
        Type("ServiceAccount", "serviceaccounts", "v1"),
        Type("ConfigMap", "configmaps", "v1"),
        Type("Secret", "secrets", "v1"),
        Type("Event", "events", "v1"),
        Type("DaemonSet", "daemonsets", "apps/v1"),
        Type("Deployment", "deployments", "apps/v1"),
        Type("Role", "roles", "rbac.authorization.k8s.io/v1"),
        Type("RoleBinding", "rolebindings", "rbac.authorization.k8s.io/v1"),
        Type("ClusterRole", "clusterroles", "rbac.authorization.k8s.io/v1", in_namespace=False),
        Type("ClusterRoleBinding", "clusterrolebindings", "rbac.authorization.k8s.io/v1", in_namespace=False),
        Type("NetworkPolicy", "networkpolicies", "networking.k8s.io/v1"),
        Type("EndpointSlice", "endpointslices", "discovery.k8s.io/v1"),
    )
}

Key = tuple[str, str, str]
"""plural, namespace, name"""


@dataclass(frozen=True)
class Change:
    version: int
    kind: str
    """ADDED, MODIFIED, DELETED"""
    key: Key
    object: Object


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Thread-safe. Whoever waits on `changed` is told of every change. `validate` raises ValueError."""

    def __init__(self, validate: Callable[[Object], None] | None = None) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 100
        self._objects: dict[Key, Object] = {}
        self._log: deque[Change] = deque(maxlen=LOG)
        self._floor = 100
        self._validate = validate

    # --- reading ---

    def get(self, plural: str, namespace: str, name: str) -> Object:
        with self.changed:
            found = self._objects.get((plural, namespace, name))
            if found is None:
                raise StatusError(404, "NotFound", f'{plural} "{name}" not found')
            return copy.deepcopy(found)

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        with self.changed:
            return copy.deepcopy(self._objects.get((plural, namespace, name)))

    def listed(self, plural: str, namespace: str = "", wanted: Callable[[Object], bool] | None = None) -> list[Object]:
        with self.changed:
            return [
                copy.deepcopy(found)
                for (kind, place, _), found in sorted(self._objects.items())
                if kind == plural and namespace in ("", place) and (wanted is None or wanted(found))
            ]

    def changes(self, after: int) -> list[Change]:
        """Those after a version; 410 when they are forgotten."""
        with self.changed:
            if after < self._floor:
                raise StatusError(410, "Expired", f"too old resource version: {after} ({self._floor})")
            return [change for change in self._log if change.version > after]

    def forget(self) -> None:
        """All changes so far, as compaction does; nobody's version is new enough then."""
        with self.changed:
            self.version += 1
            self._floor = self.version
            self._log.clear()
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait(seconds)

    # --- writing ---

    def apply(self, key: Key, body: Object, manager: str, force: bool) -> tuple[Object, bool]:
        """Server-side apply: (object, whether it is new)."""
        with self.changed:
            self._check(key, body)
            found = self._objects.get(key)
            uid = body.get("metadata", {}).get("uid")
            if uid and (found is None or found["metadata"]["uid"] != uid):
                raise StatusError(
                    409, "Conflict", f'Operation cannot be fulfilled on {key[0]} "{key[2]}": uid mismatch'
                )
            if found is None:
                return self._make(key, body, manager, apply=True), True
            after, conflicts = fields.applied(found, body, manager, force)
            if conflicts:
                message = f"Apply failed with {len(conflicts)} conflicts: {'; '.join(conflicts)}"
                raise StatusError(409, "Conflict", message)
            return self._replace(key, after), False

    def patch(self, key: Key, steps: list[Object], manager: str) -> Object:
        """A JSON Patch, of which only `replace` is known; a resourceVersion in it must be the present one."""
        with self.changed:
            before = self.get(*key)
            after = copy.deepcopy(before)
            for step in steps:
                *path, last = str(step.get("path")).split("/")[1:]
                place = after
                for part in path:
                    place = place.get(part) or {}
                if step.get("op") != "replace" or last not in place:
                    raise StatusError(422, "Invalid", f"the server rejected our request: {step}")
                place[last] = copy.deepcopy(step["value"])
            if after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
                raise StatusError(409, "Conflict", f'{key[0]} "{key[2]}": the object has been modified')
            fields.edited(before, after, manager)
            return self._replace(key, after)

    def create(self, key: Key, body: Object, manager: str = CONTROLLER) -> Object:
        return self._make(key, body, manager)

    def _make(self, key: Key, body: Object, manager: str, apply: bool = False) -> Object:
        with self.changed:
            self._check(key, body)
            plural, namespace, name = key
            if key in self._objects:
                raise StatusError(409, "AlreadyExists", f'{plural} "{name}" already exists')
            if TYPES[plural].in_namespace:
                place = self._objects.get(("namespaces", "", namespace))
                if place is None:
                    raise StatusError(404, "NotFound", f'namespaces "{namespace}" not found')
                if place["metadata"].get("deletionTimestamp"):
                    message = f"unable to create new content in namespace {namespace} because it is being terminated"
                    raise StatusError(403, "Forbidden", f'{plural} "{name}" is forbidden: {message}')
            made = copy.deepcopy(body)
            metadata = made.setdefault("metadata", {})
            metadata |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": _now()}
            if TYPES[plural].in_namespace:
                metadata["namespace"] = namespace
            if plural in ("daemonsets", "deployments"):
                metadata["generation"] = 1
            if plural == "services" and made["spec"].get("clusterIP") is None:
                made["spec"]["clusterIP"] = "10.96.0.10"
            if plural == "pods":
                made.setdefault("status", {"phase": "Pending"})
            made.setdefault("kind", TYPES[plural].kind)
            made.setdefault("apiVersion", TYPES[plural].api)
            if apply:
                made, _ = fields.applied(made, body, manager, force=True)
            else:
                fields.created(made, manager)
            return self._put("ADDED", key, made)

    def update(self, key: Key, change: Callable[[Object], None], manager: str = CONTROLLER) -> Object | None:
        """Change what is there, as controllers do, and whoever edits it; None when it is gone. Nothing changed: nothing
        is told."""
        with self.changed:
            found = self._objects.get(key)
            if found is None:
                return None
            after = copy.deepcopy(found)
            change(after)
            if after != found:
                fields.edited(found, after, manager)
            return self._replace(key, after)

    def delete(self, key: Key, uid: str = "", grace_s: float | None = None) -> Object:
        """At once, but for what ends in stages: namespaces, and pods on a node."""
        with self.changed:
            found = self.get(*key)
            if uid and found["metadata"]["uid"] != uid:
                raise StatusError(409, "Conflict", f'Precondition failed: UID in precondition: {uid} of "{key[2]}"')
            staged = key[0] == "namespaces" or (key[0] == "pods" and found["spec"].get("nodeName") and grace_s != 0)
            if not staged:
                self.remove(key)
                return found
            usual = float(found["spec"].get("terminationGracePeriodSeconds", 30)) if key[0] == "pods" else 0.0
            seconds = usual if grace_s is None else grace_s

            def mark(after: Object) -> None:
                metadata = after["metadata"]
                before = metadata.get("deletionGracePeriodSeconds")
                metadata.setdefault("deletionTimestamp", _now())
                metadata["deletionGracePeriodSeconds"] = seconds if before is None else min(before, seconds)
                if key[0] == "namespaces":
                    after["status"] = {"phase": "Terminating"}

            return self.update(key, mark) or found

    def remove(self, key: Key) -> None:
        """For good."""
        with self.changed:
            found = self._objects.pop(key, None)
            if found is not None:
                self._tell("DELETED", key, found)

    def _check(self, key: Key, body: Object) -> None:
        if body.get("kind") != TYPES[key[0]].kind or body.get("apiVersion") != TYPES[key[0]].api:
            raise StatusError(400, "BadRequest", f"{body.get('apiVersion')} {body.get('kind')} is no {key[0]}")
        if body["metadata"].get("name") != key[2]:
            raise StatusError(400, "BadRequest", "the name of the object does not match the name in the URL")
        if self._validate is not None:
            try:
                self._validate(body)
            except ValueError as error:
                raise StatusError(400, "BadRequest", f"strict decoding error: {error}") from error

    def _replace(self, key: Key, after: Object) -> Object:
        before = self._objects[key]
        spec_changed = before.get("spec") != after.get("spec")
        if key[0] == "daemonsets" and before["spec"]["selector"] != after["spec"]["selector"]:
            raise StatusError(422, "Invalid", f'DaemonSet "{key[2]}" is invalid: spec.selector: field is immutable')
        if "generation" in before["metadata"] and spec_changed:
            after["metadata"]["generation"] = before["metadata"]["generation"] + 1
        if after == before:
            return copy.deepcopy(before)
        return self._put("MODIFIED", key, after)

    def _put(self, kind: str, key: Key, made: Object) -> Object:
        self._objects[key] = made
        self._tell(kind, key, made)
        return copy.deepcopy(made)

    def _tell(self, kind: str, key: Key, found: Object) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        self._log.append(Change(self.version, kind, key, copy.deepcopy(found)))
        if len(self._log) == LOG:
            self._floor = self._log[0].version
        self.changed.notify_all()


def selects(text: str) -> Callable[[Object], bool]:
    """A label selector of equalities."""
    pairs = dict(part.split("=", 1) for part in text.replace("==", "=").split(",") if "=" in part)

    def wanted(found: Object) -> bool:
        labels = found["metadata"].get("labels") or {}
        return all(labels.get(key) == value for key, value in pairs.items())

    return wanted


def selects_fields(text: str) -> Callable[[Object], bool]:
    """A field selector of equalities: `involvedObject.name=...`."""
    pairs = [part.split("=", 1) for part in text.split(",") if "=" in part]

    def value(found: Any, path: str) -> Any:
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    return lambda found: all(str(value(found, path)) == wanted for path, wanted in pairs)
