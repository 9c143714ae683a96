"""Small objects in packs: over restarts, crashes, damage, and when most of a pack is void."""

from __future__ import annotations

import os
import random
from hashlib import sha256
from pathlib import Path

import pytest

from jupiter_agent.adapters import packs as module
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.adapters.packs import PACKED_BYTES, Packs


def data(number: int, size: int = 100) -> bytes:
    return (b"%d," % number).ljust(size, b"x")


def put(packs: Packs, number: int, size: int = 100) -> bytes:
    digest = sha256(data(number, size)).digest()
    packs.put(digest, data(number, size))
    return digest


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_put_is_read_whole_and_in_parts_also_after_a_restart(tmp_path: Path) -> None:
    packs = Packs(tmp_path)
    digests = [put(packs, number) for number in range(10)]
    for here in (packs, Packs(tmp_path)):
        for number, digest in enumerate(digests):
            assert here.read(digest, 0, PACKED_BYTES) == data(number)
            assert here.read(digest, 90, 50) == data(number)[90:]
        assert here.sizes() == dict.fromkeys(digests, 100)
    with pytest.raises(KeyError):
        packs.read(bytes(32), 0, 1)


@pytest.mark.parametrize("cut", [1, 50, 120])
def test_a_torn_end_is_cut_off_and_what_comes_later_is_read(tmp_path: Path, cut: int) -> None:
    packs = Packs(tmp_path)
    first, torn = put(packs, 1), put(packs, 2)
    packs.close()
    path = tmp_path / "00000001.pack"
    os.truncate(path, path.stat().st_size - cut)
    again = Packs(tmp_path)
    assert list(again.sizes()) == [first]
    assert put(again, 2) == torn
    assert Packs(tmp_path).read(torn, 0, 100) == data(2)


def test_damage_harms_the_object_that_it_hit(tmp_path: Path) -> None:
    packs = Packs(tmp_path)
    digests = [put(packs, number) for number in range(3)]
    path = tmp_path / "00000001.pack"
    content = bytearray(path.read_bytes())
    content[136 + 36 + 50] ^= 1
    path.write_bytes(content)
    assert set(Packs(tmp_path).sizes()) == {digests[0], digests[2]}


def test_zeros_that_a_power_cut_left_are_no_objects(tmp_path: Path) -> None:
    packs = Packs(tmp_path)
    first = put(packs, 1)
    packs.close()
    with (tmp_path / "00000001.pack").open("ab") as file:
        file.write(bytes(5000))
    assert list(Packs(tmp_path).sizes()) == [first]


def test_a_pack_that_is_mostly_void_goes_and_what_is_live_stays(tmp_path: Path) -> None:
    packs = Packs(tmp_path, pack_bytes=1000)
    digests = [put(packs, number) for number in range(40)]
    before = len(files(tmp_path))
    kept = digests[::10]
    for digest in digests:
        if digest not in kept:
            packs.drop(digest)
            packs.drop(digest)
    assert len(files(tmp_path)) < before / 2
    for here in (packs, Packs(tmp_path, pack_bytes=1000)):
        assert all(here.read(digest, 0, 100) == data(number * 10) for number, digest in enumerate(kept))
    for digest in kept:
        packs.drop(digest)
    put(packs, 99, 1000)
    put(packs, 100)
    assert len(files(tmp_path)) <= 2


def test_random_puts_drops_and_restarts_keep_what_is_not_dropped(tmp_path: Path) -> None:
    rng = random.Random(1)
    packs, kept = Packs(tmp_path, pack_bytes=2000), dict[bytes, bytes]()
    for step in range(2000):
        if kept and rng.random() < 0.5:
            digest = rng.choice(list(kept))
            del kept[digest]
            packs.drop(digest)
        else:
            content = data(step, rng.choice([0, 1, 100, 1500]) + 6)
            kept[sha256(content).digest()] = content
            packs.put(sha256(content).digest(), content)
        if rng.random() < 0.02:
            packs.close()
            packs = Packs(tmp_path, pack_bytes=2000)
            for digest in packs.sizes().keys() - kept.keys():
                packs.drop(digest)
        assert packs.sizes().keys() == kept.keys()
    assert all(packs.read(digest, 0, PACKED_BYTES) == content for digest, content in kept.items())
    live = sum(len(content) + 36 for content in kept.values())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 * live + 3 * 3500


def test_half_a_frame_that_a_full_disk_left_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = Packs(tmp_path)
    first = put(packs, 1)

    def half(fd: int, content: bytes) -> None:
        os.write(fd, content[:50])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_all", half)
        with pytest.raises(OSError, match="No space"):
            put(packs, 2)
    second = put(packs, 2)
    assert set(Packs(tmp_path).sizes()) == {first, second}


# --- in the store ------------------------------------------------------------------------------------------------


def test_a_small_object_is_packed_and_gets_a_file_when_somebody_asks_for_its_path(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    digest = store.ingest_bytes(data(1))
    assert not list(tmp_path.glob("??/*"))
    path = store.path(digest)
    assert path.read_bytes() == data(1)
    assert (store.read_chunk(digest, 2, 10), store.used_bytes) == (data(1)[2:12], 100)
    again = ObjectStore(tmp_path)
    assert (again.path(digest), again.used_bytes) == (path, 100)
    again.drop(digest)
    assert not path.exists()


def test_objects_beyond_the_size_have_files(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    store.ingest_bytes(data(1, PACKED_BYTES + 1))
    store.ingest_bytes(data(2, PACKED_BYTES))
    assert len(list(tmp_path.glob("??/*"))) == 1


def test_one_sync_is_enough_for_all_small_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, synced = ObjectStore(tmp_path), list[int]()
    digests = [store.ingest_bytes(data(number)) for number in range(20)]
    monkeypatch.setattr(os, "fdatasync", synced.append)
    store.sync(digests[:3])
    store.sync(digests)
    assert len(synced) == 1
    late = store.ingest_bytes(data(99))
    store.sync([late])
    assert len(synced) == 2


def test_a_file_of_a_task_with_the_bytes_of_a_packed_object_is_taken(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "store")
    digest = store.ingest_bytes(data(1))
    source = tmp_path / "out"
    source.write_bytes(data(1))
    assert store.ingest_file(source) == (digest, 100)
    assert not source.exists()
    assert store.read_chunk(digest, 0, 100) == data(1)
