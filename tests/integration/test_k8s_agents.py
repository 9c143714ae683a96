"""A stand-in cluster whose pods are real agents: they come, find each other without DNS, are killed and replaced."""

from __future__ import annotations

import base64
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.cli import reach

sys.path.insert(0, str(Path(__file__).parents[1]))
from k8s_standin import Rig

APP = Path(__file__).parents[2] / "app_specific_files" / "example"


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Rig]:
    found = Rig(tmp_path, monkeypatch, capsys, nodes=3, simulated=2)
    yield found
    found.cluster.stop()


def nodes(rig: Rig) -> dict[str, dict[str, Any]]:
    """name -> node, of those that are alive."""
    code, out, said = rig.run("ctl", "--namespace", "jupiter", "get", "nodes", "-o", "json")
    assert code == 0, said
    return {each["name"]: each for each in json.loads(out)["items"] if each["state"] == "alive"}


def from_inside_a_pod(rig: Rig, monkeypatch: Any, tmp_path: Path, service: str, *named: str) -> set[str]:
    """Names of the nodes as `ctl` shows them to somebody in a pod of the namespace who has the Secret mounted."""
    secret = rig.store.get("secrets", "jupiter", "jupiter-token")["data"]["token"]
    mounted = tmp_path / "mounted"
    mounted.write_bytes(base64.b64decode(secret))
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(reach, "IN_POD", mounted)
        patch.setattr(reach, "SYSTEM_DIR", tmp_path / "none")
        patch.setattr(reach, "POD_NAMESPACE", tmp_path / "namespace")
        (tmp_path / "namespace").write_text("jupiter")
        patch.delenv("KUBECONFIG")
        patch.setenv("HOME", str(tmp_path))
        patch.setenv("JUPITER_STATE_DIR", str(tmp_path / "none"))
        patch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        patch.setenv("JUPITER_SERVICE_HOST", service)
        patch.setenv("JUPITER_SERVICE_PORT", "7421")
        code, out, said = rig.run("ctl", *named, "get", "nodes", "-o", "json")
    assert code == 0, said
    return {each["name"] for each in json.loads(out)["items"]}


def status(rig):
    return {each["name"]: each for each in json.loads(rig.run("k8s", "status", "-o", "json")[1])["items"]}


def test_agents_come_find_each_other_through_the_api_server_and_go(rig, monkeypatch, tmp_path):
    code, out, said = rig.run("k8s", "up", "-o", "json", "--timeout", "60")
    assert code == 0, said
    answer = json.loads(out)
    assert [each["name"] for each in answer["items"]] == ["n1", "n2", "n3"]
    assert set(answer["not_waited_for"]) == {"s1", "s2"}
    assert "s1: no agent is waited for: the node is simulated" in said
    found = nodes(rig)
    assert {name: each["found_by"] for name, each in found.items() if each["found_by"] != "self"}
    assert {each["found_by"] for each in found.values()} <= {"self", "kube", "gossip"}

    rows = status(rig)
    wanted = {**dict.fromkeys(("n1", "n2", "n3"), ("ready", True)), **dict.fromkeys(("s1", "s2"), ("ready", False))}
    deadline = time.monotonic() + 20
    while {name: (row["state"], row["joined"]) for name, row in rows.items()} != wanted:
        assert time.monotonic() < deadline, rows
        time.sleep(0.5)
        rows = status(rig)
    code, out, _ = rig.run("k8s", "logs", "n2")
    assert (code, "agent n2" in out) == (0, True)
    for named in ((), ("--namespace", "jupiter")):
        assert from_inside_a_pod(rig, monkeypatch, tmp_path, rows["n1"]["address"], *named) == {"n1", "n2", "n3"}

    asked = {
        (ask.verb, ask.group, ask.resource, ask.namespace)
        for ask in rig.cluster.rights.asked
        if ask.user == "system:serviceaccount:jupiter:jupiter-agent"
    }
    rules = rig.store.get("roles", "jupiter", "jupiter-agent")["rules"]
    granted = {
        (verb, group, resource, "jupiter")
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {each for each in asked if each[2] != "nodes"} == granted  # every right that is given is used, and no other
    assert {each for each in asked if each[2] == "nodes"} <= {("get", "", "nodes", "")}  # tried once, and refused

    code, _, said = rig.run("k8s", "down")
    assert code == 0, said
    assert rig.cluster.left() == []
    assert all(pod.process is None or pod.process.poll() is not None for pod in rig.cluster.pods())


def test_a_killed_agent_is_the_same_node_again_and_a_deleted_pod_is_replaced_under_a_job(rig):
    rig.done("k8s", "up", "--timeout", "60")
    before = nodes(rig)
    (pod,) = [each for each in rig.cluster.pods() if each.object["spec"]["nodeName"] == "n2"]
    assert pod.process is not None
    pod.process.send_signal(signal.SIGKILL)
    rig.wait(lambda: pod.restarts == 1 and pod.ready)
    rig.wait(lambda: nodes(rig).get("n2", {}).get("boot", 0) > before["n2"]["boot"])
    assert nodes(rig)["n2"]["id"] == before["n2"]["id"]

    code, out, said = rig.run("ctl", "--namespace", "jupiter", "submit", str(APP), "--samples", "-o", "json")
    assert code == 0, said
    job = json.loads(out)
    victim = next(name for name in ("n1", "n2", "n3") if name != job["home"])
    (doomed,) = [each for each in rig.cluster.pods() if each.object["spec"]["nodeName"] == victim]
    rig.store.delete(doomed.key, grace_s=30.0)
    code, out, said = rig.run("ctl", "--namespace", "jupiter", "wait", job["id"], "--timeout", "90", "-o", "json")
    assert code == 0, said
    done = json.loads(out)
    assert (done["state"], done["items_failed"]) == ("completed", 0)
    assert done["items_done"] == done["items_in"] > 0
    rig.wait(lambda: set(nodes(rig)) == {"n1", "n2", "n3"})
    assert nodes(rig)[victim]["id"] != before[victim]["id"]  # its folder went with the pod


def test_a_node_that_comes_later_gets_an_agent_that_the_others_see_by_itself(rig):
    rig.done("k8s", "up", "--timeout", "60")
    rig.cluster.add_node("n4")
    began = time.monotonic()
    rig.wait(lambda: "n4" in nodes(rig))
    assert time.monotonic() - began < 30.0


def test_an_image_that_is_missing_on_one_node_is_said_with_a_hint_and_the_others_go_on(rig):
    rig.cluster.kubelets["n3"].images = set()
    code, _, said = rig.run("k8s", "up", "--timeout", "60", "--pull-policy", "Never")
    assert code == 1
    assert "2 agents have joined, 1 nodes lack one" in said
    assert "n3: ErrImageNeverPull: Container image" in said
    assert "hint: give one with --image, load it on that node" in said
    rig.cluster.kubelets["n3"].images = None
    code, _, said = rig.run("k8s", "up", "--timeout", "60", "--pull-policy", "Never")
    assert (code, "3 agents see each other" in said) == (0, True)


def test_pods_that_the_namespace_does_not_allow_are_reported_with_the_reason(rig):
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": {
        "pod-security.kubernetes.io/enforce": "restricted"}}}  # fmt: skip
    rig.store.create(("namespaces", "", "strict"), body)
    code, _, said = rig.run("k8s", "up", "--namespace", "strict", "--overlay", "edge", "--timeout", "30")
    assert code == 1
    assert "violates PodSecurity" in said
    assert "hint: Pod Security or a quota refuses its pods: --overlay restricted" in said


def test_what_agents_ask_of_the_api_server_starts_anew_when_their_version_is_forgotten(rig):
    rig.done("k8s", "up", "--timeout", "60")

    def lists() -> int:
        return [(ask.verb, ask.resource) for ask in rig.cluster.rights.asked].count(("list", "endpointslices"))

    before = lists()
    rig.store.forget()
    rig.wait(lambda: lists() >= before + 3)
    assert set(nodes(rig)) == {"n1", "n2", "n3"}


def on_disk(rig: Rig) -> dict[str, list[str]]:
    """node -> state folders on its disk"""
    disks = {name: kubelet.disk / "var/lib/jupiter" for name, kubelet in rig.cluster.kubelets.items()}
    return {name: sorted(path.name for path in disk.iterdir()) for name, disk in disks.items() if disk.exists()}


EDGE = ("k8s", "up", "--overlay", "edge", "--timeout", "60")


def test_agents_at_the_edge_leave_nothing_on_the_disks_and_come_again(rig):
    rig.done(*EDGE)
    before = nodes(rig)
    assert on_disk(rig) == {"n1": ["agent"], "n2": ["agent"], "n3": ["agent"]}
    (pod,) = [each for each in rig.cluster.pods() if each.object["spec"]["nodeName"] == "n2"]
    rig.store.delete(pod.key, grace_s=5.0)
    rig.wait(lambda: nodes(rig).get("n2", {}).get("boot", 0) > before["n2"]["boot"])
    assert nodes(rig)["n2"]["id"] == before["n2"]["id"]  # a new pod is the same node

    code, _, said = rig.run("k8s", "down")
    assert (code, "nothing is left of 12 objects" in said) == (0, True), said
    assert rig.cluster.left() == []
    assert on_disk(rig) == {"n1": [], "n2": [], "n3": []}
    code, _, said = rig.run(*EDGE)
    assert (code, "3 agents see each other" in said) == (0, True), said
    assert {each["id"] for each in nodes(rig).values()}.isdisjoint({each["id"] for each in before.values()})


def test_state_that_cannot_be_removed_is_named_and_keeps_no_new_cluster_from_its_node(rig):
    rig.done(*EDGE)
    rig.cluster.rights.forbidden.add(("create", "pods"))
    code, _, said = rig.run("k8s", "down")
    assert code == 1
    for node in ("n1", "n2", "n3"):
        assert f"{node}: agents' state stays on its disk, the cluster's keys with it: /var/lib/jupiter/agent (" in said
    assert "error: state is left on 3 nodes" in said
    assert "nothing is left" not in said
    assert rig.cluster.left() == []

    code, _, said = rig.run(*EDGE)
    assert (code, "3 agents see each other" in said) == (0, True), said
    for folders in on_disk(rig).values():
        assert [name.partition("-")[0] for name in folders] == ["agent", "agent"]
    _, out, _ = rig.run("k8s", "logs", "n1")
    assert "was of another cluster than the token" in out

    rig.cluster.set_ready("n3", ready=False)
    rig.cluster.rights.forbidden.clear()
    code, _, said = rig.run("k8s", "down")
    assert (code, "error: state is left on 1 nodes" in said) == (1, True)
    assert "n3: agents' state stays on its disk, the cluster's keys with it: /var/lib/jupiter/agent (the" in said
    assert {name: len(folders) for name, folders in on_disk(rig).items()} == {"n1": 1, "n2": 1, "n3": 2}, (
        "the first cluster's stays"
    )


def test_agents_at_the_edge_run_on_tainted_nodes_and_publish_what_the_cluster_says_of_theirs(rig):
    taint = {"key": "edge", "value": "far", "effect": "NoSchedule"}
    rig.cluster.add_node("camera", [taint], {"gpu.example/kind": "jetson", "topology.kubernetes.io/zone": "field"})
    code, _, said = rig.run("k8s", "up", "--overlay", "edge", "--timeout", "60")
    assert code == 0, said
    seen: list[dict[str, Any]] = []  # each look may ask another agent, and they hear of it one after the other

    def told() -> bool:
        seen.append(nodes(rig).get("camera", {}))
        return bool(seen[-1].get("taints"))

    rig.wait(told)
    camera = seen[-1]
    assert (camera["k8s_host"], camera["taints"], camera["cpus"]) == ("camera", ["edge=far:NoSchedule"], 1.9)
    assert camera["memory_bytes"] <= 4037040 * 1024
    assert camera["labels"] == {
        "kubernetes.io/hostname": "camera", "gpu.example/kind": "jetson", "topology.kubernetes.io/zone": "field",
    }  # fmt: skip
    rig.done("k8s", "down")
    assert rig.cluster.left() == []
