"""In which order a batch of effects is done."""

from __future__ import annotations

import asyncio
import os
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters.bundle import make_bundle
from jupiter_agent.adapters.journal import Journal
from jupiter_agent.adapters.packs import PACKED_BYTES
from jupiter_agent.adapters.performer import Performer
from jupiter_agent.core.effects import Append, DropObject, Effect, FetchBulk, Halt, OpenBundle, Send, StoreInline
from jupiter_agent.core.events import BulkEnded, Event, Garbled, Received
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.control import Answer
from jupiter_agent.core.messages.jobs import Injected, Many, Missing
from jupiter_agent.core.wire import MALFORMED, decode, encode
from jupiter_agent.errors import CapacityError


def test_small_objects_come_before_the_records_that_name_them_and_records_before_messages(tmp_path: Path) -> None:
    done: list[str] = []
    digest = sha256(b"result").digest()

    class Spy(Journal):
        def append(self, records: list[Any], sync: bool = False) -> None:
            done.append(f"record, object {'there' if performer.objects.size(digest) == 6 else 'missing'}")
            super().append(records, sync)

    class Wire:
        def send(self, peer: str, frame: bytes) -> None:
            done.append("message")

    journal = Spy(tmp_path / "journal", 1)
    performer = Performer("me", lambda event: None, tmp_path, journal, lambda effect: done.append("other"))
    performer.network = Wire()  # type: ignore[assignment]
    performer.perform([Send("b", Missing(digest)), StoreInline(digest, b"result"), Append(("x",), sync=True), Halt()])
    journal.close()
    assert done == ["record, object there", "message", "other"]


class Full:
    """A journal on a disk without room."""

    def append(self, records: list[Any], sync: bool = False) -> None:
        raise CapacityError("writing the journal: No space left on device")


class Recorder:
    """A network that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def send(self, peer: str, frame: bytes) -> None:
        self.sent.append((peer, decode(frame)))


def performer_on(journal: Any, folder: Path, others: list[Effect]) -> tuple[Performer, Recorder]:
    performer, network = Performer("me", lambda event: None, folder, journal, others.append), Recorder()
    performer.network = network  # type: ignore[assignment]
    return performer, network


def test_nothing_is_acknowledged_that_the_journal_did_not_take_and_the_agent_halts(tmp_path: Path) -> None:
    others: list[Effect] = []
    performer, network = performer_on(Full(), tmp_path, others)
    batch = [
        Append(("x",), sync=True),
        Send("client:1", Answer(7, 0, {"accepted": ["a"]})),
        Send("b", Injected("j", 1)),
    ]
    performer.perform(batch)
    [(dst, told)] = network.sent
    assert isinstance(told, Answer)
    assert (dst, told.seq, told.exit_code, "disk is full" in told.error, bool(told.hint)) == (
        "client:1",
        7,
        1,
        True,
        True,
    )
    [halt] = others
    assert isinstance(halt, Halt)
    assert "disk is full" in halt.error


def test_nothing_is_acknowledged_whose_bytes_the_store_did_not_take(tmp_path: Path) -> None:
    others: list[Effect] = []
    journal = Journal(tmp_path / "journal", 1)
    performer, network = performer_on(journal, tmp_path, others)
    performer.objects.limit_bytes = 3
    performer.perform([StoreInline(b"", b"result"), Append(("x",), sync=True), Send("b", Injected("j", 1))])
    assert (network.sent, [type(each) for each in others], list(journal.replay())) == ([], [Halt], [])
    journal.close()


def test_the_objects_that_a_synced_record_names_are_synced_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).parent.parent.name)
        real(fd)

    journal = Journal(tmp_path / "journal", 1)
    performer, _ = performer_on(journal, tmp_path, [])
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    named = performer.objects.ingest_bytes(b"result")
    performer.objects.ingest_bytes(b"another")
    record = ("home", "j", "item", {"results": [["sink", ["name", named, 6]]]})
    performer.perform([Append(record, sync=True)])
    assert synced == ["objects", tmp_path.name], "the one object, then the journal"
    performer.perform([Append(record, sync=True)])
    assert synced[2:] == [tmp_path.name], "once"
    journal.close()


def test_what_is_too_large_for_a_frame_is_refused_to_whoever_asked_and_otherwise_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", 1)
    performer, network = performer_on(journal, tmp_path, [])
    huge = "x" * 2_000_000
    performer.perform(
        [Send("client:1", Answer(7, 0, huge)), Send("b", Answer(8, 1, None, huge)), Send("c", Injected(huge, 1))]
    )
    assert [(dst, type(told), told.seq, bool(told.error and told.hint)) for dst, told in network.sent] == [
        ("client:1", Answer, 7, True),
        ("b", Answer, 8, True),
    ]
    assert performer.counters["unsendable"] == 3
    journal.close()


def test_frames_that_travelled_together_are_taken_one_by_one_and_a_bad_one_harms_no_other(tmp_path: Path) -> None:
    told: list[Event] = []
    performer = Performer("me", told.append, tmp_path, Full(), lambda effect: None)  # type: ignore[arg-type]
    good, nested = encode(Missing(b"d")), encode(Many([encode(Injected("j", 1))]))
    performer.on_frame("b", encode(Many([good, b"garbage", nested, encode(Injected("j", 2))])))
    received = [event for event in told if isinstance(event, Received)]
    assert received == [Received("b", Missing(b"d")), Received("b", Injected("j", 2))]
    assert [event.reason for event in told if isinstance(event, Garbled)] == [MALFORMED, "frames inside of frames"]
    assert performer.counters["frames_refused"] == 2


def test_a_bundle_goes_with_the_folder_it_was_unpacked_to_and_leftovers_at_the_next_start(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "app_config.yaml").write_text("application: {tasks: {dag_tasks: [{name: a, base_script: a.py}]}}\n")
    (app / "a.py").write_text("def process(inputs, ctx):\n    return b''\n")
    (app / "model.bin").write_bytes(random.Random(1).randbytes(2 * PACKED_BYTES))  # no small object, kept in a pack
    told = list[Event]()
    with make_bundle(app).file as file:
        archive = file.read()

    async def live() -> tuple[bytes, Path]:
        performer = Performer("me", told.append, tmp_path, Full(), lambda effect: None)  # type: ignore[arg-type]
        digest = performer.objects.ingest_bytes(archive)
        performer.perform([OpenBundle(digest)])
        while not told:
            await asyncio.sleep(0.001)
        folder = performer.bundles / digest.hex()
        assert (folder / "a.py").is_file()
        performer.perform([DropObject(digest)])
        assert not folder.exists()
        await asyncio.gather(*performer._working)
        await performer.runner.close()
        return digest, folder

    digest, folder = asyncio.run(live())
    assert list(folder.parent.iterdir()) == []
    folder.mkdir()
    (folder.parent / f".{digest.hex()}.1").mkdir()
    Performer("me", told.append, tmp_path, Full(), lambda effect: None)  # type: ignore[arg-type]
    assert list(folder.parent.iterdir()) == []


def test_a_member_that_says_no_address_of_itself_is_no_source_and_ends_nobody(tmp_path: Path) -> None:
    told: list[Event] = []
    performer = Performer("me", told.append, tmp_path, Full(), lambda effect: None)  # type: ignore[arg-type]

    class Nowhere(Recorder):
        def place(self, peer: str) -> tuple[str, str]:
            return "nonsense", "~" * 40

    performer.network = Nowhere()  # type: ignore[assignment]
    performer.bulk = object()  # type: ignore[assignment]
    performer.perform([FetchBulk(b"x" * 32, 10, "bad", 5)])
    assert told == [BulkEnded(b"x" * 32, "bad", 0, 0.0, "unreachable")]
