"""What a Node object of Kubernetes, a pod's environment and its labels make of a node's resources."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jumping import run

from jupiter_agent.adapters.kube_api import KubeError
from jupiter_agent.adapters.kube_node import AGAIN_S, MOST_BYTES, HostNode, bounded, capabilities, quantity, topology
from jupiter_agent.adapters.pod import Account
from jupiter_agent.core.board import to_data
from jupiter_agent.core.messages.membership import VALUE_BYTES
from jupiter_agent.core.published import Shown

NODE = {
    "metadata": {
        "labels": {
            "kubernetes.io/arch": "arm64", "beta.kubernetes.io/arch": "arm64", "topology.kubernetes.io/zone": "lab",
            "gpu.example/kind": "jetson", "much": "x" * 64,
        }
    },
    "spec": {"taints": [{"key": "edge", "value": "far", "effect": "NoSchedule"}, {"key": "k", "effect": "NoExecute"}]},
    "status": {"allocatable": {"cpu": "1900m", "memory": "4037040Ki", "nvidia.com/gpu": "2", "pods": "110"}},
}  # fmt: skip
SENSED = {"cpus": 4.0, "memory_bytes": 2 << 30, "speed": 1.0, "labels": {"rack": "7"}}


class Answers:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append(path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found


def asked(it: HostNode, seconds: float = 100.0) -> None:
    """For so long, in a loop whose time is a number."""

    async def work() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await it.ask()

    run(work)


def host(api: Answers, node: str = "n1", labels: Path = Path("/nowhere")) -> HostNode:
    return HostNode(Account("10.96.0.1", 443, Path("/nowhere"), node), api, labels)


def test_labels_taints_and_what_is_allocatable_are_read_from_the_node():
    assert capabilities(NODE) == {
        "labels": {"kubernetes.io/arch": "arm64", "topology.kubernetes.io/zone": "lab", "gpu.example/kind": "jetson"},
        "taints": ["edge=far:NoSchedule", "k:NoExecute"],
        "cpus": 1.9, "memory_bytes": 4037040 * 1024, "gpus": 2,
    }  # fmt: skip


def test_a_reading_has_no_more_than_both_allow_and_the_operators_labels():
    api = Answers(NODE)
    it = host(api)
    asked(it)
    assert api.asked == ["/api/v1/nodes/n1"]
    values = it.over(SENSED)
    assert (values["cpus"], values["memory_bytes"], values["gpus"]) == (1.9, 2 << 30, 2)
    assert (values["k8s_host"], values["speed"]) == ("n1", 1.0)
    assert values["labels"] == {"rack": "7", "kubernetes.io/arch": "arm64", "topology.kubernetes.io/zone": "lab",
                                "gpu.example/kind": "jetson"}  # fmt: skip
    assert msgspec.convert(values, Shown).k8s_host == "n1"


def test_who_may_not_read_nodes_asks_once_and_says_what_the_pod_knows(tmp_path):
    labels = tmp_path / "labels"
    labels.write_text('app="jupiter"\ntopology.kubernetes.io/region="eu"\ntopology.kubernetes.io/zone="eu-1"\n')
    api = Answers(KubeError(403, "403: nodes is forbidden"))
    it = host(api, labels=labels)
    asked(it)
    values = it.over({"cpus": 4.0})
    assert values == {
        "cpus": 4.0, "k8s_host": "n1",
        "labels": {"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "eu-1"},
    }  # fmt: skip
    assert len(api.asked) == 1


def test_a_server_that_is_away_is_asked_again():
    for seconds, gpus in ((5.9, None), (6.1, 2)):
        it = host(Answers(KubeError(0, "no answer"), KubeError(500, "500: etcd"), NODE))
        asked(it, seconds)
        assert it.found.get("gpus") == gpus


def test_a_taint_that_comes_and_one_that_goes_are_noticed_within_minutes():
    bare = {"metadata": {"labels": {"rack": "8"}}, "spec": {}, "status": {}}
    away = KubeError(0, "no answer"), KubeError(401, "401"), KubeError(404, "404")
    for seconds, taints in ((4 * AGAIN_S[0], True), (4 * AGAIN_S[1], False)):
        it = host(Answers(NODE, *away, bare))
        asked(it, seconds)
        assert ("taints" in it.found) is taints
    assert it.found == {"k8s_host": "n1", "labels": {"rack": "8"}}


def test_who_may_not_read_nodes_any_more_asks_no_more_and_keeps_what_it_knows():
    api = Answers(NODE, KubeError(403, "403: nodes is forbidden"), NODE)
    it = host(api)
    asked(it, 1e5)
    assert len(api.asked) == 2
    assert it.found["taints"]


def test_agents_that_start_together_do_not_ask_again_together():
    api = Answers(NODE)
    every = [host(api) for _ in range(100)]

    async def work() -> list[int]:
        tasks = [asyncio.create_task(it.ask()) for it in every]
        counts = []
        for _ in range(int(AGAIN_S[1])):
            counts.append(len(api.asked))
            await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        return counts

    counts = run(work)
    assert counts[1] == counts[int(AGAIN_S[0]) - 1] == 100
    assert max(later - earlier for earlier, later in pairwise(counts[1:])) <= 10


def test_a_pod_that_does_not_know_its_node_asks_nobody():
    api = Answers()
    it = host(api, node="")
    asked(it)
    assert it.over(SENSED) == SENSED


@pytest.mark.parametrize(
    "node",
    [
        {}, {"metadata": 3, "spec": [], "status": None}, {"metadata": {"labels": {"a": 3, "": "x"}}},
        {"spec": {"taints": ["x", None]}, "status": {"allocatable": {"cpu": 3, "memory": "lots", "amd.com/gpu": ""}}},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out(node):
    assert not {key for key, value in capabilities(node).items() if value}


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2.0), ("1900m", 1.9), ("4037040Ki", 4037040 * 1024.0), ("1.5Gi", 1.5 * 2**30), ("1e3", 1e3), ("5E", 5e18),
     ("", 0.0), ("-1", 0.0), ("1 Gi", 0.0), (None, 0.0), (3, 0.0)],
)  # fmt: skip
def test_quantities_are_numbers(text, number):
    assert quantity(text) == pytest.approx(number)


def test_very_many_labels_are_cut_to_what_may_be_published_the_operators_first():
    labels = {f"label{k:03}": "x" * (k % 60) for k in range(200)}
    kept = bounded({**labels, "mine": "y"}, {"mine": "y"})
    assert kept["mine"] == "y"
    assert len(kept) <= 32
    assert sum(len(key) + len(value) for key, value in kept.items()) <= MOST_BYTES
    assert bounded({**labels, "mine": "y"}, {"mine": "y"}) == kept  # the same each time: nothing is published anew
    assert topology(Path("/nowhere")) == {}


def test_what_is_published_of_a_node_fits_however_much_the_cluster_says_of_it():
    labels = {f"label.example/{k:03}": "x" * 40 for k in range(100)}
    taints = [{"key": "k" * 200, "value": "v" * 63, "effect": "NoSchedule"}] * 20
    api = Answers({"metadata": {"labels": labels}, "spec": {"taints": taints}, "status": NODE["status"]})
    it = host(api, node="n" * 253)
    asked(it)
    said = {"gpu": "g" * 64, "isolation": "bubblewrap", "received_bps": 1.5e9, "sent_bps": 1.5e9, "queue_length": 10.5,
            "steal": 0.05, "load": 3.5, "disk_used": 0.55, "full": False, "draining": True, "queue": 3.25}  # fmt: skip
    values = it.over({**SENSED, **said})
    assert len(to_data(values)) <= VALUE_BYTES
    assert msgspec.convert(values, Shown).taints
