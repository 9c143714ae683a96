"""Requests to an API server that is busy or away for a moment: what is asked again, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.k8s.access import PATIENCE_S, ClientAccess, RefusedError, is_passing
from jupiter_agent.errors import UnreachableError

AWAY = 0
"""In place of a status: it is not reached"""
POD = "/api/v1/namespaces/jupiter/pods/p"
BY_UID = {"preconditions": {"uid": "u1"}}


class Time(Clock):
    def __init__(self) -> None:
        self.s = 100.0

    def now(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        self.s += seconds


class Answer:
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers

    def read(self) -> bytes:
        return json.dumps(
            {"message": "leader changed", "reason": "x"} if self.status > 299 else {"kind": "Pod"}
        ).encode()


class Server:
    """Stands for the library's client: it answers with these statuses, and then with 200."""

    def __init__(self, *statuses: int, after: str = "") -> None:
        self.asked: list[str] = []
        self.configuration, self.rest_client, self.pool_manager = self, self, self
        self.host = "https://here"
        self.connection_pool_kw: dict[str, Any] = {}
        self._statuses, self._headers = list(statuses), {"retry-after": after} if after else {}

    def param_serialize(self, method: str, path: str, body: Any = None, **_: Any) -> tuple[Any, ...]:
        return method, path, {}, body

    def request(self, method: str, *_: Any, **__: Any) -> Answer:
        self.asked.append(method)
        status = self._statuses.pop(0) if self._statuses else 200
        if status == AWAY:
            raise ProtocolError("connection refused")
        return Answer(status, self._headers)


def access(*statuses: int, after: str = "") -> tuple[ClientAccess, Server, Time]:
    server, clock = Server(*statuses, after=after), Time()
    return ClientAccess(server, "", clock), server, clock


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"kind": "Pod"}), ("DELETE", BY_UID)])
def test_what_changes_nothing_a_second_time_is_asked_again_after_an_error_that_passes(status, method, body):
    found, server, clock = access(status, status)
    assert found.request(method, POD, body) == {"kind": "Pod"}
    assert (server.asked, clock.now()) == ([method] * 3, 100.75)


@pytest.mark.parametrize(("method", "body"), [("POST", {"kind": "Pod"}), ("DELETE", {}), ("DELETE", None)])
def test_what_may_have_been_done_is_not_asked_again(method, body):
    found, server, _ = access(500)
    with pytest.raises(RefusedError, match="leader changed"):
        found.request(method, POD, body)
    assert server.asked == [method]


def test_who_can_tell_its_own_may_have_it_made_again():
    found, server, _ = access(500, 503)
    assert found.request("POST", POD, {"kind": "Pod"}, None, 5.0) == {"kind": "Pod"}
    assert server.asked == ["POST"] * 3


def test_a_server_that_is_too_busy_has_done_nothing():
    found, server, _ = access(429)
    assert found.request("POST", POD, {"kind": "Pod"}) == {"kind": "Pod"}
    assert server.asked == ["POST"] * 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_an_answer_that_will_be_the_same_is_taken_as_it_is(status):
    found, server, clock = access(status)
    with pytest.raises(RefusedError):
        found.request("GET", POD)
    assert (server.asked, clock.now()) == (["GET"], 100.0)


def test_patience_ends():
    found, server, clock = access(*[503] * 99)
    with pytest.raises(RefusedError, match="leader changed"):
        found.request("GET", POD)
    assert PATIENCE_S - 2.0 <= clock.now() - 100.0 <= PATIENCE_S
    assert len(server.asked) > 5
    with pytest.raises(RefusedError):
        found.request("GET", POD, patience_s=2.0)
    assert clock.now() - 100.0 <= PATIENCE_S + 2.0


def test_a_server_says_how_long_it_wants_to_be_left_alone():
    found, _, clock = access(429, after="3")
    found.request("GET", POD)
    assert clock.now() == 103.0
    found, server, clock = access(503, after="3600")
    with pytest.raises(RefusedError):
        found.request("GET", POD)
    assert (server.asked, clock.now()) == (["GET"], 100.0)


def test_the_library_waits_for_nobody_itself():
    _, server, _ = access()
    assert server.connection_pool_kw["retries"].respect_retry_after_header is False


def test_a_server_that_never_answered_is_not_waited_for_and_one_that_did_is():
    found, server, clock = access(AWAY)
    with pytest.raises(UnreachableError):
        found.request("GET", POD)
    assert (server.asked, clock.now()) == (["GET"], 100.0)
    found, server, _ = access(200, AWAY, AWAY)
    found.request("GET", POD)
    assert found.request("GET", POD) == {"kind": "Pod"}
    assert len(server.asked) == 4
    server._statuses = [AWAY]
    with pytest.raises(UnreachableError):
        found.request("POST", POD, {"kind": "Pod"})


def test_a_webhook_that_cannot_be_called_is_a_refusal_that_does_not_pass():
    words = 'Internal error occurred: failed calling webhook "x.example.org": connection refused'
    assert not is_passing(RefusedError(500, "InternalError", words))
    assert is_passing(RefusedError(500, "InternalError", "etcdserver: leader changed"))
