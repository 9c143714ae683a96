"""Networks where not everybody reaches everybody: views converge, nobody dies of it, jobs run across neighbours."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from job_apps import DIAMOND, make
from job_grid import finish, mapping, verify

from jupiter_agent.core.membership import PROFILES, MemberChanged, Membership
from jupiter_agent.core.messages.membership import Relayed
from jupiter_agent.sim.cluster import Cluster, add_member
from jupiter_agent.sim.grid import Grid

Pairs = set[tuple[str, str]]


def cut(network: object, pairs: Pairs) -> None:
    for a, b in pairs:
        network.cuts |= {(f"{a}:7000", f"{b}:7000"), (f"{b}:7000", f"{a}:7000")}  # type: ignore[attr-defined]


def radio(count: int, links: Pairs, profile: str = "manet", seed: int = 1) -> Cluster[Membership]:
    """n0..n(count-1) that reach each other over these links only; each knows its neighbours' addresses."""
    cluster: Cluster[Membership] = Cluster(seed, (0.002, 0.02))
    names = [f"n{i}" for i in range(count)]
    cut(cluster.network, {pair for pair in combinations(names, 2) if pair not in links})
    for name in names:
        near = sorted({a if b == name else b for a, b in links if name in (a, b)})
        add_member(cluster, name, near, PROFILES[profile])
    return cluster


def chain(count: int) -> Pairs:
    return {(f"n{i}", f"n{i + 1}") for i in range(count - 1)}


def islands_with_a_bridge(half: int) -> Pairs:
    """Two groups in which everybody reaches everybody, and one link between them."""
    one, two = [f"n{i}" for i in range(half)], [f"n{i}" for i in range(half, 2 * half)]
    return {*combinations(one, 2), *combinations(two, 2), ("n0", f"n{half}")}


def field(count: int, reach: float, seed: int) -> Pairs:
    """Radios at random in a square, linked up to a distance."""
    rng = Random(seed)
    at = {f"n{i}": (rng.random(), rng.random()) for i in range(count)}
    return {
        (a, b)
        for a, b in combinations(at, 2)
        if (at[a][0] - at[b][0]) ** 2 + (at[a][1] - at[b][1]) ** 2 < reach * reach
    }


def parts(count: int, links: Pairs) -> list[set[str]]:
    found: list[set[str]] = []
    for name in [f"n{i}" for i in range(count)]:
        joined = [part for part in found if any({a, b} & part and name in (a, b) for a, b in links)]
        found = [part for part in found if part not in joined] + [{name}.union(*joined)]
    return found


def converged(cluster: Cluster[Membership], groups: list[set[str]]) -> bool:
    """Every member of a group sees exactly the group."""
    for group in groups:
        ids = sorted(cluster.nodes[name].seat.peer for name in group)
        if any(cluster.nodes[name].machine.alive() != ids for name in group):
            return False
    return True


def deaths(cluster: Cluster[Membership]) -> list[MemberChanged]:
    return [e for _, _, e in cluster.effects if isinstance(e, MemberChanged) and e.state == "dead"]


@pytest.mark.parametrize(
    ("count", "links"),
    [(10, chain(10)), (16, islands_with_a_bridge(8)), (20, field(20, 0.4, 1)), (20, field(20, 0.25, 3))],
    ids=["chain", "bridge", "field", "islands"],
)
def test_views_converge_in_every_part_of_a_radio_network_and_nobody_is_called_dead(count, links):
    cluster, groups = radio(count, links), parts(count, links)
    assert cluster.run_until(lambda: converged(cluster, groups), 30.0) is not None
    cluster.run(180.0)
    assert converged(cluster, groups)
    assert deaths(cluster) == []


def test_a_member_up_to_five_links_away_is_reached_through_neighbours_and_one_beyond_is_not():
    cluster = radio(8, chain(8))
    cluster.run(60.0)
    first, peer = cluster.nodes["n0"].machine, {name: node.seat.peer for name, node in cluster.nodes.items()}
    assert first.reach(peer["n1"]) is True
    assert [first.reach(peer[f"n{i}"]) for i in (2, 3, 4, 5)] == [peer["n1"]] * 4
    assert [first.reach(peer[f"n{i}"]) for i in (6, 7)] == [False, False]
    assert len(first.alive()) == 8


def test_a_member_that_dies_out_of_sight_of_most_is_dead_everywhere():
    cluster = radio(10, chain(10))
    assert cluster.run_until(lambda: converged(cluster, [set(cluster.nodes)]), 30.0) is not None
    cluster.run(30.0)
    cluster.crash("n9", "silent")
    groups = [{f"n{i}" for i in range(9)}]
    assert cluster.run_until(lambda: converged(cluster, groups), 180.0) is not None


def test_a_link_that_appears_is_used_and_one_that_goes_is_gone_round():
    cluster = radio(5, chain(5))
    cluster.run(60.0)
    ends = cluster.nodes["n0"].machine, cluster.nodes["n4"].seat.peer
    assert ends[0].reach(ends[1]) == cluster.nodes["n1"].seat.peer
    cluster.network.cuts -= {("n0:7000", "n4:7000"), ("n4:7000", "n0:7000")}
    assert cluster.run_until(lambda: ends[0].reach(ends[1]) is True, 400.0) is not None


@pytest.mark.parametrize("profile", ["lan", "wan", "manet"])
def test_one_pair_that_cannot_connect_is_no_reason_to_call_anybody_dead(profile):
    names = [f"n{i}" for i in range(12)]
    links = set(combinations(names, 2)) - {("n2", "n7")}
    cluster = radio(12, links, profile)
    assert cluster.run_until(lambda: converged(cluster, [set(names)]), 20.0) is not None
    cluster.run(120.0)
    assert converged(cluster, [set(names)])
    assert deaths(cluster) == []


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.smoke
def test_a_job_runs_over_nodes_that_reach_each_other_through_a_neighbour_only(seed):
    grid = Grid(seed)
    names = [f"node{i + 1}" for i in range(5)]
    cut(grid.network, {("node1", "node4"), ("node3", "node5"), ("node1", "node3")})
    for name in names:
        grid.add_peer(name, [other for other in names if other != name])
    assert grid.run_until(lambda: all(len(grid.nodes[n].machine.alive()) == 5 for n in names), 30.0) is not None
    grid.run(20.0)
    app, recipe = make(DIAMOND)
    grid.install(app, *names)
    items = {f"item{i}": b"bytes of %d" % i for i in range(4)}
    places = ["node3", "node5", "node4", "node1", "node3"]
    where = {task.name: places[i % 5] for i, task in enumerate(app.spec.tasks)}
    job = grid.submit("node1", app, items, mapping=where)["id"]
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, items)
    assert set(mapping(grid, "node1", job).values()) > {"node3", "node4"}
    assert all(grid.nodes[n].machine.membership.counters["relay_received"] for n in ("node1", "node3"))
    assert Relayed in {type(send.message) for _, _, send in grid.sent}
