"""What a node believes of its links: measured where it can, else estimated, and always said which."""

import pytest

from jupiter_agent.core.estimate import PRIOR_BANDWIDTH_BPS, PRIOR_LATENCY_S, Links, Net
from jupiter_agent.core.profiling.coordinates import Place

MB = 1_000_000


def fed(links: Links, peer: str, bps: float, rtt_s: float = 0.02, count: int = 8) -> Links:
    """Transfers of 1 to 8 MB at this rate, after round trips of as long."""
    for at in range(count):
        links.on_rtt(peer, rtt_s, 10.0 * at)
        size = (1 + at % 8) * MB
        links.on_transfer(peer, size, rtt_s * 4 + size / bps, 10.0 * at + 5.0)
    return links


def test_a_link_that_nobody_measured_is_estimated_and_says_so():
    link = Links().estimate("n2")
    assert (link.latency_s, link.bytes_per_s, link.samples) == (PRIOR_LATENCY_S, PRIOR_BANDWIDTH_BPS, 0)
    assert (link.source, link.rate_source) == ("estimated", "estimated")


def test_latency_is_half_a_round_trip():
    links = Links()
    links.on_rtt("n2", 0.04, 1.0)
    link = links.estimate("n2")
    assert (link.latency_s, link.source, link.rate_source) == (0.02, "measured", "estimated")


def test_transfers_give_the_rate_from_a_peer():
    links = fed(Links(), "n2", 5e6)
    assert 1 / links.shape("n2").q == pytest.approx(5e6, rel=0.1)
    assert links.shape("n2").seconds(4 * MB) == pytest.approx(0.9, rel=0.1)
    assert links.wide("n2", 9.0)["bandwidth_source"] == "transfer"


def test_the_way_out_is_what_the_peer_says_and_until_then_an_estimate_by_the_way_in():
    links = fed(Links(), "n2", 5e6)
    assert links.estimate("n2").rate_source == "estimated"
    assert links.estimate("n2").bytes_per_s == pytest.approx(5e6, rel=0.1)
    links.on_told("n2", 1 / 2e6)
    assert (links.estimate("n2").bytes_per_s, links.estimate("n2").rate_source) == (2e6, "measured")
    assert 1 / links.shape("n2").q == pytest.approx(5e6, rel=0.1), "the way in is not theirs to tell"


def test_transfers_that_shared_the_link_do_not_halve_it():
    links = Links()
    for at in range(8):
        links.on_rtt("n2", 0.002, float(at))
        links.on_transfer("n2", 5 * MB, 2.0, 10.0 * at, coming=1)
        links.on_transfer("n2", 5 * MB, 2.0, 10.0 * at + 0.06)
    assert 1 / links.shape("n2").q == pytest.approx(5e6, rel=0.2)


def test_a_window_that_is_open_saves_its_rounds_and_closes_after_a_pause():
    links = Links()
    links.on_rtt("n2", 0.1, 0.0)
    links.on_transfer("n2", 4 * MB, 2.0, 10.0)
    idle, half, open_ = (links.expected_s("n2", MB, at) for at in (20.0, 12.0, 10.1))
    assert idle == links.shape("n2").seconds(MB)
    assert open_ < half < idle


def test_a_latency_that_was_never_measured_follows_from_the_places_of_both():
    links = Links("n1")
    links.place = Place(0.0, 0.0, 0.0, 0.001, error=0.1)
    links.nets = {"n2": Net(Place(0.03, 0.04, 0.0, 0.001, error=0.1)), "n3": Net(Place(1.0, error=1.0))}.get
    links.nets = lambda node, known=links.nets: known(node) or Net()
    links.on_rtt("n4", 0.2, 1.0)
    assert links.estimate("n2").latency_s == pytest.approx(0.026)
    assert links.estimate("n2").source == "estimated"
    assert links.estimate("n3").latency_s == 0.1, "an unsure place says nothing: as to the others"


def test_a_rate_that_was_never_measured_is_the_slower_of_both_ends():
    links = fed(Links(), "n2", 5e6)
    links.on_told("n2", 1 / 3e6)
    own = links.net()
    assert own.down_bps == pytest.approx(5e6, rel=0.1)
    assert own.up_bps == pytest.approx(3e6)
    links.nets = lambda node: Net(None, up_bps=1e6, down_bps=2e6) if node == "n9" else Net()
    assert 1 / links.shape("n9").q == pytest.approx(1e6)
    assert links.estimate("n9").bytes_per_s == pytest.approx(2e6)
    assert 1 / links.shape("n8").q == pytest.approx(own.down_bps), "of the other end nothing is known"
    assert links.wide("n9", 9.0)["bandwidth_source"] == "estimated"


def test_a_round_trip_moves_the_own_place():
    links = Links("n1")
    links.nets = lambda node: Net(Place(0.1, 0.0, 0.0, 0.001, error=0.1))
    for at in range(40):
        links.on_rtt("n2", 0.03, float(at))
    assert links.place.rtt_s(Place(0.1, 0.0, 0.0, 0.001)) == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_what_is_no_time_is_no_sample(seconds):
    links = Links()
    links.on_rtt("n2", seconds, 1.0)
    links.on_transfer("n2", 1000, seconds, 1.0)
    links.on_transfer("n2", -5, 1.0, 1.0)
    assert links.measured() == {}
    assert links.estimate("n2").source == "estimated"


def test_the_age_is_that_of_the_last_measurement():
    links = Links()
    assert links.age_s("n2", 5.0) is None
    links.on_rtt("n2", 0.04, 1.0)
    assert links.age_s("n2", 5.0) == 4.0
    assert links.rate_age_s("n2", 5.0) == float("inf")


def test_what_is_shown_has_a_rate_only_where_one_was_measured():
    links = Links()
    links.on_rtt("n2", 0.04, 1.0)
    assert links.measured() == {"n2": (0.02, 0.0, 1)}
    assert links.inbound()["n2"].samples == 0


def test_models_outlive_a_restart_and_the_round_trip_is_measured_anew():
    rows = fed(Links(), "n2", 5e6).to_rows(["n2", "n3"])
    again = Links()
    assert again.recall("n2", rows["n2"], 60.0, 5.0)
    assert 1 / again.shape("n2").q == pytest.approx(5e6, rel=0.1)
    assert again.estimate("n2").latency_s == PRIOR_LATENCY_S
    assert again.age_s("n2", 5.0) == 60.0
    assert not again.recall("n3", b"nonsense", 1.0, 5.0)
    assert not again.recall("n3", rows["n2"][:-3], 1.0, 5.0)
    assert "n3" not in again.inbound()


def test_one_peer_or_all_are_forgotten():
    links = fed(fed(Links(), "n2", 5e6), "n3", 5e6)
    assert links.forget("n9") == 0
    assert links.forget("n2") == 1
    assert list(links.inbound()) == ["n3"]
    assert links.forget() == 1
    assert links.inbound() == {}
