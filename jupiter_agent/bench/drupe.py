"""`jupiter bench drupe`: what agents know of their links, against the truth of an emulated network (Linux, root).

`wan8` (eight cities): how soon and how well latencies and rates are known, what the probes cost, how well transfers of
1 kB to 50 MB are predicted before and after some were seen, and how long a change of a link takes to be known, with
traffic and without. Then the cost of probes in the profiles `lan` and `manet`, on loopback.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import JUPITER
from jupiter_agent.bench.fleet import full_view, told
from jupiter_agent.bench.ground import Ground, InLab, Loopback
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.core.profiling.probing import PROBES
from jupiter_agent.errors import JupiterError
from jupiter_agent.netlab import Lab, load
from jupiter_agent.netlab.topology import expanded, site_link

SETTLE_S = 10.0
KNOWN_S, ASKED_S = 30.0, 40.0
QUIET_S = 60.0
PAIRS, LEARNED, SCORED = 10, 4, 8
LEAST_BYTES, MOST_BYTES = 1_000, 50_000_000
INLINE = 64 * 1024
WIRE = 1500 / 1448
"""Bytes on the wire per byte of payload"""
LIMIT_S = 60.0
Belief = tuple[float, int, dict[str, list[float]]]

APP = "application:\n  tasks:\n    dag_tasks:\n      - {name: t, base_script: t.py, children: [home]}\n"
TASK = "def process(inputs, ctx):\n    return b''\n"


class Observed(Fleet):
    """A fleet of agents that write down what they believe, and move bytes when told."""

    def __enter__(self) -> Observed:
        return self

    def fork(self, name: str) -> None:
        self.execute(name, "jupiter_agent.bench.drupe_agent")

    def order(self, name: str, **what: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(json.dumps(what).encode(), str(self.folder / name / "orders"))

    def beliefs(self, name: str) -> list[Belief]:
        return _lines(self.folder / name / "links.jsonl")

    def moved(self, name: str) -> list[list[Any]]:
        return _lines(self.folder / name / "moved.jsonl")

    def next_moved(self, name: str, order: Callable[[], None], limit_s: float = LIMIT_S) -> list[Any] | None:
        """What came of an order that ends at this agent."""
        before = len(self.moved(name))
        order()
        deadline = time.monotonic() + limit_s
        while len(rows := self.moved(name)) == before:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.005)
            self._tick()
        return rows[before]

    def fetch(self, src: str, dst: str, size: int, seed: int) -> tuple[float, float]:
        """(predicted, taken) seconds of an object of this size, from asking for it to having it."""
        made = self.next_moved(src, lambda: self.order(src, make=size, seed=seed))
        if made is None:
            raise JupiterError(f"{src} made nothing", self.log_of(src))
        order = {"fetch": made[1], "size": size, "from": src}
        row = self.next_moved(dst, lambda: self.order(dst, **order))
        if row is None:
            raise JupiterError(f"nothing came from {src} to {dst}", self.log_of(dst))
        return row[3], row[4]

    def say(self, src: str, dst: str, size: int) -> tuple[float, float]:
        row = self.next_moved(dst, lambda: self.order(src, say=size, to=dst))
        if row is None:
            raise JupiterError(f"nothing came from {src} to {dst}", self.log_of(dst))
        return row[3], row[4]


def _lines(path: Path) -> list[Any]:
    if not path.exists():
        return []
    whole = path.read_text()
    return [json.loads(line) for line in whole[: whole.rfind("\n") + 1].splitlines()]


class Truth:
    """The network as it is: pair -> round trip s, s/byte of payload."""

    def __init__(self, topology: dict[str, Any]) -> None:
        nodes = {node["name"]: node for node in expanded(topology)}
        self.pairs = [(a, b) for a in nodes for b in nodes if a != b]
        self.links = {(a, b): site_link(topology, nodes[a], nodes[b]) for a, b in self.pairs}

    def rtt_s(self, a: str, b: str) -> float:
        return float(self.links[a, b]["delay_ms"] + self.links[b, a]["delay_ms"]) / 1000

    def q(self, a: str, b: str) -> float:
        return float(8 * WIRE / (self.links[a, b]["rate_mbps"] * 1e6))


def run() -> list[Figure]:
    """All figures; takes about 8 minutes."""
    topology = load("wan8")
    lab = Lab(topology)
    truth = Truth(topology)
    ground = InLab(lab)
    with ground, Observed(ground, "wan") as fleet:
        fleet.start(lab.names)
        full_view(fleet, 60.0)
        figures = told(_latencies(fleet, truth))
        figures += told(_rates(fleet, truth))
        figures += told(_changes(fleet, truth, lab))
        figures += told(_transfers(fleet, truth))
        figures += told(_traffic(fleet, "wan"))
    for profile in ("lan", "manet"):
        figures += told(_quiet(profile))
    return figures


# --- what is known, and when -----------------------------------------------------------------------------------------


def _first(fleet: Observed, pair: tuple[str, str], known: Callable[[list[float]], bool], after: float) -> float:
    """When the receiver of a link first believed something of this kind; infinity if not yet."""
    src, dst = pair
    rows = ((t, beliefs[src]) for t, _, beliefs in fleet.beliefs(dst) if src in beliefs)
    return min((t for t, belief in rows if t >= after and known(belief)), default=float("inf"))


def _latencies(fleet: Observed, truth: Truth) -> list[Figure]:
    joined = {name: seen.joined or 0.0 for name, seen in fleet.seen.agents.items()}
    fleet.wait(lambda: all(_first(fleet, pair, bool, 0.0) < float("inf") for pair in truth.pairs), KNOWN_S)
    took = [_first(fleet, (a, b), bool, 0.0) - max(joined[a], joined[b]) for a, b in truth.pairs]
    fleet.pass_time(SETTLE_S)
    last = {name: fleet.beliefs(name)[-1][2] for name in fleet.running}
    off = [abs(last[b][a][0] - truth.rtt_s(a, b)) / truth.rtt_s(a, b) for a, b in truth.pairs]
    return [
        Figure("wan8: joined -> latency of all neighbours", max(took), "s", 3.0),
        Figure("wan8: latency, relative error, median", median(off), ""),
        Figure("wan8: latency, relative error, p90 of 56", quantiles(off, n=10)[8], "", 0.05),
        Figure("wan8: latency, relative error, worst of 56", max(off), ""),
    ]


def _rates(fleet: Observed, truth: Truth) -> list[Figure]:
    app = fleet.folder / "app"
    app.mkdir()
    (app / "app_config.yaml").write_text(APP)
    (app / "t.py").write_text(TASK)
    lab, home = fleet.ground.lab, fleet.running[0]
    assert lab is not None
    began = time.monotonic()
    key = ("--peer", fleet.ground.address(home), "--token-file", str(fleet.folder / "token"))
    lab.run(home, str(JUPITER), "ctl", *key, "plan", str(app), "--mapper", "heft")
    rated = lambda belief: belief[2] > 0  # noqa: E731
    fleet.wait(lambda: all(_first(fleet, pair, rated, 0.0) < float("inf") for pair in truth.pairs), ASKED_S)
    took = [_first(fleet, pair, rated, began) - began for pair in truth.pairs]
    fleet.pass_time(max(0.0, SETTLE_S - max(took)))
    last = {name: fleet.beliefs(name)[-1][2] for name in fleet.running}
    off = [abs(last[b][a][1] - truth.q(a, b)) / truth.q(a, b) for a, b in truth.pairs]
    return [
        Figure("wan8: a mapping asks -> rates of all 56 links", max(took), "s", 10.0),
        Figure("wan8: rate by probes alone, relative error, median", median(off), ""),
        Figure("wan8: rate by probes alone, relative error, p90", quantiles(off, n=10)[8], ""),
    ]


# --- transfers -------------------------------------------------------------------------------------------------------


def _transfers(fleet: Observed, truth: Truth) -> list[Figure]:
    """Pairs with every other round trip; on each some transfers of any size, the first of them unseen before."""
    rng = random.Random(1)
    ordered = sorted(truth.pairs, key=lambda pair: truth.rtt_s(*pair))
    chosen = ordered[:: max(1, len(ordered) // PAIRS)][:PAIRS]
    first: list[tuple[Any, ...]] = []
    later: list[tuple[Any, ...]] = []
    seed = 0
    for src, dst in chosen:
        for number in range(LEARNED + SCORED):
            least = LEAST_BYTES if number >= LEARNED else INLINE + 1  # only what is fetched teaches
            size = int(least * (MOST_BYTES / least) ** rng.random())
            seed += 1
            if number % 2 or size <= INLINE:
                fleet.pass_time(1.0)  # a stream, and single ones; a message that another is in front of waits for it
            if size <= INLINE:
                predicted, took = fleet.say(src, dst, size)
            else:
                predicted, took = fleet.fetch(src, dst, size, seed)
            (later if number >= LEARNED else first).append(
                (abs(predicted - took) / took, src, dst, size, predicted, took)
            )
    worst = sorted(later, reverse=True)[:5]
    for off, src, dst, size, predicted, took in worst:
        print(
            f"  {src}>{dst} {size} bytes: {predicted:.3f} s predicted, {took:.3f} s taken ({off:.0%})", file=sys.stderr
        )
    return [
        Figure(f"wan8: the first {LEARNED} transfers of a link, relative error, median", median(_off(first)), ""),
        Figure("wan8: later transfers of 1 kB to 50 MB, relative error, median", median(_off(later)), ""),
        Figure("wan8: later transfers of 1 kB to 50 MB, relative error, p90", quantiles(_off(later), n=10)[8], "", 0.2),
    ]


def _off(rows: Iterable[tuple[Any, ...]]) -> list[float]:
    return [row[0] for row in rows]


# --- changes ---------------------------------------------------------------------------------------------------------


def _changes(fleet: Observed, truth: Truth, lab: Lab) -> list[Figure]:
    """Half the rate, three times the delay, each on a link with traffic and, at the same time, on one without."""
    busy, calm = ("nyc", "tor"), ("ams", "fra")
    figures, seeds = [], itertools.count(1000)
    for what, key, factor, is_known in (
        ("rate halved", "rate_mbps", 0.5, _rate_known), ("delay x3", "delay_ms", 3.0, _delay_known),
    ):  # fmt: skip
        for _ in range(5):
            fleet.fetch(*busy, 3_000_000, next(seeds))  # what it is like before
        began = time.monotonic()
        for pair in (busy, calm):
            new = {key: factor * truth.links[pair][key]}
            for a, b in (pair, pair[::-1]):
                truth.links[a, b] = {**truth.links[a, b], **new}
            lab.set_link(*pair, **new)
        known = {pair: is_known(truth, pair) for pair in (busy, calm)}
        while time.monotonic() - began < 20.0:
            fleet.fetch(*busy, 3_000_000, next(seeds))
            fleet.pass_time(0.5)
        fleet.wait(lambda: _first(fleet, calm, known[calm], began) < float("inf"), 80.0)  # noqa: B023
        for pair, name, bound in ((busy, "with traffic", 15.0), (calm, "without traffic", 60.0)):
            took = _first(fleet, pair, known[pair], began) - began
            figures.append(Figure(f"wan8: {what}, {name} -> in the estimate", took, "s", bound))
    return figures


def _rate_known(truth: Truth, pair: tuple[str, str]) -> Callable[[list[float]], bool]:
    """Nearer to what it is now than to what it was, by far."""
    q = truth.q(*pair)
    return lambda belief: belief[1] > 0.75 * q


def _delay_known(truth: Truth, pair: tuple[str, str]) -> Callable[[list[float]], bool]:
    rtt_s = truth.rtt_s(*pair)
    return lambda belief: abs(belief[0] - rtt_s) < 0.1 * rtt_s


# --- what it costs ---------------------------------------------------------------------------------------------------


def _traffic(fleet: Observed, profile: str) -> list[Figure]:
    """The most that any agent said in probes within a minute."""
    most = 0.0
    for name in fleet.running:
        rows = [(t, said) for t, said, _ in fleet.beliefs(name)]
        start = 0
        for t, said in rows:
            while rows[start][0] < t - QUIET_S:
                start += 1
            most = max(most, 8 * (said - rows[start][1]) / QUIET_S)
    bound = PROBES[profile].bits_per_s / 1000
    return [Figure(f"{profile}: probes said by one agent, most in any minute", most / 1000, "kbit/s", bound)]


def _quiet(profile: str) -> list[Figure]:
    """Six agents on loopback in this profile, a mapping asking all the time."""
    ground: Ground = Loopback()
    with ground, Observed(ground, profile) as fleet:
        fleet.start([f"n{i}" for i in range(1, 7)])
        full_view(fleet, 60.0)
        app = fleet.folder / "app"
        app.mkdir()
        (app / "app_config.yaml").write_text(APP)
        (app / "t.py").write_text(TASK)
        key = ("--peer", ground.address("n1"), "--token-file", str(fleet.folder / "token"))
        plan = [str(JUPITER), "ctl", *key, "plan", str(app), "--mapper", "heft"]
        subprocess.run(plan, capture_output=True, check=True, timeout=60)
        fleet.pass_time(QUIET_S + 5.0)
        return _traffic(fleet, profile)
