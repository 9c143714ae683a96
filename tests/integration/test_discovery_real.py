"""Agents that know no address find each other: by names on loopback, by mDNS and beacons over real multicast.

The last two run in network namespaces on one bridge, which needs root and is skipped loudly elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jupiter_agent.adapters.keys import Token, decode_token, encode_token, granted
from jupiter_agent.adapters.state import read_cluster
from jupiter_agent.netlab import system

LIMIT_S = 60.0
NO_NAMESPACES = "" if os.geteuid() == 0 else "it makes network namespaces, and only root may"
needs_namespaces = pytest.mark.skipif(bool(NO_NAMESPACES), reason=f"MULTICAST NOT TESTED: {NO_NAMESPACES}")

SHOUT = """
import os, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
for k in range(30):
    s.sendto(b"JUB1" + os.urandom(80), ("239.255.74.21", 7423))
    time.sleep(0.1)
"""

FORGE = """
import sys, time
from zeroconf import IPVersion, ServiceInfo, Zeroconf
z = Zeroconf(ip_version=IPVersion.V4Only)
for number, cluster in enumerate((sys.argv[1], "ff" * 16)):
    node = f"{number:016x}"
    text = {"address": "10.77.0.2:9", "id": node, "cluster": cluster}
    name, at = f"{node}._jupiter._tcp.local.", ["10.77.0.2"]
    z.register_service(ServiceInfo("_jupiter._tcp.local.", name, port=9, properties=text, parsed_addresses=at))
print("up", flush=True)
time.sleep(60)
"""


def wait_for(ready: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


class Agents:
    """Real agents, each in a namespace if there are any; killed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, bind: str, *flags: str, token: str = "", netns: str = "") -> None:
        folder = self.folder / name
        command = [sys.executable, "-P", "-m", "jupiter_agent.cli.agent_main", "run", "--name", name, "--bind", bind]
        command += ["--state-dir", str(folder), *(["--join", token] if token else []), *flags]
        if netns:
            command = ["nsenter", f"--net=/run/netns/{netns}", "--", *command]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_for((folder / "agent.json").exists, lambda: self.log(name))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def token(self, name: str, role: str = "") -> str:
        """Of that agent, without any address in it."""
        wait_for((self.folder / name / "token").exists, lambda: self.log(name))
        token: Token = decode_token((self.folder / name / "token").read_text())
        if role:
            token = granted(token, read_cluster(self.folder / name).issuer_secret, role, 3600.0)
        return encode_token(replace(token, seeds=()))

    def wait_found(self, name: str, by: str) -> None:
        wait_for(lambda: f"found_by={by}" in self.log(name), lambda: self.log(name))

    def counters(self, name: str) -> dict[str, int]:
        path = self.folder / name / "diagnostics.json"
        path.unlink(missing_ok=True)
        self._running[name].send_signal(signal.SIGUSR1)
        wait_for(path.exists, lambda: self.log(name))
        counters: dict[str, int] = json.loads(path.read_text())["counters"]
        return counters

    def is_running(self, name: str) -> bool:
        return self._running[name].poll() is None

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.close()


@pytest.fixture
def bridge() -> Iterator[Callable[[str], str]]:
    """Two namespaces with 10.77.0.1 and .2 on a bridge in a third; names them."""
    names = [system.netns(node) for node in ("bridge", "one", "two")]
    hub = names[0]
    for name in names:
        system.run("ip", "netns", "add", name)
    try:
        system.run("ip", "-n", hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        system.run("ip", "-n", hub, "link", "set", "br0", "up")
        for number, name in enumerate(names[1:], 1):
            peer = ("peer", "name", "eth0", "netns", name)
            system.run("ip", "-n", hub, "link", "add", f"v{number}", "type", "veth", *peer)
            system.run("ip", "-n", hub, "link", "set", f"v{number}", "master", "br0", "up")
            system.run("ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "brd", "+", "dev", "eth0")
            for link in ("lo", "eth0"):
                system.run("ip", "-n", name, "link", "set", link, "up")
        yield system.netns
    finally:
        system.remove(names)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return 20000 + int(sock.getsockname()[1]) % 10000


def test_an_agent_finds_another_by_a_name(agents: Agents) -> None:
    port = free_port()
    agents.start("one", f"127.0.0.1:{port}")
    agents.start("two", "127.0.0.1:0", "--join", f"localhost:{port}", token=agents.token("one"))
    agents.wait_found("two", "dns")


@needs_namespaces
@pytest.mark.parametrize(("source", "role"), [("mdns", ""), ("beacon", "worker")])
def test_agents_without_any_address_find_each_other(
    agents: Agents, bridge: Callable[[str], str], source: str, role: str
) -> None:
    off = {"mdns": ("--beacon", "off"), "beacon": ("--mdns", "off")}[source]
    flags = (f"--{source}", "on", *off)
    agents.start("one", "10.77.0.1:7421", *flags, netns=bridge("one"))
    agents.start("two", "10.77.0.2:7421", *flags, token=agents.token("one", role), netns=bridge("two"))
    agents.wait_found("two", source)
    wait_for(lambda: "member joined" in agents.log("one"), lambda: agents.log("one"))
    nodes = subprocess.run(
        ["nsenter", f"--net=/run/netns/{bridge('two')}", "--", sys.executable, "-P", "-m", "jupiter_agent.cli.main",
         "ctl", "--peer", "10.77.0.2:7421", "--token-file", str(agents.folder / "one" / "token"), "-o", "json",
         "get", "nodes"],
        capture_output=True, text=True, check=False, timeout=60, cwd=agents.folder,
    )  # fmt: skip
    assert nodes.returncode == 0, nodes.stderr
    found = {node["name"]: node["found_by"] for node in json.loads(nodes.stdout)["items"]}
    assert found == {"one": source, "two": "self"}


@needs_namespaces
def test_garbage_for_the_beacons_is_counted_and_harms_nobody(agents: Agents, bridge: Callable[[str], str]) -> None:
    agents.start("one", "10.77.0.1:7421", "--mdns", "off", "--beacon", "on", netns=bridge("one"))
    wait_for(lambda: agents.counters("one").get("beacon_sent", 0) > 0, lambda: agents.log("one"))
    command = ["nsenter", f"--net=/run/netns/{bridge('two')}", "--", sys.executable, "-c", SHOUT, "10.77.0.2"]
    subprocess.run(command, check=True, timeout=60)
    counters = agents.counters("one")
    refused = counters.get("beacon_garbage", 0) + counters.get("beacon_forged", 0)
    assert 25 <= refused + counters["beacon_rate"] <= 30, "datagrams may get lost, not uncounted"
    assert counters["beacon_rate"] > 10, "one host may say ten at once, and two a second"
    assert "beacon_heard" not in counters


@needs_namespaces
def test_a_forged_announcement_costs_a_dial_and_nothing_else(agents: Agents, bridge: Callable[[str], str]) -> None:
    agents.start("one", "10.77.0.1:7421", "--mdns", "on", "--beacon", "off", netns=bridge("one"))
    cluster = read_cluster(agents.folder / "one").fingerprint.hex()
    command = ["nsenter", f"--net=/run/netns/{bridge('two')}", "--", sys.executable, "-c", FORGE, cluster]
    forger = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert forger.stdout is not None
        assert forger.stdout.readline() == b"up\n"
        wait_for(lambda: agents.counters("one").get("mdns_found", 0) > 0, lambda: agents.log("one"))
        wait_for(lambda: agents.counters("one").get("mdns_foreign", 0) > 0, lambda: agents.log("one"))
    finally:
        forger.kill()
        forger.communicate()
    assert "WARNING" not in agents.log("one")
    assert "ERROR" not in agents.log("one")
    assert agents.is_running("one")
