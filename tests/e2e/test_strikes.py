"""Items that kill agents, with real ones: three are lost, not more, and all other items come out; cancel cleans up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from e2e_rig import Agent, Cluster, eventually, living, make_app, make_inputs, read_results

Make = Callable[..., Agent]
MakeCluster = Callable[..., Cluster]

KILLS = """
import os, signal, time

def agent_above(pid):
    while pid > 1:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"jupiter-agent" in file.read():
                return pid
        with open(f"/proc/{pid}/stat", "rb") as file:
            pid = int(file.read().rpartition(b")")[2].split()[1])
    raise RuntimeError("no agent above")

def process(inputs, ctx):
    if ctx.item == "item0":
        os.kill(agent_above(os.getppid()), signal.SIGKILL)
        time.sleep(60)
    time.sleep(0.05)
    return b"".join(inputs[name] for name in sorted(inputs))
"""
NAMES = ["n1", "n2", "n3", "n4", "n5"]
STRIKES, ITEMS, CLEAN_S = 3, 8, 5.0


def test_an_item_that_kills_three_agents_is_a_dead_letter_and_all_others_come_out(
    make_agent: Make, tmp_path: Path
) -> None:
    """Without a sandbox: in one a task does not see its agent."""
    first = make_agent("n1", JUPITER_ISOLATION="none")
    env = {"JUPITER_TOKEN_FILE": str(first.token_file), "JUPITER_ISOLATION": "none"}
    agents = {"n1": first} | {name: make_agent(name, **env) for name in NAMES[1:]}
    eventually(lambda: len(first.nodes()) == len(NAMES), "all are there", 30)
    app = make_app(tmp_path / "app", {"good": "kills", "kills": "home"}, {"kills": KILLS})
    inputs = make_inputs(tmp_path / "in", ITEMS)
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"good": "n1", "kills": "n2"}))
    args = ["--input", inputs, "--ep", "off", "--mapping", mapping, "-o", "json"]
    job = first.ctl("submit", app, *args).ok().json()["id"]

    def state() -> str:
        """As whoever still runs says it; '' from one that was killed while it was asked."""
        asked = next(agent for agent in agents.values() if agent.runs).ctl("get", "jobs", job, "-o", "json")
        return str(asked.json()["items"][0]["state"]) if asked.code == 0 else ""

    eventually(lambda: state() == "failed", "the job is over", 90, 0.5)
    left = next(agent for agent in agents.values() if agent.runs)
    items = left.ctl("get", "items", job, "-o", "json").ok().json()["items"]
    assert {item["name"]: item["state"] for item in items} == {
        path.name: "failed" if path.name == "item0" else "done" for path in inputs.iterdir()
    }
    letter = left.ctl("describe", "item", f"{job}/item0", "-o", "json").ok().json()
    assert "given up" in json.dumps(letter)
    assert len([name for name, agent in agents.items() if not agent.runs]) == STRIKES
    left.ctl("results", job, "--out", tmp_path / "out").ok()
    whole = {path.name: path.read_bytes() for path in inputs.iterdir() if path.name != "item0"}
    assert read_results(tmp_path / "out") == {f"{name}/kills/kills": data for name, data in whole.items()}


HANGS = """
import os, signal, time

def process(inputs, ctx):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
    time.sleep(1000)
"""


def test_cancel_ends_every_process_of_the_job_on_every_node_within_five_seconds(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(4)
    eventually(cluster.is_well, "all see all")
    tasks = {f"t{k}": "home" for k in range(6)}
    app = make_app(tmp_path / "app", tasks, dict.fromkeys(tasks, HANGS))
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({name: f"node{k % 4 + 1}" for k, name in enumerate(tasks)}))
    inputs = make_inputs(tmp_path / "in", 3)
    idle = set(living(cluster.folder))
    job = cluster.submit(app, "--input", inputs, "--ep", "off", "--mapping", mapping)["id"]

    def others() -> dict[int, str]:
        return {pid: line for pid, line in living(cluster.folder).items() if pid not in idle}

    eventually(lambda: len(others()) >= len(tasks), "tasks run", 30)
    began = time.monotonic()
    cluster.call("node3", "cancel", job=job)
    eventually(lambda: cluster.job(job)["state"] == "cancelled", "it is cancelled", CLEAN_S)
    eventually(lambda: not others(), "no process is left", CLEAN_S)
    took = time.monotonic() - began
    print(f"clean after {took:.2f} s")
    assert took < CLEAN_S
