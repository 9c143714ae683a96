"""Who asks, and whether they may: bearer tokens, Roles and their bindings, as RBAC has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jupiter_agent.bench.kube.store import Object, StatusError, Store

POD_TOKEN = "pod-token:"
"""... NAMESPACE:ACCOUNT, as kubelets give it to pods"""


@dataclass(frozen=True)
class Ask:
    """One request, as it is judged: get, list, watch, create, patch, delete ... of a resource (`pods/log`)."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""


@dataclass
class Rights:
    """`tokens`: token -> user. `admins` may all; `forbidden` are (verb, resource) that even they may not."""

    store: Store
    tokens: dict[str, str] = field(default_factory=dict)
    admins: set[str] = field(default_factory=set)
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    asked: list[Ask] = field(default_factory=list)
    """all that was asked, granted or not"""

    def user(self, authorization: str) -> str:
        token = authorization.removeprefix("Bearer ").strip()
        if token.startswith(POD_TOKEN):
            return f"system:serviceaccount:{token.removeprefix(POD_TOKEN)}"
        user = self.tokens.get(token)
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return user

    def check(self, ask: Ask) -> None:
        """StatusError 403."""
        self.asked.append(ask)
        open_to_all = ask.resource in ("version", "apis")
        refused = (ask.verb, ask.resource) in self.forbidden
        if not refused and (open_to_all or ask.user in self.admins or self._granted(ask)):
            return
        scope = f' in the namespace "{ask.namespace}"' if ask.namespace else " at the cluster scope"
        what = f'{ask.resource} is forbidden: User "{ask.user}" cannot {ask.verb} resource "{ask.resource}"'
        raise StatusError(403, "Forbidden", f'{what} in API group "{ask.group}"{scope}')

    def _granted(self, ask: Ask) -> bool:
        return any(_fits(rule, ask) for rule in self.rules(ask.user, ask.namespace))

    def rules(self, user: str, namespace: str) -> Iterator[dict[str, Any]]:
        """What a user may in a namespace."""
        bindings = [(each, "") for each in self.store.listed("clusterrolebindings")]
        if namespace:
            bindings += [(each, namespace) for each in self.store.listed("rolebindings", namespace)]
        for binding, place in bindings:
            if any(_name(subject) == user for subject in binding.get("subjects") or ()):
                kind = "roles" if binding["roleRef"]["kind"] == "Role" else "clusterroles"
                role = self.store.find(kind, place if kind == "roles" else "", binding["roleRef"]["name"])
                yield from (role or {}).get("rules") or ()


def _name(subject: Object) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    return str(subject["name"])


def _fits(rule: dict[str, Any], ask: Ask) -> bool:
    names = rule.get("resourceNames")
    return (
        (ask.verb in rule["verbs"] or "*" in rule["verbs"])
        and (ask.group in rule["apiGroups"] or "*" in rule["apiGroups"])
        and (ask.resource in rule["resources"] or "*" in rule["resources"])
        and (not names or ask.name in names)
    )
