import pytest

from jupiter_agent.core.estimate import PRIOR_BANDWIDTH_BPS, PRIOR_LATENCY_S, Links


def test_a_link_that_nobody_measured_is_estimated_and_says_so():
    link = Links().estimate("n2")
    assert (link.latency_s, link.bytes_per_s, link.samples) == (PRIOR_LATENCY_S, PRIOR_BANDWIDTH_BPS, 0)
    assert link.source == "estimated"


def test_latency_is_half_a_round_trip():
    links = Links()
    links.on_rtt("n2", 0.04, 1.0)
    assert (links.estimate("n2").latency_s, links.estimate("n2").source) == (0.02, "measured")


def test_transfers_give_the_bandwidth_and_the_newest_counts_most():
    links = Links()
    links.on_transfer("n2", 1000, 1.0, 1.0)
    assert links.estimate("n2").bytes_per_s == 1000.0
    links.on_transfer("n2", 2000, 1.0, 2.0)
    assert links.estimate("n2").bytes_per_s == pytest.approx(1300.0)
    assert (links.estimate("n2").source, links.estimate("n2").samples) == ("transfer", 2)


def test_an_unmeasured_link_is_taken_as_the_median_of_the_measured_ones():
    links = Links()
    for peer, rtt, size in [("a", 0.01, 10), ("b", 0.02, 20), ("c", 0.09, 90)]:
        links.on_rtt(peer, rtt, 0.0)
        links.on_transfer(peer, size, 1.0, 0.0)
    link = links.estimate("new")
    assert (link.latency_s, link.bytes_per_s, link.source) == (0.01, 20.0, "estimated")


def test_what_has_no_meaning_is_no_measurement():
    links = Links()
    links.on_rtt("n2", 0.0, 1.0)
    assert links.measured() == {}
    assert links.age_s("n2", 5.0) is None


def test_what_is_told_to_others_says_what_was_never_measured():
    links = Links()
    links.on_rtt("n2", 0.04, 1.0)
    links.on_transfer("n3", 500, 1.0, 2.0)
    assert links.measured() == {"n2": (0.02, 0.0, 1), "n3": (PRIOR_LATENCY_S, 500.0, 1)}
    assert (links.age_s("n2", 5.0), links.age_s("n3", 5.0)) == (4.0, 3.0)
