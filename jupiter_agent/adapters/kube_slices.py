"""Discovery in pods where there is no cluster DNS: the EndpointSlices of our Service, asked of the API server.

A name to join, `jupiter-agents:7421`, is first the resolver's business. When it has no answer (in `PATIENCE_S`, for a
resolver that is not there keeps one waiting for most of a minute), or one that leads to no agent, and this process has
a pod's account, the name is taken for a Service's: its EndpointSlices are listed once and then watched, so that a new
pod is known within the second it has an address. A resolver without an answer is asked only now and then meanwhile; the
watch ends when its answer leads to agents, which is looked at again every few minutes.

Which of the addresses become hints is the knocker's business (kube_knock.py).

A watch goes on from the last version seen; the server ends each after some minutes, or with 410 when it has forgotten
that version, and then all is listed again. What fails is tried again, at growing intervals, at random: many agents lose
one server at the same moment. Rights that are needed: list and watch of endpointslices in the pod's own namespace.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any, Protocol

from jupiter_agent.adapters.kube_api import KubeApi, KubeError
from jupiter_agent.adapters.kube_knock import Knock, Knocker, is_open, leads_to_agents
from jupiter_agent.adapters.pod import Account
from jupiter_agent.adapters.ports import format_address, numeric, parse_address
from jupiter_agent.adapters.reaching import resolve
from jupiter_agent.core.events import SeedsFound
from jupiter_agent.errors import UsageError

PATIENCE_S = 1.0
DNS_AGAIN_S, DNS_SOON_S = 120.0, 20.0
"""A resolver without an answer is asked again so much later, where the API server has one, and where it has none. Each
question may hold a thread for most of a minute. An answer that led to agents is trusted so long."""
WATCH_S = (180.0, 300.0)
"""How long a watch is asked for"""
SHORT_S = 1.0
"""No watch follows another sooner than this after its beginning"""
BACK_OFF_S = (0.5, 30.0)
PORT_NAME = "agent"
GONE = 410

log = logging.getLogger("jupiter")

Resolver = Callable[[str], Awaitable[list[str]]]
Slices = dict[str, tuple[str, ...]]
"""name of an EndpointSlice -> the addresses in it"""


class Api(Protocol):
    """`KubeApi`, or a stand-in."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]: ...

    async def watch(
        self, path: str, query: Mapping[str, str], limit_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> None: ...


def service_of(name: str, namespace: str) -> tuple[str, str] | None:
    """(namespace, Service) that a name HOST:PORT stands for inside a cluster; None for what is no Service's."""
    if numeric(name):
        return None
    try:
        labels = parse_address(name)[0].rstrip(".").split(".")
    except UsageError:
        return None
    if (len(labels) == 2 and labels[1] != namespace) or (len(labels) > 2 and labels[2] != "svc"):
        return None
    found = labels[1] if len(labels) > 1 else namespace
    return (found, labels[0]) if found and labels[0] else None


class KubeNames:
    """The names of Services among those to join. Build it in a running loop."""

    def __init__(
        self,
        account: Account,
        post: Callable[[SeedsFound], None],
        mine: str = "",
        api: Api | None = None,
        knock: Knock = is_open,
    ) -> None:
        """`mine`: this agent's own address."""
        self.counters: Counter[str] = Counter()
        self.resolver: Resolver = resolve
        self._mine, self._knock = mine, knock
        self._namespace = account.namespace
        self._api = api or KubeApi(account)
        self._post = post
        self._watches: dict[str, SliceWatch] = {}

    def look_up(self, name: str) -> bool:
        """Whether the resolver should be asked as well."""
        watch = self._watches.get(name)
        if watch is None:
            place = service_of(name, self._namespace)
            if place is None:
                return True
            watch = self._watches[name] = SliceWatch(self._api, place, parse_address(name)[1], self._post, self._knock)
            watch.counters = watch.knocker.counters = self.counters
            watch.mine, watch.answer = self._mine, partial(self.resolver, name)
        return watch.begin()

    def on_resolved(self, name: str, known: bool) -> None:
        """The resolver has answered, or has not."""
        if (watch := self._watches.get(name)) is not None:
            watch.on_resolved(known)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()


class SliceWatch:
    """One Service's addresses, as the API server tells them."""

    def __init__(
        self, api: Api, place: tuple[str, str], port: int, post: Callable[[SeedsFound], None], knock: Knock = is_open
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.slices: Slices = {}
        self.mine = ""
        self.rng = Random()
        self.answer: Callable[[], Awaitable[list[str]]] = partial(resolve, f"{place[1]}:{port}")
        """What the resolver says"""
        self._api, self._port, self._knock = api, port, knock
        self.knocker = Knocker(self.known, post, knock)
        self._namespace, self._service = place
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        self._query = {"labelSelector": f"kubernetes.io/service-name={self._service}"}
        self._loop = asyncio.get_running_loop()
        self._start: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._version = ""
        self._failures = 0
        self._listed = False
        self._ask_dns_at = self._trusted_until = 0.0
        self._answers = self._astray = False
        self._checking: asyncio.Task[None] | None = None
        self._said = ""

    # --- when it runs ---

    def begin(self) -> bool:
        """Watch soon, unless the resolver answers first. Whether it should be asked now."""
        if self._task is None and self._start is None:
            self._start = self._loop.call_later(PATIENCE_S, self._run_now)
        now = self._loop.time()
        if not self._answers and now < self._ask_dns_at:
            return False
        self._ask_dns_at = now + (DNS_AGAIN_S if self._listed else DNS_SOON_S)
        return True

    def on_resolved(self, known: bool) -> None:
        self._answers = known
        if not known:
            self._trusted_until = 0.0
            self._go_on()
        elif self._loop.time() < self._trusted_until:
            self.stop()
        elif self._checking is None:
            self._wait_no_more()
            self._checking = self._loop.create_task(self._check())

    async def _check(self) -> None:
        """Watch, until the resolver's answers lead to agents."""
        sound = await leads_to_agents(self.answer(), self.mine, self._knock)
        self._checking = None
        if sound:
            self._trusted_until = self._loop.time() + DNS_AGAIN_S
            self.stop()
        else:
            self._go_on()
            if not self._astray:
                log.info("no agent is where the resolver says %s is; the API server is asked", self._service)
        self._astray = not sound

    def _go_on(self) -> None:
        if self._task is None:
            self._run_now()

    def _wait_no_more(self) -> None:
        if self._start is not None:
            self._start.cancel()
        self._start = None

    def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        self.stop()

    def stop(self) -> None:
        self._wait_no_more()
        if self._task is not None:
            self._task.cancel()
        self._task = None
        self.knocker.stop()
        self._listed, self._version = False, ""
        self.slices.clear()

    def _run_now(self) -> None:
        self._wait_no_more()
        self._task = self._loop.create_task(self._run())
        self.knocker.start()

    async def _run(self) -> None:
        fresh = "0"  # whatever the server has at hand is good enough, until it is too old to go on from
        while True:
            try:
                if not self._version:
                    await self._list(fresh)
                began = self._loop.time()
                await self._watch()
                self._failures = 0
                await asyncio.sleep(max(0.0, began + SHORT_S - self._loop.time()))
            except KubeError as error:
                if error.status == GONE and self._listed:
                    self.counters["kube_relisted"] += 1
                    fresh = ""
                else:
                    self._say(error)
                self._version = self._version if error.status == 0 else ""
                await asyncio.sleep(self.next_pause())

    def next_pause(self) -> float:
        """Twice as long each time, up to a limit, at random."""
        self._failures += 1
        least, most = BACK_OFF_S
        return min(most, least * 2.0 ** min(self._failures - 1, 10)) * self.rng.uniform(0.5, 1.5)

    # --- what it hears ---

    async def _list(self, version: str) -> None:
        query = {**self._query, "resourceVersion": version} if version else self._query
        answer = await self._api.get(self._path, query)
        self.counters["kube_listed"] += 1
        self.slices = {_name(each): addresses(each, self._port) for each in _list_of(answer.get("items"))}
        self._version = _version(answer)
        if not self._listed:
            log.info("the API server knows %d addresses of %s", len(self.known()), self._service)
        self._listed, self._failures, self._said = True, 0, ""
        self.knocker.news.set()

    async def _watch(self) -> None:
        limit = self.rng.uniform(*WATCH_S)
        query = {
            **self._query, "resourceVersion": self._version, "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(limit)),
        }  # fmt: skip
        await self._api.watch(self._path, query, limit + 10.0, self.on_event)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """One line of a watch. What is of no kind we know changes nothing."""
        kind, found = event.get("type"), event.get("object")
        if not isinstance(found, dict):
            raise KubeError(0, "an event without an object")
        if kind == "ERROR":
            code = found.get("code")
            raise KubeError(code if isinstance(code, int) else 0, str(found.get("message"))[:500])
        self._version = _version(found) or self._version
        if kind in ("ADDED", "MODIFIED"):
            self.slices[_name(found)] = addresses(found, self._port)
            self.knocker.news.set()
        elif kind == "DELETED":
            self.slices.pop(_name(found), None)

    def known(self) -> list[str]:
        """The others'."""
        return sorted({address for each in self.slices.values() for address in each} - {self.mine})

    def _say(self, error: KubeError) -> None:
        """Once per reason."""
        self.counters["kube_failed"] += 1
        if error.message != self._said:
            self._said = error.message
            hint = "; the pod's account needs list and watch of endpointslices" if error.status in (401, 403) else ""
            log.warning("the API server does not tell who is behind %s: %s%s", self._service, error.message, hint)


def addresses(found: Mapping[str, Any], port: int) -> tuple[str, ...]:
    """HOST:PORT of who can be called: ready or not, as an agent becomes ready by being found, but not who is leaving.
    Of several ports it is the one called `agent`."""
    for each in _list_of(found.get("ports")):
        number = each.get("port")
        if each.get("name") == PORT_NAME and isinstance(number, int) and 0 < number < 65535:
            port = number
    places = []
    for endpoint in _list_of(found.get("endpoints")):
        conditions = endpoint.get("conditions")
        leaving = isinstance(conditions, dict) and conditions.get("terminating") is True
        named = endpoint.get("addresses")
        hosts = named if isinstance(named, list) and not leaving else []
        places += [numeric(format_address(host, port)) for host in hosts[:1] if isinstance(host, str)]
    return tuple(place for place in places if place)


def _list_of(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _metadata(found: Mapping[str, Any], key: str) -> str:
    metadata = found.get("metadata")
    value = metadata.get(key) if isinstance(metadata, dict) else None
    return value if isinstance(value, str) else ""


def _name(found: Mapping[str, Any]) -> str:
    return _metadata(found, "name")


def _version(found: Mapping[str, Any]) -> str:
    return _metadata(found, "resourceVersion")
