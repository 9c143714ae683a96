"""What an agent learned outlives it, as far as the disk does."""

import sqlite3
import stat

import pytest

from jupiter_agent.adapters import profile_store
from jupiter_agent.adapters.profile_store import MIGRATIONS, ProfileStore


def test_models_of_links_are_there_again_after_a_restart(tmp_path):
    store = ProfileStore(tmp_path / "profiles.db")
    store.save_links({"n2": b"two", "n3": b"three"}, 100.0)
    store.save_links({"n2": b"newer"}, 200.0)
    store.close()
    again = ProfileStore(tmp_path / "profiles.db")
    assert again.links() == {"n3": (100.0, b"three"), "n2": (200.0, b"newer")}
    assert again.notice == ""


def test_the_file_is_its_owners_only(tmp_path):
    ProfileStore(tmp_path / "profiles.db").close()
    assert stat.S_IMODE((tmp_path / "profiles.db").stat().st_mode) == 0o600


def test_one_peer_or_all_are_forgotten(tmp_path):
    store = ProfileStore(tmp_path / "profiles.db")
    store.save_links({"n2": b"2", "n3": b"3", "n4": b"4"}, 1.0)
    assert store.forget_links("n3") == 1
    assert sorted(store.links()) == ["n2", "n4"]
    assert store.forget_links() == 2
    assert store.links() == {}


def test_the_oldest_models_give_way(tmp_path, monkeypatch):
    monkeypatch.setattr(profile_store, "MOST_LINKS", 2)
    store = ProfileStore(tmp_path / "profiles.db")
    for wall, peer in enumerate(["n2", "n3", "n4"]):
        store.save_links({peer: b""}, float(wall))
    assert sorted(store.links()) == ["n3", "n4"]


def test_a_damaged_file_is_put_aside_and_the_agent_starts_empty(tmp_path):
    path = tmp_path / "profiles.db"
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    store = ProfileStore(path)
    assert "damaged" in store.notice
    assert store.links() == {}
    store.save_links({"n2": b"2"}, 1.0)
    assert (tmp_path / "profiles.db.damaged").exists()


def test_a_file_of_a_later_version_is_left_as_it_is(tmp_path):
    path = tmp_path / "profiles.db"
    ProfileStore(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    store = ProfileStore(path)
    store.save_links({"n2": b"2"}, 1.0)
    store.close()
    assert "version" in store.notice
    assert sqlite3.connect(path).execute("SELECT count(*) FROM links").fetchone() == (0,)


def test_an_older_file_is_brought_up_to_date_step_by_step(tmp_path, monkeypatch):
    path = tmp_path / "profiles.db"
    store = ProfileStore(path)
    store.save_links({"n2": b"2"}, 1.0)
    store.close()
    more = "CREATE TABLE later (x INTEGER); INSERT INTO later VALUES (7)"
    monkeypatch.setattr(profile_store, "MIGRATIONS", (*MIGRATIONS, more))
    again = ProfileStore(path)
    assert again.links() == {"n2": (1.0, b"2")}
    again.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT x FROM later").fetchall() == [(7,)]
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


def test_a_disk_that_takes_nothing_is_an_os_error(tmp_path):
    store = ProfileStore(tmp_path / "profiles.db")
    store.close()
    with pytest.raises(OSError, match="profiles"):
        store.save_links({"n2": b"2"}, 1.0)


def test_profiles_of_executions_are_kept_by_bundle_task_and_node_and_forgotten_by_bundle(tmp_path):
    store = ProfileStore(tmp_path / "profiles.db")
    rows = [(b"A", "t", "n1", b"1"), (b"A", "t", "n2", b"2"), (b"B", "t", "n1", b"3")]
    store.save_executions(rows, 1.0)
    store.save_executions([(b"A", "t", "n1", b"new")], 2.0)
    store.close()
    again = ProfileStore(tmp_path / "profiles.db")
    assert again.executions() == [(b"A", "t", "n2", b"2"), (b"B", "t", "n1", b"3"), (b"A", "t", "n1", b"new")]
    assert again.forget_executions(b"A") == 2
    assert [bundle for bundle, *_ in again.executions()] == [b"B"]
    assert again.forget_executions() == 1


def test_a_file_of_the_first_version_gets_what_it_lacks(tmp_path):
    with sqlite3.connect(tmp_path / "profiles.db") as db:
        db.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1")
    store = ProfileStore(tmp_path / "profiles.db")
    store.save_executions([(b"A", "t", "n1", b"1")], 1.0)
    assert store.executions() == [(b"A", "t", "n1", b"1")]
