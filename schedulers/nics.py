"""One-port network cards: each node sends one transfer and receives one transfer at a time.

A transfer occupies the sender's and the receiver's card while its bytes flow (inv_rate * d + quadratic * d**2); the
latency comes on top and occupies nobody. It starts when the data is there and both cards are free of what was
reserved before: reservations are appended, never inserted. An edge without bytes is a message and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schedulers.problem import Floats, Problem


class Nics:
    """Reservations of all cards, and the trial of one task on all nodes at once."""

    def __init__(self, p: Problem) -> None:
        self.p = p
        self.sends = np.zeros(p.n_nodes)  # (N,) seconds until which each node is sending
        self.receives = np.zeros(p.n_nodes)  # (N,) seconds until which each node is receiving
        self._trial_receives = self.receives
        self._trial_sends: dict[int, Floats] = {}

    def arrivals(self, parents: Sequence[tuple[int, float]], node: Sequence[int], finish: Sequence[float]) -> Floats:
        """(N,) seconds when the last input is at each node, if the task were put there; reserves nothing.

        `parents` [(task, bytes)] are placed: `node` and `finish` say where and until when. O(parents x N).
        """
        arrived = np.zeros(self.p.n_nodes)
        self._trial_receives = self.receives.copy()
        self._trial_sends = {}
        for u, data in sorted(parents, key=lambda parent: finish[parent[0]]):
            host = node[u]
            row = self._transfer(host, data, finish[u]) if data else self.p.latency[host] + finish[u]
            np.maximum(arrived, row, out=arrived)
        return arrived

    def reserve(self, node: int) -> None:
        """Reserve what the last trial found for a task put on `node`."""
        self.receives[node] = self._trial_receives[node]
        for host, until in self._trial_sends.items():
            self.sends[host] = until[node]

    def _transfer(self, host: int, data: float, since: float) -> Floats:
        """(N,) arrival of one transfer at each node, in the trial; on `host` itself no card is used."""
        receives = self._trial_receives
        sends = self._trial_sends.get(host)
        ends = np.maximum(receives, float(self.sends[host]) if sends is None else sends)
        np.maximum(ends, since, out=ends)
        ends += self.p.busy_row(host, data)
        arrived: Floats = ends + self.p.latency[host]
        arrived[host] = since
        self._trial_sends[host] = ends.copy()
        self._trial_sends[host][host] = self.sends[host]
        ends[host] = receives[host]
        self._trial_receives = ends
        return arrived

    def send(self, host: int, target: int, data: float, since: float) -> float:
        """Reserve one transfer of `data` bytes that are ready at `since`; seconds when it is at `target`."""
        if host == target or not data:
            return since + self.p.transfer(host, target, data)
        begin = max(since, float(self.sends[host]), float(self.receives[target]))
        end = begin + float(self.p.busy_row(host, data)[target])
        self.sends[host] = self.receives[target] = end
        return end + float(self.p.latency[host, target])
