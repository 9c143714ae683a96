"""The health pages over real connections on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import h11
import pytest

from jupiter_agent.adapters import http
from jupiter_agent.adapters.http import Checks, serve
from jupiter_agent.errors import UsageError

pytestmark = pytest.mark.smoke

Exchange = Callable[[bytes], Awaitable[bytes]]
FINE: Checks = (lambda: True, lambda: "", lambda: "jupiter_items 3\n")


def with_server(use: Callable[[Exchange, int], Awaitable[None]], checks: Checks = FINE) -> None:
    async def run() -> None:
        server = await serve("127.0.0.1:0", checks)
        port = server.sockets[0].getsockname()[1]

        async def exchange(text: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            try:
                return await asyncio.wait_for(reader.read(), 10)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

        await use(exchange, port)
        server.close()

    asyncio.run(run())


def get(path: str, extra: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode()


@pytest.mark.parametrize(
    ("path", "healthy", "unready", "status", "says"),
    [
        ("/healthz", True, "it drains", 200, b"ok"),
        ("/healthz", False, "", 503, b"the agent's loop does not run"),
        ("/readyz", True, "", 200, b"ok"),
        ("/readyz?verbose", True, "it drains", 503, b"it drains"),
        ("/metrics", False, "it drains", 200, b""),
        ("/", True, "", 404, b"there are /healthz, /readyz and /metrics"),
        ("/../etc/passwd", True, "", 404, b"there are /healthz, /readyz and /metrics"),
    ],
)
def test_pages_say_what_is(path: str, healthy: bool, unready: str, status: int, says: bytes) -> None:
    async def use(exchange: Exchange, port: int) -> None:
        answer = await exchange(get(path))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer.lower()
        assert answer.partition(b"\r\n\r\n")[2].strip() == says

    with_server(use, (lambda: healthy, lambda: unready, lambda: ""))


def test_metrics_are_prometheus_text() -> None:
    async def use(exchange: Exchange, port: int) -> None:
        answer = await exchange(get("/metrics"))
        assert b"text/plain; version=0.0.4" in answer
        assert answer.endswith(b"\r\n\r\njupiter_items 3\n")

    with_server(use)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (get("/", f"X: {'y' * 20_000}\r\n"), 431),
    ],
)
def test_other_requests_are_refused(text: bytes, status: int) -> None:
    async def use(exchange: Exchange, port: int) -> None:
        assert (await exchange(text)).startswith(b"HTTP/1.1 %d " % status)
        assert (await exchange(get("/healthz"))).startswith(b"HTTP/1.1 200 ")

    with_server(use)


def test_slow_clients_are_cut_off_and_do_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.3)

    async def use(exchange: Exchange, port: int) -> None:
        slow = asyncio.create_task(exchange(b"GET /healthz HT"))
        assert (await exchange(get("/healthz"))).startswith(b"HTTP/1.1 200 ")
        assert await slow == b""

    with_server(use)


def test_only_a_few_connections_are_served_at_once_and_who_holds_them_keeps_no_probe_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)

    async def use(exchange: Exchange, port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        for _ in range(2):
            assert (await exchange(get("/healthz"))).startswith(b"HTTP/1.1 200 ")
        (oldest, _), (newer, _) = held
        assert await asyncio.wait_for(oldest.read(), 1) == b"", "it had to go"
        assert not newer.at_eof()
        for _, writer in held:
            writer.close()

    with_server(use)


def test_without_a_token_it_listens_on_loopback_only() -> None:
    for address in ("0.0.0.0:0", "192.0.2.1:0", "[::]:0", "example.org:0"):
        with pytest.raises(UsageError, match="not loopback") as refused:
            asyncio.run(serve(address, FINE))
        assert "`http_token` in the file, or JUPITER_HTTP_TOKEN" in refused.value.hint
    with pytest.raises(UsageError, match="cannot listen"):
        asyncio.run(serve("192.0.2.1:0", FINE, "token"))


def request(extra: list[tuple[str, str]]) -> h11.Request:
    return h11.Request(method="GET", target="/healthz", headers=[("host", "x"), *extra])


@pytest.mark.parametrize(
    ("remote", "shown", "status"),
    [
        ("127.0.0.1", "", 200),
        ("::ffff:127.0.0.1", "", 200),
        ("10.0.0.1", "", 401),
        ("10.0.0.1", "Bearer wrong", 401),
        ("10.0.0.1", "Bearer secret", 200),
    ],
)
def test_from_elsewhere_the_token_is_needed(remote: str, shown: str, status: int) -> None:
    pages = http._Pages(FINE, "secret")
    assert pages.answer(request([("authorization", shown)] if shown else []), remote).status == status


def test_no_token_set_means_nobody_from_elsewhere() -> None:
    assert http._Pages(FINE, "").answer(request([("authorization", "Bearer")]), "10.0.0.1").status == 401


@pytest.mark.parametrize(
    ("target", "token", "status"),
    [("/healthz", "", 200), ("/readyz?x", "secret", 200), ("/metrics", "", 401), ("/metrics", "secret", 401)],
)
def test_open_health_shows_everybody_the_two_words_and_nothing_else(target: str, token: str, status: int) -> None:
    asked = h11.Request(method="GET", target=target, headers=[("host", "x")])
    assert http._Pages(FINE, token, True).answer(asked, "10.0.0.1").status == status
