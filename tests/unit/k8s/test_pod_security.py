"""The pods of the default overlay pass Pod Security `restricted`; each rule refuses the pod that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from pod_security import RULES, Spec, violations

from jupiter_agent.k8s import manifests


def spec(overlay: str = "restricted") -> Spec:
    (found,) = [each for each in manifests.objects(overlay, token="t") if each["kind"] == "DaemonSet"]
    return copy.deepcopy(found["spec"]["template"]["spec"])


def container(**more: object) -> Callable[[Spec], None]:
    return lambda pod: pod["containers"][0].update(more)


def context(**more: object) -> Callable[[Spec], None]:
    return lambda pod: pod["containers"][0]["securityContext"].update(more)


def of_pod(**more: object) -> Callable[[Spec], None]:
    return lambda pod: pod["securityContext"].update(more)


def volume(**kind: object) -> Callable[[Spec], None]:
    return lambda pod: pod["volumes"].append({"name": "x", **kind})


def without(*names: str) -> Callable[[Spec], None]:
    def change(pod: Spec) -> None:
        for place in (pod["securityContext"], pod["containers"][0]["securityContext"]):
            for name in names:
                place.pop(name, None)

    return change


BREAKS: dict[str, list[Callable[[Spec], None]]] = {
    "host_namespaces": [lambda pod: pod.update(hostNetwork=True), lambda pod: pod.update(hostPID=True)],
    "privileged": [context(privileged=True)],
    "capabilities": [context(capabilities={"drop": ["ALL"], "add": ["CHOWN"]}), without("capabilities")],
    "host_path_volumes": [volume(hostPath={"path": "/"})],
    "volume_types": [volume(hostPath={"path": "/"}), volume(nfs={"server": "x", "path": "/"})],
    "host_ports": [container(ports=[{"containerPort": 1, "hostPort": 1}])],
    "hosts_of_probes": [container(livenessProbe={"httpGet": {"host": "1.2.3.4", "port": 1}})],
    "app_armor": [of_pod(appArmorProfile={"type": "Unconfined"})],
    "se_linux": [of_pod(seLinuxOptions={"type": "spc_t"}), context(seLinuxOptions={"role": "x"})],
    "proc_mount": [context(procMount="Unmasked")],
    "seccomp": [context(seccompProfile={"type": "Unconfined"}), without("seccompProfile")],
    "sysctls": [of_pod(sysctls=[{"name": "kernel.msgmax", "value": "1"}])],
    "privilege_escalation": [context(allowPrivilegeEscalation=True), without("allowPrivilegeEscalation")],
    "running_as_non_root": [context(runAsNonRoot=False), without("runAsNonRoot")],
    "running_as_user_zero": [of_pod(runAsUser=0), context(runAsUser=0)],
}  # fmt: skip


def test_the_pods_of_the_default_overlay_break_no_rule() -> None:
    assert list(violations(spec())) == []


def test_the_namespace_of_the_default_overlay_enforces_it() -> None:
    (namespace,) = [each for each in manifests.objects(token="t") if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_edge_overlay_breaks_what_its_use_of_the_host_takes_and_nothing_else() -> None:
    assert set(violations(spec("edge"))) == {
        "host_namespaces", "host_path_volumes", "volume_types", "capabilities", "running_as_non_root",
        "running_as_user_zero",
    }  # fmt: skip
    (agent,) = spec("edge")["containers"]
    pod = spec("edge") | {"hostNetwork": False, "initContainers": [], "volumes": []}
    assert (list(violations(pod)), agent["name"]) == ([], "agent"), "the agent itself has no rights there either"


@pytest.mark.parametrize(("rule", "number"), [(rule, n) for rule, ways in BREAKS.items() for n in range(len(ways))])
def test_a_pod_that_breaks_a_rule_is_found(rule: str, number: int) -> None:
    pod = spec()
    BREAKS[rule][number](pod)
    assert rule in violations(pod)


def test_every_rule_is_tried() -> None:
    assert set(BREAKS) == {rule.__name__ for rule in RULES}
