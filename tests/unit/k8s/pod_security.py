"""Pod Security Standard `restricted`, rule by rule (kubernetes.io/docs/concepts/security/pod-security-standards, 1.36).

A namespace that enforces it refuses pods for which `violations` is not empty. Linux pods only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Spec = dict[str, Any]

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def containers(spec: Spec) -> list[Spec]:
    return [each for kind in ("initContainers", "containers", "ephemeralContainers") for each in spec.get(kind, ())]


def rights(each: Spec) -> Spec:
    return dict(each.get("securityContext") or {})


def _everywhere(spec: Spec) -> list[Spec]:
    """The security contexts of the pod and of each container."""
    return [rights(spec), *map(rights, containers(spec))]


def host_namespaces(spec: Spec) -> bool:
    return any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def privileged(spec: Spec) -> bool:
    return any(rights(each).get("privileged") for each in containers(spec))


def capabilities(spec: Spec) -> bool:
    said = [rights(each).get("capabilities") or {} for each in containers(spec)]
    return any("ALL" not in each.get("drop", ()) or set(each.get("add", ())) - {"NET_BIND_SERVICE"} for each in said)


def host_path_volumes(spec: Spec) -> bool:
    return any("hostPath" in volume for volume in spec.get("volumes", ()))


def volume_types(spec: Spec) -> bool:
    return any(set(volume) - {"name"} - VOLUMES for volume in spec.get("volumes", ()))


def host_ports(spec: Spec) -> bool:
    return any(port.get("hostPort") for each in containers(spec) for port in each.get("ports", ()))


def hosts_of_probes(spec: Spec) -> bool:
    probes = [
        each.get(f"{kind}Probe") or {} for each in containers(spec) for kind in ("startup", "liveness", "readiness")
    ]
    hooks = [hook for each in containers(spec) for hook in (each.get("lifecycle") or {}).values()]
    return any((each.get(kind) or {}).get("host") for each in probes + hooks for kind in ("httpGet", "tcpSocket"))


def app_armor(spec: Spec) -> bool:
    kinds = {(each.get("appArmorProfile") or {"type": ""})["type"] for each in _everywhere(spec)}
    return bool(kinds - {"", "RuntimeDefault", "Localhost"})


def se_linux(spec: Spec) -> bool:
    said = [each.get("seLinuxOptions") or {} for each in _everywhere(spec)]
    return any(each.get("type", "") not in SELINUX_TYPES or each.get("user") or each.get("role") for each in said)


def proc_mount(spec: Spec) -> bool:
    return any(rights(each).get("procMount", "Default") != "Default" for each in containers(spec))


def seccomp(spec: Spec) -> bool:
    def kind(each: Spec) -> str:
        return str((rights(each).get("seccompProfile") or {"type": ""})["type"])

    fine = {"RuntimeDefault", "Localhost"}
    return kind(spec) not in fine | {""} or any((kind(each) or kind(spec)) not in fine for each in containers(spec))


def sysctls(spec: Spec) -> bool:
    return any(each["name"] not in SYSCTLS for each in rights(spec).get("sysctls", ()))


def privilege_escalation(spec: Spec) -> bool:
    return any(rights(each).get("allowPrivilegeEscalation") is not False for each in containers(spec))


def running_as_non_root(spec: Spec) -> bool:
    whole = rights(spec).get("runAsNonRoot")
    return any(rights(each).get("runAsNonRoot", whole) is not True for each in containers(spec))


def running_as_user_zero(spec: Spec) -> bool:
    return any(each.get("runAsUser") == 0 for each in _everywhere(spec))


RULES: tuple[Callable[[Spec], bool], ...] = (
    host_namespaces, privileged, capabilities, host_path_volumes, volume_types, host_ports, hosts_of_probes, app_armor,
    se_linux, proc_mount, seccomp, sysctls, privilege_escalation, running_as_non_root, running_as_user_zero,
)  # fmt: skip
"""Each is true of a pod that breaks it."""


def violations(spec: Spec) -> Iterator[str]:
    """The names of the rules that a pod breaks."""
    return (rule.__name__ for rule in RULES if rule(spec))
