"""The API server as the user of this machine reaches it: kubeconfig, one context of it, requests by the client library.

The library is imported here and in `forward`, and only when a command needs it. Its errors end here: what a caller sees
is a `RefusedError` with the status of HTTP, or one of our errors with a hint. An answer that passes by (the server is
busy, or etcd changes its leader) is none: what may be asked twice is asked again for some seconds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.k8s.tunnel import Tunnel
from jupiter_agent.errors import EXIT_UNAUTHORISED, JupiterError, UnreachableError, UsageError

Object = dict[str, Any]

MANAGER = "jupiter"
"""Who we are for server-side apply"""
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
CHANNELS = "v4.channel.k8s.io"
CONNECT_S, TIMEOUT_S = 5.0, 30.0
PASSING = frozenset({429, 500, 502, 503, 504})
"""A server that answers so may do it a moment later"""
WEBHOOK = "failed calling webhook"
PATIENCE_S, FIRST_S, LAST_S = 10.0, 0.25, 2.0
"""How long a request is repeated, and the pauses between: the first, twice as long each time, the longest"""
IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class RefusedError(JupiterError):
    """The API server answered, and did not do it. `reason` is one of Kubernetes' words: NotFound, Conflict ..."""

    after_s = 0.0
    """so long it asks to be left alone"""

    def __init__(self, status: int, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint, EXIT_UNAUTHORISED if status in (401, 403) else None)
        self.status, self.reason = status, reason


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later. An admission webhook that is gone is not back so soon."""
    if isinstance(error, RefusedError):
        return error.status in PASSING and WEBHOOK not in error.message
    return isinstance(error, UnreachableError)


def patiently(
    ask: Callable[[], Object], may_repeat: Callable[[JupiterError], bool], until: float, clock: Clock
) -> Object:
    """What `ask` returns, asked again after errors that pass while there is time."""
    pause = FIRST_S
    while True:
        try:
            return ask()
        except JupiterError as error:
            wait = max(pause, error.after_s) if isinstance(error, RefusedError) else pause
            if not is_passing(error) or not may_repeat(error) or clock.now() + wait > until:
                raise
        clock.sleep(wait)
        pause = min(2 * pause, LAST_S)


class Access(Protocol):
    """What the commands need of a cluster."""

    context: str

    def request(
        self,
        method: str,
        path: str,
        body: Object | list[Object] | None = None,
        query: Mapping[str, str] | None = None,
        patience_s: float | None = None,
    ) -> Object:
        """The object the server answers with. A PATCH with an object applies it, one with a list is a JSON Patch.
        `patience_s`: repeat it so long (default: `PATIENCE_S`, a POST only if it was surely not done: repeated, it may
        find what itself has made). RefusedError, or UnreachableError."""  # fmt: skip

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

    def __init__(self, client: Any, context: str, clock: Clock | None = None) -> None:
        self.context = context
        self._client, self._clock = client, clock or Clock()
        self._lock = threading.Lock()
        self._has_answered = False
        """a server that never did is not away for a moment: its address is wrong"""
        _leave_pauses_to_us(client)

    def request(
        self, method: str, path: str, body: Object | list[Object] | None = None,
        query: Mapping[str, str] | None = None, patience_s: float | None = None,
    ) -> Object:  # fmt: skip
        applies = method == "PATCH" and isinstance(body, dict)
        kind = APPLY if applies else JSON_PATCH if method == "PATCH" else "application/json"
        text: Any = json.dumps(body) if applies else body  # JSON is YAML
        always = patience_s is not None or _is_repeatable(method, body)

        def may_repeat(error: JupiterError) -> bool:
            known = self._has_answered or isinstance(error, RefusedError)
            return known and (always or (isinstance(error, RefusedError) and error.status == 429))

        until = self._clock.now() + (PATIENCE_S if patience_s is None else patience_s)
        return patiently(
            lambda: self._read(self._call(method, path, text, query or {}, kind, TIMEOUT_S)),
            may_repeat, until, self._clock,
        )  # fmt: skip

    def _read(self, response: Any) -> Object:
        try:
            found = json.loads(response.read() or b"{}")
        except ValueError as error:
            raise UnreachableError(
                f"{self._host} does not speak like an API server", "is the server of the kubeconfig right?"
            ) from error
        self._has_answered = True
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
            limit = (CONNECT_S, timeout_s)
            response = client.rest_client.request(
                request[0], request[1], headers=request[2], body=request[3], _request_timeout=limit
            )
            if not 200 <= response.status <= 299:
                refused = _refused(response.status, response.read(), method, path)
                refused.after_s = _seconds(response.headers.get("retry-after") or "")
                raise refused
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


def _is_repeatable(method: str, body: Object | list[Object] | None) -> bool:
    """Whether a second time changes nothing: a PATCH of ours names the uid or the version that it is for."""
    if method == "DELETE":
        return isinstance(body, dict) and bool((body.get("preconditions") or {}).get("uid"))
    return method in ("GET", "PATCH")


def _leave_pauses_to_us(client: Any) -> None:
    """The library's own waits as long as a server asks, whatever our patience."""
    from urllib3 import Retry

    client.rest_client.pool_manager.connection_pool_kw["retries"] = Retry(3, respect_retry_after_header=False)


def _seconds(retry_after: str) -> float:
    """API servers say a number, never a date."""
    return float(retry_after) if retry_after.isdecimal() else 0.0


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
