"""Who is alive, as one of the agents says: whichever of their pods answers first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jupiter_agent.cli.k8s.access import Access
from jupiter_agent.cli.k8s.pods import Pod
from jupiter_agent.cli.k8s.reaching import PodClient
from jupiter_agent.errors import JupiterError

ASK_S = 5.0
ASKED_AT_ONCE = 8

Opener = Callable[[Pod], Any]
"""A client of the agent in a pod; JupiterError"""


def opener(access: Access, namespace: str, token: str) -> Opener:
    return lambda pod: PodClient(access, namespace, pod, token)


class Members:
    """Asks one agent after the other who is alive, without ever holding the caller up for a pod that is not there."""

    def __init__(self, open_pod: Opener) -> None:
        self._open_pod = open_pod
        self._threads = ThreadPoolExecutor(ASKED_AT_ONCE)
        self._asked: dict[str, Future[Any]] = {}
        self._again_at: dict[str, float] = {}
        self._client: Any = None

    def poll(self, pods: list[Pod], now: float) -> frozenset[str] | None:
        """Hosts of the living agents; None while nobody could be asked."""
        for uid, future in list(self._asked.items()):
            if future.done() and self._client is None and future.exception() is None:
                self._client = self._asked.pop(uid).result()
        if self._client is None:
            for pod in pods:
                if pod.runs and now >= self._again_at.get(pod.uid, 0.0):
                    self.ask(pod, now)
            return None
        try:
            items = self._client.call("get", {"kind": "nodes"}, 2.0)["items"]
        except JupiterError:
            self._client.close()
            self._client = None
            return None
        alive = (str(item.get("address") or "") for item in items if item.get("state") == "alive")
        return frozenset(address.rpartition(":")[0].strip("[]") for address in alive)

    def ask(self, pod: Pod, now: float) -> str | None:
        """Whether somebody answers in a pod: '' or why not; None while that is not known."""
        future = self._asked.get(pod.uid)
        if future is not None and not future.done():
            return None
        if future is None:
            if sum(not each.done() for each in self._asked.values()) < ASKED_AT_ONCE:
                self._asked[pod.uid] = self._threads.submit(self._open_pod, pod)
            return None
        del self._asked[pod.uid]
        self._again_at[pod.uid] = now + ASK_S
        error = future.exception()
        if error is None:
            future.result().close()
            return ""
        return error.message if isinstance(error, JupiterError) else str(error)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for future in self._asked.values():
            future.add_done_callback(
                lambda done: None if done.cancelled() or done.exception() else done.result().close()
            )
        if self._client is not None:
            self._client.close()
