"""Whole clusters in virtual time measure their links: soon, where a mapping asks, and whatever happens to members."""

from __future__ import annotations

from functools import partial

import pytest
from job_apps import CHAIN, make
from job_grid import finish, formed, verify

from jupiter_agent.core.messages.links import LinkProbe
from jupiter_agent.core.peer import PeerSettings
from jupiter_agent.core.profiling.probing import PROBES
from jupiter_agent.sim import grid as grids
from jupiter_agent.sim.grid import Grid

pytestmark = pytest.mark.smoke


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Grid:
    """Five nodes that probe, as real agents do."""
    monkeypatch.setattr(grids, "PeerSettings", partial(PeerSettings, probes=PROBES["lan"]))
    return formed()


def pairs(grid: Grid) -> list[tuple[str, str]]:
    return [(a, b) for a in grid.nodes for b in grid.nodes if a != b]


def known(grid: Grid, a: str, b: str) -> tuple[float | None, bool]:
    """(round trip as b knows it, whether b knows the rate from a)"""
    links, peer = grid.nodes[b].machine.links_known, grid.nodes[a].seat.peer
    shape = links.inbound().get(peer)
    return (shape.rtt_s if shape else None), links.knows_rate(peer)


def rated(grid: Grid) -> bool:
    return all(known(grid, a, b)[1] for a, b in pairs(grid))


def test_every_member_knows_the_round_trip_to_every_neighbour_in_three_seconds(grid: Grid) -> None:
    grid.run(3.0)
    low, high = grid.network.delay_s
    for a, b in pairs(grid):
        rtt_s, _ = known(grid, a, b)
        assert rtt_s is not None
        assert 2 * low <= rtt_s <= 2 * high


def test_a_mapping_asks_about_links_and_all_candidates_measure_them(grid: Grid) -> None:
    app, recipe = make(CHAIN)
    items = {"i": b"data"}
    job = grid.submit("node1", app, items, mapper="heft")["id"]
    assert grid.run_until(lambda: rated(grid), 30.0) is not None
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, items)


def test_what_each_says_of_its_access_reaches_the_others(grid: Grid) -> None:
    grid.submit("node1", make(CHAIN)[0], {"i": b"data"}, mapper="heft")
    grid.run_until(lambda: rated(grid), 20.0)
    grid.run(130.0)
    asker = grid.nodes["node2"].machine
    nets = [asker.published.net(grid.nodes[name].seat.peer) for name in grid.nodes if name != "node2"]
    assert all(net.place is not None and net.place.error < 1 and 0 < net.up_bps <= 1e10 for net in nets)
    assert asker.published.senseless == 0


def test_members_that_die_or_are_cut_off_are_not_probed_for_ever(grid: Grid) -> None:
    grid.submit("node1", make(CHAIN)[0], {"i": b"data"}, mapper="heft")
    grid.run(3.0)
    grid.crash("node5", "silent")
    grid.run(60.0)
    gone = grid.nodes["node5"].seat.peer
    late = [send for at, _, send in grid.sent if at > grid.now - 20.0 and send.dst == gone]
    assert [send for send in late if isinstance(send.message, LinkProbe)] == []
    grid.start("node5")
    grid.run(30.0)
    assert all(known(grid, "node5", name)[0] is not None for name in ("node1", "node2", "node3", "node4"))
