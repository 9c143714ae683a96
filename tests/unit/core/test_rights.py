"""Roles: who may call what, and who may say what about jobs."""

from __future__ import annotations

import pytest

from jupiter_agent.core.control import _VERBS
from jupiter_agent.core.membership import Member
from jupiter_agent.core.membership.member import Clock
from jupiter_agent.core.messages.bulk import BulkAt
from jupiter_agent.core.messages.control import Answer, BlobWrite, Call
from jupiter_agent.core.messages.jobs import ChunkRequest, Copy, Deputies, HomeVersion, JobOver, JobUnknown
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.rights import ADMIN, READ, forbidden, may_call, role_of_client
from jupiter_agent.core.trust import ROLES
from jupiter_agent.errors import EXIT_UNAUTHORISED, PeerError


class Around:
    def __init__(self, mine: str, **others: str) -> None:
        roles = {"me": mine, **others}
        clock = Clock(0.0)
        self._members = {
            name: Member(Record(name, name, f"{name}:1", b"", "", role, 1, 0), 0, 0.0, clock)
            for name, role in roles.items()
        }

    @property
    def self_record(self) -> Record:
        return self._members["me"].record

    def members(self) -> dict[str, Member]:
        return self._members

    def alive(self) -> list[str]:
        return sorted(self._members)


def answer(around: Around, src: str, verb: str) -> Answer | None:
    effects = forbidden(around, src, Call(1, verb))
    if effects is None:
        return None
    message = effects[0].message  # type: ignore[attr-defined]
    assert isinstance(message, Answer)
    assert message.exit_code == EXIT_UNAUTHORISED
    assert message.hint
    return message


def test_every_verb_has_a_role_and_only_admin_has_all() -> None:
    assert {verb for verb in _VERBS if may_call("admin", verb)} == set(_VERBS)
    assert {verb for verb in _VERBS if not may_call("submit", verb)} == ADMIN & set(_VERBS)
    for role in ("worker", "observer"):
        assert {verb for verb in _VERBS if may_call(role, verb)} == READ & set(_VERBS)
    assert not any(may_call("", verb) for verb in _VERBS)


@pytest.mark.parametrize("src", ["client:worker:1", "client:observer:1", "worker1", "observer1", "stranger"])
def test_who_may_not_submit_is_refused_as_client_and_as_member(src: str) -> None:
    around = Around("admin", worker1="worker", observer1="observer")
    for verb in ("submit", "put", "cancel", "close", "retry", "remap", "drain", "forget", "token"):
        assert answer(around, src, verb)
    assert forbidden(around, src, BlobWrite(1, bytes(32), 1, 0, b"x"))
    assert (answer(around, src, "get") is None) == (src != "stranger")


def test_a_client_has_the_role_of_its_session_and_the_owner_is_admin() -> None:
    assert [role_of_client(f"client:{role}:a") for role in ROLES] == list(ROLES)
    assert role_of_client("client:1f") == "admin"
    assert answer(Around("admin"), "client:submit:1", "token")
    assert answer(Around("admin"), "client:submit:1", "submit") is None


def test_a_worker_takes_no_jobs_and_names_a_node_that_does() -> None:
    refused = answer(Around("worker", other="submit"), "client:1", "submit")
    assert refused is not None
    assert ("other:1" in refused.hint, refused.body) == (True, {"ask": ["other:1"]})
    assert answer(Around("worker"), "client:1", "get") is None


def test_an_observer_neither_says_nor_hears_of_runs_but_may_fetch() -> None:
    for around, src in ((Around("admin", o="observer"), "o"), (Around("observer", a="admin"), "a")):
        with pytest.raises(PeerError):
            forbidden(around, src, JobUnknown("j"))
        assert forbidden(around, src, ChunkRequest(bytes(32), 0, 1)) is None
    assert forbidden(Around("admin", w="worker"), "w", JobUnknown("j")) is None


@pytest.mark.parametrize("src", ["client:observer:1", "client:1"])
def test_a_client_calls_uploads_and_fetches_and_speaks_no_other_word_of_members(src: str) -> None:
    around, home = Around("admin"), HomeVersion(1, "me", 1)
    for message in (JobOver("j", home, "cancelled"), JobUnknown("j"), BulkAt(7), Answer(1, 0, {}, "", "")):
        with pytest.raises(PeerError):
            forbidden(around, src, message)
    assert forbidden(around, src, ChunkRequest(bytes(32), 0, 1)) is None


def test_copies_come_from_those_who_may_be_home_of_a_job() -> None:
    around, copy = Around("admin", w="worker", s="submit"), Copy("j", HomeVersion(9, "w", 1), Deputies(), (1, 1), 1, [])
    with pytest.raises(PeerError):
        forbidden(around, "w", copy)
    assert forbidden(around, "s", copy) is None
