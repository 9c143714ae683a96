"""Asking a resolver that never answers, and what an agent that has left does about it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters.keys import ClusterKeys, encode_token, founding_token
from jupiter_agent.adapters.reaching import MOST_ASKED, THREAD, resolve, tcp_outcome

pytestmark = pytest.mark.smoke

AGENT = """
import socket, sys, time
def deaf(host, *rest, **more):
    print("asked for", host, flush=True)
    time.sleep(60)
socket.getaddrinfo = deaf
from jupiter_agent.cli.agent_main import main
sys.exit(main(sys.argv[1:]))
"""


class Resolver:
    """Stands in for `getaddrinfo`: answers a name once it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told = threading.Event()

    def __call__(self, host: str, port: Any, *rest: Any, **more: Any) -> list[Any]:
        self.asked.append(host)
        assert self.told.wait(20.0)
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        if host.startswith("odd"):
            raise UnicodeError("label too long")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.told.set()


def wait_for(what: Callable[[], object], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_ends_soon_after_its_agent_has_left_though_the_resolver_never_answers(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(encode_token(founding_token(ClusterKeys.found())))
    run = ["run", "--name", "n1", "--bind", "127.0.0.1:0", "--state-dir", str(tmp_path / "n1"), "--join", "who:7421"]
    env = {**os.environ, "JUPITER_TOKEN_FILE": str(token)}
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen([sys.executable, "-c", AGENT, *run], stdout=log, stderr=log, env=env)
    try:
        wait_for(lambda: "asked for who" in (tmp_path / "log").read_text())
        agent.send_signal(signal.SIGTERM)
        wait_for(lambda: "has left" in (tmp_path / "log").read_text())
        assert agent.wait(2.0) == 0
    finally:
        agent.kill()
        agent.wait()


def test_a_name_is_asked_for_once_at_a_time_however_many_wait_for_it(resolver: Resolver) -> None:
    async def work() -> list[Any]:
        impatient = asyncio.create_task(resolve("name:1"))
        patient = [asyncio.create_task(resolve(f"name:{port}")) for port in (1, 2)]
        await asyncio.sleep(0.05)
        impatient.cancel()
        await asyncio.sleep(0.05)
        resolver.told.set()
        return await asyncio.gather(impatient, *patient, return_exceptions=True)

    cancelled, *found = asyncio.run(work())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert found == [["127.0.0.1:1"], ["127.0.0.1:2"]]
    assert resolver.asked == ["name"]
    asyncio.run(resolve("name:1"))
    assert resolver.asked == ["name", "name"], "an answer is not kept"


def test_so_many_questions_are_under_way_and_the_rest_wait_for_their_turn(resolver: Resolver) -> None:
    names = [f"name{number}:1" for number in range(MOST_ASKED + 5)]

    async def work() -> list[list[str]]:
        asked = [asyncio.create_task(resolve(name)) for name in names]
        await asyncio.sleep(0.1)
        assert len(resolver.asked) == MOST_ASKED
        resolver.told.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(work()) == [["127.0.0.1:1"]] * len(names)
    assert len(resolver.asked) == len(names)
    wait_for(lambda: all(each.name != THREAD for each in threading.enumerate()))


def test_a_name_that_nobody_knows_is_an_error_of_its_asker(resolver: Resolver) -> None:
    resolver.told.set()
    with pytest.raises(socket.gaierror):
        asyncio.run(resolve("nobody:1"))
    with pytest.raises(OSError, match="label too long"):
        asyncio.run(resolve("odd:1"))
    assert asyncio.run(tcp_outcome("nobody:1", 1.0)) == "timeout"


def test_a_port_behind_a_name_is_tried_within_the_limit(resolver: Resolver) -> None:
    assert asyncio.run(tcp_outcome("name:9", 0.1)) == "timeout"
    resolver.told.set()
    assert asyncio.run(tcp_outcome("name:9", 1.0)) == "refused"
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert asyncio.run(tcp_outcome(f"name:{server.getsockname()[1]}", 1.0)) == "open"


def test_where_no_thread_can_be_had_the_name_is_not_known(monkeypatch: pytest.MonkeyPatch, resolver: Resolver) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver.told.set()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="new thread"):
            asyncio.run(resolve("name:1"))
    assert asyncio.run(resolve("name:1")) == ["127.0.0.1:1"]
