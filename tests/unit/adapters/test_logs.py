"""A task's log on disks that are full, for a while or for good."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jupiter_agent.adapters.logs import TaskLog


class FullDisk:
    """What is written to *.log is refused while `full`, after `room` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 0) -> None:
        self.full, self.room = True, room
        self._write, self._open = os.write, os.open
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "open", self.open)

    def write(self, fd: int, data: bytes) -> int:
        if self.full and os.readlink(f"/proc/self/fd/{fd}").endswith(".log"):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            data, self.room = data[: self.room], 0
        return self._write(fd, data)

    def open(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        if self.full and str(path).endswith(".log") and not Path(path).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._open(path, flags, mode)


def log_at(folder: Path, cap: int = 1000) -> TaskLog:
    return TaskLog(folder / "logs" / "t.log", cap, lambda: b"T ")


def test_what_a_full_disk_does_not_take_is_counted_and_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_at(tmp_path)
    log.attach()
    log.write(b"one\n")
    disk = FullDisk(monkeypatch, room=3)
    log.write(b"two\n")
    log.note("three")
    assert log.refused_bytes == 4 + len("[jupiter] three\n")
    disk.full = False
    log.write(b"four\n")
    log.detach()
    told = "T [jupiter] the disk was full: 20 bytes that came here were not kept\n"
    assert log.path.read_text() == f"T one\n{told}T four\n", "no half line is left either"


def test_a_log_that_cannot_be_opened_is_opened_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    log = log_at(tmp_path)
    log.attach()
    log.write(b"one\n")
    disk.full = False
    log.write(b"two\n")
    log.detach()
    assert log.path.read_text().endswith("4 bytes that came here were not kept\nT two\n")


def test_a_log_is_cut_at_its_cap_also_when_the_disk_is_full_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch, room=60)
    disk.full = False
    log = log_at(tmp_path, cap=100)
    log.attach()
    disk.full = True
    log.write(b"x" * 200)
    assert not log.full
    disk.full = False
    log.write(b"x" * 200)
    log.detach()
    assert log.full
    assert log.path.read_text().endswith("bytes that followed were counted, not kept\n")


def test_a_note_to_a_log_that_nobody_has_open_is_counted_and_opens_nothing(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    log.note("late")
    assert log.refused_bytes > 0
    assert set(os.listdir("/proc/self/fd")) == before
