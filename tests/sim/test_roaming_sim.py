"""Twenty walkers with radios, several hops apart and parted at times."""

from __future__ import annotations

import math

import pytest

from jupiter_agent.netlab import load
from jupiter_agent.sim.roaming import Journey, Roaming, journey


@pytest.fixture(scope="module", params=[True, False], ids=["with beacons", "without"])
def told(request: pytest.FixtureRequest) -> Journey:
    return journey(load("manet20"), seed=1, beacons=request.param)


def test_walkers_agree_in_each_component_after_faults(told: Journey) -> None:
    assert told.healed_s < 60.0
    assert told.agreed > 0.3, "views are equal where nobody came or went within the last minute"


def test_no_walker_who_is_connected_is_called_dead(told: Journey) -> None:
    assert told.false_deaths == 0


def test_a_walker_says_and_the_air_carries_little(told: Journey) -> None:
    assert told.said_bps < 7000
    assert told.carried_bps < 16000


def test_neighbours_one_hop_away_save_a_quarter_of_what_the_air_carries() -> None:
    """Of three journeys together: how much a single one saves varies."""
    far = sum(journey(load("manet20"), seed=seed, beacons=False).carried_bps for seed in (1, 2, 3))
    near = sum(journey(load("manet20"), seed=seed).carried_bps for seed in (1, 2, 3))
    assert near < 0.75 * far


def test_walkers_keep_two_neighbours_within_earshot_and_one_on_the_ring() -> None:
    world = Roaming(load("manet20"), seed=3)
    world.run(50.0)
    places = {node.seat.peer: node.seat.address for node in world.running()}
    hops, alone = [], 0
    for node in world.running():
        context = node.machine._context
        wanted = [peer for peer, link in context.links.items() if link.want]
        near = [peer for peer in wanted if peer in context.overheard]
        alone += len(near) < 2
        assert len(wanted) <= 4
        hops += [world.air.hops.get((node.seat.address, places[peer]), math.inf) for peer in near[:2]]
    assert alone <= 2, "those at the edge of the field"
    assert sum(count == 1 for count in hops) >= 0.7 * len(hops), "who walked out of earshot is replaced in time"


def test_who_walks_off_while_the_field_is_cut_in_two_is_missed_by_both_halves_when_they_meet() -> None:
    """What it said before it left arrives from the other half, and clears it of the first suspicion: those who knew it
    go on to miss it, and those who are asked and cannot reach it either say so."""
    told = journey(load("manet20"), seed=2, settle_s=50.0)
    assert told.healed_s < 60.0
    assert told.false_deaths == 0
