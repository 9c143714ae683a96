import pytest
from job_rig import Around, make_job

from jupiter_agent.core.averages import averages
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
    job = make_job({"a": ["b"], "b": []}, seconds={"a": 1.0, "b": 2.0}, averages=Averages(0.5, 1e-3, 2.0))
    assert job.ranks == pytest.approx({"b": 4.5, "a": 7.0})
