"""Real agents over an emulated WAN: one is killed, one stands still, two cities are cut off; every view converges.

Needs root and a C compiler; `jupiter bench fleet` does the same with a hundred of them, and measures.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jupiter_agent.bench.ground import InLab, Loopback
from jupiter_agent.bench.rig import Fleet, is_running
from jupiter_agent.netlab import Lab, load, system, why_not

JUPITER = Path(sys.executable).with_name("jupiter")
needs_lab = pytest.mark.skipif(bool(why_not()), reason=f"FLEET OVER NETLAB NOT TESTED: {why_not()}")


def see_each_other(fleet: Fleet, limit_s: float) -> bool:
    return fleet.wait(lambda: fleet.seen.all_see_all(fleet.running) is not None, limit_s)


@needs_lab
def test_views_converge_over_a_wan_through_a_kill_a_pause_a_partition_and_a_restart() -> None:
    ground = InLab(Lab(load("wan8")))
    with ground, Fleet(ground, "wan") as fleet:
        lab = fleet.ground.lab
        assert lab is not None
        fleet.start(lab.names)
        assert see_each_other(fleet, 30.0)
        began = fleet.seen_now()
        fleet.kill("ams")
        fleet.signal(["tor"], signal.SIGSTOP)
        fleet.pass_time(3.0)
        fleet.signal(["tor"], signal.SIGCONT)
        assert see_each_other(fleet, 30.0)
        assert fleet.seen.dead_since(began, fleet.running, {"ams"}) == []

        began = fleet.seen_now()
        away = {"blr", "sin"}
        lab.partition(sorted(away))

        def parted() -> bool:
            sides = {name: away if name in away else set(fleet.running) - away for name in fleet.running}
            return all(fleet.seen.alive_in(name) == side - {name} for name, side in sides.items())

        assert fleet.wait(parted, 60.0)
        within = [d for d in fleet.seen.dead_since(began, fleet.running) if (d.by in away) == (d.subject in away)]
        assert within == []
        fleet.fork("ams")
        lab.heal()
        assert see_each_other(fleet, 30.0)
        assert fleet.crashed() == []


def test_nothing_is_left_of_a_fleet() -> None:
    with Fleet(Loopback()) as fleet:
        fleet.start(["node1", "node2"])
        fleet.execute("node3")
        assert see_each_other(fleet, 30.0)
        pids, folder = list(fleet.pids.values()), fleet.folder
    deadline = time.monotonic() + 5.0
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in pids if is_running(pid)] == []
    assert not folder.exists()


@needs_lab
def test_a_local_cluster_on_a_network_is_reached_like_any_other_and_leaves_no_namespace(tmp_path: Path) -> None:
    folder = str(tmp_path / "c")
    command = [str(JUPITER), "local", "up", "--net", "wan8", "--nodes", "3", "--dir", folder]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as up:
        assert up.stderr is not None
        assert "3 agents see each other" in up.stderr.readline()
        asked = [str(JUPITER), "ctl", "--dir", folder, "get", "nodes", "-o", "json"]
        nodes = json.loads(subprocess.run(asked, capture_output=True, check=True, text=True).stdout)["items"]
        assert {(node["name"], node["state"]) for node in nodes} == {(n, "alive") for n in ("sfo", "nyc", "tor")}
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    assert [name for name in system.namespaces() if name.startswith(f"jl{up.pid}-")] == []


@needs_lab
def test_a_bench_that_is_told_to_end_leaves_no_namespace_and_no_agent() -> None:
    command = [str(JUPITER), "bench", "fleet", "--nodes", "4", "--rows", "idle"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as bench:
        assert bench.stderr is not None
        assert "all see all" in bench.stderr.readline()
        mine = [name for name in system.namespaces() if name.startswith(f"jl{bench.pid}-")]
        pids = [pid for found in system.pids_in(mine).values() for pid in found]
        assert len(pids) >= 4
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(30) == 130
    assert not set(mine) & set(system.namespaces())
    assert [pid for pid in pids if is_running(pid)] == []
