"""Objects on a cluster: made, changed and removed so that nothing is touched that is not ours.

Ours is what bears the label `MANAGED`. What is missing is made by a POST, which never touches what somebody else makes
at the same moment. Before an object is changed or deleted it is looked at, and the request says which one is meant (its
uid), so that one that somebody made meanwhile under its name is refused by the server. Changes are server-side applies:
what is right already stays as it is. A namespace that was there before is used and left.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from jupiter_agent.cli.k8s.access import MANAGER, Access, Object, RefusedError
from jupiter_agent.errors import JupiterError, UsageError
from jupiter_agent.k8s.manifests import MANAGED, cluster_names

CREATED, CHANGED, SAME, THERE, REMOVED = "created", "changed", "unchanged", "there before", "removed"
AT_ONCE = 8
"""requests"""
GONE = (404, 409)
"""Nobody is there any more: no object of the name, or another one under it"""
PROBING_S = 2.0
"""Our patience with each of the API's parts: one may be down for long, and what it has is then not known, no more"""
NONE = (404, 405)
"""There are no objects of the kind here, or it has no list"""


@dataclass(frozen=True)
class Resource:
    """How objects of a kind are asked for."""

    prefix: str
    plural: str
    in_namespace: bool = True

    def path(self, namespace: str, name: str = "") -> str:
        place = f"/namespaces/{namespace}" if self.in_namespace else ""
        return f"{self.prefix}{place}/{self.plural}" + (f"/{name}" if name else "")


_RBAC = "/apis/rbac.authorization.k8s.io/v1"
RESOURCES = {
    "Namespace": Resource("/api/v1", "namespaces", in_namespace=False),
    "ServiceAccount": Resource("/api/v1", "serviceaccounts"),
    "Role": Resource(_RBAC, "roles"),
    "RoleBinding": Resource(_RBAC, "rolebindings"),
    "ClusterRole": Resource(_RBAC, "clusterroles", in_namespace=False),
    "ClusterRoleBinding": Resource(_RBAC, "clusterrolebindings", in_namespace=False),
    "ConfigMap": Resource("/api/v1", "configmaps"),
    "Secret": Resource("/api/v1", "secrets"),
    "NetworkPolicy": Resource("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Service": Resource("/api/v1", "services"),
    "DaemonSet": Resource("/apis/apps/v1", "daemonsets"),
    "Pod": Resource("/api/v1", "pods"),
    "Event": Resource("/api/v1", "events"),
    "Node": Resource("/api/v1", "nodes", in_namespace=False),
}
SELECTOR = ",".join(f"{key}={value}" for key, value in MANAGED.items())


def metadata(found: Mapping[str, Any]) -> dict[str, Any]:
    place = found.get("metadata")
    return place if isinstance(place, dict) else {}


def is_ours(found: Mapping[str, Any]) -> bool:
    labels = metadata(found).get("labels") or {}
    return all(labels.get(key) == value for key, value in MANAGED.items())


def title(found: Mapping[str, Any]) -> str:
    return f"{found.get('kind')} {metadata(found).get('name')}"


class Objects:
    """Those of one namespace, and what belongs to them outside of it."""

    def __init__(self, access: Access, namespace: str) -> None:
        self.namespace = namespace
        self.made: list[Object] = []
        """What was not there before, in order"""
        self._access = access

    def path(self, kind: str, name: str = "") -> str:
        return RESOURCES[kind].path(self.namespace, name)

    def get(self, kind: str, name: str) -> Object | None:
        """None for what is not there."""
        try:
            return self._access.request("GET", self.path(kind, name))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def listed(self, kind: str, **query: str) -> list[Object]:
        """[] where even the namespace is missing."""
        try:
            found = self._access.request("GET", self.path(kind), query=query).get("items") or []
        except RefusedError as error:
            if error.status == 404:
                return []
            raise
        return [{**each, "kind": kind} for each in found if isinstance(each, dict)]

    # --- making ---

    def ensure(self, wanted: Object, keep: bool = False) -> str:
        """Make it, or bring what is there and ours in line; which of the words above it was. `keep`: the data that is
        there stays, whatever is wanted: a token that another `up` made at the same moment may be in use."""
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        found = self._namespace(name) if kind == "Namespace" else self.get(kind, name)
        made = self._create(wanted) if found is None else None
        found = found or made or self.get(kind, name) or {}  # the last: somebody was faster
        if not is_ours(found):
            if kind == "Namespace":
                return THERE
            raise UsageError(
                f"{title({'kind': kind, **found})} in namespace {self.namespace} is not jupiter's",
                "choose another --namespace, or remove it yourself",
            )
        if keep:
            there = {key: value for key, value in (found.get("data") or {}).items() if value}
            wanted = {**wanted, "data": {**wanted["data"], **there}}
        same = self.apply(wanted, found)
        return CREATED if made else SAME if same else CHANGED

    def create(self, wanted: Object, patience_s: float | None = None) -> Object:
        """RefusedError (409, AlreadyExists) when there is one of this name. An apply would take that for ours: it says
        no word of what is there beside the fields that it names. With `patience_s`: or what this call has made."""
        made = self._access.request("POST", self.path(wanted["kind"]), wanted, _STRICT, patience_s)
        self.made.append({**made, "kind": wanted["kind"]})
        return self.made[-1]

    def _create(self, wanted: Object) -> Object | None:
        """None when there is one of this name."""
        try:
            return self.create(wanted)
        except RefusedError as error:
            if (error.status, error.reason) == (409, "AlreadyExists"):
                return None
            raise

    def apply(self, wanted: Object, found: Object) -> bool:
        """To what was found, by force: whatever others have written into what is ours. Whether it was as it should
        be."""
        found = self._taken_over(wanted["kind"], found)
        meant = {**wanted, "metadata": {**wanted["metadata"], "uid": metadata(found)["uid"]}}
        path = self.path(wanted["kind"], wanted["metadata"]["name"])
        try:
            after = self._access.request("PATCH", path, meant, {**_STRICT, "force": "true"})
        except RefusedError as error:
            if error.status != 422:
                raise
            hint = "it cannot be changed in place: `jupiter k8s down`, then `up` again"
            raise UsageError(f"{title(wanted)}: {error.message}", hint) from error
        return metadata(after).get("resourceVersion") == metadata(found).get("resourceVersion")

    def _taken_over(self, kind: str, found: Object) -> Object:
        """With the fields that a POST of ours made entered as applied. Else a later apply without one of them would
        leave it: it would still be of who made it."""
        name, uid = metadata(found)["name"], metadata(found)["uid"]
        while (entries := _as_applied(metadata(found).get("managedFields") or [])) is not None:
            steps: list[Object] = [
                {"op": "replace", "path": "/metadata/managedFields", "value": entries},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata(found)["resourceVersion"]},
            ]
            try:
                return self._access.request("PATCH", self.path(kind, name), steps, {"fieldManager": MANAGER})
            except RefusedError as error:
                after = self.get(kind, name) if error.status == 409 else None
                if after is None or metadata(after)["uid"] != uid:
                    raise
                found = after  # a controller has written into it meanwhile
        return found

    def _namespace(self, name: str) -> Object | None:
        """One that may not even be looked at is taken to be there: who has rights inside it has more than we need."""
        try:
            return self.get("Namespace", name)
        except RefusedError as error:
            if error.status == 403:
                return {"metadata": {"name": name}}
            raise

    # --- removing ---

    def delete(self, found: Object, grace_s: int | None = None) -> bool:
        """This very object; False when it is gone already."""
        options: Object = {
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": metadata(found)["uid"]},
        }  # fmt: skip
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            self._access.request("DELETE", self.path(found["kind"], metadata(found)["name"]), options)
            return True
        except RefusedError as error:
            if error.status in GONE:
                return False
            raise

    def delete_all(self, found: list[Object], grace_s: int | None = None) -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda each: self.delete(each, grace_s), found))

    def ours(self, kinds: list[str]) -> list[Object]:
        """What is there of these kinds and ours, in their order. What is of the whole cluster belongs to a namespace by
        the exact name that the manifests give it: that of namespace `a-agent-b` begins like that of `a`."""
        found: list[Object] = []
        everywhere = any(not RESOURCES[kind].in_namespace for kind in kinds)
        named = cluster_names(self.namespace) if everywhere else set()
        for kind in kinds:
            for each in self._ours(kind):
                name = str(metadata(each).get("name"))
                if is_ours(each) and (RESOURCES[kind].in_namespace or (kind, name) in named):
                    found.append(each)
        return found

    def _ours(self, kind: str) -> list[Object]:
        """Who may not list what is of the whole cluster cannot have made it."""
        try:
            return self.listed(kind, labelSelector=SELECTOR)
        except RefusedError as error:
            if error.status == 403 and not RESOURCES[kind].in_namespace:
                return []
            raise

    def others(self) -> tuple[list[str], list[str]]:
        """What is in the namespace and was made by somebody else (Kubernetes' own things do not count); and what could
        not be listed, and why: there may be more of that."""
        kinds, unknown = self._kinds()
        found: set[str] = set()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for (_, _, kind), names in zip(kinds, threads.map(self._foreign, kinds), strict=True):
                if not isinstance(names, RefusedError):
                    found |= {f"{kind} {name}" for name in names}
                elif names.status not in NONE:
                    unknown.append(f"{kind} ({names.message})")
        return sorted(found), unknown

    def _foreign(self, each_kind: tuple[str, str, str]) -> list[str] | RefusedError:
        """Names of what is of this kind, in the namespace, and somebody else's."""
        prefix, plural, kind = each_kind
        try:
            path = f"{prefix}/namespaces/{self.namespace}/{plural}"
            found = self._access.request("GET", path, patience_s=PROBING_S).get("items") or []
        except RefusedError as error:
            return error
        others = [each for each in found if not is_ours(each) and not metadata(each).get("ownerReferences")]
        return [str(metadata(each).get("name")) for each in others if not _is_built_in(kind, each)]

    def _kinds(self) -> tuple[list[tuple[str, str, str]], list[str]]:
        """Everything that can be in a namespace of this cluster: (prefix, plural, kind); which part of the API did not
        say what it has, and why."""
        groups = self._access.request("GET", "/apis").get("groups") or []
        prefixes = ["/api/v1", *(f"/apis/{version}" for each in groups for version in _versions(each))]
        kinds, unknown = dict[tuple[str, str], tuple[str, str, str]](), list[str]()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for prefix, resources in zip(prefixes, threads.map(self._resources, prefixes), strict=True):
                if isinstance(resources, JupiterError):
                    unknown.append(f"{prefix} ({resources.message})")
                    continue
                for each in resources:
                    kind, plural = str(each.get("kind")), str(each.get("name"))
                    listed = each.get("namespaced") and "/" not in plural and "list" in (each.get("verbs") or ())
                    if listed and kind not in _PASSING:
                        kinds.setdefault((prefix.rpartition("/")[0], plural), (prefix, plural, kind))
        return list(kinds.values()), unknown

    def _resources(self, prefix: str) -> list[Object] | JupiterError:
        """The error of an extension of the API that is down, say."""
        try:
            return self._access.request("GET", prefix, patience_s=PROBING_S).get("resources") or []
        except JupiterError as error:
            return [] if isinstance(error, RefusedError) and error.status in NONE else error


def _versions(group: Object) -> list[str]:
    """All that a group of the API is served in, the preferred one first: a kind may be in another one only."""
    found = [
        str(each["groupVersion"]) for each in (group.get("preferredVersion"), *(group.get("versions") or ())) if each
    ]
    return list(dict.fromkeys(found))


def _as_applied(entries: list[Object]) -> list[Object] | None:
    """managedFields with what we have by a POST as if we had applied it; None where there is nothing of the kind."""

    def is_posted(each: Object) -> bool:
        return (each.get("manager"), each.get("operation"), each.get("subresource")) == (MANAGER, "Update", None)

    if not any(map(is_posted, entries)):
        return None
    applied = [each for each in entries if each.get("manager") == MANAGER and each.get("operation") == "Apply"]
    rest = [each for each in entries if not is_posted(each)]
    return rest if applied else [{**each, "operation": "Apply"} if is_posted(each) else each for each in entries]


_STRICT = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
_PASSING = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics", "ControllerRevision"})
"""Kinds that come and go with others"""
_BUILT_IN = {
    "ConfigMap": {"kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt"},
    "ServiceAccount": {"default", "builder", "deployer"},
    "RoleBinding": {"system:image-pullers", "system:image-builders", "system:deployers"},
}
"""Put into every namespace: by Kubernetes, by Istio, by OpenShift"""
_OF_ACCOUNTS = frozenset({"kubernetes.io/service-account-token", "kubernetes.io/dockercfg"})
"""Types of Secrets that controllers make for each ServiceAccount: OpenShift, and Kubernetes before 1.24"""


def _is_built_in(kind: str, found: Object) -> bool:
    if kind == "Secret" and found.get("type") in _OF_ACCOUNTS:
        return "kubernetes.io/service-account.name" in (metadata(found).get("annotations") or {})
    return metadata(found).get("name") in _BUILT_IN.get(kind, ())
