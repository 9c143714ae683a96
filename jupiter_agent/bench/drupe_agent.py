"""One agent of `bench drupe`: the very agent, that writes down what it believes of its links and moves bytes when told.

Beliefs go to `links.jsonl` of its folder, five times a second: [monotonic time, probe bytes so far,
{peer: [round trip s, s/byte, samples of the rate]}]. Orders come as JSON datagrams at `orders`:
{"make": size, "seed": n}, {"fetch": digest, "size": n, "from": name}, {"say": size, "to": name}. What came of them goes
to `moved.jsonl`: [kind, peer, size, predicted s, seconds]. All agents of the bench share the machine's clock, so one
way times are exact.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from jupiter_agent import config
from jupiter_agent.agent import Agent, set_up_logging
from jupiter_agent.bench.traced import Order, Trace, end_with_parent, watch
from jupiter_agent.core.effects import Send
from jupiter_agent.core.events import Event, ObjectStored, Received
from jupiter_agent.core.messages.jobs import Chunk

LOOK_S = 0.2


class Mover:
    """Takes orders for one agent and notes what came of them."""

    def __init__(self, agent: Agent, folder: Path) -> None:
        self._agent, self._folder = agent, folder
        self._pending: dict[bytes, tuple[str, int, float, float]] = {}
        self._moved = (folder / "moved.jsonl").open("a")
        self._beliefs = (folder / "links.jsonl").open("a")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(folder / "orders"))
        self._sock.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock, self._on_order)
        on_event = agent.machine.on_event

        def seen(event: Event, now: float) -> Any:
            self._on_event(event)
            return on_event(event, now)

        agent.machine.on_event = seen  # type: ignore[method-assign]

    def _on_order(self) -> None:
        order = json.loads(self._sock.recv(4096))
        machine, performer = self._agent.machine, self._agent._performer
        now = asyncio.get_running_loop().time()
        if "make" in order:
            data = random.Random(order["seed"]).randbytes(order["make"])
            machine.transfers.stored.add(digest := performer.objects.ingest_bytes(data))
            machine.transfers.pin(digest)
            machine.transfers.sizes[digest] = len(data)
            self._note("made", digest.hex(), len(data), 0.0, 0.0)
        elif "fetch" in order:
            peer, digest = str(machine.find(order["from"])), bytes.fromhex(order["fetch"])
            links = machine.links_known
            predicted = links.expected_s(peer, order["size"], now) - links.shape(peer).rtt_s / 2
            self._pending[digest] = (order["from"], order["size"], predicted, time.monotonic())
            performer.perform(machine.transfers.want(digest, order["size"], [peer], now))
        elif "say" in order:
            peer = str(machine.find(order["to"]))
            stamp = json.dumps(time.monotonic()).encode().ljust(32)
            data = stamp + random.Random(1).randbytes(order["say"] - len(stamp))
            performer.perform([Send(peer, Chunk(sha256(b"bench").digest(), len(data), 0, data))])

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.message, Chunk) and event.message.offset == 0:
            if event.message.sha256 == sha256(b"bench").digest():
                sent, size = json.loads(event.message.data[:32]), event.message.size
                machine = self._agent.machine
                predicted = machine.links_known.shape(event.src).seconds(size)
                self._note("said", machine.name(event.src), size, predicted, time.monotonic() - sent)
        elif isinstance(event, ObjectStored) and event.sha256 in self._pending:
            peer, size, predicted, began = self._pending.pop(event.sha256)
            self._note("fetched", peer, size, predicted, time.monotonic() - began)

    def _note(self, *row: object) -> None:
        self._moved.write(json.dumps(row) + "\n")
        self._moved.flush()

    async def look(self) -> None:
        """Write down what is believed, for ever."""
        machine = self._agent.machine
        while True:
            links = machine.links_known
            rows = {}
            for peer, shape in links.inbound().items():
                rows[machine.name(peer)] = [shape.rtt_s, shape.q, shape.samples]
            row = [time.monotonic(), machine.probing.counters["probe_bytes_out"], rows]
            self._beliefs.write(json.dumps(row) + "\n")
            self._beliefs.flush()
            await asyncio.sleep(LOOK_S)


async def live(order: Order) -> None:
    """Until the agent has left."""
    trace = Trace(order.trace, order.name)
    agent = Agent(config.load({"name": order.name, "state_dir": order.folder, **order.settings}, {}))
    watch(agent, trace)
    mover = Mover(agent, Path(order.folder))
    trace.note("start", agent.machine.me)
    looking = asyncio.ensure_future(mover.look())
    await agent.run()
    looking.cancel()


if __name__ == "__main__":
    end_with_parent()
    set_up_logging("info")
    asyncio.run(live(Order(**json.loads(sys.argv[1]))))
