"""The API server as the user of this machine reaches it: kubeconfig, one context of it, requests by the client library.

The library is imported here and in `forward`, and only when a command needs it. Its errors end here: what a caller sees
is a `RefusedError` with the status of HTTP, or one of our errors with a hint.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jupiter_agent.cli.k8s.tunnel import Tunnel
from jupiter_agent.errors import EXIT_UNAUTHORISED, JupiterError, UnreachableError, UsageError

Object = dict[str, Any]

MANAGER = "jupiter"
"""Who we are for server-side apply"""
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
CHANNELS = "v4.channel.k8s.io"
TIMEOUT_S = 30.0
IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class RefusedError(JupiterError):
    """The API server answered, and did not do it. `reason` is one of Kubernetes' words: NotFound, Conflict ..."""

    def __init__(self, status: int, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint, EXIT_UNAUTHORISED if status in (401, 403) else None)
        self.status, self.reason = status, reason


class Access(Protocol):
    """What the commands need of a cluster."""

    context: str

    def request(
        self,
        method: str,
        path: str,
        body: Object | list[Object] | None = None,
        query: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Object:
        """The object the server answers with. A PATCH with an object applies it, one with a list is a JSON Patch.
        RefusedError, or UnreachableError."""  # fmt: skip

    def lines(self, path: str, query: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        """The text at a path, as it grows."""

    def connect(self, namespace: str, pod: str, port: int) -> Tunnel:
        """To a port of a pod. UnreachableError."""


def open_access(context: str, env: Mapping[str, str]) -> Access:
    """Of a context of the kubeconfig; without a kubeconfig, inside a pod, its account's. UsageError."""
    try:
        import kubernetes.client
        import kubernetes.config
        import yaml
    except ImportError as error:
        hint = "pip install 'jupiter-agent[k8s]'"
        raise UsageError(f"the client of Kubernetes is not installed: {error}", hint) from error
    given = [Path(part).expanduser() for part in env.get("KUBECONFIG", "").split(":") if part]
    files = given or [Path(env.get("HOME") or "~").expanduser() / ".kube" / "config"]
    known = ":".join(str(path) for path in files if path.is_file())
    try:
        if not known and not context and env.get("KUBERNETES_SERVICE_HOST") and IN_POD.is_file():
            kubernetes.config.load_incluster_config()
            return ClientAccess(kubernetes.client.ApiClient(), "in-cluster")
        if not known:
            raise UsageError(
                f"no kubeconfig: {' and '.join(map(str, files))} is not there",
                "point KUBECONFIG to the file that your cluster's administrator (or `kind`, `k3s`) wrote",
            )
        _check_context(kubernetes.config, known, context)
        client = kubernetes.config.new_client_from_config(known, context or None)
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
        what = " ".join(str(error).split())[:300]
        raise UsageError(f"the kubeconfig {known} cannot be used: {what}", "try `kubectl cluster-info`") from error
    return ClientAccess(client, context or "the current context")


def _check_context(config: Any, known: str, context: str) -> None:
    if not context:
        return
    from jupiter_agent.config import did_you_mean

    names = [str(each["name"]) for each in config.list_kube_config_contexts(known)[0]]
    if context not in names:
        raise UsageError(f"the kubeconfig has no context {context!r}", did_you_mean(context, names))


class ClientAccess:
    """`Access` by the kubernetes client. Several threads may use it."""

    def __init__(self, client: Any, context: str) -> None:
        self.context = context
        self._client = client
        self._lock = threading.Lock()

    def request(
        self, method: str, path: str, body: Object | list[Object] | None = None,
        query: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S,
    ) -> Object:  # fmt: skip
        applies = method == "PATCH" and isinstance(body, dict)
        kind = APPLY if applies else JSON_PATCH if method == "PATCH" else "application/json"
        text: Any = json.dumps(body) if applies else body  # JSON is YAML
        response = self._call(method, path, text, query or {}, kind, timeout_s)
        try:
            found = json.loads(response.read() or b"{}")
        except ValueError as error:
            raise UnreachableError(
                f"{self._host} does not speak like an API server", "is the server of the kubeconfig right?"
            ) from error
        return found if isinstance(found, dict) else {"items": found}

    def lines(self, path: str, query: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        response = self._call("GET", path, None, query, "application/json", None).response
        rest = b""
        try:
            for part in response.stream(4096):
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    on_line(line.decode("utf-8", "replace"))
            if rest:
                on_line(rest.decode("utf-8", "replace"))
        except self._foreign() as error:
            raise UnreachableError(f"{self._host} broke off: {_short(error)}") from error
        finally:
            response.close()

    def connect(self, namespace: str, pod: str, port: int) -> Tunnel:
        from kubernetes.client import ApiException
        from kubernetes.stream import ws_client
        from websocket import WebSocketException

        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        try:
            with self._lock:
                request = self._client.param_serialize(
                    "GET", path, query_params=[("ports", str(port))], auth_settings=["BearerToken"], header_params={}
                )
            headers = {**request[2], "sec-websocket-protocol": CHANNELS}
            url = ws_client.get_websocket_url(request[1])
            return Tunnel(ws_client.create_websocket(self._client.configuration, url, headers))
        except (ApiException, WebSocketException, OSError) as error:
            raise UnreachableError(f"pod {pod} cannot be reached: {_short(error)}", _FORWARD_HINT) from error

    def _call(
        self, method: str, path: str, body: Any, query: Mapping[str, str], kind: str, timeout_s: float | None
    ) -> Any:
        client = self._client
        try:
            with self._lock:
                request = client.param_serialize(
                    method, path, query_params=list(query.items()),
                    header_params={"Accept": "application/json", "Content-Type": kind}, body=body,
                    auth_settings=["BearerToken"],
                )  # fmt: skip
            limit = (5.0, timeout_s) if timeout_s else (5.0, None)
            response = client.rest_client.request(
                request[0], request[1], headers=request[2], body=request[3], _request_timeout=limit
            )
            if not 200 <= response.status <= 299:
                raise _refused(response.status, response.read(), method, path)
        except self._foreign() as error:
            raise UnreachableError(
                f"the API server {self._host} is not reached: {_short(error)}",
                "is the cluster up, and is the server in the kubeconfig right? `kubectl cluster-info` tells",
            ) from error
        return response

    def _foreign(self) -> tuple[type[Exception], ...]:
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        return (HTTPError, ApiException, ConfigException, OSError)

    @property
    def _host(self) -> str:
        return str(self._client.configuration.host)


_FORWARD_HINT = "`jupiter k8s status` shows its state; forwarding needs get and create of pods/portforward"


def _refused(status: int, raw: bytes, method: str, path: str) -> RefusedError:
    """From the Status object that came instead."""
    reason, message = "", raw[:300].decode("utf-8", "replace").strip()
    try:
        said = json.loads(raw)
        reason, message = str(said.get("reason") or ""), str(said.get("message") or message)
    except (ValueError, AttributeError):
        pass
    if status == 401:
        return RefusedError(status, reason, "the cluster does not know you", "log in again, or name another --context")
    if status == 403:
        hint = "ask the cluster's administrator for that right; `kubectl auth can-i --list -n NAMESPACE` shows yours"
        return RefusedError(status, reason, f"the cluster forbids it: {message}", hint)
    return RefusedError(status, reason, f"{method} {path}: {message or status}")


def _short(error: BaseException) -> str:
    """One line of what the library makes a page of."""
    found: Any = error
    while getattr(found, "reason", None):
        found = found.reason
    return " ".join(str(found).partition(" -+-+-")[0].split())[:300]
