"""Probes between nodes on links of known truth, in literal time: soon enough, cheap enough, not misled."""

import heapq
from collections import defaultdict
from itertools import count
from random import Random

import pytest

from jupiter_agent.core.effects import Send
from jupiter_agent.core.estimate import Links
from jupiter_agent.core.messages.links import PROBE_BYTES, LinkEcho, LinkProbe
from jupiter_agent.core.profiling.probing import HEAD_BYTES, PROBES, ProbeSettings, Probing

WAN = {("n1", "n2"): (0.070, 200e6), ("n1", "n3"): (0.140, 100e6), ("n2", "n3"): (0.008, 300e6)}
"""rtt s, bit/s"""


class Net:
    """Nodes that probe each other; every message takes half a round trip, its bytes and some noise."""

    def __init__(self, links: dict[tuple[str, str], tuple[float, float]], profile: str = "wan", noise_s: float = 0.0):
        self.truth = {**links, **{(b, a): value for (a, b), value in links.items()}}
        self.names = sorted({name for pair in links for name in pair})
        self.now, self._count, self._queue = 0.0, count(), []
        self.rng, self.noise_s, self.lost = Random(1), noise_s, 0.0
        self.said: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.probes = {name: self._node(name, PROBES[profile]) for name in self.names}

    def _node(self, name: str, settings: ProbeSettings) -> Probing:
        self.links = {**getattr(self, "links", {}), name: Links(name)}
        near = [other for other in self.names if (name, other) in self.truth]
        return Probing(name, self.links[name], lambda: near, lambda peer: True, settings)

    def perform(self, src: str, effects: list[object]) -> None:
        for effect in effects:
            assert isinstance(effect, Send)
            rtt_s, bps = self.truth[src, effect.dst]
            data = effect.message.data if isinstance(effect.message, LinkEcho) else b""
            size = HEAD_BYTES + len(data)
            self.said[src].append((self.now, size))
            if self.rng.random() >= self.lost:
                at = self.now + rtt_s / 2 + 8 * size / bps + self.noise_s * self.rng.expovariate(1.0)
                heapq.heappush(self._queue, (at, next(self._count), src, effect.dst, effect.message))

    def run(self, until: float) -> None:
        while self.now < until:
            due = min((probing.next_deadline(), name) for name, probing in self.probes.items())
            arrives = self._queue[0][0] if self._queue else float("inf")
            self.now = max(self.now, min(until, due[0], arrives))
            if arrives <= self.now:
                _, _, src, dst, message = heapq.heappop(self._queue)
                handler = self.probes[dst].on_probe if isinstance(message, LinkProbe) else self.probes[dst].on_echo
                self.perform(dst, handler(src, message, self.now))
            elif due[0] <= self.now:
                self.perform(due[1], self.probes[due[1]].on_deadline(self.now))
            for probing in self.probes.values():
                probing.check()

    def want(self) -> None:
        for probing in self.probes.values():
            probing.want(self.names, self.now)

    def off(self, a: str, b: str) -> tuple[float, float]:
        """Relative errors of what b believes of the link from a: (round trip, rate)."""
        shape, (rtt_s, bps) = self.links[b].shape(a), self.truth[a, b]
        return abs(shape.rtt_s - rtt_s) / rtt_s, abs(8 / shape.q - bps) / bps

    def most_bits_per_s(self, over_s: float = 60.0) -> float:
        """The most that any node said in any such time."""
        most = 0
        for said in self.said.values():
            for start, _ in said:
                most = max(most, sum(size for at, size in said if start <= at < start + over_s))
        return 8 * most / over_s


def test_the_latency_of_all_neighbours_is_known_within_three_seconds():
    net = Net(WAN, noise_s=0.0002)
    net.run(3.0)
    assert all(net.off(a, b)[0] < 0.05 for a, b in net.truth)


def test_the_rates_of_the_links_a_mapping_asks_about_are_known_within_ten_seconds():
    net = Net(WAN, noise_s=0.0001)
    net.run(3.0)
    net.want()
    net.run(13.0)
    off = [net.off(a, b)[1] for a, b in net.truth]
    assert max(off) < 0.5
    assert sorted(off)[len(off) // 2] < 0.25
    told = [net.links[a].estimate(b) for a, b in net.truth]
    assert {link.rate_source for link in told} == {"measured"}, "each end tells the other what comes from it"


def mesh(size: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Everybody near everybody, 120 ms and 100 Mbit/s apart."""
    names = [f"n{i}" for i in range(size)]
    return {(a, b): (0.12, 100e6) for a in names for b in names if a < b}


def test_all_links_a_mapping_asks_about_are_looked_at_once_before_one_is_looked_at_well():
    net = Net(mesh(9), noise_s=0.0002)
    net.run(1.0)
    net.want()
    net.run(11.0)
    unknown = [(a, b) for a, b in net.truth if not net.links[b].knows_rate(a)]
    assert unknown == []


def test_the_rates_of_new_neighbours_are_known_after_half_a_minute_whoever_asks():
    net = Net(mesh(9), noise_s=0.0002)
    net.run(30.0)
    assert all(net.links[b].knows_rate(a) for a, b in net.truth)


@pytest.mark.parametrize("profile", ["lan", "wan", "manet"])
def test_no_node_says_more_than_its_profile_allows_in_any_minute(profile):
    names = [f"n{i}" for i in range(9)]
    slow = {"lan": 1e9, "wan": 100e6, "manet": 1e6}[profile]
    net = Net({(a, b): (0.04, slow) for a in names for b in names if a < b}, profile, noise_s=0.002)
    for minute in range(3):
        net.want()
        net.run(60.0 * (minute + 1))
    assert 0 < net.most_bits_per_s() <= PROBES[profile].bits_per_s


def test_a_slow_link_gives_a_hundredth_of_its_time_to_probes():
    net = Net({("n1", "n2"): (0.05, 64e3)})
    net.want()
    net.run(300.0)
    sent = sum(size for _, size in net.said["n1"]) * 8 / 300.0
    assert sent <= 0.01 * 64e3 * 1.5, "heads included"
    assert net.off("n1", "n2")[1] < 0.1


def test_neighbours_that_no_mapping_asks_about_cost_next_to_nothing():
    net = Net(WAN)
    net.run(60.0)
    began = sum(size for said in net.said.values() for _, size in said)
    net.run(360.0)
    assert sum(size for said in net.said.values() for _, size in said) - began < 3 * 300 * 100


def test_a_delay_three_times_as_long_is_known_within_a_minute_without_any_traffic():
    net = Net(WAN, noise_s=0.0002)
    net.run(100.0)
    net.truth["n1", "n2"] = net.truth["n2", "n1"] = (0.210, 200e6)
    net.run(160.0)
    assert max(net.off("n1", "n2")[0], net.off("n2", "n1")[0]) < 0.05


@pytest.mark.parametrize(("factor", "within"), [(0.5, 0.2), (2.0, 0.35)])
def test_half_or_twice_the_rate_is_known_within_a_minute_on_a_link_that_was_asked_about(factor, within):
    net = Net({("n1", "n2"): (0.02, 50e6)}, noise_s=0.0001)
    net.want()
    net.run(100.0)
    assert net.off("n1", "n2")[1] < 0.15
    net.truth["n1", "n2"] = (0.02, factor * 50e6)
    net.run(160.0)
    assert net.off("n1", "n2")[1] < within


def test_probes_that_get_lost_count_as_loss_and_do_not_stop_the_others():
    net = Net(WAN)
    net.lost = 0.2
    net.want()
    net.run(200.0)
    assert all(net.off(a, b)[0] < 0.05 for a, b in net.truth)
    loss = [net.links[b].wide(a, net.now)["loss"] for a, b in net.truth]
    assert 0.05 < sum(loss) / len(loss) < 0.6


def test_a_new_session_is_looked_at_without_waiting_for_the_next_second():
    near: list[str] = []
    probing = Probing("n1", Links("n1"), lambda: near, lambda peer: True, PROBES["lan"])
    assert probing.on_deadline(10.0) == []
    near.append("n2")
    probing.soon(10.1)
    assert probing.next_deadline() == pytest.approx(10.2), "with those that come together"
    assert [sent.dst for sent in probing.on_deadline(10.2)] == ["n2"]


def test_echoes_that_nobody_asked_for_are_dropped():
    links = Links("n1")
    probing = Probing("n1", links, lambda: ["n2"], lambda peer: True, PROBES["lan"])
    [sent] = probing.on_deadline(1.0)
    for wrong in (LinkEcho(99, 1.0), LinkEcho(sent.message.serial, 1.0, 0.0, bytes(10))):
        assert probing.on_echo("n2", wrong, 1.1) == []
    assert probing.on_echo("n3", LinkEcho(sent.message.serial, 1.0), 1.1) == []
    assert links.measured() == {}
    assert probing.counters["echoes_unasked"] == 3
    probing.on_echo("n2", LinkEcho(sent.message.serial, 1.0), 1.1)
    probing.on_echo("n2", LinkEcho(sent.message.serial, 1.0), 1.2)
    assert links.measured()["n2"] == (pytest.approx(0.05), 0.0, 1), "twice is once"


def test_who_asks_all_the_time_gets_no_more_than_the_budget():
    probing = Probing("n1", Links("n1"), list, lambda peer: True, PROBES["wan"])
    told = 0
    for step in range(6000):
        for sent in probing.on_probe("n2", LinkProbe(step, PROBE_BYTES), step / 100):
            told += HEAD_BYTES + len(sent.message.data)
    assert told <= 60 * PROBES["wan"].bits_per_s / 8
    assert probing.counters["probes_unanswered"] > 0


def test_who_has_no_budget_asks_nothing_and_still_answers():
    probing = Probing("n1", Links("n1"), lambda: ["n2"], lambda peer: True, ProbeSettings())
    probing.want(["n2"], 1.0)
    assert probing.next_deadline() == float("inf")
    [sent] = probing.on_probe("n2", LinkProbe(1, 1000), 1.0)
    assert sent.message.serial == 1


def test_of_candidates_that_are_no_neighbours_each_node_looks_at_others():
    chosen = {}
    names = [f"n{i}" for i in range(100)]
    for name in names[:10]:
        probing = Probing(name, Links(name), list, lambda peer: True, PROBES["lan"])
        probing.want(names, 0.0)
        chosen[name] = {effect.dst for at in (1.0, 2.1, 3.2) for effect in probing.on_deadline(at)}
    assert all(len(peers) <= 8 for peers in chosen.values())
    assert len(set.union(*chosen.values())) > 15


def test_who_has_to_wait_for_a_processor_looks_at_nothing_that_no_mapping_asked_about():
    links = Links("n1")
    probing = Probing("n1", links, lambda: ["n2", "n3"], lambda peer: True, PROBES["lan"])
    probing.on_deadline(1.0)
    assert not probing.is_starved(1.0), "it has just begun"
    for peer in ("n2", "n3"):
        probing.forget(peer)
    assert probing.on_deadline(probing.next_deadline() + 0.3) == []
    assert probing.is_starved(2.3)
    probing.suspect("n2", 2.4)
    assert probing.on_deadline(3.3) == []
    probing.want(["n3"], 3.4)
    assert {sent.dst for sent in probing.on_deadline(3.4)} == {"n3"}
    asked = [sent.dst for at in range(44, 90) for sent in probing.on_deadline(at / 10)]
    assert "n2" in asked, "it has time again"


def test_a_probe_opens_no_session_unless_a_mapping_wants_to_know():
    near = ["n2"]
    probing = Probing("n1", Links("n1"), lambda: near, lambda peer: True, PROBES["lan"])
    [sent] = probing.on_deadline(1.0)
    near.clear()
    assert probing.on_echo("n2", LinkEcho(sent.message.serial, 1.0), 1.1) == [], "the session is gone meanwhile"
    assert [probing.on_deadline(at) for at in (2.0, 3.0, 4.0)] == [[], [], []]
    probing.want(["n2"], 4.1)
    assert [sent.dst for sent in probing.on_deadline(4.1)] == ["n2"]
