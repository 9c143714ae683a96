"""What is written to the state folder when, and what it owes while there is no room on the disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jupiter_agent.adapters import state as module
from jupiter_agent.adapters.disk import replace_file
from jupiter_agent.adapters.grants import from_bytes
from jupiter_agent.adapters.keyring import LEDGER_FILE, Keyring
from jupiter_agent.adapters.state import StateDir, read_cluster
from jupiter_agent.core.messages.membership import GRANT, TOKEN_REVOKED, Entry
from jupiter_agent.errors import CapacityError


class Disk:
    """Where `full` says why nothing is written."""

    def __init__(self) -> None:
        self.full = 0
        self.written: list[str] = []

    def replace(self, path: Path, text: str, sync: bool = False) -> None:
        if self.full:
            raise OSError(self.full, "no room")
        self.written.append(path.name)
        replace_file(path, text, sync)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(module, "replace_file", disk.replace)
    monkeypatch.setattr("jupiter_agent.adapters.keyring.replace_file", disk.replace)
    return disk


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = StateDir(tmp_path / "s")
    yield state
    state.close()


def test_a_rotation_on_a_full_disk_holds_in_memory_and_is_settled_when_there_is_room(
    state: StateDir, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring(state, None)
    before = read_cluster(state.path)
    disk.full = errno.ENOSPC
    secret, mark = keyring.authority.new_secret()
    assert keyring.authority.take_over(secret, mark)
    assert keyring.authority.keys.join_secret == secret
    for _ in range(2):
        with pytest.raises(CapacityError, match=r"cluster\.json"):
            state.settle()
    assert read_cluster(state.path) == before
    assert len(caplog.records) == 1
    disk.full = 0
    state.settle()
    assert read_cluster(state.path).join_secret == secret
    state.settle()
    assert disk.written.count("cluster.json") == 2


def test_a_broken_disk_is_not_taken_for_a_full_one(state: StateDir, disk: Disk) -> None:
    keys = Keyring(state, None).authority.keys
    disk.full = errno.EIO
    state.keep_cluster(replace(keys, seeds=("a:1",)))
    with pytest.raises(OSError, match="no room"):
        state.settle()


def test_what_a_restart_can_do_without_is_written_later_and_its_last_text_counts(state: StateDir, disk: Disk) -> None:
    disk.full = errno.ENOSPC
    state.set_boot(7)
    state.keep("token", "old")
    state.keep("token", "new")
    state.catch_up()
    state.settle()
    disk.full = 0
    state.catch_up()
    state.catch_up()
    assert (state.path / "token").read_text() == "new"
    assert state.next_boot() == 8
    assert disk.written.count("token") == 1


# --- the ledger ----------------------------------------------------------------------------------------------------


def entries(keyring: Keyring, subjects: range) -> list[Entry]:
    found = [keyring.authority.signed_entry(TOKEN_REVOKED, f"t{number}") for number in subjects]
    return [entry for entry in found if entry is not None]


def tell(keyring: Keyring, batch: list[Entry]) -> None:
    """As the machine does: all of a batch are in the ledger before the first effect of it is done."""
    for entry in batch:
        assert keyring.ledger.add(entry)
    for entry in batch:
        keyring.record(entry)


def test_the_ledger_is_written_once_for_a_message_and_before_its_first_entry_is_done(
    state: StateDir, disk: Disk
) -> None:
    keyring = Keyring(state, None)
    for at in range(0, 400, 32):
        batch = entries(keyring, range(at, min(400, at + 32)))
        for entry in batch:
            keyring.ledger.add(entry)
        keyring.record(batch[0])
        assert len(Keyring(state, None).ledger) == min(400, at + 32)
        for entry in batch[1:]:
            keyring.record(entry)
    assert disk.written.count(LEDGER_FILE) == 13


def test_a_ledger_that_found_no_room_is_written_when_there_is(state: StateDir, disk: Disk) -> None:
    keyring = Keyring(state, None)
    disk.full = errno.ENOSPC
    tell(keyring, entries(keyring, range(3)))
    keyring.catch_up()
    disk.full = 0
    keyring.catch_up()
    keyring.catch_up()
    assert len(Keyring(state, None).ledger) == 3
    assert disk.written.count(LEDGER_FILE) == 1


@pytest.mark.parametrize("revoked_first", [False, True])
def test_a_revoked_token_gives_its_operators_key_whichever_of_grant_and_revocation_comes_first(
    state: StateDir, revoked_first: bool
) -> None:
    keyring = Keyring(state, None)
    token = keyring.token((), "submit")
    grant = keyring.authority.signed_entry(GRANT, token.id, data=token.grant)
    revocation = keyring.authority.signed_entry(TOKEN_REVOKED, token.id)
    assert grant is not None
    assert revocation is not None
    found = []
    for entry in (revocation, grant) if revoked_first else (grant, revocation):
        keyring.ledger.add(entry)
        found.append(keyring.record(entry))
    assert found == [[], [from_bytes(token.grant).operator]]
