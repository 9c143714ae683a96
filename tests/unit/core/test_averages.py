import pytest
from job_rig import Around, make_job

from jupiter_agent.core.averages import averages
from jupiter_agent.core.job import UNKNOWN_BYTES
from jupiter_agent.core.messages.jobs import Averages


def test_averages_are_of_what_nodes_say_and_of_the_links_known_here():
    around = Around("n1", ("n1", "n2"))
    around.profiles = {"n1": {"speed": 2.0}, "n2": {"speed": 0.5}}
    around.latencies = {"n2": 0.1}
    around.published = {"n2": {"n1": (0.3, 0.0)}}
    found = averages(around)
    assert found.latency_s == pytest.approx(0.2)
    assert found.inv_rate == pytest.approx(1e-7)
    assert found.pace == pytest.approx((0.5 + 2.0) / 2)


def test_a_node_alone_takes_the_usual_links_and_its_own_speed():
    around = Around("n1", ("n1",))
    around.profiles = {"n1": {"speed": 4.0}}
    assert averages(around) == Averages(pace=0.25)


def test_ranks_follow_the_averages_that_home_sent_along():
    known = {"seconds": {"a": 1.0, "b": 2.0}, "edge_bytes": {"a>b": 1000, "b>home": 0}}
    job = make_job({"a": ["b"], "b": []}, averages=Averages(0.5, 1e-3, 2.0), **known)
    assert job.ranks == pytest.approx({"b": 4.5, "a": 8.0})


def test_an_edge_that_was_not_measured_carries_what_others_do_never_nothing():
    edges = {"a": ["b", "c"], "b": [], "c": []}
    assert make_job(edges).bytes_on("a", "b") == UNKNOWN_BYTES
    assert make_job(edges, edge_bytes={"home>a": 70}).bytes_on("a", "b") == 70
    measured = make_job(edges, edge_bytes={"home>a": 70, "a>b": 0, "b>home": 30, "c>home": 500})
    assert [measured.bytes_on("a", "b"), measured.bytes_on("a", "c")] == [0, 30]
