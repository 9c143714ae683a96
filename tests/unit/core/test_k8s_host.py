"""A node is found by its name, and by what Kubernetes calls its machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jupiter_agent.core.standpoint import Standpoint

HOSTS = {"id1": "worker-7", "id2": "worker-8", "id3": ""}
NAMES = {"id1": "camera", "id2": "worker-7", "id3": "lab"}


@pytest.fixture
def around():
    it = Standpoint()
    members = {node: SimpleNamespace(record=SimpleNamespace(name=name)) for node, name in NAMES.items()}
    it.membership = SimpleNamespace(members=lambda: members, alive=lambda: list(NAMES))
    it.published = SimpleNamespace(resources=lambda node: {"k8s_host": HOSTS[node]} if HOSTS[node] else {})
    return it


@pytest.mark.parametrize(
    ("word", "node"),
    [("camera", "id1"), ("id3", "id3"), ("worker-8", "id2"), ("worker-7", "id2"), ("elsewhere", None), ("", None)],
)
def test_names_and_ids_come_before_hosts(around, word, node):
    assert around.find(word) == node
