"""What-if changes of `ctl plan` as people write them, and what is shown below its tables."""

import pytest

from jupiter_agent.cli.ctl.planning import summary, what_if
from jupiter_agent.errors import UsageError


def test_nodes_are_taken_away_added_and_changed():
    assert what_if(["-n3", "+n9:speed=2", "+n8", "n1:speed=0.5"], []) == {
        "without": ["n3"],
        "speeds": {"n9": 2.0, "n8": 1.0, "n1": 0.5},
        "added": ["n9", "n8"],
    }


def test_links_have_a_rate_or_a_delay_or_both():
    assert what_if([], ["a:b:5mbit", "a:c:20ms", "b:c:1.5Gbit:500us"]) == {
        "links": [
            {"a": "a", "b": "b", "bytes_per_s": 625_000.0},
            {"a": "a", "b": "c", "latency_s": 0.02},
            {"a": "b", "b": "c", "bytes_per_s": 187_500_000.0, "latency_s": 0.0005},
        ]
    }


def test_without_changes_nothing_is_asked_for():
    assert what_if([], []) == {}


@pytest.mark.parametrize(
    "word", ["n3", "-", "+", "-n3:speed=2", "n3:speed=", "n3:speed=-1", "n3:cpus=2", "n3:speed=nan"]
)
def test_a_node_that_cannot_be_read_is_refused(word: str):
    with pytest.raises(UsageError, match="--node"):
        what_if([word], [])


@pytest.mark.parametrize("word", ["n3:speed=0", "+n3:speed=1001", "n3:speed=-1", "n3:speed=inf"])
def test_a_speed_out_of_range_is_told_the_range(word: str):
    with pytest.raises(UsageError, match=r"a speed is from 0\.001 to 1000"):
        what_if([word], [])


@pytest.mark.parametrize("word", ["a:b", "a:b:", "a:b:5", "a:b:fast", "a", ":b:5mbit", "a:b:0mbit", "a:b:-5mbit"])
def test_a_link_that_cannot_be_read_is_refused(word: str):
    with pytest.raises(UsageError, match="--link"):
        what_if([], [word])


def test_the_summary_names_critical_path_makespan_and_what_limits_the_rate():
    body = {
        "mapper": "heft", "makespan_s": 1.5, "throughput_hz": 4.0,
        "busiest": {"what": "sending", "node": "n2", "seconds": 0.25},
        "critical_path": [{"task": "a", "node": "n1"}, {"task": "b", "node": "n2"}],
    }  # fmt: skip
    assert summary(body) == [
        "critical path: a@n1 > b@n2",
        "heft: 1.5s for one item, 4 items/s (n2 is busy sending)",
    ]
    assert summary({"mapper": "heft", "makespan_s": 1.5}) == ["heft: 1.5s for one item"]
