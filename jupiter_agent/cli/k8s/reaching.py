"""A client of an agent in a pod: with the token from the Secret, through a forwarded port, or inside a pod directly."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, BinaryIO

from jupiter_agent.cli.k8s.access import Access, RefusedError, open_access
from jupiter_agent.cli.k8s.forward import Forward
from jupiter_agent.cli.k8s.objects import Objects, metadata
from jupiter_agent.cli.k8s.pods import Pod, has_no_agent, to_pod
from jupiter_agent.errors import JupiterError, UnauthorisedError, UnreachableError, UsageError
from jupiter_agent.k8s.manifests import NAMESPACE, SELECTOR, TOKEN_KEY, TOKEN_SECRET

MOST_TRIED = 8
"""pods at once"""


def read_token(objects: Objects) -> str:
    """The token in the Secret, '' while there is none."""
    try:
        found = objects.get("Secret", TOKEN_SECRET)
    except RefusedError as error:
        if error.status != 403:
            raise
        hint = "whoever may read the Secret can print it: `jupiter k8s token`; then use --token-file"
        raise UnauthorisedError(f"the token may not be read: {error.message}", hint) from error
    raw = ((found or {}).get("data") or {}).get(TOKEN_KEY) or ""
    return base64.b64decode(raw).decode("utf-8", "replace").strip()


def replace_token(objects: Objects, known: str, file: Path) -> None:
    """Put a newer token of the same cluster into the Secret, with the issuer's key from the one that is there."""
    from dataclasses import replace

    from jupiter_agent.adapters.keys import decode_token, encode_token

    try:
        given = decode_token(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    old = decode_token(known)
    if given.fingerprint != old.fingerprint or not given.join_secret:
        raise UsageError(f"{file} holds no token of this cluster's own", "`jupiter ctl token rotate` prints it")
    text = encode_token(replace(given, seeds=(), issuer_secret=old.issuer_secret))
    found = objects.get("Secret", TOKEN_SECRET) or {}
    labels = metadata(found).get("labels") or {}
    objects.ensure(
        {
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": TOKEN_SECRET, "namespace": objects.namespace, "labels": labels},
            "data": {TOKEN_KEY: base64.b64encode(text.encode()).decode()},
        }
    )  # fmt: skip


def agent_pods(objects: Objects) -> list[Pod]:
    """Of the agents, by node."""
    selector = ",".join(f"{key}={value}" for key, value in SELECTOR.items())
    found = [to_pod(each) for each in objects.listed("Pod", labelSelector=selector)]
    return sorted(found, key=lambda pod: (pod.node, pod.name))


def node_states(objects: Objects) -> dict[str, str] | None:
    """node -> why no agent is to be expected there, '' where one is; None where nodes may not be listed."""
    try:
        nodes = objects.listed("Node")
    except RefusedError:
        return None
    return {str(metadata(node).get("name")): has_no_agent(node) for node in nodes}


def nodes_without(objects: Objects) -> dict[str, str]:
    """node -> why no agent is to be expected there; nothing where nodes may not be listed."""
    return {node: why for node, why in (node_states(objects) or {}).items() if why}


class PodClient:
    """A client and the port it is forwarded through: closed together."""

    def __init__(self, access: Access, namespace: str, pod: Pod, token: str) -> None:
        from jupiter_agent.adapters.client import Client

        self.pod = pod
        self._forward = Forward(lambda port: access.connect(namespace, pod.name, port))
        try:
            self._client = Client.open([self._forward.address], token)
        except JupiterError as error:
            self._forward.close()
            raise self._forward.error or error from error
        except BaseException:
            self._forward.close()
            raise

    def call(self, verb: str, args: dict[str, Any], timeout_s: float = 30.0) -> Any:
        return self._client.call(verb, args, timeout_s)

    def write_blob(self, content: Path | bytes) -> Any:
        return self._client.write_blob(content)

    def read_blob(self, sha256: bytes, size: int, sink: BinaryIO) -> None:
        self._client.read_blob(sha256, size, sink)

    def close(self) -> None:
        self._client.close()
        self._forward.close()


def first_of(pods: list[Pod], opened: Callable[[Pod], PodClient]) -> PodClient:
    """Of the agents in these pods, a few at a time, the first that answers. The error of the first pod if none does."""
    threads = ThreadPoolExecutor(MOST_TRIED)
    waiting: dict[Future[PodClient], Pod] = {}
    left, errors = list(pods), dict[str, JupiterError]()
    found: PodClient | None = None
    while found is None and (left or waiting):
        while left and len(waiting) < MOST_TRIED:
            pod = left.pop(0)
            waiting[threads.submit(opened, pod)] = pod
        for future in wait(waiting, return_when=FIRST_COMPLETED)[0]:
            pod = waiting.pop(future)
            if isinstance(error := future.exception(), JupiterError):
                errors[pod.uid] = error
            elif found is None:
                found = future.result()
            else:
                future.result().close()
    for future in waiting:
        future.add_done_callback(close_when_done)
    threads.shutdown(wait=False)
    if found is None:
        raise errors[pods[0].uid]
    return found


def close_when_done(done: Future[Any]) -> None:
    """What nobody waits for any more."""
    if not done.cancelled() and done.exception() is None:
        done.result().close()


def open_client(context: str, namespace: str, peers: tuple[str, ...], token_file: Path | None) -> PodClient:
    """Of an agent of a namespace: one of those at the addresses `peers`, if any are named, else any that is ready."""
    access = open_access(context, os.environ)
    objects = Objects(access, namespace or NAMESPACE)
    token = token_file.read_text("utf-8").strip() if token_file else read_token(objects)
    place = f"namespace {objects.namespace} of {access.context}"
    if not token:
        raise UnreachableError(f"there are no agents in {place}", f"`jupiter k8s up --namespace {objects.namespace}`")
    hosts = {peer.rpartition(":")[0].strip("[]") for peer in peers}
    pods = [pod for pod in agent_pods(objects) if pod.runs and (not hosts or pod.ip in hosts)]
    if len(pods) > MOST_TRIED:  # some may be no real ones
        without = nodes_without(objects)
        pods = [pod for pod in pods if pod.node not in without] or pods
    pods.sort(key=lambda pod: pod.phase != "ready")
    if pods:
        return first_of(pods, lambda pod: PodClient(access, objects.namespace, pod, token))
    named = f" at {', '.join(peers)}" if peers else ""
    raise UnreachableError(
        f"no agent runs{named} in {place}", f"`jupiter k8s status --namespace {objects.namespace}` shows why"
    )
