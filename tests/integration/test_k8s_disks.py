"""`jupiter k8s down` and what agents have left on their nodes' disks: none is forgotten, whatever happened before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from k8s_standin import EDGE, WHOLE, Make, Rig, on_disk, pods_of, rigs

from jupiter_agent.bench.kube.store import StatusError
from jupiter_agent.cli.k8s import removal

MAY_BE = "agents' state may be left on its disk, the cluster's keys with it: /var/lib/jupiter/agent ("


@pytest.fixture
def make(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Make]:
    yield from rigs(tmp_path, monkeypatch, capsys)


def roll_out_what_is_missing(rig: Rig, nodes: int) -> None:
    """An image that no node has: the first pod is replaced and stuck."""
    (image,) = {pod["spec"]["containers"][0]["image"] for name in rig.cluster.kubelets for pod in pods_of(rig, name)}
    for kubelet in rig.cluster.kubelets.values():
        kubelet.images = {image}
    code, _, said = rig.run(*EDGE[:-1], "9", "--image", "missing:1", "--pull-policy", "Never")
    assert (code != 0, "ErrImageNeverPull" in said) == (True, True), said


def test_a_roll_out_of_an_image_that_is_missing_leaves_no_state_on_the_node_where_it_is_stuck(make):
    rig = make(2)
    rig.done(*EDGE)
    roll_out_what_is_missing(rig, 2)
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": []}, [])


def test_where_no_image_is_known_to_run_the_node_is_named_as_one_that_may_hold_state(make):
    rig = make(1)
    rig.done(*EDGE)
    roll_out_what_is_missing(rig, 1)
    code, _, said = rig.run("k8s", "down")
    assert (code, f"n1: {MAY_BE}ErrImageNeverPull" in said) == (1, True), said
    assert "error: state may be left on 1 nodes" in said
    assert "`rm -rf FOLDER FOLDER.going-*`" in said
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": WHOLE}, [])


def test_a_node_on_which_no_agent_ever_ran_has_nothing_to_be_removed(make):
    rig = make(2)
    rig.cluster.kubelets["n2"].images = set()
    code, _, said = rig.run(*EDGE[:-1], "14", "--pull-policy", "Never")
    assert (code != 0, "n2: ErrImageNeverPull" in said) == (True, True), said
    made = rig.store.get("daemonsets", "jupiter", "jupiter-agent")["metadata"]["creationTimestamp"]
    (pod,) = pods_of(rig, "n2")  # made at once, also where this machine has other things to do
    name = pod["metadata"]["name"]
    rig.store.update(("pods", "jupiter", name), lambda after: after["metadata"].update(creationTimestamp=made))
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": []}, [])


@pytest.mark.parametrize("next_one", ["is not made yet", "has not started yet"])
def test_a_node_whose_pod_is_just_being_replaced_is_emptied_too(make, monkeypatch, next_one):
    rig = make(2)
    rig.done(*EDGE)
    if next_one == "is not made yet":
        monkeypatch.setattr(rig.cluster.controllers, "_make_pod", lambda owner, node: None)
    usual = rig.cluster.kubelets["n1"]._start

    def start(pod: Any, container: dict[str, Any]) -> None:
        if container["name"] == "agent":
            raise LookupError("its init container fails")
        usual(pod, container)

    monkeypatch.setattr(rig.cluster.kubelets["n1"], "_start", start)
    long_ago = {"creationTimestamp": "2026-01-01T00:00:00Z"}  # the pod that comes is not the node's first one
    rig.store.update(("daemonsets", "jupiter", "jupiter-agent"), lambda after: after["metadata"].update(long_ago))
    (pod,) = pods_of(rig, "n1")
    rig.store.delete(("pods", "jupiter", pod["metadata"]["name"]), grace_s=1.0)
    rig.wait(lambda: pod["metadata"]["uid"] not in {each["metadata"]["uid"] for each in pods_of(rig, "n1")})
    assert on_disk(rig)["n1"] == WHOLE
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": []}, [])


def test_a_pod_that_does_not_end_is_named_with_what_it_leaves(make):
    rig = make(2)
    rig.done(*EDGE)
    kubelet = rig.cluster.kubelets["n2"]
    kubelet._stopping = True
    kubelet._thread.join()
    code, _, said = rig.run("k8s", "down", "--timeout", "5")
    stays = "n2: agents' state stays on its disk, the cluster's keys with it: /var/lib/jupiter/agent (its pod has not"
    assert (code, stays in said, "error: pods do not end on n2" in said) == (6, True, True), said
    assert on_disk(rig) == {"n1": [], "n2": WHOLE}


# --- servers that are away for a moment, commands that are broken off ---


def test_errors_that_pass_cost_a_down_no_nodes_state(make):
    rig = make(2)
    rig.done(*EDGE)
    for method, path, status in (
        ("GET", "/pods", 500), ("GET", "/nodes", 503), ("GET", "/secrets/", 429), ("PATCH", "/daemonsets/", 504),
        ("DELETE", "/pods/", 429), ("DELETE", "/daemonsets/", 502), ("POST", "/pods", 500),
    ):  # fmt: skip
        rig.cluster.server.fail(method, path, status, "Passing", "etcdserver: leader changed")
    rig.done("k8s", "down")
    assert [fault for fault in rig.cluster.server.faults if fault.times] == []
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": []}, [])


def test_a_wiper_whose_making_was_not_confirmed_is_found_again(make):
    rig = make(1)
    rig.done(*EDGE)
    create = rig.store.create

    def unconfirmed(key: Any, body: Any, *more: Any) -> Any:
        made = create(key, body, *more)
        if key[2].startswith("jupiter-wipe-"):
            raise StatusError(500, "InternalError", "its answer was lost")
        return made

    rig.store.create = unconfirmed
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": []}, [])


def break_off(rig: Rig, monkeypatch: Any, how: str) -> None:
    if how == "the server is away for longer":
        rig.cluster.server.fail("POST", "/pods", 500, "InternalError", "etcdserver: leader changed", times=99)
        code, _, said = rig.run("k8s", "down")
        assert (code, "leader changed" in said) == (1, True), said
        rig.cluster.server.faults.clear()
        return

    def broken_off(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(removal, "wipe", broken_off)
        assert rig.run("k8s", "down")[0] != 0


@pytest.mark.parametrize("how", ["the server is away for longer", "it is killed"])
def test_the_next_down_wipes_what_one_that_was_broken_off_has_left(make, monkeypatch, how):
    rig = make(2)
    rig.done(*EDGE)
    if how == "it is killed":  # where nodes may not be listed, it is known from the DaemonSet where pods were
        rig.cluster.rights.forbidden.add(("list", "nodes"))
    break_off(rig, monkeypatch, how)
    assert rig.store.listed("pods") == []
    assert on_disk(rig) == {"n1": WHOLE, "n2": WHOLE}
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": []}, [])


def test_after_one_that_was_broken_off_up_brings_the_agents_back(make, monkeypatch):
    rig = make(2)
    rig.done(*EDGE)
    spec = rig.store.get("daemonsets", "jupiter", "jupiter-agent")["spec"]
    break_off(rig, monkeypatch, "it is killed")
    code, _, said = rig.run(*EDGE)
    assert (code, "2 agents see each other" in said) == (0, True), said
    found = rig.store.get("daemonsets", "jupiter", "jupiter-agent")
    assert (found["spec"], "jupiter-agent/nodes" in found["metadata"].get("annotations", {})) == (spec, False)
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": []}, [])


def test_without_the_right_to_change_the_daemonset_down_does_its_work(make):
    rig = make(1)
    rig.done(*EDGE)
    rig.cluster.rights.forbidden |= {("patch", "daemonsets"), ("get", "daemonsets")}
    rig.done("k8s", "down")
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": []}, [])


def test_pods_that_a_broken_off_down_has_left_go_also_from_a_namespace_that_is_not_ours(make):
    rig = make(1)
    rig.store.create(("namespaces", "", "jupiter"), {"apiVersion": "v1", "kind": "Namespace",
                                                     "metadata": {"name": "jupiter"}})  # fmt: skip
    left = {
        "apiVersion": "v1", "kind": "Pod", "status": {"phase": "Succeeded"},
        "metadata": {"name": "jupiter-wipe-1", "labels": {"app.kubernetes.io/managed-by": "jupiter"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "wipe", "image": "x"}]},
    }  # fmt: skip
    rig.cluster.kubelets["n1"].images = set()
    rig.store.create(("pods", "jupiter", "jupiter-wipe-1"), left)
    rig.done("k8s", "down")
    assert rig.cluster.left() == [("namespaces", "jupiter")]
