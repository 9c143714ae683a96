"""The agent's own client of an API server, against servers that behave, misbehave, and are somebody else's."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.adapters import kube_api
from jupiter_agent.adapters.kube_api import KubeApi, KubeError
from jupiter_agent.adapters.pod import Account
from jupiter_agent.bench.kube.cluster import Cluster

pytestmark = pytest.mark.smoke

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


class Plain(KubeApi):
    """Without TLS, to a server on a port of this machine."""

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._account.host, self._account.port)


def asked(folder: Path, talk: Talk, work: Callable[[Plain], Awaitable[Any]]) -> Any:
    """What `work` gives with a server that answers each request as `talk` does."""
    (folder / "token").write_text("first")

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talk(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async def main() -> Any:
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await work(Plain(Account("127.0.0.1", port, folder)))

    return asyncio.run(main())


def says(*parts: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def whole(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def get(api: Plain) -> Any:
    return await api.get("/api/v1/x")


def test_the_token_is_read_anew_for_each_request(tmp_path):
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        seen.append(request)
        writer.write(whole(b'{"kind": "X"}'))

    async def work(api: Plain) -> Any:
        await api.get("/api/v1/x", {"labelSelector": "a=b,c"})
        (tmp_path / "token").write_text("second\n")
        return await get(api)

    assert asked(tmp_path, talk, work) == {"kind": "X"}
    assert seen[0].startswith(b"GET /api/v1/x?labelSelector=a%3Db%2Cc HTTP/1.1\r\n")
    assert b"authorization: Bearer first\r\n" in seen[0]
    assert b"authorization: Bearer second\r\n" in seen[1]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (whole(b'{"message": "pods is forbidden"}', "403 Forbidden"), 403, "403: pods is forbidden"),
        (whole(b"down", "503 Service Unavailable"), 503, "503: down"),
        (whole(b"{nonsense"), 0, "no JSON"),
        (whole(b"[1]"), 0, "no object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", 0, "incomplete|without sending"),
        (b"", 0, "closed|broke"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 0, "."),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, 0, "."),
    ],
)
def test_whatever_comes_is_the_object_or_one_kind_of_error(tmp_path, answer, status, words):
    with pytest.raises(KubeError, match=words) as caught:
        asked(tmp_path, says(answer), get)
    assert caught.value.status == status


def test_a_server_that_says_nothing_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_api, "ANSWER_S", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        await asyncio.sleep(5.0)

    with pytest.raises(KubeError, match="no answer in time"):
        asked(tmp_path, talk, get)


def test_an_answer_that_never_ends_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_api, "MOST_BYTES", 1000)
    with pytest.raises(KubeError, match="too long"):
        asked(tmp_path, says(whole(b"x" * 5000)), get)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_events_come_one_by_one_however_they_are_cut(tmp_path):
    lines = b"".join(json.dumps({"type": "ADDED", "n": n}).encode() + b"\n" for n in range(50))
    parts = [chunk(lines[at : at + 7]) for at in range(0, len(lines), 7)]
    found: list[Any] = []
    asked(tmp_path, says(HEAD, *parts, chunk(b"\n"), b"0\r\n\r\n"), lambda api: api.watch("/w", {}, 20.0, found.append))
    assert [each["n"] for each in found] == list(range(50))


def test_a_watch_ends_by_itself_when_its_time_is_over(tmp_path):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(HEAD + chunk(b'{"type": "ADDED"}\n'))
        await asyncio.sleep(5.0)

    found: list[Any] = []
    asked(tmp_path, talk, lambda api: api.watch("/w", {}, 0.3, found.append))
    assert found == [{"type": "ADDED"}]


def test_a_watch_that_is_broken_off_or_speaks_nonsense_is_an_error(tmp_path):
    for parts in ((HEAD, chunk(b"{nonsense\n")), (HEAD, b"5\r\nab"), (HEAD, b"zz\r\n")):
        with pytest.raises(KubeError):
            asked(tmp_path, says(*parts), lambda api: api.watch("/w", {}, 5.0, lambda event: None))


def test_an_event_without_an_end_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_api, "MOST_LINE", 1000)
    with pytest.raises(KubeError, match="too long"):
        asked(tmp_path, says(HEAD, chunk(b"x" * 5000)), lambda api: api.watch("/w", {}, 5.0, lambda event: None))


def test_only_the_server_of_the_pods_ca_is_told_the_token(tmp_path):
    for name in ("ours", "theirs"):
        cluster = Cluster(tmp_path / name, 0)
        (tmp_path / name / "ca.crt").write_bytes(cluster.server.ca.read_bytes())
        if name == "ours":
            ours = cluster
    ours.start()
    try:
        for name, said in (("ours", "401"), ("theirs", "not from the pod's CA")):
            folder = tmp_path / name
            (folder / "token").write_text("nobody")
            api = KubeApi(Account("127.0.0.1", ours.server.port, folder))
            with pytest.raises(KubeError, match=said):
                asyncio.run(api.get("/api/v1/pods"))
        assert len(ours.server.requests) == 1
        with pytest.raises(KubeError):
            asyncio.run(KubeApi(Account("127.0.0.1", 1, tmp_path / "ours")).get("/api"))
    finally:
        ours.stop()


def without_key_identifiers(folder: Path) -> None:
    """A server's certificate of a CA that says of no key which it is."""
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "ca.cnf").write_text(
        "[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n"
        "[server]\nsubjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n"
    )
    steps = (
        ["req", "-config", "ca.cnf", "-x509", *ec, "-subj", "/CN=old-ca", "-keyout", "ca.key", "-out", "ca.crt"],
        ["req", "-config", "ca.cnf", *ec, "-subj", "/CN=kubernetes", "-keyout", "server.key", "-out", "server.csr"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
         "-extfile", "ca.cnf", "-extensions", "server", "-out", "server.crt"],
    )  # fmt: skip
    for step in steps:
        subprocess.run(["openssl", *step], cwd=folder, check=True, capture_output=True)


def test_a_certificate_of_a_ca_without_key_identifiers_is_good_enough_also_for_newer_pythons(tmp_path, monkeypatch):
    without_key_identifiers(tmp_path)
    (tmp_path / "token").write_text("t")
    default = ssl.create_default_context

    def as_of_python_3_13(*args: Any, **more: Any) -> ssl.SSLContext:
        context = default(*args, **more)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_of_python_3_13)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(whole(b'{"kind": "X"}'))
        writer.close()

    async def main(host: str) -> Any:
        async with await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=served) as server:
            return await KubeApi(Account(host, server.sockets[0].getsockname()[1], tmp_path)).get("/api/v1/x")

    assert asyncio.run(main("127.0.0.1")) == {"kind": "X"}
    with pytest.raises(KubeError, match="not from the pod's CA"):  # its name still counts
        asyncio.run(main("localhost"))
