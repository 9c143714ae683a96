"""The emulated network keeps its promises to real sockets, and leaves nothing behind. Needs root and a C compiler."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from jupiter_agent.bench.rig import is_running
from jupiter_agent.netlab import Lab, lan, system, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"NETLAB NOT TESTED: {why_not()}")

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7007))
print("up", flush=True)
while True:
    s.sendto(*s.recvfrom(2048))
"""
PING = """
import socket, sys, time
ip, count = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((ip, 7007))
s.settimeout(0.3)
times = []
for k in range(count):
    began = time.perf_counter()
    try:
        s.send(b"%d" % k)
        while s.recv(2048) != b"%d" % k:
            pass
        times.append(time.perf_counter() - began)
    except OSError:
        pass
times.sort()
print(len(times) / count, 1000 * times[len(times) // 2] if times else -1)
"""
SINK = """
import socket, time
l = socket.create_server(("", 7008))
print("up", flush=True)
c, _ = l.accept()
n, began = 0, time.monotonic()
while data := c.recv(1 << 20):
    n += len(data)
print(n * 8 / 1e6 / (time.monotonic() - began))
"""
SOURCE = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7008))
s.sendall(bytes(int(sys.argv[2])))
"""


def python(lab, node, code, *args):
    return lab.run(node, sys.executable, "-c", code, *args)


def serve(lab, node, code):
    server = subprocess.Popen(lab.command(node, sys.executable, "-c", code), stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"up\n"
    return server


def ping(lab, a, b, count=5):
    """(share answered, median round trip in ms)"""
    share, rtt = map(float, python(lab, a, PING, lab.ip(b), str(count)).split())
    return share, rtt


@pytest.fixture
def trio():
    with Lab({"nodes": ["a", "b", "c"], "link": {"delay_ms": 20}}) as lab:
        servers = [serve(lab, node, ECHO) for node in lab.names]
        yield lab
    for server in servers:  # ended with their namespaces
        assert server.wait(5) == -signal.SIGKILL
        server.stdout.close()


def test_delay_loss_and_cuts_are_as_told_and_can_change(trio):
    share, rtt_ms = ping(trio, "a", "b")
    assert share == 1.0
    assert 40 <= rtt_ms < 70  # a busy machine adds to it
    trio.set_link("a", "b", delay_ms=5)
    share, rtt_ms = ping(trio, "a", "b")
    assert share == 1.0
    assert 10 <= rtt_ms < 35
    trio.set_link("a", "b", delay_ms=0, loss=1.0)
    assert ping(trio, "a", "b")[0] == 0.0
    trio.set_link("a", "b", loss=0.0)
    trio.partition(["a"])
    assert ping(trio, "a", "b")[0] == 0.0
    assert ping(trio, "b", "c")[0] == 1.0
    trio.heal()
    trio.isolate("c")
    assert (ping(trio, "a", "b")[0], ping(trio, "b", "c")[0]) == (1.0, 0.0)


def test_a_rate_limits_what_gets_through(trio):
    trio.set_link("a", "b", delay_ms=1, rate_mbps=20)
    server = serve(trio, "b", SINK)
    python(trio, "a", SOURCE, trio.ip("b"), "4000000")
    reached = float(server.communicate(timeout=20)[0])
    assert 12 < reached < 22


def test_bytes_are_counted_with_headers_where_they_leave(trio):
    before = trio.sent_bytes("a"), trio.totals()["bytes"]
    assert ping(trio, "a", "b", 10)[0] == 1.0
    assert trio.sent_bytes("a") - before[0] == 10 * (20 + 8 + 1)
    assert trio.totals()["bytes"] - before[1] == 20 * (20 + 8 + 1)


def test_packets_travel_over_several_hops_of_a_radio():
    nodes = [{"name": f"n{k}", "pos": [200 * k, 0]} for k in range(3)]
    radio = {"range_m": 250, "edge_loss": 0, "delay_ms": 3}
    with Lab({"nodes": nodes, "routing": "shortest", "radio": radio}) as lab, serve(lab, "n2", ECHO):
        share, rtt_ms = ping(lab, "n0", "n2")
        assert share == 1.0
        assert 12 <= rtt_ms < 40
        lab.move({"n2": (5000.0, 0.0)})
        assert ping(lab, "n0", "n2", 1)[0] == 0.0
        lab.close()


@pytest.mark.smoke
def test_nothing_is_left_of_a_lab_nor_of_one_whose_owner_was_killed():
    with Lab(lan(2)) as lab:
        mine = {system.netns(name) for name in lab.names}
        assert mine <= set(system.namespaces())
    assert not mine & set(system.namespaces())

    code = "from jupiter_agent.netlab import Lab, lan\nwith Lab(lan(2)):\n print('up', flush=True); input()"
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"up\n"
    owner.kill()
    owner.communicate()
    left = {name for name in system.namespaces() if name.startswith(f"jl{owner.pid}-")}
    assert len(left) == 2
    with Lab(lan(1)):
        assert not left & set(system.namespaces())


def test_a_process_of_a_lab_ends_with_the_thread_that_started_it():
    code = (
        "import os, subprocess\nfrom jupiter_agent.netlab import Lab, lan\nlab = Lab(lan(1)).start()\n"
        "command = lab.command('node1', 'sh', '-c', 'echo up; exec sleep 60')\n"
        "p = subprocess.Popen(command, stdout=subprocess.PIPE)\np.stdout.readline()\n"
        "print(p.pid, flush=True)\nos._exit(0)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
    for _ in range(100):
        if not is_running(pid):
            break
        time.sleep(0.02)
    else:
        pytest.fail(f"process {pid} of the lab is still there")
    system.remove(system.abandoned())
