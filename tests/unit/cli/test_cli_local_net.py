"""What commands find in a cluster's folder about an emulated network."""

from __future__ import annotations

import json

import pytest

from jupiter_agent.cli.local_cluster import LocalCluster
from jupiter_agent.cli.local_net import Place, namespace_of, network


def test_places_are_found_again_with_their_namespaces_and_profiles(tmp_path):
    places = [Place("sfo", "10.77.0.1:7421", "/run/netns/jl1-sfo", "wan"), Place("node2", "127.0.0.1:20000")]
    cluster = LocalCluster(tmp_path)
    cluster.settle(places)
    assert [node.place for node in LocalCluster(tmp_path).nodes] == places


def test_the_namespace_of_a_cluster_is_one_that_still_exists(tmp_path):
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    nodes = [{"name": "a", "bind": "x:1", "netns": str(gone)}, {"name": "b", "bind": "x:1", "netns": str(there)}]
    (tmp_path / "cluster.json").write_text(json.dumps({"nodes": nodes}))
    assert namespace_of(tmp_path) == str(there)
    there.unlink()
    assert namespace_of(tmp_path) == ""


@pytest.mark.parametrize("content", ["", "[]", '{"nodes": 3}', '{"nodes": ["a"]}', '{"nodes": []}'])
def test_a_folder_without_a_network_has_no_namespace(tmp_path, content):
    (tmp_path / "cluster.json").write_text(content)
    assert namespace_of(tmp_path) == ""


def test_without_a_name_there_is_no_network():
    with network(None, 3) as found:
        assert found is None
