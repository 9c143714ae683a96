"""The journal: what was promised comes back, whatever is torn off; what was not, never half."""

import errno
import os
import struct
import zlib
from pathlib import Path

import pytest

from jupiter_agent.adapters import journal as module
from jupiter_agent.adapters.journal import Journal
from jupiter_agent.core.messages.jobs import HomeVersion, Obj
from jupiter_agent.errors import CapacityError, JupiterError

RECORDS = [["intake", "item-1", b"\x00\xff"], {"k": 1.5, "none": None}, "ä" * 50, [1, -2, 2**63], True]


def opened(folder: Path, **options: int) -> Journal:
    return Journal(folder, schema=1, **options)


def fill(folder: Path, count: int, **options: int) -> Journal:
    log = opened(folder, **options)
    for i in range(count):
        log.append([["record", i, b"x" * 50]])
    return log


def test_records_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(RECORDS[:2])
    log.append([], sync=True)
    log.append(RECORDS[2:], sync=True)
    assert list(log.replay()) == RECORDS
    log.close()
    log.close()
    again = opened(tmp_path)
    assert list(again.replay()) == RECORDS
    assert again.cut_bytes == 0


def test_structs_are_replayed_as_plain_lists(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([["done", Obj("o", b"\x01" * 32, 3, b"abc"), [HomeVersion(1, "n", 2)]]])
    assert list(log.replay()) == [["done", ["o", b"\x01" * 32, 3, b"abc"], [[1, "n", 2]]]]


def test_what_is_no_record_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.raises(TypeError, match="object cannot be journaled"):
        log.append(["good", object()])
    assert list(log.replay()) == []


def test_an_empty_folder_replays_nothing(tmp_path: Path) -> None:
    assert list(opened(tmp_path / "a" / "b").replay()) == []
    assert list(opened(tmp_path / "a" / "b").replay()) == []


def test_a_tail_torn_at_any_byte_costs_only_the_record_it_tears(tmp_path: Path) -> None:
    source = opened(tmp_path / "source")
    ends = [source.size_bytes]
    for record in RECORDS:
        source.append([record])
        ends.append(source.size_bytes)
    whole = (tmp_path / "source" / "journal-00000001.log").read_bytes()
    assert len(whole) == ends[-1]
    for cut in range(ends[0], len(whole) + 1):
        for n, tail in enumerate((b"", bytes(300), b"\xc1" * 30)):
            folder = tmp_path / f"{cut}-{n}"
            folder.mkdir()
            (folder / "journal-00000001.log").write_bytes(whole[:cut] + tail)
            log = opened(folder)
            kept = sum((whole[:cut] + tail)[:end] == whole[:end] for end in ends[1:])
            assert log.cut_bytes == cut + len(tail) - ends[kept]
            log.append(["new"])
            assert list(log.replay()) == [*RECORDS[:kept], "new"]
            log.close()
            again = opened(folder)
            assert (list(again.replay()), again.cut_bytes) == ([*RECORDS[:kept], "new"], 0)


def test_a_flipped_bit_ends_the_tail_there(tmp_path: Path) -> None:
    log = fill(tmp_path, 3)
    path = tmp_path / "journal-00000001.log"
    whole = path.read_bytes()
    size = (len(whole) - 16) // 3
    for at in range(16 + size, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        assert [r[1] for r in opened(tmp_path).replay()] == ([0] if at < 16 + 2 * size else [0, 1])
    log.close()


@pytest.mark.parametrize("cut", [0, 7, 15])
def test_a_header_is_never_torn_so_a_short_one_is_damage(tmp_path: Path, cut: int) -> None:
    fill(tmp_path, 1).close()
    os.truncate(tmp_path / "journal-00000001.log", cut)
    with pytest.raises(JupiterError, match="header is damaged") as caught:
        opened(tmp_path)
    assert caught.value.hint


def test_another_schema_version_is_refused_by_number_and_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, 1).close()
    before = (tmp_path / "journal-00000001.log").read_bytes()
    with pytest.raises(JupiterError, match="schema version 1, this agent reads and writes 2") as caught:
        Journal(tmp_path, schema=2)
    assert "--state-dir" in caught.value.hint
    assert (tmp_path / "journal-00000001.log").read_bytes() == before


# --- segments -------------------------------------------------------------------------------------------------


def test_segments_roll_and_replay_as_one_log(tmp_path: Path) -> None:
    log = fill(tmp_path, 100, segment_bytes=500)
    assert len(list(tmp_path.iterdir())) > 10
    assert log.size_bytes == sum(p.stat().st_size for p in tmp_path.iterdir())
    assert max(p.stat().st_size for p in tmp_path.iterdir()) <= 500
    log.append([b"y" * 2000])
    assert [r[1] for r in opened(tmp_path).replay()][:100] == [*range(100), ord("y")][:100]


def test_a_bad_frame_before_the_last_segment_is_damage_and_refused(tmp_path: Path) -> None:
    fill(tmp_path, 20, segment_bytes=500).close()
    path = tmp_path / "journal-00000002.log"
    whole = bytearray(path.read_bytes())
    whole[40] ^= 1
    path.write_bytes(whole)
    with pytest.raises(JupiterError, match=r"journal-00000002.log is damaged at byte 16"):
        list(opened(tmp_path).replay())
    path.unlink()
    with pytest.raises(JupiterError, match="gap"):
        opened(tmp_path)


def test_compaction_leaves_what_is_kept_and_what_comes_later(tmp_path: Path) -> None:
    log = fill(tmp_path, 50, segment_bytes=500)
    log.compact(r for r in log.replay() if r[1] % 10 == 0)
    assert len(list(tmp_path.iterdir())) == 1
    log.append([["record", "later"]], sync=True)
    assert [r[1] for r in opened(tmp_path, segment_bytes=500).replay()] == [0, 10, 20, 30, 40, "later"]
    log.compact([])
    assert list(opened(tmp_path).replay()) == []


def test_a_compaction_larger_than_a_segment_is_one_and_the_next_append_rolls(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_bytes=500)
    log.compact([b"x" * 100] * 30_000)
    log.append(["after"])
    assert len(list(tmp_path.iterdir())) == 2
    assert list(opened(tmp_path).replay()) == [*[b"x" * 100] * 30_000, "after"]


class Crash(BaseException):
    pass


@pytest.mark.parametrize("calls", range(6))
def test_a_crash_at_any_step_of_a_compaction_leaves_the_old_log_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    log = fill(tmp_path, 20, segment_bytes=500)
    left = [calls]

    def dying(true: object) -> object:
        def step(*args: object, **kwargs: object) -> object:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return true(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fdatasync"), (Path, "rename"), (Path, "unlink"), (module, "sync_folder")):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        with pytest.raises(Crash):
            log.compact([["record", "kept"]])
    again = opened(tmp_path)
    found = [r[1] for r in again.replay()]
    assert found == (list(range(20)) if calls < 2 else ["kept"])
    again.append([["record", "after"]])
    assert [r[1] for r in opened(tmp_path).replay()] == [*found, "after"]


# --- a disk that is full or broken ----------------------------------------------------------------------------


def test_a_full_disk_adds_nothing_and_the_same_append_succeeds_later(tmp_path: Path, monkeypatch) -> None:
    log = opened(tmp_path)
    log.append(["before"])

    def half(fd: int, data: bytes) -> None:
        os.write(fd, bytes(data)[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_all", half)
        for call in (lambda: log.append(["lost"]), lambda: log.compact(["lost"])):
            with pytest.raises(CapacityError, match="No space left"):
                call()
    log.append(["after"])
    assert list(opened(tmp_path).replay()) == ["before", "after"]


def test_a_roll_on_a_full_disk_adds_nothing_and_succeeds_later(tmp_path: Path, monkeypatch) -> None:
    log = fill(tmp_path, 6, segment_bytes=500)

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(CapacityError):
            log.append([["record", 6, b"x" * 90]])
    log.append([["record", 6, b"x" * 90]])
    assert [r[1] for r in opened(tmp_path).replay()] == list(range(7))


def test_after_a_failed_sync_the_journal_takes_nothing_more(tmp_path: Path, monkeypatch) -> None:
    log = opened(tmp_path)

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="Input/output"):
            log.append(["x"], sync=True)
    with pytest.raises(JupiterError, match=r"closed: .*Input/output"):
        log.append(["y"])
    log.close()


def test_a_record_too_large_to_read_back_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 100)
    log = opened(tmp_path)
    with pytest.raises(CapacityError, match="a journal record of"):
        log.append(["good", b"x" * 101])
    assert list(log.replay()) == []


def test_a_record_with_the_right_checksum_that_is_no_value_is_damage(tmp_path: Path) -> None:
    log = Journal(tmp_path, 1)
    log.append(["good"], sync=True)
    log.close()
    payload = b"\xc1"  # a byte that MessagePack never uses
    crc = zlib.crc32(payload, zlib.crc32((1).to_bytes(4, "little")))
    with (tmp_path / "journal-00000001.log").open("ab") as file:
        file.write(struct.pack("<II", 1, crc) + payload)
    log = Journal(tmp_path, 1)
    with pytest.raises(JupiterError, match="is damaged at byte"):
        list(log.replay())
    log.close()


def begun(folder: Path) -> Journal:
    journal = Journal(folder, 1, segment_bytes=64)
    journal.append([f"old {n}" for n in range(20)], sync=True)
    journal.begin_compaction()
    return journal


def test_a_compaction_while_running_puts_what_was_appended_meanwhile_behind_what_it_kept(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.append(["new 1"] * 10, sync=True)
    journal.write_compaction(["kept"])
    journal.append(["new 2"], sync=True)
    journal.finish_compaction()
    journal.append(["new 3"], sync=True)
    expected = ["kept", *["new 1"] * 10, "new 2", "new 3"]
    assert list(journal.replay()) == expected
    journal.close()
    again = Journal(tmp_path, 1)
    assert list(again.replay()) == expected
    again.close()


def test_a_crash_at_any_step_of_a_compaction_while_running_leaves_the_old_log(tmp_path: Path) -> None:
    old = [f"old {n}" for n in range(20)]
    for written in (False, True):
        folder = tmp_path / str(written)
        journal = begun(folder)
        journal.append(["new"], sync=True)
        if written:
            journal.write_compaction(["kept"])
        again = Journal(folder, 1)  # as after kill -9
        assert list(again.replay()) == [*old, "new"]
        again.begin_compaction()  # and it can be done again
        again.write_compaction(["kept"])
        again.finish_compaction()
        assert list(again.replay()) == ["kept"]
        again.close()


def test_a_crash_behind_the_rename_of_a_compaction_leaves_the_new_log(tmp_path: Path, monkeypatch) -> None:
    journal = begun(tmp_path)
    journal.append(["new"], sync=True)
    journal.write_compaction(["kept"])

    def crash(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jupiter_agent.adapters.journal.sync_folder", crash)
    with pytest.raises(KeyboardInterrupt):
        journal.finish_compaction()
    monkeypatch.undo()
    again = Journal(tmp_path, 1)
    assert list(again.replay()) == ["kept", "new"]
    again.close()
