"""Fleets over emulated networks: a WAN, a mobile ad-hoc network, a slow link full of bulk. Need root.

`wan106`: eight cities; agents are killed, stopped, started again; two cities are cut off for a while.
`manet20`: twenty walkers with short-range radios, several hops apart and parted at times; bytes per node.
`slow`: one node behind 256 kbit/s that lose 5 %, and a transfer that fills them.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.bench.cluster import JUPITER
from jupiter_agent.bench.fleet import everywhere, full_view, told
from jupiter_agent.bench.ground import InLab
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.bench.sightings import Sighting
from jupiter_agent.errors import JupiterError, UsageError
from jupiter_agent.netlab import Lab, load, trimmed

SETTLE_S = 15.0
LIMIT_S = 90.0
CUT_S = 30.0
CUT_CITIES = ("blr", "sin")
STOP_S, WATCH_S = 3.0, 20.0
MANET_SETTLE_S, MANET_IDLE_S = 50.0, 60.0
LOOK_S = 5.0
TOGETHER_S = 30.0
"""A death is false when the two were connected for so long before it"""
BULK_S = 180.0
BULK_BYTES = 16_000_000
SLOW_MBPS = 0.256

APP = """
application:
  tasks:
    dag_tasks:
      - {name: sink, base_script: sink.py, children: [home]}
"""
SINK = "def process(inputs, ctx):\n    return str(len(next(iter(inputs.values())))).encode()\n"


# --- WAN


def wan(nodes: int, rows: str) -> list[Figure]:
    _no_rows(rows)
    topology = trimmed(load("wan106"), nodes) if nodes else load("wan106")
    ground = InLab(Lab(topology))
    rng = random.Random(1)
    with ground, Fleet(ground, "wan") as fleet:
        names = list(ground.lab.names) if ground.lab else []
        began = fleet.start(names)
        figures = told([Figure(f"{len(names)} agents: all see all after start", _whole(fleet) - began, "s")])
        fleet.pass_time(SETTLE_S)
        cost = fleet.cost(30.0)
        figures += told([
            Figure("idle agent: CPU", cost.cpu_ms, "ms/s"),
            Figure("idle agent: sent, headers included", cost.sent_bytes / 1000, "kB/s"),
        ])  # fmt: skip
        able = [name for name in names[1:] if not name.startswith(CUT_CITIES)]
        victims = rng.sample(able, min(3, len(able) // 3))
        figures += told(_killed(fleet, victims))
        figures += told(_stopped(fleet, rng.sample([name for name in able if name not in victims], len(able) // 8)))
        figures += told(_started_again(fleet, victims))
        figures += told(_cut_off(fleet, [name for name in names if name.startswith(CUT_CITIES)]))
        return figures


def _whole(fleet: Fleet) -> float:
    return full_view(fleet, LIMIT_S)


def _killed(fleet: Fleet, victims: list[str]) -> list[Figure]:
    times, start = [], fleet.seen_now()
    for name in victims:
        began = fleet.kill(name)
        times.append(everywhere(fleet, name, ("dead", "left"), fleet.running, (LIMIT_S, began)) - began)
    wrong = fleet.seen.dead_since(start, fleet.running, victims)
    return [
        Figure(f"killed -> dead everywhere, worst of {len(times)}", max(times), "s"),
        Figure("false deaths: agents killed", len(wrong), "", 0),
    ]


def _stopped(fleet: Fleet, names: list[str]) -> list[Figure]:
    began = fleet.signal(names, signal.SIGSTOP)
    fleet.pass_time(STOP_S)
    fleet.signal(names, signal.SIGCONT)
    fleet.pass_time(WATCH_S)
    gone = set(fleet.seen.agents) - set(fleet.running)
    wrong = fleet.seen.dead_since(began, fleet.running, gone)
    return [Figure(f"false deaths: {len(names)} agents stopped {STOP_S:g} s", len(wrong), "", 0)]


def _started_again(fleet: Fleet, names: list[str]) -> list[Figure]:
    """With the state they left: the same identity, a newer boot."""
    began = fleet.seen_now()
    for name in names:
        fleet.fork(name)
    return [Figure("killed agents started again -> one full view", _whole(fleet) - began, "s", LIMIT_S)]


def _cut_off(fleet: Fleet, away: list[str]) -> list[Figure]:
    lab = fleet.ground.lab
    assert lab is not None
    began = fleet.seen_now()
    lab.partition(away)
    fleet.pass_time(CUT_S)
    side = set(away)
    wrong = [
        each for each in fleet.seen.dead_since(began, fleet.running) if (each.by in side) == (each.subject in side)
    ]
    held = {each.subject for each in fleet.seen.dead_since(began, fleet.running)}
    healed = fleet.seen_now()
    lab.heal()
    return [
        Figure(f"partition of {CUT_S:g} s: members held dead by somebody", len(held), "agents"),
        Figure("partition healed -> one full view", _whole(fleet) - healed, "s"),  # the bound of 5 s is of `lan`
        Figure("false deaths: within a side of the partition", len(wrong), "", 0),
    ]


# --- MANET


class Roaming(InLab):
    """A lab whose nodes walk; remembers who was connected with whom."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.history: list[tuple[float, list[set[str]]]] = []
        self._roaming = lab

    def advance(self) -> None:
        super().advance()
        now = time.monotonic()
        if not self.history or now - self.history[-1][0] >= 1.0:
            self.history.append((now, self._roaming.parts()))

    def together(self, one: str, other: str, since: float, until: float) -> bool:
        """Connected at every moment that was looked at."""
        looked = [parts for t, parts in self.history if since <= t <= until]
        return all(any({one, other} <= part for part in parts) for parts in looked)


def manet(nodes: int, rows: str) -> list[Figure]:
    _no_rows(rows)
    topology = trimmed(load("manet20"), nodes) if nodes else load("manet20")
    lab = Lab(topology)
    ground = Roaming(lab)
    with ground, Fleet(ground, "manet") as fleet:
        began = fleet.start(lab.names)
        fleet.wait(lambda: all(_joined(fleet, name) for name in lab.names), LIMIT_S)
        joined = [name for name in lab.names if _joined(fleet, name)]
        figures = told([Figure("joined after start", len(joined), "agents", len(lab.names), at_least=True)])
        fleet.wait(lambda: _converged(fleet, lab.parts()), LIMIT_S)
        figures += told([Figure("views converged after start", time.monotonic() - began, "s")])
        fleet.pass_time(max(0.0, MANET_SETTLE_S - lab.now()))
        figures += told(_manet_idle(fleet, lab))
        figures += told(_manet_faults(fleet, ground, began))
        return figures


def _manet_idle(fleet: Fleet, lab: Lab) -> list[Figure]:
    """What a node says itself, and what the air carries: there every packet is sent once more by each who forwards."""
    parts, looked, converged = float(len(fleet.running)) * MANET_IDLE_S * 1000 / 8, 0, 0
    own, air, at = _own_bytes(lab), lab.totals()["bytes"], time.monotonic()
    while time.monotonic() - at < MANET_IDLE_S:
        fleet.pass_time(LOOK_S)
        looked += 1
        converged += _converged(fleet, lab.parts())
    longer = (time.monotonic() - at) / MANET_IDLE_S
    return [
        Figure("sent by each node, headers included", (_own_bytes(lab) - own) / parts / longer, "kbit/s", 16.0),
        Figure("the same with forwarding", (lab.totals()["bytes"] - air) / parts / longer, "kbit/s"),
        Figure(f"views equal in each component, share of {looked} looks", converged / looked, ""),
    ]


def _own_bytes(lab: Lab) -> int:
    """What all nodes gave to their network device, with IP and TCP headers, and what the kernel sent anew."""
    total = 0
    for name in lab.names:
        enter = ["nsenter", f"--net={lab.netns_path(name)}", "--"]
        read = [*enter, "cat", "/proc/net/dev"]
        lines = subprocess.run(read, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()[2:]
        devices = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in lines}
        total += sum(int(fields[8]) for device, fields in devices.items() if device != "lo")
    return total


def _manet_faults(fleet: Fleet, ground: Roaming, began: float) -> list[Figure]:
    """One is killed, some are stopped, the network is cut in two besides what walking does to it."""
    lab = fleet.ground.lab
    assert lab is not None
    names = fleet.running
    fleet.kill(names[3])
    fleet.pass_time(5.0)
    stopped = names[7:9]
    fleet.signal(stopped, signal.SIGSTOP)
    fleet.pass_time(STOP_S)
    fleet.signal(stopped, signal.SIGCONT)
    fleet.pass_time(10.0)
    lab.partition(names[: len(names) // 2])
    fleet.pass_time(CUT_S)
    lab.heal()
    lab.stand_still()
    still_at = time.monotonic()
    reached = fleet.wait(lambda: _converged(fleet, lab.parts()), LIMIT_S)
    took = time.monotonic() - still_at
    wrong = [each for each in fleet.seen.dead_since(began, fleet.running, {names[3]}) if _is_false(each, ground)]
    return [
        Figure("views equal in each component once nobody moves", took if reached else float("inf"), "s", LIMIT_S),
        Figure("false deaths: connected all the time", len(wrong), "", 0),
    ]


def _joined(fleet: Fleet, name: str) -> bool:
    return name in fleet.seen.agents and fleet.seen.agents[name].joined is not None


def _converged(fleet: Fleet, parts: list[set[str]]) -> bool:
    """In every component everybody sees exactly those running there. Of one who is alone the others are asked only: who
    hears nobody accuses nobody."""
    running = set(fleet.running)
    return all(
        fleet.seen.alive_in(name) == (part & running) - {name} if _joined(fleet, name) else False
        for part in parts
        if len(part & running) > 1
        for name in part & running
    )


def _is_false(death: Sighting, ground: Roaming) -> bool:
    return ground.together(death.by, death.subject, death.t - TOGETHER_S, death.t)


# --- a slow link


def slow(nodes: int, rows: str) -> list[Figure]:
    _no_rows(rows)
    names = [f"node{number + 1}" for number in range(nodes or 5)]
    poor = {"delay_ms": 20.0, "loss": 0.05, "rate_mbps": SLOW_MBPS, "queue_ms": 300.0}
    topology: dict[str, Any] = {
        "nodes": [{"name": names[0], "tx_mbps": SLOW_MBPS, "rx_mbps": SLOW_MBPS}, *names[1:]],
        "link": {"delay_ms": 0.5}, "node_queue_ms": 300,
        "links": [{"a": names[0], "b": other, **poor} for other in names[1:]],
    }  # fmt: skip
    ground = InLab(Lab(topology))
    with ground, Fleet(ground, "lan") as fleet:
        fleet.start(names)
        _whole(fleet)
        fleet.pass_time(5.0)
        lab = fleet.ground.lab
        assert lab is not None
        began, sent = fleet.seen_now(), lab.sent_bytes(names[0])
        _begin_bulk(fleet, names[0], names[1])
        fleet.pass_time(BULK_S)
        used = (lab.sent_bytes(names[0]) - sent) * 8 / BULK_S / 1e6 / SLOW_MBPS
        wrong = fleet.seen.dead_since(began, fleet.running)
        return told([
            Figure("slow link: share of its rate used by the transfer", used, "", 0.6, at_least=True),
            Figure(f"false deaths: {BULK_S:g} s of bulk over {1000 * SLOW_MBPS:g} kbit/s, 5 % loss", len(wrong), "", 0),
        ])  # fmt: skip


def _begin_bulk(fleet: Fleet, source: str, target: str) -> None:
    """A job whose input is large, given at one agent and wanted by the task on another."""
    lab = fleet.ground.lab
    assert lab is not None
    app = fleet.folder / "app"
    app.mkdir()
    (app / "app_config.yaml").write_text(APP)
    (app / "sink.py").write_text(SINK)
    (fleet.folder / "input").write_bytes(random.Random(1).randbytes(BULK_BYTES))
    (fleet.folder / "mapping.json").write_text(json.dumps({"sink": target}))
    given = ("--input", str(fleet.folder / "input"), "--mapping", str(fleet.folder / "mapping.json"))
    key = ("--peer", fleet.ground.address(source), "--token-file", str(fleet.folder / "token"))
    command = lab.command(source, str(JUPITER), "ctl", *key, "submit", str(app), *given)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise JupiterError(f"the job was not taken: {done.stderr.strip()}")


def _no_rows(rows: str) -> None:
    if rows:
        raise UsageError("this table has no --rows", "they belong to --net lan")


RUNS: dict[str, Callable[[int, str], list[Figure]]] = {"wan106": wan, "manet20": manet, "slow": slow}
