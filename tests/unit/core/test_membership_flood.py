"""How long news waits for company before it goes to the neighbours."""

from types import SimpleNamespace
from typing import Any

from jupiter_agent.core.membership import PROFILES
from jupiter_agent.core.membership.flood import MANY, MANY_S, Flood
from jupiter_agent.core.messages.membership import DEAD, Record

SETTINGS = PROFILES["lan"]


def record(name: str, incarnation: int = 0) -> Record:
    return Record(name, name, "h:1", b"", "", "admin", 1, incarnation)


def flood() -> Flood:
    context: Any = SimpleNamespace(settings=SETTINGS, crowded_at=0.0, overlay_links=list)
    return Flood(context)


def test_a_refutation_goes_at_once_until_there_are_many_of_them() -> None:
    queue = flood()
    for number in range(MANY):
        queue.record(record(f"n{number}", 1), "src", 10.0)
        assert queue.due == 10.0 + SETTINGS.coalesce_s
        queue.flush()
    queue.record(record("late", 1), "src", 10.5)
    assert queue.due == 10.5 + MANY_S
    queue.flush()
    queue.record(record("calm", 1), "src", 12.0)
    assert queue.due == 12.0 + SETTINGS.coalesce_s


def test_what_goes_at_once_takes_along_what_waits() -> None:
    queue = flood()
    queue.record(record("a"), "src", 10.0, DEAD)
    queue.flush()
    queue.record(record("b"), "src", 10.1, DEAD)
    assert queue.due == 10.1 + SETTINGS.gather_s
    queue.record(record("c", 1), "src", 10.2)
    assert queue.due == 10.2 + SETTINGS.coalesce_s
