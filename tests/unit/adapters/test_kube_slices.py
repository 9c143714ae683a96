"""Discovery through a Kubernetes API server that is a script, in a loop whose time is a number."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jumping import run

from jupiter_agent.adapters.kube_api import KubeError
from jupiter_agent.adapters.kube_knock import AGAIN_S, EAGER_AGAIN_S, EAGER_S, ENOUGH, KNOCK_S, KNOCKS
from jupiter_agent.adapters.kube_slices import (
    BACK_OFF_S,
    DNS_AGAIN_S,
    PATIENCE_S,
    KubeNames,
    SliceWatch,
    addresses,
    service_of,
)
from jupiter_agent.adapters.pod import Account
from jupiter_agent.core.events import SeedsFound
from jupiter_agent.core.membership.seeds import LASTS_S

PLACE = ("jupiter", "jupiter-agents")


class Script:
    """An API server. `lists` and `watches`: what each question gets in turn, an error or an answer; the last one
    stands. Events are (seconds, event)."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[tuple[float, str, Mapping[str, str]]] = []

    def _next(self, kind: str, queue: list[Any], query: Mapping[str, str]) -> Any:
        self.asked.append((asyncio.get_running_loop().time(), kind, dict(query)))
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        assert path == "/apis/discovery.k8s.io/v1/namespaces/jupiter/endpointslices"
        found: dict[str, Any] = self._next("list", self.lists, query or {})
        return found

    async def watch(
        self, path: str, query: Mapping[str, str], limit_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> None:
        for seconds, event in self._next("watch", self.watches, query):
            await asyncio.sleep(seconds)
            on_event(event)


def piece(name: str, *hosts: str, version: str = "5", **more: Any) -> dict[str, Any]:
    """An EndpointSlice."""
    endpoints = [{"addresses": [host], "conditions": {"ready": True}} for host in hosts]
    return {"metadata": {"name": name, "resourceVersion": version}, "endpoints": endpoints, **more}


def listed(*slices: dict[str, Any], version: str = "9") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "items": list(slices)}


def watched(script: Script, seconds: float, knock: Any = None) -> tuple[list[list[str]], SliceWatch]:
    """The addresses posted while a watch runs so long, sorted, and the watch."""
    posted: list[list[str]] = []

    def post(found: SeedsFound) -> None:
        assert {hint.found_by for hint in found.hints} == {"kube"}
        posted.append(sorted(hint.address for hint in found.hints))

    async def work() -> SliceWatch:
        watch = SliceWatch(script, PLACE, 7421, post, knock or there)
        watch.rng = watch.knocker.rng = Random(1)
        watch.on_resolved(False)
        await asyncio.sleep(seconds)
        watch_slices = dict(watch.slices)
        watch.stop()
        watch.slices = watch_slices
        return watch

    return posted, run(work)


FOR_EVER = [(1e6, {})]


async def there(address: str) -> bool:
    return True


def test_a_list_then_a_watch_from_its_version_tell_who_is_there_and_who_comes():
    new = {"type": "MODIFIED", "object": piece("a", "10.0.0.1", "10.0.0.3", version="12")}
    script = Script([listed(piece("a", "10.0.0.1"), piece("b", "10.0.0.2"))], [[(5.0, new), (1e6, {})]])
    posted, _ = watched(script, 20.0)
    assert posted == [["10.0.0.1:7421", "10.0.0.2:7421"], ["10.0.0.1:7421", "10.0.0.2:7421", "10.0.0.3:7421"]]
    kinds = [(kind, query.get("resourceVersion")) for _, kind, query in script.asked]
    assert kinds == [("list", "0"), ("watch", "9")]
    for _, _, query in script.asked:
        assert query["labelSelector"] == "kubernetes.io/service-name=jupiter-agents"


def test_a_watch_that_the_server_ends_goes_on_from_the_last_version_without_a_list():
    mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "40"}}}
    script = Script([listed()], [[(200.0, mark)], FOR_EVER])
    watched(script, 300.0)
    assert [(kind, query.get("resourceVersion")) for _, kind, query in script.asked] == [
        ("list", "0"), ("watch", "9"), ("watch", "40"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "gone", [KubeError(410, "too old"), [(0.0, {"type": "ERROR", "object": {"code": 410, "message": "too old"}})]]
)
def test_a_version_the_server_has_forgotten_is_a_reason_to_list_anew_and_not_from_its_cache(gone):
    script = Script([listed(piece("a", "10.0.0.1")), listed(piece("a", "10.0.0.2"), version="77")], [gone, FOR_EVER])
    posted, watch = watched(script, 20.0)
    assert posted == [["10.0.0.1:7421"], ["10.0.0.2:7421"]]
    assert [(kind, query.get("resourceVersion")) for _, kind, query in script.asked] == [
        ("list", "0"), ("watch", "9"), ("list", None), ("watch", "77"),
    ]  # fmt: skip
    assert watch.counters["kube_relisted"] == 1
    assert not watch.counters["kube_failed"]


def test_what_fails_is_tried_again_at_growing_intervals_and_said_once(caplog):
    script = Script([KubeError(403, "403: endpointslices is forbidden")], [FOR_EVER])
    posted, watch = watched(script, 120.0)
    times = [when for when, _, _ in script.asked]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses[0] < 0.75
    assert pauses[-1] > 10.0
    assert all(pause <= 1.5 * BACK_OFF_S[1] for pause in pauses)
    assert posted == []
    assert watch.counters["kube_failed"] == len(times)
    assert [record.getMessage() for record in caplog.records] == [
        "the API server does not tell who is behind jupiter-agents: 403: endpointslices is forbidden; "
        "the pod's account needs list and watch of endpointslices"
    ]


def test_a_server_that_is_away_for_a_moment_costs_no_list():
    script = Script([listed()], [KubeError(0, "no answer in time"), FOR_EVER])
    watched(script, 20.0)
    assert [kind for _, kind, _ in script.asked] == ["list", "watch", "watch"]


def test_a_server_that_ends_every_watch_at_once_is_not_asked_more_than_once_a_second():
    script = Script([listed()], [[]])
    watched(script, 60.0)
    assert len(script.asked) <= 62


def test_what_is_known_is_said_again_before_the_machine_forgets_it():
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    posted, _ = watched(script, 200.0)
    assert len(posted) > 200.0 / LASTS_S["kube"] + 1


def test_who_is_gone_is_not_said_again():
    gone = {"type": "DELETED", "object": piece("a", version="11")}
    script = Script([listed(piece("a", "10.0.0.1"), piece("b", "10.0.0.2"))], [[(1.0, gone), (1e6, {})]])
    posted, _ = watched(script, 100.0)
    assert posted[-1] == ["10.0.0.2:7421"]


def test_of_very_many_a_few_are_knocked_at_and_told_each_time_others():
    hosts = [f"10.0.{k // 250}.{k % 250 + 1}" for k in range(500)]
    script = Script([listed(*(piece(f"s{k}", *hosts[k : k + 100]) for k in range(0, 500, 100)))], [FOR_EVER])
    knocked: list[str] = []

    async def knock(address: str) -> bool:
        knocked.append(address)
        return True

    posted, _ = watched(script, 65.0, knock)
    assert [len(each) for each in posted] == [ENOUGH] * len(posted)
    assert len(knocked) == KNOCKS + ENOUGH * (len(posted) - 1) == len(set(knocked))
    assert 3 <= len(posted) <= 4


def test_addresses_at_which_nobody_is_are_no_hints_and_hold_nobody_up():
    ghosts = [f"10.9.0.{k}" for k in range(1, 51)]
    script = Script([listed(piece("a", "10.0.0.1", "10.0.0.2", *ghosts))], [FOR_EVER])
    times: list[float] = []

    async def knock(address: str) -> bool:
        if address.startswith("10.9."):
            await asyncio.sleep(KNOCK_S)
            return False
        times.append(asyncio.get_running_loop().time())
        return True

    posted, _ = watched(script, 300.0, knock)
    assert {address for each in posted for address in each} == {"10.0.0.1:7421", "10.0.0.2:7421"}
    assert sorted(times)[1] < 2 * KNOCK_S + 2 * AGAIN_S[0]


def test_agents_that_start_in_the_same_second_find_each_other_among_fifty_that_are_nobodys():
    ghosts = [f"10.9.0.{k}" for k in range(1, 51)]
    script = Script([listed(piece("a", "10.0.0.1", "10.0.0.2", *ghosts))], [FOR_EVER])

    async def knock(address: str) -> bool:
        if not address.startswith("10.9.") and asyncio.get_running_loop().time() > 20.0:
            return True
        await asyncio.sleep(KNOCK_S)
        return False

    posted, _ = watched(script, 20.0 + 2 * (KNOCK_S + EAGER_AGAIN_S) + KNOCK_S, knock)
    assert {address for each in posted for address in each} >= {"10.0.0.1:7421"}


def test_who_is_not_there_yet_is_knocked_at_again_soon_and_then_less_often():
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    knocks: list[float] = []

    async def knock(address: str) -> bool:
        knocks.append(asyncio.get_running_loop().time())
        return knocks[-1] >= 3.0

    posted, _ = watched(script, 20.0, knock)
    assert posted == [["10.0.0.1:7421"]]
    assert 4 <= len(knocks) <= 8
    assert knocks[-1] < 7.0

    async def never(address: str) -> bool:
        knocks.append(asyncio.get_running_loop().time())
        return False

    knocks.clear()
    watched(script, 600.0, never)
    usual = EAGER_S / EAGER_AGAIN_S + (600 - EAGER_S) / AGAIN_S[1]
    assert usual <= len(knocks) <= usual / 0.7 + 8


def test_an_agents_own_address_is_no_news_to_it():
    script = Script([listed(piece("a", "10.0.0.1", "10.0.0.2"))], [FOR_EVER])
    posted: list[Any] = []

    async def work() -> None:
        watch = SliceWatch(script, PLACE, 7421, posted.append, there)
        watch.mine = "10.0.0.2:7421"
        watch.on_resolved(False)
        await asyncio.sleep(5.0)
        watch.stop()

    run(work)
    assert [[hint.address for hint in found.hints] for found in posted] == [["10.0.0.1:7421"]]


def test_who_is_not_ready_can_be_called_and_who_is_leaving_cannot():
    found = piece("a", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    found["endpoints"][1]["conditions"] = {"ready": False}
    found["endpoints"][2]["conditions"] = {"ready": True, "terminating": True}
    assert addresses(found, 7421) == ("10.0.0.1:7421", "10.0.0.2:7421")


def test_the_port_is_the_one_of_agents_and_an_ipv6_address_has_brackets():
    ports = [{"name": "join", "port": 7422}, {"name": "agent", "port": 9000}]
    assert addresses(piece("a", "fd00::1", ports=ports), 7421) == ("[fd00::1]:9000",)
    assert addresses(piece("a", "10.0.0.1", ports=[{"name": "other", "port": 1}]), 7421) == ("10.0.0.1:7421",)


@pytest.mark.parametrize(
    "found",
    [
        {}, {"endpoints": None}, {"endpoints": [3, None, {"addresses": "10.0.0.1"}, {"addresses": [3]}]},
        {"endpoints": [{"addresses": ["name.example"], "conditions": 3}], "ports": [{"name": "agent", "port": "x"}]},
        {"ports": 7, "endpoints": {"addresses": ["10.0.0.1"]}},
    ],
)  # fmt: skip
def test_what_is_no_endpointslice_has_no_addresses(found):
    assert addresses(found, 7421) == ()


@pytest.mark.parametrize("event", [{}, {"type": "ADDED"}, {"type": "ADDED", "object": 3}])
def test_an_event_that_makes_no_sense_ends_the_watch_and_nothing_else(event):
    script = Script([listed(piece("a", "10.0.0.1"))], [[(0.0, event)], FOR_EVER])
    posted, watch = watched(script, 10.0)
    assert posted == [["10.0.0.1:7421"]]
    assert watch.counters["kube_failed"] == 1
    assert watch.slices == {"a": ("10.0.0.1:7421",)}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("jupiter-agents:7421", ("ours", "jupiter-agents")),
        ("jupiter-agents.ours:7421", ("ours", "jupiter-agents")),
        ("jupiter-agents.other.svc:7421", ("other", "jupiter-agents")),
        ("jupiter-agents.other.svc.cluster.local:7421", ("other", "jupiter-agents")),
        ("node.example:7421", None),
        ("a.b.example.com:7421", None),
        ("10.0.0.1:7421", None),
        ("[fd00::1]:7421", None),
        ("nonsense", None),
    ],
)
def test_a_name_is_a_services_when_dns_in_a_cluster_would_take_it_for_one(name, place):
    assert service_of(name, "ours") == place


# --- with DNS beside it ---


NAME = "jupiter-agents:7421"


class Dns:
    """A resolver that answers every name with these addresses; None: with none."""

    def __init__(self, *hosts: str) -> None:
        self.found: list[str] | None = [f"{host}:7421" for host in hosts]
        self.asked = 0

    async def __call__(self, name: str) -> list[str]:
        assert name == NAME
        self.asked += 1
        if self.found is None:
            raise OSError("unknown")
        return self.found


def names(script: Script, folder: Path, posted: list[Any], dns: Dns | None = None, knock: Any = None) -> KubeNames:
    (folder / "token").write_text("t")
    (folder / "namespace").write_text("jupiter\n")
    account = Account.of_pod({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, folder)
    assert account is not None
    assert (account.port, account.namespace) == (443, "jupiter")
    kube = KubeNames(account, posted.append, "10.0.0.9:7421", script, knock or there)
    kube.resolver = dns or Dns("10.0.0.1")
    return kube


async def agents_only(address: str) -> bool:
    await asyncio.sleep(KNOCK_S)
    return address.startswith("10.")


async def nobody(address: str) -> bool:
    return False


@pytest.mark.parametrize(("dns", "knock"), [(Dns("10.0.0.1"), there), (Dns("10.0.0.1", "10.0.0.9"), nobody)])
def test_where_dns_leads_to_an_agent_the_api_server_is_never_asked(tmp_path, dns, knock):
    script = Script([listed()], [FOR_EVER])

    async def work() -> None:
        kube = names(script, tmp_path, [], dns, knock)
        for _ in range(30):
            assert kube.look_up(NAME)
            kube.on_resolved(NAME, True)
            await asyncio.sleep(9.0)
        kube.close()

    run(work)
    assert script.asked == []
    assert dns.asked <= 270 / DNS_AGAIN_S + 1, "an answer that was good is not looked at each time"


def test_a_domain_that_answers_every_name_keeps_no_agent_alone(tmp_path):
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    posted: list[Any] = []
    dns = Dns("203.0.113.7")

    async def work() -> tuple[int, int]:
        kube = names(script, tmp_path, posted, dns, agents_only)
        for _ in range(20):
            assert kube.look_up(NAME), "it may lead to an agent any time"
            kube.on_resolved(NAME, True)
            await asyncio.sleep(9.0)
        alone = len(posted)
        dns.found = ["10.0.0.2:7421"]
        kube.on_resolved(NAME, True)
        await asyncio.sleep(3.0)
        ended = len(posted)
        await asyncio.sleep(100.0)
        kube.close()
        return alone, ended

    alone, ended = run(work)
    assert script.asked[0][0] <= 2 * KNOCK_S
    assert alone >= 180 / LASTS_S["kube"]
    assert len(posted) == ended, "the watch ends when the cluster's own DNS comes up"


def test_an_answer_that_led_to_agents_and_does_no_more_is_noticed(tmp_path):
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    dns = Dns("10.0.0.1")

    async def work() -> None:
        kube = names(script, tmp_path, [], dns, agents_only)
        for _ in range(20):
            kube.look_up(NAME)
            kube.on_resolved(NAME, True)
            await asyncio.sleep(9.0)
            dns.found = ["203.0.113.7:7421"]
        kube.close()

    run(work)
    assert DNS_AGAIN_S <= script.asked[0][0] <= DNS_AGAIN_S + 15.0


def test_a_resolver_that_is_slow_but_good_ends_a_watch_that_began_meanwhile(tmp_path):
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    posted: list[Any] = []

    async def work() -> None:
        kube = names(script, tmp_path, posted)
        for _ in range(2):
            kube.look_up(NAME)
            await asyncio.sleep(2 * PATIENCE_S)
            kube.on_resolved(NAME, True)
            await asyncio.sleep(1.0)
        before = len(posted)
        await asyncio.sleep(100.0)
        assert len(posted) == before == 2
        kube.close()

    run(work)


def test_an_answer_that_is_gone_when_it_is_looked_at_is_none(tmp_path):
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    dns = Dns()
    dns.found = None

    async def work() -> None:
        kube = names(script, tmp_path, [], dns)
        kube.look_up(NAME)
        kube.on_resolved(NAME, True)
        await asyncio.sleep(5.0)
        kube.close()

    run(work)
    assert script.asked


def test_a_resolver_that_keeps_one_waiting_is_not_waited_for_and_asked_seldom_then(tmp_path):
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    posted: list[Any] = []
    resolver: list[float] = []

    async def work() -> None:
        kube = names(script, tmp_path, posted)
        for _ in range(40):
            if kube.look_up(NAME):
                resolver.append(asyncio.get_running_loop().time())
            await asyncio.sleep(9.0)
        kube.close()

    run(work)
    assert script.asked[0][0] == PATIENCE_S
    assert len(resolver) <= 5
    assert len(posted) >= 360 / LASTS_S["kube"]


def test_the_watch_ends_when_dns_comes_up(tmp_path):
    script = Script([listed(piece("a", "10.0.0.1"))], [FOR_EVER])
    posted: list[Any] = []

    async def work() -> int:
        kube = names(script, tmp_path, posted)
        kube.look_up(NAME)
        kube.on_resolved(NAME, False)
        await asyncio.sleep(10.0)
        kube.on_resolved(NAME, True)
        before = len(posted)
        await asyncio.sleep(100.0)
        return before

    assert run(work) == len(posted) == 1


def test_outside_of_pods_there_is_no_account(tmp_path):
    assert Account.of_pod({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path) is None  # no token is mounted
    (tmp_path / "token").write_text("t")
    assert Account.of_pod({}, tmp_path) is None
    assert Account.of_pod({"KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "x"}, tmp_path) is None
