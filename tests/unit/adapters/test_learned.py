"""Models of links over the restart of an agent."""

import asyncio

import pytest

from jupiter_agent.adapters import learned
from jupiter_agent.adapters.learned import EVERY_S, LearnedLinks
from jupiter_agent.adapters.profile_store import ProfileStore
from jupiter_agent.core.estimate import Links

MB = 1_000_000


def known_links() -> Links:
    links = Links("n1")
    for at in range(1, 6):
        links.on_rtt("n2", 0.02, float(at))
        links.on_transfer("n2", at * MB, 0.1 + at * 0.2, float(10 * at))
    return links


def test_a_restarted_agent_knows_the_rates_it_had_measured(tmp_path):
    first = LearnedLinks(tmp_path / "profiles.db", links := known_links(), 0.0)
    first.close(100.0)
    again = Links("n1")
    LearnedLinks(tmp_path / "profiles.db", again, 5.0)
    assert again.shape("n2").q == pytest.approx(links.shape("n2").q)
    assert again.knows_rate("n2")


def test_nothing_is_written_before_there_is_something_new(tmp_path):
    kept = LearnedLinks(tmp_path / "profiles.db", links := known_links(), 0.0)
    asyncio.run(kept.save(EVERY_S - 1))
    assert not (tmp_path / "profiles.db").exists()
    asyncio.run(kept.save(EVERY_S))
    assert list(ProfileStore(tmp_path / "profiles.db").links()) == ["n2"]
    links.on_transfer("n3", MB, 0.5, EVERY_S + 1)
    kept.close(EVERY_S + 2)
    assert list(ProfileStore(tmp_path / "profiles.db").links()) == ["n2", "n3"]


def test_what_is_forgotten_is_gone_from_memory_and_disk(tmp_path):
    kept = LearnedLinks(tmp_path / "profiles.db", links := known_links(), 0.0)
    asyncio.run(kept.save(EVERY_S))
    assert kept.forget("n9") == 0
    assert kept.forget() == 1
    kept.close(EVERY_S + 1)
    assert not links.knows_rate("n2")
    assert ProfileStore(tmp_path / "profiles.db").links() == {}


def test_old_and_unreadable_models_are_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(learned.time, "time", lambda: 1e9)
    store = ProfileStore(tmp_path / "profiles.db")
    row = known_links().to_rows(["n2"])["n2"]
    store.save_links({"n2": row}, 1e9 - learned.OLDEST_S - 1)
    store.save_links({"n3": b"rubbish", "n4": row}, 1e9 - 50)
    store.close()
    links = Links("n1")
    LearnedLinks(tmp_path / "profiles.db", links, 7.0)
    assert [links.knows_rate(peer) for peer in ("n2", "n3", "n4")] == [False, False, True]
    assert links.age_s("n4", 7.0) == 50.0


def test_a_disk_that_takes_nothing_costs_the_memory_only(tmp_path):
    kept = LearnedLinks(tmp_path / "missing" / "profiles.db", known_links(), 0.0)
    kept.close(100.0)
