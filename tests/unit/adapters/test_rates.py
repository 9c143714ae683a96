"""Each source has its own measure, and no number of sources fills the memory."""

from jupiter_agent.adapters.rates import Rates


def test_a_source_may_burst_and_then_only_at_its_rate():
    rates = Rates(per_s=2.0, burst=3.0)
    assert [rates.take("a", 10.0) for _ in range(5)] == [True, True, True, False, False]
    assert not rates.take("a", 10.4)
    assert rates.take("a", 10.5)
    assert [rates.take("a", 99.0) for _ in range(4)] == [True, True, True, False]


def test_one_that_floods_takes_nothing_from_others():
    rates = Rates(per_s=1.0, burst=2.0)
    assert sum(rates.take("loud", 5.0) for _ in range(1000)) == 2
    assert rates.take("quiet", 5.0)


def test_sources_beyond_the_table_push_out_the_least_recent():
    rates = Rates(per_s=1.0, burst=1.0, sources=2)
    assert rates.take("a", 0.0)
    assert rates.take("b", 0.0)
    assert not rates.take("a", 0.0)
    assert rates.take("c", 0.0)
    assert not rates.take("a", 0.0), "it was seen after b"
    assert len(rates._buckets) == 2
