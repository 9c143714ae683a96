"""The object store: chunks in any order become exactly the object of their digest, or nothing."""

import errno
import hashlib
import os
import random
import stat
from pathlib import Path

import pytest

from jupiter_agent.adapters import object_files, objects, packs, partial
from jupiter_agent.adapters.objects import MAX_PARTIALS, STALE_S, ObjectStore
from jupiter_agent.errors import CapacityError, TaskError

DATA = random.Random(1).randbytes(1000)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


KEY = sha(DATA)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def reopened(store: ObjectStore) -> ObjectStore:
    return ObjectStore(store.folder)


def files(store: ObjectStore) -> set[str]:
    return {p.name for p in store.folder.rglob("*") if p.is_file() and p.suffix != ".pack"}


def test_chunks_in_order_become_a_read_only_object(store: ObjectStore) -> None:
    for at in range(0, 900, 100):
        assert store.write_chunk(KEY, 1000, at, DATA[at : at + 100]).state == "partial"
        assert store.partial_offset(KEY) == at + 100
    assert not store.has(KEY)
    assert store.read_chunk(KEY, 0, 10) is None
    assert store.write_chunk(KEY, 1000, 900, DATA[900:]).state == "stored"
    assert store.has(KEY)
    assert store.path(KEY).read_bytes() == DATA
    assert stat.S_IMODE(store.path(KEY).stat().st_mode) == 0o400
    assert (store.size(KEY), store.partial_offset(KEY), store.used_bytes) == (1000, 1000, 1000)
    assert files(store) == {f"{KEY.hex()}.1000"}
    assert store.write_chunk(KEY, 1000, 0, b"again").state == "stored"


def test_chunks_in_any_order_overlapping_and_repeated_become_the_object(store: ObjectStore) -> None:
    rng = random.Random(2)
    for trial in range(200):
        data = rng.randbytes(rng.randint(1, 300))
        key = sha(data)
        cuts = [sorted(rng.choices(range(len(data) + 1), k=2)) for _ in range(rng.randint(0, 30))]
        tail = [(at, min(at + 40, len(data))) for at in range(0, len(data), 40)]
        rng.shuffle(tail)
        for start, end in [*cuts, *tail]:
            state = store.write_chunk(key, len(data), start, data[start:end])
            assert not state.error
        assert state.state == "stored", trial
        assert store.path(key).read_bytes() == data
    assert not list((store.folder / "partial").iterdir())


def test_a_wrong_byte_is_found_and_the_partial_thrown_away(store: ObjectStore) -> None:
    store.write_chunk(KEY, 1000, 500, DATA[500:999] + b"x")
    assert store.write_chunk(KEY, 1000, 0, DATA[:500]) == ("error", "the digest is wrong")
    assert (store.has(KEY), store.partial_offset(KEY), store.used_bytes, files(store)) == (False, 0, 0, set())
    assert store.write_chunk(KEY, 1000, 0, DATA).state == "stored"


def test_a_later_chunk_cannot_change_what_was_hashed(store: ObjectStore) -> None:
    store.write_chunk(KEY, 1000, 0, DATA[:600])
    store.write_chunk(KEY, 1000, 0, b"evil" * 100)
    store.write_chunk(KEY, 1000, 500, b"evil" + DATA[504:900])
    assert store.write_chunk(KEY, 1000, 900, DATA[900:]).state == "stored"
    assert store.path(KEY).read_bytes() == DATA


@pytest.mark.parametrize(
    ("key", "size", "offset", "data"),
    [
        (KEY, 1000, -1, b"x"),
        (KEY, 1000, 1000, b"x"),
        (KEY, -1, 0, b""),
        (b"short", 10, 0, b"x"),
        (KEY, 1 << 60, 0, b"x"),
    ],
)
def test_a_chunk_that_cannot_belong_to_the_object_is_refused(store: ObjectStore, key, size, offset, data) -> None:
    assert store.write_chunk(key, size, offset, data).state == "error"
    assert files(store) == set()


def test_two_sizes_for_one_digest_are_an_error_and_the_first_stays(store: ObjectStore) -> None:
    store.write_chunk(KEY, 1000, 0, DATA[:10])
    assert "size is another" in store.write_chunk(KEY, 2000, 10, DATA[10:]).error
    assert store.write_chunk(KEY, 1000, 10, DATA[10:]).state == "stored"
    assert "size is another" in store.write_chunk(KEY, 999, 0, b"").error


def test_the_empty_object_is_verified_too(store: ObjectStore) -> None:
    assert store.write_chunk(KEY, 0, 0, b"").state == "error"
    assert store.write_chunk(sha(b""), 0, 0, b"").state == "stored"
    assert store.read_chunk(sha(b""), 0, 10) == b""


def test_chunks_are_read_within_bounds(store: ObjectStore) -> None:
    store.ingest_bytes(DATA)
    assert store.read_chunk(KEY, 990, 100) == DATA[990:]
    assert store.read_chunk(KEY, 1000, 1) == b""
    for offset, length in ((1001, 1), (-1, 1), (0, -1)):
        assert store.read_chunk(KEY, offset, length) is None
    big = store.ingest_bytes(bytes(2 << 20))
    assert len(store.read_chunk(big, 0, 1 << 40)) == 1 << 20
    os.unlink(store.path(KEY))
    assert store.read_chunk(KEY, 0, 1) is None


# --- restart --------------------------------------------------------------------------------------------------


def test_a_partial_in_order_goes_on_after_a_restart(store: ObjectStore) -> None:
    store.write_chunk(KEY, 1000, 0, DATA[:700])
    again = reopened(store)
    assert again.partial_offset(KEY) == 700
    assert again.used_bytes == 1000
    assert again.write_chunk(KEY, 1000, 700, DATA[700:]).state == "stored"
    assert reopened(again).path(KEY).read_bytes() == DATA


def test_a_partial_with_holes_is_gone_after_a_restart_and_one_whose_holes_were_filled_is_not(
    store: ObjectStore,
) -> None:
    other = sha(DATA[:900])
    for key, size in ((KEY, 1000), (other, 900)):
        store.write_chunk(key, size, 100, DATA[100:300])
    store.write_chunk(other, 900, 0, DATA[:100])
    again = reopened(store)
    assert (again.partial_offset(KEY), again.partial_offset(other)) == (0, 300)
    assert files(again) == {f"{other.hex()}.900"}
    assert again.write_chunk(other, 900, 300, DATA[300:900]).state == "stored"


def test_what_a_power_cut_left_short_is_gone_after_a_restart(store: ObjectStore) -> None:
    store.write_chunk(KEY, len(DATA), 0, DATA)
    path = store.path(KEY)
    path.chmod(0o600)
    os.truncate(path, 10)
    (store.folder / "partial" / "junk.new").write_bytes(b"")
    again = reopened(store)
    assert (again.has(KEY), again.used_bytes, files(again)) == (False, 0, set())


# --- limits ---------------------------------------------------------------------------------------------------


def test_the_limit_counts_announced_bytes_and_dropping_frees_them(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "o", limit_bytes=1500)
    store.write_chunk(KEY, 1000, 0, b"")
    with pytest.raises(CapacityError, match="full"):
        store.ingest_bytes(bytes(501))
    assert store.ingest_bytes(DATA) == KEY
    store.drop(KEY)
    store.drop(KEY)
    assert (store.used_bytes, files(store)) == (0, set())
    store.ingest_bytes(bytes(1500))


def test_partials_are_bounded_and_only_a_stale_one_makes_room(tmp_path: Path) -> None:
    now = [0.0]
    store = ObjectStore(tmp_path / "o", clock=lambda: now[0])
    for i in range(MAX_PARTIALS):
        now[0] += 1
        store.write_chunk(i.to_bytes(32, "big"), 10, 0, b"x")
    with pytest.raises(CapacityError, match="arriving"):
        store.write_chunk(KEY, 1000, 0, b"x")
    now[0] = STALE_S + 1
    store.write_chunk(KEY, 1000, 0, b"x")
    assert store.partial_offset(bytes(32)) == 0
    assert store.partial_offset((1).to_bytes(32, "big")) == 1


def test_holes_are_bounded(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "MAX_HOLES", 5)
    states = [store.write_chunk(KEY, 1000, at, b"x").state for at in range(10, 30, 2)]
    assert states == ["partial"] * 5 + ["error"] * 5


@pytest.mark.parametrize("way", ["chunk", "bytes", "file"])
def test_a_full_disk_is_a_capacity_error_and_all_of_it_again_succeeds_later(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    store.write_chunk(KEY, 1000, 0, DATA[:500]) if way == "chunk" else None

    def put() -> None:
        if way == "chunk":
            store.write_chunk(KEY, 1000, 0, DATA[:500])
            assert store.write_chunk(KEY, 1000, 500, DATA[500:]).state == "stored"
        elif way == "bytes":
            store.ingest_bytes(DATA)
        else:
            store.ingest_file(source)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(partial, "write_all", full)
        patch.setattr(objects, "write_all", full)
        patch.setattr(packs, "write_all", full)
        patch.setattr(Path, "rename", full)
        with pytest.raises(CapacityError, match="No space left"):
            put()
        assert store.used_bytes == 0, "what was there made room"
    put()
    assert store.path(KEY).read_bytes() == DATA
    assert store.used_bytes == 1000


# --- files of tasks -------------------------------------------------------------------------------------------


def test_a_file_moves_into_the_store(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "out"
    source.write_bytes(DATA)
    inode = source.stat().st_ino
    assert store.ingest_file(source, sync=True) == (KEY, 1000)
    assert not source.exists()
    assert store.path(KEY).stat().st_ino == inode
    assert stat.S_IMODE(store.path(KEY).stat().st_mode) == 0o400
    source.write_bytes(DATA)
    assert store.ingest_file(source) == (KEY, 1000)
    assert not source.exists()
    assert store.used_bytes == 1000


def test_a_file_with_other_links_is_copied(store: ObjectStore, tmp_path: Path) -> None:
    source, other = tmp_path / "out", tmp_path / "other"
    source.write_bytes(DATA)
    os.link(source, other)
    store.ingest_file(source)
    other.write_bytes(b"changed")
    assert store.path(KEY).read_bytes() == DATA
    assert not source.exists()


def test_ingesting_an_object_of_the_store_itself_keeps_it(store: ObjectStore) -> None:
    store.ingest_bytes(DATA)
    assert store.ingest_file(store.path(KEY)) == (KEY, 1000)
    assert store.path(KEY).read_bytes() == DATA


def test_links_fifos_folders_and_nothing_are_the_tasks_fault(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder", "nothing"):
        with pytest.raises(TaskError, match=name):
            store.ingest_file(tmp_path / name)
    (tmp_path / "big").write_bytes(DATA)
    with pytest.raises(TaskError, match="may have 10"):
        ObjectStore(tmp_path / "o", max_object_bytes=10).ingest_file(tmp_path / "big")
    assert (store.used_bytes, files(store)) == (0, set())


def test_a_file_that_changes_while_it_is_hashed_is_the_tasks_fault(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "out"
    source.write_bytes(DATA)
    true_hash = object_files.hash_range

    def slow(fd, start, end, into):
        result = true_hash(fd, start, end, into)
        source.unlink()
        source.write_bytes(DATA[::-1])
        return result

    monkeypatch.setattr(object_files, "hash_range", slow)
    with pytest.raises(TaskError, match="changed"):
        store.ingest_file(source)
    assert (source.exists(), store.used_bytes, files(store)) == (True, 0, set())


def test_a_partial_object_that_gets_nothing_for_long_is_dropped(tmp_path: Path) -> None:
    clock = [0.0]
    store = ObjectStore(tmp_path / "objects", clock=lambda: clock[0])
    data = bytes(2000)
    digest = hashlib.sha256(data).digest()
    store.write_chunk(digest, 2000, 0, data[:1000])
    clock[0] = STALE_S - 1
    store.expire()
    assert store.used_bytes == 2000
    clock[0] = STALE_S
    store.expire()
    assert store.used_bytes == 0
    assert list((tmp_path / "objects" / "partial").iterdir()) == []
