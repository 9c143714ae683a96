"""What netlab computes: topologies, the radio, paths, routes. No namespaces, no root."""

from __future__ import annotations

import itertools
from array import array

import pytest

from jupiter_agent.errors import UsageError
from jupiter_agent.netlab import system
from jupiter_agent.netlab.links import Links
from jupiter_agent.netlab.radio import RADIO, position_at, radio_link, random_waypoint
from jupiter_agent.netlab.routes import NO_ROUTE, components, shortest_routes
from jupiter_agent.netlab.topology import expanded, known, lan, load, site_link, trimmed

LINE = {
    "nodes": [{"name": f"n{k}", "pos": [200 * k, 0]} for k in range(4)],
    "radio": {"range_m": 250, "edge_loss": 0},
    "routing": "shortest",
    "route_lag_s": 2.0,
}


def links_of(topology):
    return Links(topology, expanded(topology), 0x0A4D0000)


# --- topologies


@pytest.mark.parametrize(("name", "nodes"), [("wan8", 8), ("wan106", 106), ("manet20", 20), ("manet50", 50)])
def test_every_topology_that_comes_along_has_its_nodes_and_can_be_laid_out(name, nodes):
    topology = load(name)
    links = links_of(topology)
    assert links.n == nodes
    assert all(sum(links.shared["up"][i * nodes : (i + 1) * nodes]) > 0 for i in range(nodes)) or "radio" in topology
    links.shared.close()


def test_the_names_of_topologies_are_told_when_one_is_wrong():
    with pytest.raises(UsageError) as caught:
        load("wan9")
    assert all(name in caught.value.hint for name in known())


def test_a_file_that_is_no_topology_is_refused(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{", "[]", "{}", '{"nodes": []}'):
        path.write_text(text)
        with pytest.raises(UsageError):
            load(str(path))


def test_count_makes_numbered_nodes_with_the_defaults_they_do_not_set():
    nodes = expanded({"defaults": {"tx_mbps": 1}, "nodes": [{"name": "a", "count": 2}, {"name": "b", "tx_mbps": 5}]})
    assert [(node["name"], node["tx_mbps"]) for node in nodes] == [("a1", 1), ("a2", 1), ("b", 5)]


@pytest.mark.parametrize("nodes", [["a", "a"], ["../a"], [""], [{"name": "a", "count": 1001}]])
def test_bad_repeated_or_too_many_names_are_refused(nodes):
    with pytest.raises(UsageError):
        expanded({"nodes": nodes})


def test_a_trimmed_topology_keeps_some_nodes_of_every_site():
    names = [node["name"] for node in expanded(trimmed(load("wan106"), 16))]
    assert sorted(name.split("-")[0] for name in names) == sorted(2 * load("wan106")["sites"]["names"])


def test_a_topology_cannot_be_trimmed_to_more_than_it_has():
    with pytest.raises(UsageError):
        trimmed(load("wan8"), 9)


def test_links_between_sites_take_half_the_round_trip_and_the_rate_of_the_table():
    topology = load("wan8")
    sfo, nyc = (node for node in expanded(topology) if node["name"] in ("sfo", "nyc"))
    assert site_link(topology, sfo, nyc) | {"delay_ms": 35, "rate_mbps": 200} == site_link(topology, sfo, nyc)


# --- radio and paths


def test_a_radio_link_is_fast_and_clean_nearby_slow_and_lossy_at_the_edge_and_gone_beyond():
    near, edge, beyond = (radio_link(distance, RADIO) for distance in (10, 250, 251))
    assert (near["rate_mbps"], near["loss"]) == (20.0, 0.0)
    assert (edge["rate_mbps"], edge["loss"]) == (1.0, 0.3)
    assert beyond == {"up": False}


def test_a_walker_is_on_the_line_between_its_points():
    trace = [[0.0, 0.0, 0.0], [10.0, 100.0, 50.0], [20.0, 100.0, 50.0]]
    assert [position_at(trace, t) for t in (-1, 5, 15, 99)] == [(0, 0), (50, 25), (100, 50), (100, 50)]


def test_random_paths_are_the_same_for_the_same_seed_and_stay_inside_at_the_given_speed():
    traces = random_waypoint(5, 3, 100.0, 400.0, (1.0, 10.0))
    assert traces == random_waypoint(5, 3, 100.0, 400.0, (1.0, 10.0))
    for trace in traces.values():
        assert trace[-1][0] >= 100.0
        for (t0, x0, y0), (t1, x1, y1) in itertools.pairwise(trace):
            assert ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 <= 10.1 * (t1 - t0) + 0.2
            assert 0 <= x1 <= 400 >= y1 >= 0


# --- routes and links


def test_a_route_prefers_two_good_hops_to_one_bad_one():
    up = [0, 1, 1, 1, 0, 1, 1, 1, 0]  # a triangle
    rate = [0, 100, 1, 100, 0, 100, 1, 100, 0]
    assert shortest_routes(3, up, rate, [0] * 9)[0 * 3 + 2] == 1
    assert shortest_routes(3, up, [0] * 9, [0] * 9)[0 * 3 + 2] == 2


def test_there_is_no_route_to_another_part_of_the_network():
    up = [0, 1, 0, 1, 0, 0, 0, 0, 0]
    routes = shortest_routes(3, up, [0] * 9, [0] * 9)
    assert routes[2] == routes[3 + 2] == NO_ROUTE
    assert sorted(map(sorted, components(range(3), 3, up))) == [[0, 1], [2]]


def test_nodes_in_a_line_reach_each_other_over_their_neighbours():
    links = links_of(LINE)
    hops = array("I", links.shared["next_hop"])
    assert [hops[0 * 4 + dst] for dst in (1, 2, 3)] == [1, 1, 1]
    assert links.parts() == [{"n0", "n1", "n2", "n3"}]
    links.shared.close()


def test_routes_follow_a_move_after_their_lag():
    links = links_of(LINE)
    links.move({"n3": (200.0, 10.0)}, 10.0)
    links.advance(11.9)
    assert links.shared["next_hop"][0 * 4 + 3] == 1
    links.advance(12.0)
    assert links.shared["next_hop"][0 * 4 + 3] == 3
    links.shared.close()


def test_who_stands_still_walks_no_more_but_routes_follow_what_heals():
    walk = {"step_s": 1.0, "traces": {"n3": [[0, 600, 0], [100, 200, 10]]}}
    links = links_of({**LINE, "mobility": walk})
    links.stand_still()
    links.partition([["n0", "n1"]], 1.0)
    links.advance(3.0)
    assert links.shared["next_hop"][0 * 4 + 3] == NO_ROUTE
    links.heal(4.0)
    links.advance(100.0)
    assert links.shared["next_hop"][0 * 4 + 3] == 1
    assert links.parts() == [{"n0", "n1", "n2", "n3"}]
    assert not links.shared["up"][1 * 4 + 3], "n3 has walked on"
    links.shared.close()


def test_a_partition_cuts_between_its_groups_and_an_isolation_adds_to_it_until_all_is_healed():
    links = links_of(lan(4))
    links.partition([["node1", "node2"]], 1.0)
    assert sorted(map(sorted, links.parts())) == [["node1", "node2"], ["node3", "node4"]]
    links.isolate(["node3"], 2.0)
    assert sorted(map(sorted, links.parts())) == [["node1", "node2"], ["node3"], ["node4"]]
    links.heal(3.0)
    assert links.parts() == [{"node1", "node2", "node3", "node4"}]
    links.shared.close()


def test_a_link_that_is_down_stays_down_through_a_partition_and_its_heal():
    links = links_of(lan(2))
    links.change("node1", "node2", 1.0, up=False)
    links.partition([["node1"]], 2.0)
    links.heal(3.0)
    assert len(links.parts()) == 2
    links.shared.close()


def test_an_unknown_link_property_is_refused():
    links = links_of(lan(2))
    with pytest.raises(UsageError):
        links.change("node1", "node2", 1.0, colour=1)
    links.shared.close()


# --- what the system is asked


def test_why_no_lab_can_run_is_said(monkeypatch):
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    assert "root" in system.why_not()
    with pytest.raises(UsageError):
        system.require()


def test_only_namespaces_whose_maker_is_gone_are_abandoned(monkeypatch, tmp_path):
    monkeypatch.setattr(system, "NETNS", tmp_path)
    for name in (system.netns("a"), "jl4194305-a", "other", "jlx-a"):  # beyond the largest pid
        (tmp_path / name).touch()
    assert system.abandoned() == ["jl4194305-a"]
