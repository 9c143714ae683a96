"""`jupiter local` with real agents: what starts, what is left when something goes wrong (nothing), who meets whom."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_rig import JUPITER, Cluster, end, environment, eventually, is_running, jupiter, living, start

Make = Callable[..., Cluster]


def status(cluster: Cluster) -> list[dict[str, Any]]:
    body = jupiter("local", "status", "--dir", cluster.folder, "-o", "json").ok().json()
    return list(body["items"])


def test_a_cluster_loses_and_regains_a_node_and_goes_down_twice(make_cluster: Make) -> None:
    cluster = make_cluster(3)
    items = status(cluster)
    assert [item["name"] for item in items] == ["node1", "node2", "node3"]
    assert [set(item) for item in items] == [{"name", "id", "pid", "address", "state_dir", "running"}] * 3
    assert sorted(living(cluster.folder)) == sorted(item["pid"] for item in items), "the agents and nothing else run"
    for item in items:
        assert b"jupiter_agent" in Path(f"/proc/{item['pid']}/cmdline").read_bytes()
        assert os.readlink(f"/proc/{item['pid']}/fd/0") == os.devnull
        assert {os.readlink(f"/proc/{item['pid']}/fd/{fd}") for fd in (1, 2)} == {f"{item['state_dir']}/agent.log"}

    cluster.kill("node2")
    assert not is_running(items[1]["pid"])
    assert [item["running"] for item in status(cluster)] == [True, False, True]
    eventually(lambda: cluster.states("node1")["node2"] == "dead", "node1 holds node2 dead")
    cluster.start("node2")
    back = eventually(lambda: (m := cluster.member("node1", "node2"))["state"] == "alive" and m, "node2 is back")
    assert (back["id"], back["boot"]) == (items[1]["id"], 2)

    assert "stopped node1, node2, node3" in cluster.down().ok().err
    assert living(cluster.folder) == {}
    assert "no agent was running" in cluster.down().ok().err
    assert [item["running"] for item in status(cluster)] == [False] * 3
    cluster.ctl("get", "nodes").refused(4, "no agent answers")


def test_a_cluster_that_was_down_comes_up_as_the_same_nodes(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    before = {item["name"]: item["id"] for item in status(cluster)}
    cluster.down()
    cluster.up(2)
    assert {item["name"]: item["id"] for item in status(cluster)} == before
    assert cluster.member("node2", "node1")["boot"] == 2


def test_up_on_a_running_cluster_is_refused_and_hurts_nobody(cluster: Cluster) -> None:
    before = living(cluster.folder).keys()
    again = jupiter("local", "up", "--nodes", 3, "--dir", cluster.folder)
    again.refused(2, "already run in", "jupiter local down --dir")
    assert living(cluster.folder).keys() >= before
    assert len(cluster.states("node1")) == 5


def test_two_clusters_never_meet_and_the_key_of_one_does_not_open_the_other(
    cluster: Cluster, make_cluster: Make
) -> None:
    other = make_cluster(2)
    eventually(lambda: len(cluster.states("node1")) == 5, "the shared cluster is whole")
    stranger = jupiter("ctl", "--peer", cluster.address("node1"), "--dir", other.folder, "get", "nodes", "-o", "json")
    stranger.refused(5, "hint:")
    known = {name: {row["id"] for row in cluster.call(name, "get", kind="nodes")["items"]} for name in cluster.names}
    theirs = {row["id"] for row in other.call("node1", "get", kind="nodes")["items"]}
    assert len(theirs) == 2
    assert all(len(ids) == 5 and not ids & theirs for ids in known.values())


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
)
def test_interrupted_while_agents_start_up_leaves_no_process(make_cluster: Make, number: signal.Signals) -> None:
    cluster = make_cluster()
    process = start([JUPITER, "local", "up", "--nodes", 5, "--dir", cluster.folder])
    eventually(lambda: len(living(cluster.folder)) >= 4, "some agents start", pause_s=0.002)
    os.killpg(process.pid, number)
    ended = end(process)
    assert (ended.code, ended.out) == (130, "")
    assert "Traceback" not in ended.err
    assert living(cluster.folder) == {}


@pytest.mark.parametrize("agents", [0, 1, 2])
def test_agents_whose_up_was_killed_outright_end_with_it(make_cluster: Make, agents: int) -> None:
    cluster = make_cluster()
    process = start([JUPITER, "local", "up", "--nodes", 3, "--dir", cluster.folder])
    eventually(lambda: len(living(cluster.folder)) >= 2 + agents, "its guard and agents start", pause_s=0.002)
    process.kill()
    end(process)
    eventually(lambda: not living(cluster.folder), "nothing is left", limit_s=5.0)
    cluster.down().ok()
    assert living(cluster.folder) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_in_the_foreground_a_signal_stops_all(make_cluster: Make, number: signal.Signals) -> None:
    cluster = make_cluster()
    process = start([JUPITER, "local", "up", "--nodes", 2, "--dir", cluster.folder, "--foreground"])
    assert process.stderr is not None
    while "Ctrl-C stops them" not in process.stderr.readline():
        assert process.poll() is None
    assert len(cluster.states("node1")) == 2
    cluster.hang_up()
    os.killpg(process.pid, number)
    ended = end(process)
    assert (ended.code, "Traceback" in ended.err) == (0, False)
    assert [line.split()[0] for line in ended.out.splitlines()] == ["NAME", "node1", "node2"]
    assert living(cluster.folder) == {}


def test_an_agent_that_dies_at_start_is_quoted_and_none_is_left(make_cluster: Make) -> None:
    cluster = make_cluster()
    (cluster.folder / "node2").mkdir(parents=True)
    (cluster.folder / "node2" / "node.json").write_text("{}")
    ended = jupiter("local", "up", "--nodes", 3, "--dir", cluster.folder)
    ended.refused(1, "node2 ended at start with 2", "node.json was written by another version", "node2/agent.log")
    assert living(cluster.folder) == {}


def test_a_folder_that_cannot_be_one_is_refused(make_cluster: Make, tmp_path: Path) -> None:
    cluster = make_cluster()
    cluster.folder.mkdir()
    (cluster.folder / "node2").write_text("in the way")
    jupiter("local", "up", "--nodes", 3, "--dir", cluster.folder).refused(2, "node2")
    assert living(cluster.folder) == {}
    (tmp_path / "file").write_text("in the way")
    jupiter("local", "up", "--nodes", 1, "--dir", tmp_path / "file" / "x").refused(2, "--dir")


def test_a_port_that_was_taken_meanwhile_fails_the_start_of_one_and_is_replaced_by_up(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    host, _, port = cluster.address("node2").rpartition(":")
    cluster.kill("node2")
    with socket.create_server((host, int(port))):
        ended = jupiter("local", "start", "node2", "--dir", cluster.folder)
        ended.refused(1, f"port {port} on {host} is taken")
        assert [item["running"] for item in status(cluster)] == [True, False]
        assert len(living(cluster.folder)) == 1
        cluster.down().ok()
        cluster.up(2)
        assert cluster.address("node2") != f"{host}:{port}"


def test_what_reads_the_output_of_up_sees_its_end(make_cluster: Make) -> None:
    cluster = make_cluster()
    command = f"{JUPITER} local up --nodes 2 --dir '{cluster.folder}' 2>&1 | cat"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=20, env=environment(), check=True
    )
    assert "2 agents see each other" in done.stdout
    assert json.loads((cluster.folder / "node1" / "agent.json").read_text())["pid"] in living(cluster.folder)


def test_wrong_words_are_refused(make_cluster: Make) -> None:
    cluster = make_cluster()
    for words in (("up", "--nodes", "0"), ("up", "--nodes", "many"), ("kill", "node9"), ("start", "node9"), ("fly",)):
        jupiter("local", *words, *(["--dir", cluster.folder] if words != ("fly",) else [])).refused(2)
