"""In which order a batch of effects is done."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.journal import Journal
from jupiter_agent.adapters.performer import Performer
from jupiter_agent.core.effects import Append, Halt, Send, StoreInline
from jupiter_agent.core.messages.jobs import Missing


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
