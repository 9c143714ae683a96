"""The API server of the stand-in: HTTPS, and what of Kubernetes' paths and verbs is used here."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from jupiter_agent.bench.kube.rights import Ask, Rights
from jupiter_agent.bench.kube.sockets import forward
from jupiter_agent.bench.kube.store import TYPES, Key, Object, StatusError, Store, selects, selects_fields
from jupiter_agent.errors import UsageError

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.0-standin", "platform": "linux/amd64"}
UNNAMED = "unknown"
"""The manager of those who do not say who they are"""
VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


@dataclass
class Fault:
    """What the next requests that fit are answered with instead."""

    method: str
    path: str
    """a part of it"""
    status: StatusError
    times: int = 1


@dataclass(frozen=True)
class Target:
    """What a path names."""

    plural: str
    namespace: str = ""
    name: str = ""
    part: str = ""
    """log, portforward, status"""

    @property
    def key(self) -> Key:
        return (self.plural, self.namespace, self.name)

    @property
    def resource(self) -> str:
        return f"{self.plural}/{self.part}" if self.part else self.plural


class ApiServer:
    """Listens on 127.0.0.1 from `start` to `stop`. `log_of`: the file that a pod writes into."""

    def __init__(self, store: Store, rights: Rights, folder: Path) -> None:
        self.store, self.rights = store, rights
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        """(method, path) of all"""
        self.log_of: Callable[[Object], Path | None] = lambda pod: None
        self.stopping = False
        self.ca = make_certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self.port = int(self._server.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.stopping = True
        with self.store.changed:
            self.store.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, method: str, path: str, code: int, reason: str = "", message: str = "", times: int = 1) -> None:
        self.faults.append(Fault(method, path, StatusError(code, reason, message or reason), times))

    def planned(self, method: str, path: str) -> StatusError | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method in ("", method) and fault.path in path:
                fault.times -= 1
                return fault.status
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


def make_certificates(folder: Path) -> Path:
    """A CA and a server's certificate for 127.0.0.1; the CA's file."""
    folder.mkdir(parents=True, exist_ok=True)
    ext = folder / "server.ext"
    ext.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    steps = (
        [*new, "-x509", "-days", "30", "-subj", "/CN=stand-in-ca", "-keyout", "ca.key", "-out", "ca.crt",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", "subjectKeyIdentifier=hash"],
        [*new, "-subj", "/CN=kubernetes", "-keyout", "server.key", "-out", "server.csr"],
        ["openssl", "x509", "-req", "-days", "30", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
         "-CAcreateserial", "-extfile", "server.ext", "-out", "server.crt"],
    )  # fmt: skip
    for step in steps:
        try:
            subprocess.run(step, cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            raise UsageError("the stand-in needs openssl", "apt-get install openssl") from None
    os.chmod(folder / "server.key", 0o600)
    return folder / "ca.crt"


def target_of(path: str) -> Target | None:
    """None for what is no object's path, or of a kind that is not known."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    api, rest = ("v1", parts[2:]) if parts[:2] == ["api", "v1"] else ("/".join(parts[1:3]), parts[3:])
    if not rest or (parts[0] == "apis" and len(parts) < 4):
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    found = TYPES.get(rest[0])
    if found is None or found.api != api:
        return None
    return Target(rest[0], namespace, *rest[1:3])


def _groups(apis: list[str]) -> list[Object]:
    """As /apis has them: stable versions are preferred, then later ones."""
    groups: list[Object] = []
    for name in sorted({api.partition("/")[0] for api in apis}):
        found = [api for api in apis if api.partition("/")[0] == name]
        found.sort(reverse=True)
        found.sort(key=lambda api: "alpha" in api or "beta" in api)
        versions = [{"groupVersion": api, "version": api.partition("/")[2]} for api in found]
        groups.append({"name": name, "versions": versions, "preferredVersion": versions[0]})
    return groups


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Bound(_Handler):
        server_of = api

    return Bound


class _Handler(BaseHTTPRequestHandler):
    server_of: ApiServer
    protocol_version = "HTTP/1.1"
    timeout = 120
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""

    def _any(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else b""
        self.server_of.requests.append((self.command, url.path))
        try:
            if (planned := self.server_of.planned(self.command, url.path)) is not None:
                raise planned
            self._answer(url.path, query, body)
        except StatusError as error:
            self._send(error.code, error.to_object())
        except (BrokenPipeError, ConnectionError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - the library's names

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> None:
        api = self.server_of
        user = api.rights.user(self.headers.get("authorization") or "")
        found = target_of(path)
        if found is None:
            self._send(200, self._discovered(path))
            return
        group, place = TYPES[found.plural].group, found.namespace if found.plural != "namespaces" else found.name
        forwards = ["create"] if found.part == "portforward" else []  # of a websocket, too, since 1.35
        for verb in [self._verb(found, query), *forwards]:
            api.rights.check(Ask(user, verb, group, found.resource, place, found.name))
        if found.part == "portforward":
            self._forward(found, query)
        elif found.part == "log":
            self._log(found, query)
        elif self.command == "GET":
            self._read(found, query)
        else:
            self._write(found, query, json.loads(body) if body else {})

    def _verb(self, found: Target, query: dict[str, str]) -> str:
        if self.command != "GET":
            return VERBS[self.command]
        if found.name:
            return "get"
        return "watch" if query.get("watch") in ("1", "true") else "list"

    def _discovered(self, path: str) -> Object:
        """/version, the groups, and the resources of one."""
        apis = sorted({each.api for each in TYPES.values() if "/" in each.api})
        if path == "/version":
            return VERSION
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups(apis)}
        wanted = path.removeprefix("/apis/").removeprefix("/api/")
        if wanted not in (*apis, "v1"):
            raise StatusError(404, "NotFound", f"the server could not find the requested resource {path}")
        resources = [
            {"name": each.plural, "kind": each.kind, "namespaced": each.in_namespace, "verbs": ["get", "list", "watch"]}
            for each in TYPES.values()
            if each.api == wanted
        ]
        return {"kind": "APIResourceList", "groupVersion": wanted, "resources": resources}

    # --- objects ---

    def _read(self, found: Target, query: dict[str, str]) -> None:
        store = self.server_of.store
        if found.name:
            self._send(200, store.get(*found.key))
            return
        labels, fields = selects(query.get("labelSelector", "")), selects_fields(query.get("fieldSelector", ""))

        def wanted(each: Object) -> bool:
            return labels(each) and fields(each)

        if query.get("watch") in ("1", "true"):
            self._watch(found, query, wanted)
            return
        with store.changed:
            items = store.listed(found.plural, found.namespace, wanted)
            version = str(store.version)
        kind = TYPES[found.plural].kind + "List"
        for each in items:  # as the real one, which says the kind once
            each.pop("kind", None)
            each.pop("apiVersion", None)
        self._send(200, {"kind": kind, "apiVersion": TYPES[found.plural].api, "items": items,
                         "metadata": {"resourceVersion": version}})  # fmt: skip

    def _write(self, found: Target, query: dict[str, str], body: Any) -> None:
        store = self.server_of.store
        if self.command == "DELETE":
            uid = (body.get("preconditions") or {}).get("uid") or ""
            self._send(200, store.delete(found.key, uid, body.get("gracePeriodSeconds")))
        elif self.command == "PATCH":
            kind = self.headers.get("content-type") or ""
            if "json-patch" in kind and isinstance(body, list):
                self._send(200, store.patch(found.key, body, query.get("fieldManager") or UNNAMED))
                return
            if "apply-patch" not in kind:
                raise StatusError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            if not query.get("fieldManager"):
                raise StatusError(422, "Invalid", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            made, new = store.apply(found.key, body, query["fieldManager"], query.get("force") == "true")
            self._send(201 if new else 200, made)
        elif self.command == "POST":
            name = str((body.get("metadata") or {}).get("name"))
            manager = query.get("fieldManager") or UNNAMED
            self._send(201, store.create((found.plural, found.namespace, name), body, manager))
        else:
            raise StatusError(405, "MethodNotAllowed", self.command)

    def _watch(self, found: Target, query: dict[str, str], wanted: Callable[[Object], bool]) -> None:
        api, after = self.server_of, int(query.get("resourceVersion") or 0)
        ends = time.monotonic() + float(query.get("timeoutSeconds") or 60)
        api.store.changes(after or api.store.version)  # 410 before anything else is said
        after = after or api.store.version
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while time.monotonic() < ends and not api.stopping:
            try:
                changes = api.store.changes(after)
            except StatusError as error:
                self._chunk({"type": "ERROR", "object": error.to_object()})
                break
            for change in changes:
                after = change.version
                if change.key[0] == found.plural and found.namespace in ("", change.key[1]) and wanted(change.object):
                    self._chunk({"type": change.kind, "object": change.object})
            if not changes:
                with api.store.changed:
                    if api.store.version <= after:
                        api.store.changed.wait(0.5)
        else:
            mark = {"kind": TYPES[found.plural].kind, "metadata": {"resourceVersion": str(after)}}
            self._chunk({"type": "BOOKMARK", "object": mark})
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _chunk(self, event: Object) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    # --- pods ---

    def _forward(self, found: Target, query: dict[str, str]) -> None:
        pod = self.server_of.store.get("pods", found.namespace, found.name)
        if pod["metadata"].get("annotations", {}).get("stand-in/simulated"):
            raise StatusError(502, "BadGateway", "error dialing backend: no route to host")
        self.close_connection = True
        with contextlib.suppress(OSError, ValueError):
            forward(self, str(pod["status"].get("podIP") or "127.255.255.254"), int(query["ports"]))

    def _log(self, found: Target, query: dict[str, str]) -> None:
        pod = self.server_of.store.get("pods", found.namespace, found.name)
        path = self.server_of.log_of(pod)
        if query.get("previous") == "true" and path is not None:
            path = path.with_suffix(".previous")
        if path is None or not path.is_file():
            raise StatusError(400, "BadRequest", f'container "agent" in pod "{found.name}" is waiting to start')
        lines = path.read_bytes().splitlines(keepends=True)
        count = int(query.get("tailLines") or len(lines))
        text = b"".join(lines[-count:] if count else [])
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _send(self, code: int, found: Object) -> None:
        data = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if code == 429:
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(data)
