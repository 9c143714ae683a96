"""Places of nodes: estimates for pairs that never spoke, from those that did."""

from itertools import combinations
from random import Random
from statistics import median

import pytest

from jupiter_agent.core.profiling.coordinates import Place, moved

RTT_MS = {
    ("sfo", "nyc"): 70, ("sfo", "tor"): 64, ("sfo", "lon"): 140, ("sfo", "ams"): 146, ("sfo", "fra"): 150,
    ("sfo", "sin"): 172, ("nyc", "tor"): 16, ("nyc", "lon"): 72, ("nyc", "ams"): 80, ("nyc", "fra"): 84,
    ("nyc", "sin"): 230, ("tor", "lon"): 86, ("tor", "ams"): 92, ("tor", "fra"): 96, ("tor", "sin"): 222,
    ("lon", "ams"): 8, ("lon", "fra"): 13, ("lon", "sin"): 168, ("ams", "fra"): 8, ("ams", "sin"): 166,
    ("fra", "sin"): 160,
}  # fmt: skip
CITIES = sorted({city for pair in RTT_MS for city in pair})


def settled(never: set[tuple[str, str]], rounds: int = 30) -> dict[str, Place]:
    """Places after some rounds of measuring all pairs but these."""
    places, rng = dict.fromkeys(CITIES, Place()), Random(1)
    pairs = [pair for pair in RTT_MS if pair not in never]
    for _ in range(rounds):
        rng.shuffle(pairs)
        for a, b in pairs:
            places[a] = moved(places[a], places[b], RTT_MS[a, b] / 1000, (a, b))
            places[b] = moved(places[b], places[a], RTT_MS[a, b] / 1000, (b, a))
    return places


def test_pairs_that_never_spoke_are_estimated_from_those_that_did():
    off = []
    for never in combinations(sorted(RTT_MS), 1):
        places = settled(set(never))
        (a, b), true = never[0], RTT_MS[never[0]] / 1000
        off.append(abs(places[a].rtt_s(places[b]) - true) / true)
    assert median(off) < 0.25


def test_places_become_sure_of_themselves():
    assert all(place.error < 0.3 for place in settled(set()).values())


def test_a_place_travels_in_twenty_bytes():
    place = settled(set())["lon"]
    assert len(place.to_bytes()) == 20
    assert Place.from_bytes(place.to_bytes()).rtt_s(place) == pytest.approx(2 * place.height, abs=1e-6)


@pytest.mark.parametrize(
    "numbers",
    [(float("nan"), 0, 0, 0, 1), (1e300, 0, 0, 0, 1), (0, 0, 0, -1.0, 1), (0, 0, 0, 0, -1.0), (50, 0, 0, 0, 1)],
)
def test_a_place_without_sense_is_refused(numbers):
    try:
        data = Place(*numbers).to_bytes()
    except OverflowError:
        data = Place(float("inf")).to_bytes()
    with pytest.raises(ValueError, match="no place"):
        Place.from_bytes(data)


def test_bytes_of_another_length_are_no_place():
    with pytest.raises(ValueError, match="no place"):
        Place.from_bytes(b"\0" * 16)


def test_a_sure_node_hardly_moves_for_one_that_is_not():
    sure, lost = Place(0.1, 0, 0, 0.001, error=0.02), Place(error=1.0)
    assert abs(moved(sure, lost, 5.0, ("a", "b")).x - 0.1) < 0.1
    assert abs(moved(lost, sure, 0.3, ("b", "a")).rtt_s(sure) - 0.3) < abs(lost.rtt_s(sure) - 0.3)
