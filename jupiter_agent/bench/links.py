"""`jupiter bench links`: the bulk channel over an emulated link, beside plain TCP over the same (Linux, root).

Two namespaces, a link of 50 Mbit/s and 20 ms each way, then the same with 1 % loss. The wire time is that of the bytes
with the IP and TCP headers of full packets. Meanwhile datagrams go to and fro ten times a second: how much longer they
take than before is what gossip and probes on this link would see.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import zmq

from jupiter_agent.adapters.bulk import BulkChannel, Wanted
from jupiter_agent.adapters.curve import CurvePair
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.bench import Figure
from jupiter_agent.core.events import BulkEnded, Event
from jupiter_agent.errors import JupiterError

MB = 1_000_000
RATE_MBPS, DELAY_MS, LOSS = 50.0, 20.0, 0.01
WHOLE_BYTES, LOSSY_BYTES = 100 * MB, 8 * MB
PACKET_BYTES, PAYLOAD_BYTES = 1500, 1448
TCP_PORT, ECHO_PORT = 7001, 7002
LIMIT_S = 240.0


def run() -> list[Figure]:
    """All figures; takes about 2 min."""
    wire_s = WHOLE_BYTES * 8 * PACKET_BYTES / PAYLOAD_BYTES / (RATE_MBPS * 1e6)
    plain, plain_tcp = _measured(WHOLE_BYTES, 0.0)
    lossy, lossy_tcp = _measured(LOSSY_BYTES, LOSS)
    return [
        Figure("100 MB over 50 Mbit/s, 20 ms", plain["seconds"], "s"),
        Figure("100 MB over 50 Mbit/s, 20 ms: of the wire time", plain["seconds"] / wire_s, "", 1.05),
        Figure("the same by plain TCP: of the wire time", plain_tcp / wire_s, ""),
        Figure("meanwhile a round trip takes longer by, median", 1000 * (plain["busy_s"] - plain["idle_s"]), "ms"),
        Figure("meanwhile a round trip takes longer by, p95", 1000 * (plain["worst_s"] - plain["idle_s"]), "ms"),
        Figure("8 MB, 1 % loss: of plain TCP's time", lossy["seconds"] / lossy_tcp, "", 1.5),
    ]


def _measured(size: int, loss: float) -> tuple[dict[str, float], float]:
    """(the bulk channel's figures, seconds of plain TCP)."""
    from jupiter_agent.netlab import Lab

    link = {"delay_ms": DELAY_MS, "rate_mbps": RATE_MBPS, "loss": loss, "queue_ms": 200.0}
    lab = Lab({"nodes": ["source", "taker"], "link": link})
    with lab, tempfile.TemporaryDirectory(prefix="jupiter-links-") as folder:
        command = lab.command("source", *_role(f"{folder}/source", "serve", lab.ip("source"), size))
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert serving.stdout is not None
            told = json.loads(serving.stdout.readline())
            took = [_take(lab, folder, word, {**told, "size": size}) for word in ("take", "tcp")]
        finally:
            serving.kill()
            serving.wait()
    return took[0], took[1]["seconds"]


def _take(lab: Any, folder: str, word: str, told: dict[str, Any]) -> dict[str, float]:
    out = lab.run("taker", *_role(f"{folder}/{word}", word, lab.ip("source"), json.dumps(told)), timeout_s=LIMIT_S)
    found: dict[str, float] = json.loads(out)
    return found


def _role(folder: str, *words: object) -> list[str]:
    return [sys.executable, "-P", "-m", "jupiter_agent.bench.links", folder, *map(str, words)]


# --- in the namespaces -----------------------------------------------------------------------------------------------


async def _serve(folder: str, host: str, size: int) -> None:
    public, secret = zmq.curve_keypair()
    store = ObjectStore(Path(folder))
    data = random.Random(1).randbytes(MB) * (size // MB)
    sha256 = store.ingest_bytes(data)
    pair = CurvePair(public.decode(), secret.decode())
    channel = BulkChannel(pair, store, lambda event: None, lambda key: True, host)
    threading.Thread(target=_serve_tcp, args=(host, data), daemon=True).start()
    threading.Thread(target=_echo, args=(host,), daemon=True).start()
    print(json.dumps({"port": channel.port, "key": pair.public, "sha256": sha256.hex()}), flush=True)
    await asyncio.sleep(2 * LIMIT_S)


def _serve_tcp(host: str, data: bytes) -> None:
    with socket.create_server((host, TCP_PORT)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)


def _echo(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, ECHO_PORT))
        while True:
            data, sender = sock.recvfrom(100)
            sock.sendto(data, sender)


def _round_trips(host: str, until: threading.Event, times: list[float]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.connect((host, ECHO_PORT))
        while not until.is_set():
            began = time.monotonic()
            sock.send(b"%f" % began)
            try:
                while float(sock.recv(100)) != float(b"%f" % began):
                    continue
                times.append(time.monotonic() - began)
            except OSError:
                continue  # lost
            until.wait(0.1)


async def _taken(folder: str, host: str, told: dict[str, Any]) -> dict[str, float]:
    public, secret = zmq.curve_keypair()
    ended: asyncio.Future[BulkEnded] = asyncio.get_running_loop().create_future()

    def post(event: Event) -> None:
        if isinstance(event, BulkEnded):
            ended.set_result(event)

    store = ObjectStore(Path(folder))
    pair = CurvePair(public.decode(), secret.decode())
    channel = BulkChannel(pair, store, post, lambda key: True, "127.0.0.1")
    stop, idle, busy = threading.Event(), list[float](), list[float]()
    thread = threading.Thread(target=_round_trips, args=(host, stop, idle))
    thread.start()
    await asyncio.sleep(2.0)
    stop.set()
    thread.join()
    stop.clear()
    thread = threading.Thread(target=_round_trips, args=(host, stop, busy))
    thread.start()
    began = time.monotonic()
    channel.take(Wanted(bytes.fromhex(told["sha256"]), told["size"], "source", f"{host}:{told['port']}", told["key"]))
    event = await ended
    seconds = time.monotonic() - began
    stop.set()
    thread.join()
    channel.close()
    if event.error:
        raise JupiterError(f"the transfer ended with: {event.error}")
    return {"seconds": seconds, "idle_s": median(idle), "busy_s": median(busy), "worst_s": quantiles(busy, n=20)[18]}


def _by_tcp(host: str, size: int) -> dict[str, float]:
    began, left = time.monotonic(), size
    with socket.create_connection((host, TCP_PORT)) as connection:
        while left and (data := connection.recv(1 << 20)):
            left -= len(data)
    return {"seconds": time.monotonic() - began}


def _main(folder: str, role: str, host: str, more: str) -> None:
    if role == "serve":
        asyncio.run(_serve(folder, host, int(more)))
    elif role == "take":
        print(json.dumps(asyncio.run(_taken(folder, host, json.loads(more)))))
    else:
        print(json.dumps(_by_tcp(host, json.loads(more)["size"])))


if __name__ == "__main__":
    _main(*sys.argv[1:])
