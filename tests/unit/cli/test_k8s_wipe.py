"""How long `jupiter k8s down` waits for the pods that empty nodes' disks: literal times, no cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.k8s.access import RefusedError
from jupiter_agent.cli.k8s.wipe import FIRST_S, NEXT_S, Place, Wiped, wipe
from jupiter_agent.k8s.manifests import objects

FOLDER = "/var/lib/jupiter/agent"
TAKEN = {"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}
WORKS = {"phase": "Running", "containerStatuses": [{"name": "wipe", "containerID": "x://1", "state": {"running": {}}}]}
DONE = {"phase": "Succeeded"}
SIMULATED = {"phase": "Running", "containerStatuses": [{"name": "wipe", "state": {"running": {}}}]}
Life = list[tuple[float, dict[str, Any]]]
"""(seconds after the begin, status from then on)"""


class Cluster(Clock):
    """Objects of a namespace and the time: a pod's status is what its node's list says for now."""

    namespace = "jupiter"

    def __init__(self, lives: dict[str, Life]) -> None:
        self.s, self.lives, self.pods = 0.0, lives, dict[str, dict[str, Any]]()

    def now(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        self.s += seconds

    def create(self, wanted: dict[str, Any], patience_s: float) -> dict[str, Any]:
        node = wanted["spec"]["nodeName"]
        made = {**wanted, "metadata": {**wanted["metadata"], "uid": node}}
        return self.pods.setdefault(node, made)

    def listed(self, kind: str) -> list[dict[str, Any]]:
        def now(node: str) -> dict[str, Any]:
            return next((status for since, status in reversed(self.lives[node]) if self.s >= since), {})

        return [{**pod, "status": now(node)} for node, pod in self.pods.items()]

    def ours(self, kinds: list[str]) -> list[dict[str, Any]]:
        return self.listed("Pod")

    def delete_all(self, found: list[dict[str, Any]], grace_s: int) -> None:
        for each in found:
            self.pods.pop(each["metadata"]["uid"], None)


def wiped(until: float, **lives: Life) -> tuple[Wiped, float]:
    """And how long it took."""
    template = next(each for each in objects("edge", token="") if each["kind"] == "DaemonSet")["spec"]["template"]
    cluster: Any = Cluster(lives)
    places: dict[Place, Any] = {(node, FOLDER): template for node in lives}
    found = wipe(cluster, places, "ab", cluster, until)
    assert cluster.pods == {}, "none is left"
    return found, cluster.now()


def test_a_pod_that_its_kubelet_has_taken_has_the_time_of_the_command():
    """The first node ends at once; the other one's disk is slow, or its image is unpacked first."""
    found, took = wiped(120.0, quick=[(1.0, DONE)], slow=[(2.0, TAKEN), (40.0, WORKS), (70.0, DONE)])
    assert found.failed == {}
    assert 70.0 <= took < 71.0


def test_a_pod_that_no_kubelet_takes_holds_nobody_up():
    found, took = wiped(120.0, quick=[(1.0, DONE)], silent=[])
    assert found.failed == {("silent", FOLDER): "nothing runs there in time"}
    assert 1.0 + NEXT_S <= took < 2.0 + NEXT_S
    found, took = wiped(120.0, silent=[])
    assert FIRST_S <= took < FIRST_S + 1.0


def test_a_pod_that_works_for_longer_than_the_command_has_is_named():
    found, took = wiped(30.0, slow=[(2.0, WORKS)])
    assert found.failed == {("slow", FOLDER): "it takes longer than there is time"}
    assert 30.0 <= took < 31.0


def test_when_pods_took_all_the_time_to_end_there_is_some_left():
    found, took = wiped(0.0, slow=[(2.0, WORKS), (15.0, DONE)])
    assert (found.failed, took < 16.0) == ({}, True)


def test_a_simulated_node_that_does_not_say_so_has_no_disk():
    found, took = wiped(120.0, ghost=[(0.2, SIMULATED)])
    assert (found.failed, took < 1.0) == ({}, True)


@pytest.mark.parametrize(("status", "ends"), [(403, False), (422, False), (500, True), (503, True)])
def test_what_keeps_a_pod_from_being_made_is_told_and_what_passes_ends_the_command(status, ends, monkeypatch):
    def refused(self: Cluster, wanted: dict[str, Any], patience_s: float) -> Callable[[], None]:
        raise RefusedError(status, "", "not now")

    monkeypatch.setattr(Cluster, "create", refused)
    if ends:
        with pytest.raises(RefusedError):
            wiped(120.0, one=[])
    else:
        assert wiped(120.0, one=[])[0].failed == {("one", FOLDER): "not now"}
