"""`jupiter k8s down` where not all goes well: two deployments on a node, nodes that go away, nodes that run nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from k8s_standin import EDGE, WHOLE, Make, Rig, on_disk, pods_of, rigs

from jupiter_agent.cli.k8s.objects import Objects


@pytest.fixture
def make(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Make]:
    yield from rigs(tmp_path, monkeypatch, capsys)


def silence(rig: Rig, node: str) -> None:
    """Nothing is heard of it any more."""
    kubelet = rig.cluster.kubelets[node]
    kubelet._stopping = True
    kubelet._thread.join()


@pytest.mark.parametrize("starts", [True, False])
def test_down_of_one_deployment_leaves_the_state_of_another_on_the_same_node(make, starts):
    rig = make(1)
    rig.done(*EDGE, "-n", "a")
    if not starts:
        rig.cluster.kubelets["n1"].images = set()  # as where the ports are taken: nothing of it ever runs
    code, _, said = rig.run("k8s", "up", "--overlay", "edge", "--timeout", "6", "-n", "b")
    assert (code != 0, "down --namespace b" in said) == (True, True), said
    code, _, said = rig.run("k8s", "down", "-n", "b")
    assert code == 0, said
    assert ("n1: /var/lib/jupiter/agent is not ours but another cluster's: left alone" in said) is starts
    assert on_disk(rig) == {"n1": WHOLE}
    rig.cluster.kubelets["n1"].images = None
    rig.done("k8s", "down", "-n", "a")
    assert on_disk(rig) == {"n1": []}


def test_a_node_that_is_lost_while_its_pod_ends_or_was_taken_out_holds_nobody_up(make):
    rig = make(3)
    rig.done("k8s", "up", "--timeout", "60")
    silence(rig, "n2")
    silence(rig, "n3")
    rig.store.remove(("nodes", "", "n2"))
    threading.Timer(2.0, rig.cluster.set_ready, ("n3", False)).start()
    code, _, said = rig.run("k8s", "down", "--timeout", "30")
    assert code == 0, said
    assert rig.cluster.left() == []


def test_when_time_is_over_all_goes_but_the_pod_that_does_not_end(make):
    rig = make(2)
    rig.done("k8s", "up", "--timeout", "60")
    silence(rig, "n2")
    code, _, said = rig.run("k8s", "down", "--timeout", "6")
    assert (code, "error: pods do not end on n2" in said) == (6, True), said
    left = rig.cluster.left()
    assert {plural for plural, _ in left} <= {"namespaces", "pods"}, left
    (pod,) = rig.store.listed("pods")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 2.0, "nobody is left to hand anything over to"
    rig.store.remove(("nodes", "", "n2"))
    rig.done("k8s", "down")
    assert rig.cluster.left() == []


def test_a_node_that_cannot_run_what_empties_its_disk_is_named_soon(make):
    rig = make(2)
    rig.done(*EDGE)
    cut_off = rig.cluster.kubelets["n2"]
    usual = cut_off._turn

    def turn(now: float) -> None:
        if not any(pod["metadata"]["name"].startswith("jupiter-wipe-") for pod in pods_of(rig, "n2")):
            usual(now)

    cut_off._turn = turn
    began = time.monotonic()
    code, _, said = rig.run("k8s", "down")
    assert time.monotonic() - began < 20.0
    assert (code, "n2: agents' state stays on its disk" in said, "in time" in said) == (1, True, True), said
    assert "error: state is left on 1 nodes" in said
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": [], "n2": WHOLE}, [])


def test_simulated_nodes_that_do_not_say_so_have_no_disk_to_be_emptied(make):
    rig = make(1, simulated=3, marked=False)
    rig.done(*EDGE)
    began = time.monotonic()
    code, _, said = rig.run("k8s", "down")
    assert code == 0, said
    assert time.monotonic() - began < 10.0
    assert (on_disk(rig), rig.cluster.left()) == ({"n1": []}, [])


@pytest.mark.parametrize("overlay", ["restricted", "edge"])
def test_with_the_seconds_of_a_container_runtime_and_of_the_end_of_a_namespace_down_takes_few_more(make, overlay):
    rig = make(2, at_once=False)
    rig.done("k8s", "up", "--overlay", overlay, "--timeout", "60")
    began = time.monotonic()
    code, _, said = rig.run("k8s", "down")
    assert (code, rig.cluster.left()) == (0, []), said
    assert 5.0 < time.monotonic() - began < 15.0


def test_kinds_are_listed_at_once_to_see_what_others_have_in_a_namespace():
    both = threading.Barrier(2, timeout=10.0)

    class Slow:
        context = ""

        def request(self, method: str, path: str, *_: Any, **__: Any) -> dict[str, Any]:
            if path == "/apis":
                return {"groups": []}
            if path == "/api/v1":
                verbs = {"namespaced": True, "verbs": ["list"]}
                return {"resources": [{"kind": "A", "name": "as", **verbs}, {"kind": "B", "name": "bs", **verbs}]}
            both.wait()
            return {"items": [{"metadata": {"name": path.rpartition("/")[2]}}]}

    slow: Any = Slow()
    assert Objects(slow, "jupiter").others() == (["A as", "B bs"], [])


def test_without_knowing_whose_state_it_is_nothing_is_removed_from_a_disk(make):
    rig = make(1)
    rig.done(*EDGE)
    rig.cluster.rights.forbidden.add(("get", "secrets"))
    code, _, said = rig.run("k8s", "down")
    assert (code, "it is not known whose it is: the token may not be read" in said) == (1, True), said
    assert on_disk(rig) == {"n1": WHOLE}
