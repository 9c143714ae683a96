"""What a bench compares with, in the same run: Dask distributed in an environment of its own, and bare CURVE sockets.

Dask is no dependency: it is installed once, on demand, into a virtual environment in the user's cache folder. Without
it (no network) its figures are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from jupiter_agent.bench.apart import environment, interpreter, say

PACKAGES = ("distributed", "cryptography")
LIMIT_S = 300.0

_HEAD = """
import json, sys, time, tempfile, random
from distributed import Client, LocalCluster, wait
from distributed.security import Security

def noop(index):
    return None

def pause(*_):
    time.sleep(0.010)

def make(size, seed):
    return random.Random(seed).randbytes(1000) * (size // 1000)

def many(size, count, seed):
    return [make(size, seed + index) for index in range(count)]

def took(*parts):
    return sum(len(part) for part in parts)

def cluster(workers, tls):
    security = Security.temporary() if tls else None
    return LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
                        security=security, protocol="tls://" if tls else "tcp://")
"""

NOOPS = """
def main(count):
    with cluster(4, False) as c, Client(c) as client:
        client.gather(client.map(noop, range(200), pure=False))
        best = 0.0
        for _ in range(3):
            began = time.perf_counter()
            client.gather(client.map(noop, range(count), pure=False))
            best = max(best, count / (time.perf_counter() - began))
        return best
"""

LAYERS = """
def main(layers, width, edges):
    with cluster(4, False) as c, Client(c) as client:
        times = []
        for _ in range(5):
            began, above, last = time.perf_counter(), [], []
            for layer in range(layers):
                parents = [[above[p] for p in edges[layer][i]] if layer else [] for i in range(width)]
                last = [client.submit(pause, *each, pure=False) for each in parents]
                above = last
            client.gather(last)
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]
"""

MOVES = """
def main(size, count, repeats):
    with cluster(2, True) as c, Client(c) as client:
        first, second = list(client.scheduler_info()["workers"])
        rates = []
        for turn in range(repeats):
            futures = [client.submit(make, size, 1000 * turn + n, workers=[first], pure=False) for n in range(count)]
            wait(futures)
            began = time.perf_counter()
            assert client.submit(took, *futures, workers=[second], pure=False).result() == size * count
            rates.append(size * count / (time.perf_counter() - began) / 1e6)
            del futures
        return sorted(rates)[len(rates) // 2]
"""


def dask(script: str, *args: Any) -> float | None:
    """What `main(*args)` of a script gives; None where Dask cannot be had."""
    python = interpreter("dask", "distributed, cryptography", [PACKAGES])
    if python is None:
        return None
    text = f"{_HEAD}\n{script}\nif __name__ == '__main__':\n    print(json.dumps(main(*json.loads(sys.argv[1]))))\n"
    path = python.parent / "compare.py"
    path.write_text(text)
    command = [str(python), str(path), json.dumps(args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment())
    if done.returncode:
        say(f"Dask failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


CURVE = """
import hashlib, json, os, sys, threading, time, zmq

def serve(port, secret, public):
    sock = zmq.Context().socket(zmq.ROUTER)
    sock.curve_server, sock.curve_secretkey, sock.curve_publickey = True, secret, public
    sock.bind(f"tcp://127.0.0.1:{port}")
    data = os.urandom(256 * 1024)
    while True:
        route, word = sock.recv_multipart()
        if word == b"end":
            return
        sock.send_multipart([route, data])

def take(port, public, total):
    sock = zmq.Context().socket(zmq.DEALER)
    mine, secret = zmq.curve_keypair()
    sock.curve_serverkey, sock.curve_publickey, sock.curve_secretkey = public, mine, secret
    sock.connect(f"tcp://127.0.0.1:{port}")
    sock.send(b"go")
    sock.recv()
    count, began = total // (256 * 1024), time.perf_counter()
    for _ in range(8):
        sock.send(b"go")
    for index in range(count):
        sock.recv()
        if index + 8 < count:
            sock.send(b"go")
    rate = count * 256 * 1024 / (time.perf_counter() - began) / 1e6
    sock.send(b"end")
    time.sleep(0.2)
    return rate

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4].encode())
    else:
        print(take(int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])))
"""


def bare_curve(total_bytes: int, port: int) -> float:
    """MB/s of chunks of 256 KiB between two processes over a CURVE socket, eight on their way, nothing else done."""
    import zmq

    public, secret = (key.decode() for key in zmq.curve_keypair())
    serving = subprocess.Popen([sys.executable, "-c", CURVE, "serve", str(port), secret, public])
    try:
        command = [sys.executable, "-c", CURVE, "take", str(port), public, str(total_bytes)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S).stdout)
    finally:
        serving.kill()
        serving.wait()
