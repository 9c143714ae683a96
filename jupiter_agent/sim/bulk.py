"""The bulk channel in virtual time: whole objects from disk to disk, apart from the messages (adapters/bulk.py).

What matters to the machines is kept: an object is taken once per source however often that is ordered, what is dropped
ends without a word, a source that was started again listens elsewhere, and one that goes away or cannot be reached is
noticed late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jupiter_agent.core import effects as ef
from jupiter_agent.core import events as ev
from jupiter_agent.core.messages.bulk import BulkAt
from jupiter_agent.core.peer import Peer
from jupiter_agent.sim.cluster import Node

if TYPE_CHECKING:
    from jupiter_agent.sim.grid import Grid

RATE_BPS = 50e6
"""bytes/s"""
FIRST_PORT = 40_000
CONNECT_S, STALL_S = 4.0, 5.0
"""until a source is found unreachable, or lost"""

Pull = tuple[str, Peer, bytes, str]
"""Taker, its process, the object, its source"""


class SimBulk:
    """All bulk channels of a grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._pulls: set[Pull] = set()

    def tell(self, node: Node[Peer], effect: ef.TellBulk) -> None:
        node.send(ef.Send(effect.dst, BulkAt(FIRST_PORT + node.boot)))

    def take(self, node: Node[Peer], effect: ef.FetchBulk) -> None:
        pull = (node.seat.name, node.machine, effect.sha256, effect.peer)
        if pull in self._pulls:
            return
        self._pulls.add(pull)
        source = next((each for each in self._grid.nodes.values() if each.seat.peer == effect.peer), None)
        if source is None or not self._reaches(node, source) or effect.port != FIRST_PORT + source.boot:
            self._end(pull, effect, CONNECT_S, lambda: (b"", "unreachable"))
            return
        machine = source.machine

        def arrive() -> tuple[bytes, str]:
            data = self._grid.disks[source.seat.name].objects.get(effect.sha256)
            if not self._reaches(node, source) or source.machine is not machine:
                return b"", "late"
            if data is None:
                return b"", "missing"
            return (data, "") if len(data) == effect.size else (b"", f"size {len(data)}")

        network = self._grid.network
        trip = 3 * network.delay(node.seat.address, source.seat.address)
        self._end(pull, effect, trip + effect.size / RATE_BPS, arrive)

    def drop(self, node: Node[Peer], effect: ef.DropBulk) -> None:
        name = node.seat.name
        self._pulls = {pull for pull in self._pulls if (pull[0], pull[2]) != (name, effect.sha256)}

    def _reaches(self, node: Node[Peer], source: Node[Peer]) -> bool:
        return source.running and self._grid.network.both_ways(node.seat.address, source.seat.address)

    def _end(self, pull: Pull, effect: ef.FetchBulk, after_s: float, arrive: Callable[[], tuple[bytes, str]]) -> None:
        """Tell how it ended, unless it was dropped or the process is gone by then."""
        grid, node = self._grid, self._grid.nodes[pull[0]]

        def ended() -> None:
            if pull not in self._pulls or not node.running or node.machine is not pull[1]:
                return
            data, error = arrive()
            if error == "late":
                self._end(pull, effect, STALL_S, lambda: (b"", "lost"))
                return
            self._pulls.discard(pull)
            if not error:
                grid.disks[node.seat.name].objects[effect.sha256] = data
                node.give(ev.ObjectStored(effect.sha256, effect.size))
            node.give(ev.BulkEnded(effect.sha256, effect.peer, len(data), max(1e-6, after_s), error))

        grid.network.after(after_s, ended)
