"""Discovery's adapters with made-up resolvers, datagrams and announcements; what all sources have in common."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType, SimpleNamespace

import pytest

from jupiter_agent.adapters import beacon as b
from jupiter_agent.adapters.discovery import Discovery, Sources
from jupiter_agent.adapters.keys import ClusterKeys, Token, decode_token, door_of, encode_token, granted
from jupiter_agent.adapters.kube_slices import SliceWatch
from jupiter_agent.adapters.mdns import Announced, Mdns, to_hint
from jupiter_agent.adapters.names import Names
from jupiter_agent.core.effects import LookUp
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.core.membership.seeds import MOST, SOURCES, SeedSet
from jupiter_agent.errors import PeerError, UsageError

ME, OTHER = "01" * 8, "02" * 8
CLUSTER = bytes(range(16))
SEAL = b.Seal(CLUSTER, b.beacon_key(b"door"))
MINE = Announced(ME, "10.0.0.1:7421", CLUSTER.hex())


def datagram(count: int = 1, address: str = "10.0.0.2:7421", node: str = OTHER, boot: int = 3) -> bytes:
    return b.encode(b.Beacon(node, address, boot, count), SEAL)


def looked_up(*answers: list[str] | Exception, name: str = "svc:7421") -> tuple[list[SeedsFound], Names]:
    """What is posted for a name whose resolver gives these answers in turn."""
    posted: list[SeedsFound] = []
    queue = list(answers)

    async def resolver(_: str) -> list[str]:
        answer = queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run() -> Names:
        names = Names(posted.append, resolver)
        for _ in answers:
            names.look_up(name)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return names

    return posted, asyncio.run(run())


# --- all sources say the same kind of thing ---


def from_dns() -> Hint:
    posted, _ = looked_up(["10.0.0.2:7421"])
    return posted[0].hints[0]


def from_kube() -> Hint:
    posted: list[SeedsFound] = []

    async def there(address: str) -> bool:
        return True

    async def run() -> None:
        watch = SliceWatch(Silent(), ("jupiter", "agents"), 7421, posted.append, there)
        watch.on_event({"type": "ADDED", "object": {"endpoints": [{"addresses": ["10.0.0.2"]}]}})
        watch.knocker.start()
        for _ in range(5):
            await asyncio.sleep(0)
        watch.stop()

    asyncio.run(run())
    return posted[0].hints[0]


class Silent:
    """An API server that is never asked."""

    async def get(self, path: str, query: object = None) -> dict[str, object]:
        raise AssertionError

    async def watch(self, path: str, query: object, limit_s: float, on_event: object) -> None:
        raise AssertionError


def from_beacon() -> Hint | None:
    return b.Ear(ME, SEAL).take(datagram(), "10.0.0.2", 0.0)


def from_mdns() -> Hint | str:
    return to_hint({"cluster": CLUSTER.hex(), "id": OTHER, "address": "10.0.0.2:7421"}, [], 7421, MINE)


GIVERS: dict[str, Callable[[], object]] = {
    **{told: lambda told=told: Hint("10.0.0.2:7421", told) for told in ("join", "token", "remembered")},
    "dns": from_dns,
    "kube": from_kube,
    "beacon": from_beacon,
    "mdns": from_mdns,
}


def test_every_source_is_tried_here():
    assert set(GIVERS) == set(SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_gives_hints_that_the_seed_set_takes(source):
    hint = GIVERS[source]()
    assert isinstance(hint, Hint)
    assert (hint.address, hint.found_by) == ("10.0.0.2:7421", source)
    assert hint.node in ("", OTHER)
    seeds = SeedSet(10.0, (1.0, 9.0), random.Random(1), 0.0)
    assert seeds.add(hint, 0.0)
    seed = seeds.next((), ())
    assert seed is not None
    assert seed.address == "10.0.0.2:7421"


# --- names ---


def test_a_name_stands_for_all_its_addresses_and_others_later():
    posted, _ = looked_up(["10.0.0.1:7421", "[fd00::1]:7421", "10.0.0.1:7421"], ["10.0.0.9:7421"])
    assert [[hint.address for hint in found.hints] for found in posted] == [
        ["10.0.0.1:7421", "[fd00::1]:7421"],
        ["10.0.0.9:7421"],
    ]


@pytest.mark.parametrize("error", [OSError("unknown"), TimeoutError(), UnicodeError("label"), UsageError("no address")])
def test_a_name_without_address_is_counted_and_asked_for_again(error):
    posted, names = looked_up(error, error, ["10.0.0.1:7421"])
    assert len(posted) == 1
    assert names.counters["dns_failed"] == 2


def test_a_resolver_that_does_not_answer_is_said_not_to(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jupiter"), "propagate", True)
    looked_up(TimeoutError())
    assert caplog.messages == ["the name svc:7421 has no address yet: no answer"]


def test_a_name_has_at_most_so_many_addresses():
    posted, names = looked_up([f"10.0.{i // 250}.{i % 250}:7421" for i in range(MOST + 100)])
    assert len(posted[0].hints) == MOST
    assert names.counters["dns_dropped"] == 100


def test_one_question_at_a_time_is_asked_about_a_name():
    asked: list[str] = []

    async def run() -> None:
        async def never(name: str) -> list[str]:
            asked.append(name)
            await asyncio.Event().wait()
            return []

        names = Names(lambda _: None, never)
        for _ in range(5):
            names.look_up("svc:7421")
            names.look_up("other:7421")
            await asyncio.sleep(0)
        names.close()

    asyncio.run(run())
    assert asked == ["svc:7421", "other:7421"]


# --- beacon ---


def test_a_beacon_says_who_is_where_and_is_small():
    assert b.decode(datagram(7), SEAL) == b.Beacon(OTHER, "10.0.0.2:7421", 3, 7)
    longest = f"[{'f' * (b.ADDRESS_BYTES - 7)}]:7421"
    assert len(b.encode(b.Beacon(OTHER, longest, 3, 1), SEAL)) < b.MAX_BYTES == 200
    with pytest.raises(UsageError):
        b.encode(b.Beacon(OTHER, longest + "1", 3, 1), SEAL)


def test_whoever_holds_a_token_of_the_cluster_has_its_key_and_nobody_else():
    admin = ClusterKeys.found()
    own = Token(admin.fingerprint, admin.join_secret)
    worker = decode_token(encode_token(granted(own, admin.issuer_secret, "worker", 0.0)))
    assert worker.join_secret == b""
    assert b.beacon_key(worker.door) == b.beacon_key(door_of(admin.access()))
    assert b.beacon_key(worker.door) != b.beacon_key(door_of(ClusterKeys.found().access()))


def test_every_flipped_bit_and_every_cut_is_refused():
    whole = datagram()
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            try:
                assert b.decode(bytes(damaged), SEAL) is None, "of another cluster, at most"
            except PeerError:
                pass
    for size in range(len(whole)):
        with pytest.raises(PeerError):
            b.decode(whole[:size], SEAL)


def test_garbage_is_dropped_and_counted():
    ear, rng = b.Ear(ME, SEAL), random.Random(5)
    for i in range(1000):
        assert ear.take(rng.randbytes(rng.randrange(300)), f"10.0.{i % 200}.1", i * 1.0) is None
    assert ear.counters["beacon_garbage"] == 1000
    forged = b.encode(b.Beacon(OTHER, "10.0.0.2:1", 1, 1), b.Seal(CLUSTER, b"wrong key"))
    foreign = b.encode(b.Beacon(OTHER, "10.0.0.2:1", 1, 1), b.Seal(bytes(16), SEAL.key))
    for frame in (forged, foreign, datagram(node=ME)):
        assert ear.take(frame, "10.0.0.9", 2000.0) is None
    assert (ear.counters["beacon_forged"], ear.counters["beacon_foreign"]) == (1, 1)


@pytest.mark.parametrize("address", ["nowhere", "10.0.0.2:0", "10.0.0.2:65535", "a\nb:7", ":7"])
def test_a_beacon_with_a_senseless_address_is_garbage_even_with_the_right_key(address):
    with pytest.raises(PeerError, match="garbage"):
        b.decode(datagram(address=address), SEAL)


def test_a_beacon_counts_once_and_an_older_one_never():
    ear = b.Ear(ME, SEAL)
    old, new = datagram(1), datagram(2)
    assert ear.take(old, "10.0.0.2", 0.0)
    assert ear.take(new, "10.0.0.2", 5.0)
    assert ear.take(new, "10.0.0.2", 10.0) is None
    assert ear.take(old, "10.0.0.2", 15.0) is None
    assert ear.counters["beacon_replayed"] == 2
    assert ear.take(datagram(1, boot=4), "10.0.0.2", 20.0), "the sender has started again"


def test_a_host_that_floods_is_not_listened_to_and_keeps_no_other_from_being_heard():
    ear = b.Ear(ME, SEAL)
    for i in range(10_000):
        ear.take(b"x" * 60, "10.0.0.66", i / 1000)
        if i % 1000 == 0:
            assert ear.take(datagram(i + 1), "10.0.0.2", i / 1000)
    assert ear.counters["beacon_rate"] > 9900


def test_what_is_remembered_of_senders_is_bounded():
    ear = b.Ear(ME, SEAL)
    for i in range(b.MOST_SENDERS + 50):
        ear.take(datagram(node=f"{i:016x}"), f"h{i}", float(i))
    assert len(ear._heard) == b.MOST_SENDERS


# --- mDNS ---


@pytest.mark.parametrize(
    ("changed", "counter"),
    [
        ({"cluster": "ff" * 16}, "mdns_foreign"),
        ({"cluster": None}, "mdns_foreign"),
        ({"id": ME}, "mdns_own"),
        ({"address": "10.0.0.2"}, "mdns_garbage"),
        ({"address": "10.0.0.2:0"}, "mdns_garbage"),
        ({"address": "a" * 300 + ":7"}, "mdns_garbage"),
        ({"address": "a\x00b:7"}, "mdns_garbage"),
        ({"id": "x" * 65}, "mdns_garbage"),
    ],
)
def test_an_announcement_that_is_not_for_us_is_counted(changed, counter):
    text = {"cluster": CLUSTER.hex(), "id": OTHER, "address": "10.0.0.2:7421", **changed}
    assert to_hint(text, [], 7421, MINE) == counter


def test_an_announcement_without_an_address_of_its_own_is_at_its_host():
    text = {"cluster": CLUSTER.hex(), "id": OTHER}
    assert to_hint(text, ["10.0.0.2", "10.1.0.2"], 7421, MINE) == Hint("10.0.0.2:7421", "mdns", OTHER)
    assert to_hint(text, [], 7421, MINE) == "mdns_garbage"


class FakeLibrary(ModuleType):
    """Stands in for `zeroconf`: keeps what is announced, and lets a test speak as the network."""

    class Error(Exception):
        pass

    class Zeroconf:
        def __init__(self, ip_version: object) -> None:
            FakeLibrary.last, self.services, self.closed = self, [], False
            self.cache = SimpleNamespace(entries_with_name=lambda name: [name])

        def register_service(self, info: SimpleNamespace) -> None:
            if FakeLibrary.broken:
                raise FakeLibrary.broken
            self.services.append(info)

        def get_service_info(self, kind: str, name: str, timeout: int) -> object:
            return FakeLibrary.around.get(name)

        def close(self) -> None:
            self.closed = True

    class ServiceBrowser:
        def __init__(self, zeroconf: object, kind: str, handlers: list[Callable[..., None]]) -> None:
            FakeLibrary.browsers.append(self)
            self.zeroconf, self.kind, self.handlers, self.cancelled = zeroconf, kind, handlers, False

        def cancel(self) -> None:
            self.cancelled = True

        def say(self, name: str, change: str = "Added") -> None:
            self.handlers[0](self.zeroconf, self.kind, name, SimpleNamespace(name=change))

    IPVersion = SimpleNamespace(All=0, V4Only=1)
    broken: Exception | None = None
    last: FakeLibrary.Zeroconf
    browsers: list[FakeLibrary.ServiceBrowser] = []
    around: dict[str, SimpleNamespace] = {}

    @staticmethod
    def ServiceInfo(kind: str, name: str, **fields: object) -> SimpleNamespace:
        return SimpleNamespace(kind=kind, name=name, **fields)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[FakeLibrary]:
    FakeLibrary.broken, FakeLibrary.browsers, FakeLibrary.around = None, [], {}
    monkeypatch.setitem(sys.modules, "zeroconf", FakeLibrary("zeroconf"))
    return FakeLibrary


def announced(number: int) -> SimpleNamespace:
    text = {"cluster": CLUSTER.hex(), "id": f"{number:016x}", "address": f"10.0.0.{number}:7421"}
    return SimpleNamespace(decoded_properties=text, parsed_addresses=list, port=7421)


def run_mdns(story: Callable[[Mdns, Callable[[], Awaitable[None]]], Awaitable[None]]) -> tuple[list[str], Mdns]:
    """The addresses posted while the story went on; it awaits the second argument to let the thread catch up."""
    posted: list[str] = []

    async def run() -> Mdns:
        mdns = Mdns(MINE, lambda found: posted.extend(hint.address for hint in found.hints))

        async def settle() -> None:
            await asyncio.get_running_loop().run_in_executor(mdns._thread, lambda: None)
            await asyncio.sleep(0)

        mdns.start()
        await story(mdns, settle)
        await mdns.close()
        return mdns

    return posted, asyncio.run(run())


def test_an_agent_announces_where_it_is_and_what_cluster_it_is_of(library):
    async def story(mdns, settle):
        await settle()
        (info,) = library.last.services
        assert info.kind == "_jupiter._tcp.local."
        assert (info.port, info.parsed_addresses) == (7421, ["10.0.0.1"])
        assert info.properties == {"address": MINE.address, "id": ME, "cluster": CLUSTER.hex()}

    run_mdns(story)
    assert library.last.closed
    assert library.browsers == [], "nobody asked to browse"


def test_while_it_browses_an_agent_posts_what_others_announce_and_then_no_more(library):
    library.around.update({"two": announced(2), "three": announced(3)})

    async def story(mdns, settle):
        mdns.browse(True)
        await settle()
        (browser,) = library.browsers
        for name, change in (("two", "Added"), ("nobody", "Added"), ("three", "Removed")):
            browser.say(name, change)
        await settle()
        mdns.browse(False)
        await settle()
        assert browser.cancelled
        browser.say("three")
        await settle()
        mdns.browse(True)
        await settle()
        assert len(library.browsers) == 2

    posted, mdns = run_mdns(story)
    assert posted == ["10.0.0.2:7421"]
    assert mdns.counters["mdns_garbage"] == 1


def test_a_flood_of_announcements_is_looked_at_no_more_than_so_often(library):
    library.around["two"] = announced(2)

    async def story(mdns, settle):
        mdns.browse(True)
        await settle()
        for _ in range(1000):
            library.browsers[0].say("two")

    _, mdns = run_mdns(story)
    assert mdns.counters["mdns_rate"] > 800


@pytest.mark.parametrize("error", [OSError("no multicast"), FakeLibrary.Error("name taken"), RuntimeError("loop gone")])
def test_where_mdns_does_not_work_the_log_says_so_once_and_the_agent_goes_on(library, error, caplog):
    library.broken = error

    async def story(mdns, settle):
        await settle()
        library.broken = None
        mdns.browse(True)
        await settle()

    with caplog.at_level("WARNING", "jupiter"):
        _, mdns = run_mdns(story)
    assert mdns.counters["mdns_failed"] == 1


# --- together ---


def test_without_sources_there_is_nothing_to_wait_for():
    async def run() -> None:
        access = ClusterKeys.found().access()
        discovery = Discovery(Sources(), MINE, access, lambda: 1, lambda _: None)
        assert not discovery.listens
        await discovery.start()
        discovery.perform(LookUp("127.0.0.1:1"))
        await asyncio.sleep(0)
        await discovery.close()

    asyncio.run(run())


def test_building_an_agents_discovery_imports_no_mdns_library():
    code = "import sys, jupiter_agent.agent; print('zeroconf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
